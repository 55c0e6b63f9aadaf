#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# xmsnap keeps the disk's name on an image with all its data, whichever of its
# commands it is killed before or behind; and the next run goes on.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img
xmsnap=$srcdir/daemons/xmsnap

# an xl that has one VM, 7, and wrappers that kill who calls them at a step
mkdir bin
cat >bin/xl <<'END'
#!/bin/sh
case "$1 $2" in
"list 7") ;;
"pause 7") echo paused >"$STATE" ;;
"unpause 7") [ -e "$STATE" ] && rm "$STATE" ;;
*) exit 1 ;;
esac
END
cat >bin/step <<'END'
#!/bin/sh
# step COMMAND...: the n-th call kills the script, before or behind the command
n=$(($(cat "$STEPS") + 1))
echo $n >"$STEPS"
[ "$n" != "${KILL:-}" ] || { kill -9 "$SCRIPT" "$(cat "$OUTER")"; exit 1; }
case $1 in
tapdisk) shift && "$PROGRAM" "$@" ;; # what it runs makes steps
*) PATH=$REAL "$@" ;;
esac
rc=$?
[ "$n" != "${KILL_BEHIND:-}" ] || kill -9 "$SCRIPT" "$(cat "$OUTER")"
exit $rc
END
for c in ln qcow-create vhd-util chmod chown mv sync tap-ctl tapdisk; do
	# shellcheck disable=SC2016 # the wrapper's own
	printf '#!/bin/sh\nSCRIPT=$PPID exec step %s "$@"\n' $c >bin/$c
done
chmod +x bin/*
STATE=$tmp/state STEPS=$tmp/steps OUTER=$tmp/outer REAL=$PATH:$tmp/bin/none
PROGRAM=$(command -v tapdisk)
export STATE STEPS OUTER REAL PROGRAM xmsnap
snap()
{
	echo 0 >"$STEPS"
	# its own number, and not that of the shell inside, which calls most
	# shellcheck disable=SC2016 # the inner shell's
	PATH=$tmp/bin:$PATH sh -c 'echo $$ >"$OUTER"; exec "$xmsnap" "$@"' \
		sh "$@"
}

# read TYPE FILE: what a disk on it would show
shows()
{
	# shellcheck disable=SC2016 # the inner shell's
	tapdisk --run 'qemu-img convert -f raw -O raw "$uri" now.raw' -R "$1" \
		2>err || fail "$(cat err)"
	cmp want.raw now.raw
}

make_image want.raw 1M
qemu-img convert -O qcow2 want.raw first.qcow2
qemu-img convert -O vpc -o force_size=on want.raw first.vhd
qemu-img convert -O qcow want.raw first.qcow

# no VM, one that is there, one that is not
cp first.qcow2 d
equal "$(snap -f qcow2 8 d)" "$tmp/d.snap1"
shows "qcow2:$tmp/d"
equal "$(snap -f qcow2 7 d)" "$tmp/d.snap2"
[ ! -e state ] || fail "the VM is still paused"
shows "qcow2:$tmp/d"
qemu-img info d >info
contains info 'backing file: d.snap2'
steps=$(cat steps)
[ "$steps" -ge 5 ] || fail "$steps steps"
rm d d.snap*

# killed everywhere, for each format; then once more, to the end
stride=3
[ "${BLKTAP_TEST_LONG:-}" != 1 ] || stride=1
for f in qcow qcow2 vhd; do
	k=$((stride > 1 ? 2 : 0))
	while [ $k -le "$steps" ]; do
		for when in KILL KILL_BEHIND; do
			cp first.$f d
			(export $when=$k && snap -f $f 7 d) >/dev/null 2>&1 || :
			shows "$f:$tmp/d"
			snap -f $f 7 d >out || fail "after a kill at $k"
			[ ! -e state ] || fail "the VM is still paused"
			shows "$f:$tmp/d"
			# as many names as images
			equal "$(find . -name 'd*' -links +1)" ""
			rm -f d d.snap*
		done
		k=$((k + stride))
	done
done

# a disk in use: by its own gate
cp first.qcow2 d
start_tapdisk "qcow2:$tmp/d"
equal "$(snap 7 d 2>err)" "$tmp/d.snap1"
contains err 'paused for'
[ ! -e state ] || fail "the VM is still paused"
equal "$(tap-ctl list)" "pid=$pid minor=$minor state=0 args=qcow2:$tmp/d"
tap-ctl destroy -p "$pid" -m "$minor"
shows "qcow2:$tmp/d"

# in use under another name, by one whom tap-ctl does not know, or of another kind:
# refused, and all is as before
ln -s . other
for f in qcow qcow2 vhd; do
	cp first.$f e
	chmod 0640 e
	ls -l e >before
	for name in "$tmp/other/e" "$tmp/e"; do
		start_tapdisk "$f:$name"
		run=$BLKTAP_RUNDIR
		[ "$name" != "$tmp/e" ] || BLKTAP_RUNDIR=$tmp/elsewhere
		exits 16 snap -f $f 7 e >out 2>err
		contains err 'in use by another program'
		[ ! -e state ] || fail "the VM is still paused"
		BLKTAP_RUNDIR=$run
		ls -l e | cmp - before
		equal "$(find . -name 'e.*' -o -name '.e*')" ""
		tap-ctl destroy -p "$pid" -m "$minor"
	done
	equal "$(snap -f $f 7 e)" "$tmp/e.snap1"
	equal "$(stat -c %a e)" 640
	shows "$f:$tmp/e"
	rm e e.snap1
done

# what is wrong
exits 2 snap 7 2>err
contains err usage
exits 1 snap 7 missing 2>err
contains err 'missing: is not a regular file'
exits 1 snap -f raw 7 d 2>err
contains err "format 'raw'"
