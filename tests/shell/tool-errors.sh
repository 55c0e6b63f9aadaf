#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Whatever is wrong with its arguments or its files, a tool says so in one line,
# "TOOL: cannot DO OBJECT: cause (ERRNO)", which names what is wrong, ends with the
# status that it promises, and leaves every file as it was and none behind.
. "${srcdir:-.}/tests/shell/functions.sh"

PATH=$builddir:$PATH
long=$(head -c 300 /dev/zero | tr '\0' x)
errors=$tmp/errors out=$tmp/out
mkdir d
cd d

vhd-util create -n a.vhd -s 4
vhd-util snapshot -n c.vhd -p a.vhd -e
vhd-util create -n fix.vhd -s 2 -r
qcow-create -f qcow2 4M a.qcow2
qcow-create 4 a.qcow
truncate -s 4M a.raw
echo 'nothing of the kind' >text
mkdir dir
: >empty
cbt-util create -n log -s 1048576
cp a.vhd bad.vhd # an entry of its table is in the header
printf '\000\000\000\001' |
	dd of=bad.vhd bs=1 seek=1536 conv=notrunc status=none
cp a.qcow2 bad.qcow2
printf '\000\000\000\377' |
	dd of=bad.qcow2 bs=1 seek=20 conv=notrunc status=none
"$builddir/vhd-util" snapshot -n orphan.vhd -p a.raw -m
mv a.raw b.raw
head -c 32 /dev/zero >key

# All names, and the bytes of all files.
state()
{
	find . | LC_ALL=C sort
	find . -type f | LC_ALL=C sort | xargs cksum
}
state >"$tmp/before"

# wrong TEXT: all of them are told of at the end.
wrong()
{
	echo "$*" >>"$tmp/wrong"
}

# bad STATUS WORD TOOL [ARGUMENT...]: WORD stands in the one line.
bad()
{
	bad_status=$1
	bad_word=$2
	shift 2
	bad_rc=0
	"$@" >"$out" 2>"$errors" </dev/null || bad_rc=$?
	# what cbt-util has always said comes first
	sed -i '/^Failed to open log file/d' "$errors"
	[ "$bad_rc" = "$bad_status" ] ||
		wrong "$*: status $bad_rc, not $bad_status: $(cat "$errors")"
	head -n 1 "$errors" | grep -qE \
		"^$1: cannot [a-z0-9]+( .*)?: .* \(E[A-Z0-9]+\)\$" ||
		wrong "$*: says '$(cat "$errors")'"
	head -n 1 "$errors" | grep -qF -- "$bad_word" ||
		wrong "$*: does not say '$bad_word': $(cat "$errors")"
	# behind it a hint, or how it is used
	bad_more=$(sed 1d "$errors" | grep -vE '^(hint|usage): ' || :)
	[ -z "$bad_more" ] || wrong "$*: says '$bad_more' too"
	# what tools have always said on the standard output is one line as well
	[ "$(wc -l <"$out")" -le 1 ] || wrong "$*: $(cat "$out")"
	state >"$tmp/after"
	diff "$tmp/before" "$tmp/after" >"$tmp/diff" ||
		wrong "$*: left $(cat "$tmp/diff")"
}

# hinted ...: the same, and there is a hint
hinted()
{
	bad "$@"
	grep -q '^hint: ..' "$errors" || wrong "$*: no hint: $(cat "$errors")"
}

echo '# how they are called'
bad 22 'unknown command' vhd-util nonsense
for verb in create snapshot query set repair resize fill coalesce modify \
	check revert copy read key scan; do
	bad 22 "'-Q' is unknown" vhd-util $verb -Q
	[ $verb = scan ] || bad 22 "needs a value" vhd-util $verb -n
	bad 22 "'extra' is not wanted" vhd-util $verb extra
done
for verb in create snapshot query set repair resize fill coalesce modify \
	check revert copy read; do
	bad 22 "'--name' is missing" vhd-util $verb
done
hinted 22 "'--siez' is unknown" vhd-util create -n x --siez 4
for n in -1 1x '' 99999999999999999999 2088961; do
	bad 22 "'$n'" vhd-util create -n x -s "$n"
	bad 22 "'$n'" vhd-util resize -n a.vhd -s "$n"
done
for verb in 'create -n x' 'create -n x -s 4 -S' 'snapshot -n x -p a.vhd -S' \
	'resize -n a.vhd'; do
	case $verb in *S) ;; *) verb="$verb -s" ;; esac
	# shellcheck disable=SC2086 # words
	hinted 22 '2040 GiB' vhd-util $verb 2088961
done
bad 22 "'256'" vhd-util set -n a.vhd -f hidden -v 256
bad 22 "one of -C, -s, -c and -p" vhd-util key -n a.vhd
bad 22 "-k and -E" vhd-util copy -n a.vhd -N x -k key -E
bad 22 "-a and -o" vhd-util coalesce -n c.vhd -a a.vhd -o x
bad 22 '-B goes with' vhd-util check -n a.vhd -B -s
bad 22 '-f' vhd-util fill -n a.vhd -f 1
bad 34 'its 8192 sectors' vhd-util fill -n a.vhd -b -f 8192
bad 34 'its 8192 sectors' vhd-util fill -n a.vhd -b -f 2 -t 1
bad 22 '-m goes with' vhd-util modify -n c.vhd -m
bad 22 "'zz'" vhd-util key -C -k key -N zz
bad 22 "'zz'" vhd-util key -s -n a.vhd -H zz
bad 22 "'-Q' is unknown" td-util create vhd -Q 1 x
bad 22 "'--name' is missing" td-util create vhd 4
bad 22 "'extra'" td-util query vhd -v a.vhd extra
bad 22 "'-1'" td-util create aio -- -1 x
for verb in create get set coalesce; do
	bad 22 "'-Q' is unknown" cbt-util $verb -Q
	bad 22 'is missing' cbt-util $verb
done
bad 22 "'-5'" cbt-util create -n x -s -5
bad 22 'nonsense' cbt-util set -n log -p nonsense
for tool in img2qcow qcow2raw; do
	bad 2 "'-Q' is unknown" $tool -Q
	bad 2 'is missing' $tool
	bad 2 'is missing' $tool x
	bad 2 "'y'" $tool x a.qcow y
	bad 2 "'x'" $tool --progress x x b.raw
done
bad 2 "'vhd'" img2qcow -f vhd x b.raw
bad 255 "'-Q' is unknown" qcow-create -Q
bad 255 'is missing' qcow-create
bad 255 'is missing' qcow-create 10
for n in -1 1X '' 99999999999999999999 17179869184P; do
	bad 255 "'$n'" qcow-create -- "$n" x
done
bad 255 "'vhd'" qcow-create -f vhd 4 x
bad 255 "'tiny'" qcow-create -c tiny 4 x

echo '# files that are not there, or something else'
for verb in query check repair fill 'set -f hidden -v 1' 'resize -s 8' \
	'coalesce' 'modify -z' 'read -p' 'key -p' 'copy -N x' \
	'coalesce -o x'; do
	# shellcheck disable=SC2086 # words
	bad 2 none.vhd vhd-util $verb -n none.vhd
	# shellcheck disable=SC2086 # words
	bad 20 text/a.vhd vhd-util $verb -n text/a.vhd
	# shellcheck disable=SC2086 # words
	bad 36 "$long" vhd-util $verb -n "$long"
	for f in text empty; do
		# shellcheck disable=SC2086 # words
		hinted 22 $f vhd-util $verb -n $f
	done
done
bad 2 none vhd-util revert -n a.vhd -j none
hinted 22 text vhd-util revert -n a.vhd -j text
hinted 2 none.vhd vhd-util snapshot -n x -p none.vhd
hinted 22 text vhd-util snapshot -n x -p text
bad 2 none/x vhd-util create -n none/x -s 4
bad 2 none vhd-util copy -n a.vhd -N x -k none
bad 22 text vhd-util copy -n a.vhd -N x -k text
bad 2 none vhd-util key -C -k none
hinted 22 text vhd-util key -C -k text
bad 2 none td-util query vhd -v none
bad 2 none td-util query aio -v none
bad 22 text td-util query vhd -v text
bad 2 none td-util snapshot vhd x none
bad 2 none td-util create aio 4 none/x
for f in none text; do
	rc=22
	[ $f = text ] || rc=2
	for verb in 'get -s' 'set -f 1'; do
		# shellcheck disable=SC2086 # words
		bad $rc $f cbt-util $verb -n $f
	done
	bad $rc $f cbt-util coalesce -p $f -c log
	bad $rc $f cbt-util coalesce -p log -c $f
done
bad 2 none cbt-util create -n none/x -s 4096
bad 1 none img2qcow x none
bad 1 none qcow2raw x none
for f in text empty b.raw a.vhd; do
	bad 1 $f qcow2raw x $f
	bad 1 $f qcow2raw -S qcow2 x $f
done
bad 1 dir img2qcow x dir
bad 1 dir qcow2raw x dir
bad 1 foo img2qcow -S foo x b.raw
bad 1 none qcow-create -F raw 0 x none
bad 1 none/x qcow-create 4 none/x
hinted 1 'format is not given' qcow-create 0 x b.raw
grep -q -- '-F raw' "$errors" || wrong 'the hint does not say -F'
hinted 28 'has 1 images, and -l allows 1' vhd-util snapshot -n x -p a.vhd -l 1

echo '# files that are damaged'
for verb in check 'set -f hidden -v 1' 'resize -s 8' 'modify -z' fill \
	'coalesce -o x' 'copy -N x'; do
	case $verb in
	# which only look fail when they come to it
	copy* | coalesce*) bad_rc=5 word=bad.vhd ;;
	*) bad_rc=22 word='BAT entry of block 0 is 1' ;;
	esac
	# shellcheck disable=SC2086 # words
	bad $bad_rc "$word" vhd-util $verb -n bad.vhd
done
hinted 1 'cluster_bits is 255' qcow2raw -S qcow2 x bad.qcow2
hinted 1 'cluster_bits is 255' qcow-create -f qcow2 -F qcow2 0 x bad.qcow2
hinted 2 orphan.vhd vhd-util check -n orphan.vhd -p
bad 2 orphan.vhd vhd-util fill -n orphan.vhd
bad 2 orphan.vhd vhd-util coalesce -n orphan.vhd
bad 2 orphan.vhd vhd-util copy -n orphan.vhd -N x
bad 22 'no parent' vhd-util coalesce -n a.vhd
bad 22 fixed vhd-util read -n fix.vhd -b 0
bad 34 2 vhd-util read -n a.vhd -b 2
for what in -r -t -i -e; do
	bad 34 'which has 8192 sectors' vhd-util read -n a.vhd $what 8192
done
bad 22 fixed vhd-util read -n fix.vhd -e 0
hinted 2 'does not stand on fix.vhd' vhd-util coalesce -n c.vhd -a fix.vhd
hinted 95 'no batmap' vhd-util set -n fix.vhd -f marker -v 1
hinted 22 "no mark 'hiden'" vhd-util set -n a.vhd -f hiden -v 1
bad 126 key vhd-util key -c -n a.vhd -k key

echo '# targets that are there, are the source, or have no room'
for t in b.raw dir; do
	hinted 1 "$t" img2qcow $t a.vhd
	hinted 1 "$t" qcow-create 4 $t
	grep -q -- '--force' "$errors" || wrong 'the hint does not say --force'
done
hinted 17 b.raw vhd-util copy -n a.vhd -N b.raw
! grep -q force "$errors" || wrong 'vhd-util has no --force'
hinted 22 dir vhd-util copy -n a.vhd -N dir
hinted 1 b.raw img2qcow b.raw b.raw
hinted 1 b.raw img2qcow --force b.raw b.raw
hinted 1 a.qcow qcow2raw --force a.qcow a.qcow
hinted 22 a.vhd vhd-util copy -n a.vhd -N a.vhd
hinted 1 dir qcow2raw --force dir a.qcow
# a parent, or what that stands on, is no place for the child
hinted 22 c.vhd vhd-util snapshot -n c.vhd -p c.vhd -e
hinted 22 a.vhd vhd-util snapshot -n a.vhd -p a.vhd
hinted 22 a.vhd vhd-util snapshot -n a.vhd -p c.vhd -e
hinted 1 a.qcow2 qcow-create --force -f qcow2 -F qcow2 0 a.qcow2 a.qcow2
hinted 22 a.vhd vhd-util modify -n a.vhd -p a.vhd
hinted 40 c.vhd vhd-util modify -n c.vhd -p c.vhd
hinted 17 log vhd-util resize -n a.vhd -s 8 -j log

[ ! -e "$tmp/wrong" ] || fail "$(cat "$tmp/wrong")"
