#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A tapdisk that is killed on a full file system leaves an image that opens for
# writing while there still is no space: what was flushed is there, and what has its
# place in the file can be written over. Where opening takes space, the error says so.
. "${srcdir:-.}/tests/shell/functions.sh"
requires root qemu-io qemu-img

# writes: 64 KiB here and there, more than there is room for
writes()
{
	for at in $(seq 0 3 120); do
		echo "write -P $((at + 1)) ${at}M 64k"
		[ $((at % 4)) != 3 ] || echo flush
	done
}

# not one byte is left
fill_up()
{
	dd if=/dev/zero of=full/rest bs=4k 2>/dev/null || :
}

mkdir full
mount -t tmpfs -o size=2m none full
cleanup_fn umount -l "$tmp/full"
for type in vhd qcow2 qcow; do
	case $type in
	vhd) vhd-util create -n full/image -s 128 ;;
	*) qcow-create -f $type 128M full/image ;;
	esac
	start_tapdisk "$type:$tmp/full/image"
	writes | qemu-io -f raw "$uri" >out 2>&1 || :
	contains out 'No space left on device'
	kill -9 "$pid"
	wait_for process_gone "$pid"
	fill_up
	tap-ctl free -m "$minor"

	start_tapdisk "$type:$tmp/full/image"
	qemu-io -f raw -c 'read -P 1 0 64k' -c 'read -P 4 3M 64k' \
		-c 'read -P 13 12M 64k' -c 'write -P 200 3M 64k' -c flush \
		-c 'read -P 200 3M 64k' "$uri" >out 2>&1
	! grep -E 'failed|error' out || fail "$type: $(cat out)"
	tap-ctl destroy -p "$pid" -m "$minor"
	rm full/rest full/image
done

# QEMU left counts undone, and the block for some of them is not there
lazy=lazy_refcounts=on,cluster_size=512
qemu-img create -q -f qcow2 -o $lazy full/image 16M
sh -c 'ulimit -c 0; qemu-io -c "write -P 9 0 512k" -c abort full/image' \
	>out 2>&1 || :
table=$((0x$(od -An -tx1 -j 48 -N 8 full/image | tr -d ' ')))
head -c 8 /dev/zero |
	dd of=full/image bs=1 seek=$((table + 16)) conv=notrunc status=none
truncate -s %4096 full/image # the end of a page is no space either
fill_up
exits 28 tap-ctl create -a "qcow2:$tmp/full/image" >out 2>err
contains err 'its tables cannot be set right: ENOSPC'
contains err 'hint: make room'
rm full/rest
start_tapdisk "qcow2:$tmp/full/image"
qemu-io -f raw -c 'read -P 9 0 512k' "$uri" >out
tap-ctl destroy -p "$pid" -m "$minor"
qemu-img check -q full/image
