#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Snapshots of a running disk lose nothing that its client wrote, keep the disk's
# name, and are all or nothing.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

count=20
[ "${BLKTAP_TEST_LONG:-}" != 1 ] || count=100

# Writes and verifies until told to stop, on however slow a machine.
work()
{
	while [ ! -e stop ]; do
		fio --name=w --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k \
			--iodepth=16 --size=32M --loops=500 --time_based \
			--runtime=3 --verify=crc32c --do_verify=1 \
			--verify_backlog=1024 --verify_state_save=0 || return 1
	done
}

# under fio with checksums, one after the other: snapshots TYPE FILE
snapshots()
{
	tap-ctl create -a "$1:$tmp/$2" >/dev/null
	pid=$(tap-ctl list | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
	cleanup_fn stop_tapdisk "$pid" 0
	uri="nbd+unix:///?socket=$BLKTAP_RUNDIR/nbd$pid.0"
	rm -f stop
	work >fio.log 2>&1 &
	fio=$!
	n=0
	: >pauses
	while [ $n -lt $count ] && kill -0 $fio 2>/dev/null; do
		n=$((n + 1))
		tap-ctl snapshot -p "$pid" -m 0 >out 2>>pauses ||
			fail "snapshot $n: $(tail -n 3 pauses)"
		equal "$(cat out)" "$tmp/$2.snap$n"
		sleep 0.2
	done
	touch stop
	wait $fio || fail "$(tail -n 20 fio.log)"
	equal "$n" $count
	equal "$(tap-ctl list)" "pid=$pid minor=0 state=0 args=$1:$tmp/$2"
	sed -n 's/^paused for \(.*\) ms$/\1/p' pauses | sort -n >sorted
	equal "$(wc -l <sorted)" $count
	echo "$1: $count snapshots, pause: median $(sed -n $((count / 2))p \
		sorted) ms, longest $(tail -n 1 sorted) ms"
	# the disk has its leaf open for writing, and nobody has the others so
	equal "$(find "/proc/$pid/fd" -type l -exec readlink {} + |
		grep -c "^$tmp/$2")" $((count + 1))
	wait_for test "$(grep -lE '^flags:.*[12]$' /proc/"$pid"/fdinfo/* |
		sed 's|fdinfo|fd|' | xargs -n 1 readlink |
		grep "^$tmp/$2")" = "$tmp/$2"
}

# qcow2: each image of the chain is whole, and stands on the one before
qemu-img create -q -f qcow2 d.qcow2 64M
snapshots qcow2 d.qcow2
qemu-img info -U d.qcow2.snap2 >info
contains info 'backing file: d.qcow2.snap1'
qemu-img convert -f raw -O raw "$uri" one.raw
tap-ctl destroy -p "$pid" -m 0
i=1
while [ $i -le $count ]; do
	qemu-img check -q -f qcow2 "d.qcow2.snap$i" || fail "snapshot $i"
	i=$((i + 1))
done
qemu-img check -q -f qcow2 d.qcow2
qemu-img compare -q -f raw -F qcow2 one.raw d.qcow2
equal "$(qemu-img info --backing-chain d.qcow2 | grep -c ^image:)" \
	$((count + 1))
rm -f d.qcow2*

# QCOW version 1, and one whose base's format is only said when it is opened
qemu-img create -q -f qcow d.qcow 64M
snapshots qcow d.qcow
qemu-img convert -f raw -O raw "$uri" one.raw
tap-ctl destroy -p "$pid" -m 0
qemu-img compare -q -f raw -F qcow one.raw d.qcow
# shellcheck disable=SC2016 # the inner shell's
tapdisk --run 'qemu-img compare -q -f raw -F raw one.raw "$uri"' \
	-R "qcow:$tmp/d.qcow"
rm -f d.qcow*
make_image base.raw 1M
qemu-img create -q -f qcow -F raw -b base.raw d.qcow 2>/dev/null
start_tapdisk "qcow(\"$tmp/d.qcow\", backing_format=raw)"
for i in 1 2; do
	qemu-io -f raw -c "write -P $i ${i}00k 64k" "$uri" >/dev/null
	tap-ctl snapshot -p "$pid" -m "$minor" 2>err >out
	if grep -q 'stays open' err; then
		fail "$(cat err)"
	fi
	tap-ctl pause -p "$pid" -m "$minor"
	tap-ctl unpause -p "$pid" -m "$minor"
done
equal "$(tap-ctl list | sed 's/.*args=//')" \
	"qcow(\"$tmp/d.qcow\", backing_format=raw)"
qemu-io -f raw -c 'read -P 1 100k 64k' -c 'read -P 2 200k 64k' "$uri" >out
fails grep failed out
tap-ctl destroy -p "$pid" -m "$minor"
rm -f d.qcow*

# vhd
qemu-img create -q -f vpc d.vhd 64M
chmod 640 d.vhd
snapshots vhd d.vhd
i=1
while [ $i -le $count ]; do
	vhd-util check -n "d.vhd.snap$i" >/dev/null || fail "snapshot $i"
	i=$((i + 1))
done
equal "$(vhd-util query -n d.vhd -d)" "chain depth: $((count + 1))"

# who may use the image may use its child
equal "$(stat -c %a d.vhd)" 640

# a name of one's own; nothing happens where it is taken
tap-ctl snapshot -p "$pid" -m 0 --name before 2>/dev/null >out
equal "$(cat out)" "$tmp/before"
before=$(stat -c %i d.vhd)
exits 17 tap-ctl snapshot -p "$pid" -m 0 --name before 2>err
contains err before
contains err EEXIST
equal "$(stat -c %i d.vhd)" "$before"
tap-ctl snapshot -p "$pid" -m 0 --json 2>/dev/null >out
contains out '"pause_us":'

# the same bytes before the disk is closed and after
qemu-img convert -f raw -O raw "$uri" one.raw
tap-ctl destroy -p "$pid" -m 0
equal "$(ls ./*.child-* 2>/dev/null)" ""
tapdisk --run 'qemu-img convert -f raw -O raw "$uri" two.raw' \
	-R "vhd:$tmp/d.vhd"
cmp one.raw two.raw

# a raw disk has nowhere to record what it stands on
truncate -s 1M r.raw
tap-ctl create -a "raw:$tmp/r.raw" >/dev/null
pid=$(tap-ctl list | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
cleanup_fn stop_tapdisk "$pid" 0
exits 95 tap-ctl snapshot -p "$pid" -m 0 2>err
contains err 'hint: only images that can stand on others'
exits 19 tap-ctl snapshot -p "$pid" -m 7 2>err
tap-ctl destroy -p "$pid" -m 0
