#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Whatever is wrong with an image, who reads it opens it for reading, and besides it
# only files that it names as its parents; who opens it for writing and is refused has
# written nothing, and a parent is never opened for writing. Each image of both
# corpora, in the way of each reader.
. "${srcdir:-.}/tests/shell/functions.sh"
requires strace

table=$srcdir/tests/unit/qcow-corpus/README.md

# a process that is traced cannot look for its own leaks
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
mkdir vhd qcow
"$builddir/tests/shell/vhd-corpus" vhd
# whatever else is wrong with it there, it leaves its images
BLKTAP_CORPUS=$tmp/qcow CK_FORK=no "$builddir/tests/unit/test-qcow-corpus" \
	>made 2>&1 || fail "$(tail -n 3 made)"
[ "$(ls vhd qcow | wc -l)" -gt 160 ] || fail 'the corpora are too small'


# A file that would be found if a name was taken for a parent's that is none.
vhd-util create -n vhd/p.vhd -s 1
truncate -s 1M qcow/base
seq 1000 >secret

opens=open,openat,openat2,creat,truncate
strace -f --seccomp-bpf -o trace -e "trace=$opens" true 2>err ||
	skip "strace does not work here: $(cat err)"
cat >way <<'END'
readers()
{
	case $1 in
	vhd)
		vhd-util query -n "$2" -vpsfmSad
		vhd-util check -n "$2" -p -b
		vhd-util scan -m "$2"
		;;
	esac
	rm -f ../copy
	qcow2raw -S "$1" --force ../copy "$2"
	tapdisk -R --unix ../socket --run true "$1:$2"
}
writers()
{
	tapdisk --unix ../socket --run true "$1:$2"
}
END

# opened WAY TYPE IMAGE: lines "FLAGS PATH" in $tmp/opened
opened()
{
	opened_rc=0
	strace -f --seccomp-bpf -qq -o "$tmp/trace" -e "trace=$opens" \
		-e signal=none sh -c ". ../way; $1 $2 $3" >"$tmp/said" 2>&1 ||
		opened_rc=$?
	sed -nE 's/^[0-9]+ +[a-z0-9]+\((AT_FDCWD, )?"([^"]*)"(, ([A-Z_|]+))?.*/\4 \2/p' \
		"$tmp/trace" | LC_ALL=C sort -u >"$tmp/opened"
}

# usual TYPE IMAGE...: what they have in common with others: libraries, devices
usual()
{
	usual_type=$1
	shift
	for way in readers writers; do
		for f; do
			opened $way "$usual_type" "$f"
			[ $opened_rc = 0 ] ||
				fail "$way of $f: $(cat "$tmp/said")"
			grep -v "[/ ]$f\$" "$tmp/opened"
		done | LC_ALL=C sort -u >"$tmp/usual.$way"
	done
}

# beside WAY IMAGE: what was opened, without the usual; paths of its own directory
# without that.
beside()
{
	LC_ALL=C comm -23 "$tmp/opened" "$tmp/usual.$1" |
		sed "s,[^ ]*/copy\\.[a-z0-9.-]*$,copy.part," |
		grep -v ' copy.part$' | sed "s,$PWD/,,; s, \\./, ,"
}

# Size, time of the last change of any kind, and bytes.
state()
{
	find . -type f -printf '%P %s %C@\n' | LC_ALL=C sort
	cksum "$1"
}

# named FLAGS PATH: by the image, and opened for reading
named()
{
	grep -qaF -- "$(basename "$2")" "$image" ||
		fail "$image: opened $2, which it does not name"
	case $1 in
	O_RDONLY*) ;;
	*) fail "$image: its parent $2 was opened with $1" ;;
	esac
}

# look TYPE IMAGE
look()
{
	image=$2
	state "$image" >"$tmp/before"
	opened readers "$1" "$image"
	beside readers >"$tmp/more"
	while read -r flags path; do
		case $path,$flags in
		"$image",O_RDONLY*) ;;
		"$image",*) fail "$image: a reader opened it with $flags" ;;
		*) named "$flags" "$path" ;;
		esac
	done <"$tmp/more"
	state "$image" | diff "$tmp/before" - || fail "$image: a reader wrote"
	grep -q " $image\$" "$tmp/more" || fail "$image was not opened"
	opened writers "$1" "$image"
	beside writers >"$tmp/more"
	while read -r flags path; do
		[ "$path" = "$image" ] || named "$flags" "$path"
	done <"$tmp/more"
	[ "$opened_rc" = 0 ] || state "$image" | diff "$tmp/before" - ||
		fail "$image: it was refused, and written to"
	count=$((count + 1))
	[ "$opened_rc" = 0 ] || refused=$((refused + 1))
}

count=0 refused=0
cd vhd
usual vhd good-dynamic.vhd
for f in *-*.vhd; do
	look vhd "$f"
done
cd ../qcow
# the checksum of Xen's layout loads a library more, where it is there
xen=
[ ! -e good-xen ] || xen=good-xen
usual qcow good-v1 $xen
for f in *-*; do
	case $(sed -n "s/^| $f | \([a-z0-9]*\) |.*/\1/p" "$table") in
	v1 | child1 | xen) look qcow "$f" ;;
	*) look qcow2 "$f" ;;
	esac
done
echo "$count images opened in every way, $refused of them refused to writers"
[ "$refused" -gt 100 ] || fail 'too few were refused'
