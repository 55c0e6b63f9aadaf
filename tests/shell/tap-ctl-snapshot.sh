#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Snapshots of a running disk lose nothing that its client wrote, keep the disk's
# name, and are all or nothing.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

qemu-img create -q -f vpc d.vhd 64M
chmod 640 d.vhd
tap-ctl create -a "vhd:$tmp/d.vhd" >/dev/null
pid=$(tap-ctl list | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
cleanup_fn stop_tapdisk "$pid" 0
uri="nbd+unix:///?socket=$BLKTAP_RUNDIR/nbd$pid.0"

# under fio with checksums, one after the other
fio --name=w --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k --iodepth=16 \
	--size=32M --loops=50 --time_based --runtime=8 --verify=crc32c \
	--do_verify=1 --verify_backlog=1024 --verify_state_save=0 \
	>fio.log 2>&1 &
fio=$!
n=0
while [ $n -lt 20 ] && kill -0 $fio 2>/dev/null; do
	n=$((n + 1))
	tap-ctl snapshot -p "$pid" -m 0 >out 2>>pauses ||
		fail "snapshot $n: $(tail -n 3 pauses)"
	equal "$(cat out)" "$tmp/d.vhd.snap$n"
	sleep 0.2
done
wait $fio || fail "$(tail -n 20 fio.log)"
equal "$n" 20
equal "$(tap-ctl list)" "pid=$pid minor=0 state=0 args=vhd:$tmp/d.vhd"
sed -n 's/^paused for \(.*\) ms$/\1/p' pauses | sort -n >sorted
equal "$(wc -l <sorted)" 20
echo "pause: median $(sed -n 10p sorted) ms, longest $(tail -n 1 sorted) ms"

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
