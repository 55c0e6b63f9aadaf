#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A coalesce of a disk in use, whose tapdisk is killed halfway: started again, it
# goes on where it stood, and the disk is what it was.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img qemu-io nbdcopy

truncate -s 256M base.raw
qemu-img create -q -f qcow2 -F raw -b base.raw mid.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b mid.qcow2 top.qcow2
qemu-io -c 'write -P 17 0 160M' mid.qcow2 >/dev/null
qemu-io -c 'write -P 34 63M 2M' top.qcow2 >/dev/null
qemu-img convert -O raw top.qcow2 want.raw

start_tapdisk "qcow2:$tmp/top.qcow2"
tap-ctl job start -p "$pid" -m "$minor" coalesce --base mid.qcow2 \
	--resume state --rate 50M
n=0
while [ ! -s state ]; do
	n=$((n + 1))
	[ $n -lt 1200 ] || fail "no state after a minute"
	sleep 0.05
done
kill -9 "$pid"
wait_for qemu-img info top.qcow2 # the locks are gone
contains state 'done '

start_tapdisk "qcow2:$tmp/top.qcow2"
tap-ctl job start -p "$pid" -m "$minor" coalesce --base mid.qcow2 \
	--resume "$tmp/state" --wait --json >job
contains job '"state":"done"'
skipped=$(sed 's/.*"skipped":\([0-9]*\).*/\1/' job)
copied=$(sed 's/.*"copied":\([0-9]*\).*/\1/' job)
[ "$skipped" -ge 67108864 ] || fail "$(cat job)"
[ $((skipped + copied)) -le 167772160 ] || fail "$(cat job)"
[ ! -e state ] || fail 'the state was left'
nbdcopy "$uri" now.raw
cmp want.raw now.raw
rm mid.qcow2
tap-ctl destroy -p "$pid" -m "$minor"
qemu-img check -q top.qcow2
qemu-img convert -O raw top.qcow2 now.raw
cmp want.raw now.raw

# what another kind would do with it is refused
start_tapdisk "qcow2:$tmp/top.qcow2"
exits 1 tap-ctl job start -p "$pid" -m "$minor" stream --resume state 2>err
contains err 'only a coalesce'
