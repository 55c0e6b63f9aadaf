#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Block devices as targets, parents and images of the qcow tools: their size is
# the device's, their end is not that of the data.
. "${srcdir:-.}/tests/shell/functions.sh"
requires root loop qemu-img qemu-io

# attach FILE SIZE: sets $device
attach()
{
	truncate -s "$2" "$1"
	device=$(losetup -f --show "$1")
	cleanup_fn losetup -d "$device"
}

make_image a.raw 3M
img2qcow -f qcow2 a.qcow2 a.raw
img2qcow a.qcow a.raw

echo '# qcow2raw onto a device'
attach target 5M
tr '\0' x </dev/zero | head -c 5242880 >"$device"
exits 1 qcow2raw "$device" a.qcow </dev/null 2>err
contains err EEXIST
equal "$(head -c 3 "$device")" xxx
exits 1 img2qcow --force "$device" a.raw 2>err
contains err 'this is a block device'
equal "$(head -c 3 "$device")" xxx
exits 1 qcow2raw --force -S raw "$device" "$device" 2>err
contains err 'it is the source'
qcow2raw --force "$device" a.qcow 2>err
contains err 'TRANSFER COMPLETE'
cmp -n 3145728 a.raw "$device"
equal "$(tail -c +3145729 "$device" | head -c 3)" xxx
if mkfs.ext4 -q "$device" 2>/dev/null && mkdir mnt &&
	mount "$device" mnt 2>/dev/null; then
	cleanup_fn umount mnt
	before=$(sha256sum <target)
	exits 1 qcow2raw --force "$device" a.qcow 2>err
	contains err 'it is mounted'
	equal "$(sha256sum <target)" "$before"
	umount mnt
	qcow2raw --force "$device" a.qcow 2>err
	cmp -n 3145728 a.raw "$device"
fi
attach small 2M
exits 1 qcow2raw --force "$device" a.qcow 2>err
contains err "$device"
equal "$(tr -d '\0' <"$device" | wc -c)" 0

echo '# a device as the parent, and as the source'
attach base 6M
printf 'on the device' | dd of="$device" conv=notrunc status=none
for f in qcow qcow2; do
	qcow-create -f $f -F raw 0 child.$f "$device"
	qemu-img info -f $f child.$f | grep -q 'virtual size: 6 MiB' ||
		fail "$(qemu-img info -f $f child.$f)"
done
# shellcheck disable=SC2016 # the inner shell's
tapdisk --run 'nbdcopy "$uri" out.raw' -R "qcow2:$tmp/child.qcow2"
equal "$(head -c 13 out.raw)" 'on the device'
img2qcow -f qcow2 copy.qcow2 "$device"
qemu-img compare -q -f raw -F qcow2 "$device" copy.qcow2

echo '# an image on a device: there is room behind its data'
for f in qcow qcow2; do
	attach on-$f 16M
	dd if=a.$f of="$device" bs=64k conv=notrunc status=none
	cp a.raw want.raw
	start_tapdisk "$f:$device"
	for image in "$uri" want.raw; do
		qemu-io -f raw -c 'write -P 1 0 64k' -c 'write -P 2 1M 1M' \
			-c flush "$image" >out
		if grep -q failed out; then
			fail "$(cat out)"
		fi
	done
	tap-ctl destroy -p "$pid" -m "$minor"
	qemu-img compare -q -f raw -F $f want.raw "$device"
	[ $f = qcow ] || qemu-img check -q -f qcow2 "$device"
done

echo '# a refcount block that a crash kept from an image on a device'
truncate -s 4M whole.raw
make_image head.raw 1M
dd if=head.raw of=whole.raw conv=notrunc status=none
qemu-img convert -f raw -O qcow2 -o cluster_size=512 whole.raw lost.qcow2
# its table's third entry, and the dirty bit
at=$(od -An -t u1 -j 48 -N 8 lost.qcow2 |
	awk '{ for (i = 1; i <= 8; i++) n = n * 256 + $i; print n }')
[ "$(od -An -tx1 -j $((at + 16)) -N 8 lost.qcow2 | tr -d ' 0')" ] ||
	fail 'the image has no third refcount block'
dd if=/dev/zero of=lost.qcow2 bs=8 seek=$((at / 8 + 2)) count=1 conv=notrunc \
	status=none
printf '\001' | dd of=lost.qcow2 bs=1 seek=79 conv=notrunc status=none
attach on-lost 8M
dd if=lost.qcow2 of="$device" conv=notrunc status=none
start_tapdisk "qcow2:$device"
qemu-img compare -q -f raw -F raw whole.raw "$uri"
qemu-io -f raw -c 'write -P 7 1M 1M' -c flush "$uri" >out
! grep failed out || fail "$(cat out)"
tap-ctl destroy -p "$pid" -m "$minor"
qemu-img check -f qcow2 "$device" >out || grep -q 'leaked' out ||
	fail "$(cat out)"
! grep -q ERROR out || fail "$(cat out)"
qemu-io -f raw -c 'write -P 7 1M 1M' whole.raw >/dev/null
qemu-img compare -q -f raw -F qcow2 whole.raw "$device"
