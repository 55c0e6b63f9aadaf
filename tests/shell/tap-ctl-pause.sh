#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk that is paused and unpaused every 100 ms under fio with checksums at
# depth 32 loses nothing: its clients wait, and that is all they notice.
. "${srcdir:-.}/tests/shell/functions.sh"
requires fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

truncate -s 64M d.raw
tap-ctl create -a "aio:$tmp/d.raw" >/dev/null
pid=$(tap-ctl list | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
cleanup_fn stop_tapdisk "$pid" 0
# Writes and verifies until told to stop, on however slow a machine.
work()
{
	while [ ! -e stop ]; do
		fio --name=w --ioengine=nbd \
			--uri="nbd+unix:///?socket=$BLKTAP_RUNDIR/nbd$pid.0" \
			--rw=randwrite --bs=4k --iodepth=32 --size=32M \
			--loops=100 --time_based --runtime=3 --verify=crc32c \
			--do_verify=1 --verify_backlog=2048 \
			--verify_state_save=0 || return 1
	done
}

work >fio.log 2>&1 &
fio=$!
n=0
while [ $n -lt 40 ]; do
	tap-ctl pause -p "$pid" -m 0
	equal "$(tap-ctl list)" \
		"pid=$pid minor=0 state=0x2a args=aio:$tmp/d.raw"
	sleep 0.05
	tap-ctl unpause -p "$pid" -m 0
	sleep 0.05
	n=$((n + 1))
done
touch stop
wait $fio || fail "$(tail -n 20 fio.log)"
! grep -qi 'verify.*failed\|error=' fio.log || fail "$(cat fio.log)"
tap-ctl destroy -p "$pid" -m 0
echo "$n pauses"
