#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Jobs on the chain of a disk under fio with checksums: nothing is lost, the chain
# gets its new shape, and QEMU agrees.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img fio nbdcopy
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

load()
{
	fio --name=w --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k \
		--iodepth=8 --offset=16M --size=8M --loops=500 --time_based \
		--runtime="$1" --verify=crc32c --do_verify=1 \
		--verify_backlog=256 --verify_state_save=0 >fio.log 2>&1 &
	fio=$!
}

loaded()
{
	wait $fio || fail "$(tail -n 20 fio.log)"
}

args()
{
	tap-ctl list | sed 's/.*args=//'
}

# base <- mid <- top, each with something of its own in the first 16 MiB
make_image base.raw 16M
truncate -s 32M base.raw
qemu-img create -q -f qcow2 -F raw -b base.raw mid.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b mid.qcow2 top.qcow2
qemu-io -c 'write -P 17 1M 300k' mid.qcow2 >/dev/null
qemu-io -c 'write -P 34 1200k 1M' -c 'write -z 4M 1M' \
	-c 'write -P 51 6M 6M' top.qcow2 >/dev/null
qemu-img convert -O raw top.qcow2 want.raw
truncate -s 16M want.raw
same()
{
	nbdcopy "$uri" now.raw
	truncate -s 16M now.raw
	cmp want.raw now.raw
}

start_tapdisk "qcow2:$tmp/top.qcow2"
job()
{
	job_do=$1
	shift
	tap-ctl job "$job_do" -p "$pid" -m "$minor" "$@"
}
equal "$(job list)" "no job"

# with a limit, paused, resumed, cancelled
job start commit --base base.raw --rate 1K
contains_now()
{
	job list --json >list
	contains list "$1"
}
contains_now '"kind":"commit","state":"running"'
contains_now '"rate":1024'
exits 1 job start stream 2>err
contains err 'has a job already'
exits 16 tap-ctl snapshot -p "$pid" -m "$minor" 2>err
contains err 'has a job'
job pause
contains_now '"state":"paused"'
tap-ctl pause -p "$pid" -m "$minor"
contains_now '"state":"waiting"'
tap-ctl unpause -p "$pid" -m "$minor"
job resume
job rate 2K
job cancel
exits 1 job list --wait >out 2>err
contains err cancelled
same
equal "$(args)" "qcow2:$tmp/top.qcow2"

# mid goes into base; the file is not needed any more
load 3
job start coalesce --base mid.qcow2 --wait
loaded
equal "$(job list | sed 's/ [0-9]*%.*//' | head -n 1)" "coalesce done"
rm mid.qcow2
qemu-img info -U top.qcow2 >info
contains info 'backing file: base.raw'
contains info 'backing file format: raw'
same

# top goes into base, which the disk is then
load 3
job start --kind commit --wait
loaded
equal "$(args)" "raw:$tmp/base.raw"
[ -e top.qcow2.committed ] && [ ! -e top.qcow2 ] || fail "the leaf's name"
same
tap-ctl destroy -p "$pid" -m "$minor"

# a live snapshot, and what was below streamed up into the leaf again
qemu-img create -q -f qcow2 -F raw -b base.raw leaf.qcow2
start_tapdisk "qcow2:$tmp/leaf.qcow2"
tap-ctl snapshot -p "$pid" -m "$minor" >/dev/null 2>&1
load 3
job start stream --wait
loaded
same
qemu-img info -U leaf.qcow2 >info
fails grep backing info
tap-ctl destroy -p "$pid" -m "$minor"
rm base.raw leaf.qcow2.snap1
qemu-img check -q leaf.qcow2
qemu-img convert -O raw leaf.qcow2 now.raw
truncate -s 16M now.raw
cmp want.raw now.raw

# version 1 as QEMU makes it: its table begins in the header's sector
qemu-img create -q -f raw base.raw 64M
qemu-io -f raw -c 'write -P 1 0 1M' -c 'write -P 7 33M 1M' base.raw >/dev/null
leaf_qcow()
{
	qemu-io -f qcow -c 'write -P 2 512k 256k' -c 'write -P 9 40M 64k' \
		leaf.qcow >/dev/null
	start_tapdisk "$1"
	shift
	job start stream "$@" --wait
	tap-ctl destroy -p "$pid" -m "$minor"
	# shellcheck disable=SC2016 # the inner shell's
	tapdisk --run 'qemu-io -f raw -c "read -P 1 0 512k" \
		-c "read -P 2 512k 256k" -c "read -P 1 768k 256k" \
		-c "read -P 7 33M 1M" -c "read -P 9 40M 64k" "$uri"' \
		"qcow:$tmp/leaf.qcow" >out 2>&1 || fail "$(cat out)"
	fails grep failed out
}
qemu-img create -q -f qcow -b base.raw -F raw leaf.qcow 2>/dev/null
leaf_qcow "qcow(\"$tmp/leaf.qcow\", backing_format=raw)"
# and as qcow-create makes it, which leaves room for another name
rm leaf.qcow
cp base.raw a-name-that-is-longer.raw
qemu-img create -q -f qcow2 -b a-name-that-is-longer.raw -F raw mid.qcow2
"$builddir/qcow-create" -F qcow2 -b mid.qcow2 0 leaf.qcow
leaf_qcow "qcow:$tmp/leaf.qcow" --base a-name-that-is-longer.raw

# what is wrong is said
truncate -s 1M alone.raw
start_tapdisk "raw:$tmp/alone.raw"
exits 1 job start stream 2>err
contains err 'is not a chain'
exits 2 tap-ctl job stat 2>err
contains err "did you mean 'start'"
exits 1 job start mirror 2>err
contains err 'there are stream, commit and coalesce'
exits 1 job cancel 2>err
contains err 'has no job'
tap-ctl destroy -p "$pid" -m "$minor"

# what a short image hides of the one below it does not come up
make_image long.raw 2M
qemu-img create -q -f qcow2 -F raw -b long.raw short.qcow2 1M
qemu-img create -q -f qcow2 -F qcow2 -b short.qcow2 over.qcow2 2M
start_tapdisk "qcow2:$tmp/over.qcow2"
nbdcopy "$uri" want.raw
exits 1 job start coalesce --base short.qcow2 --wait 2>err
contains err 'shorter than what it stands on'
contains err 'stream the disk without a base'
exits 1 job start stream --base long.raw --wait 2>err
contains err 'shorter than what it stands on'
nbdcopy "$uri" now.raw
cmp want.raw now.raw
job start stream --wait
nbdcopy "$uri" now.raw
cmp want.raw now.raw
