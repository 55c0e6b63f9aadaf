#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The VHD codec and QEMU agree on images of both: fields, size, data, and
# which of them are damaged.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img qemu-io
dump=${builddir:?make check sets it}/tests/shell/vhd-dump

# field FILE NAME
field()
{
	"$dump" info "$1" | sed -n "s/^$2=//p"
}

qemu_size()
{
	qemu-img info -f vpc --output=json "$1" |
		sed -n 's/^ *"virtual-size": \([0-9]*\),*/\1/p' | head -n 1
}

# same FILE: both see the same size and the same bytes.
same()
{
	equal "$(field "$1" size)" "$(qemu_size "$1")"
	"$dump" read "$1" >ours.raw
	qemu-img convert -f vpc -O raw "$1" theirs.raw
	cmp ours.raw theirs.raw
}

# Images that QEMU makes, at sizes on both sides of each step of the geometry.
# Size and geometry must be what we would have chosen for the same size.
for size in 512 34816 1M 100M 104857599 127M 128G $((65535 * 16 * 63 * 512)) \
	$((65535 * 16 * 63 * 512 - 512)) 1T 2040G; do
	for option in subformat=dynamic force_size=on,subformat=dynamic; do
		rm -f q.vhd
		qemu-img create -q -f vpc -o "$option" q.vhd "$size" >log 2>&1 ||
			fail "qemu-img create $option $size: $(cat log)"
		equal "$(field q.vhd type)" 3
		equal "$(field q.vhd differ)" 0
		equal "$(field q.vhd allocated)" 0
		equal "$(field q.vhd block_size)" 2097152
		equal "$(field q.vhd size)" "$(qemu_size q.vhd)"
		case $option in
		force*)
			equal "$(field q.vhd creator)" qem2
			;;
		*)
			equal "$(field q.vhd creator)" qemu
			equal "$(field q.vhd chs)" "$(field q.vhd chs_of_size)"
			;;
		esac
	done
done

# Data: a raw image with holes, in every kind that QEMU writes.
make_image data.raw 5000000
truncate -s 20M data.raw
dd if=data.raw of=data.raw bs=1M seek=13 count=2 conv=notrunc status=none
for option in subformat=dynamic subformat=fixed \
	subformat=dynamic,force_size=on subformat=fixed,force_size=on; do
	qemu-img convert -f raw -O vpc -o "$option" data.raw d.vhd
	same d.vhd
	cmp -n 20971520 data.raw ours.raw
done

# Writes of single sectors that QEMU adds later, at odd places.
qemu-img convert -f raw -O vpc -o force_size=on data.raw d.vhd
qemu-io -f vpc -c 'write -P 1 6144000 512' -c 'write -P 2 8388096 1024' \
	-c 'write -P 3 20971008 512' d.vhd >/dev/null
same d.vhd

# Images that we lay out: QEMU opens them, sees the size, the data, no damage.
for size in 104857600 $((104857600 + 512)) 2190433320960; do
	"$dump" create dynamic "$size" o.vhd
	equal "$(qemu_size o.vhd)" "$size"
	qemu-img check -q -f vpc o.vhd 2>/dev/null || [ $? = 63 ]
done
"$dump" create dynamic 104857600 o.vhd
equal "$(stat -c %s o.vhd)" 3584
"$dump" fill o.vhd 49 0xa5
"$dump" fill o.vhd 0 0x5a
same o.vhd
qemu-io -r -f vpc -c 'read -P 0x5a 0 2M' -c 'read -P 0 2M 96M' \
	-c 'read -P 0xa5 98M 2M' o.vhd >log
if grep -q 'Pattern verification failed' log; then
	fail "QEMU reads other data: $(cat log)"
fi
qemu-io -f vpc -c 'write -P 7 20M 64k' o.vhd >/dev/null
same o.vhd
equal "$(field o.vhd allocated)" 3
"$dump" create fixed 104857600 o.vhd
same o.vhd

# The last block of the largest disk.
"$dump" create dynamic 2190433320960 big.vhd
"$dump" fill big.vhd 1044479 0x77
qemu-io -r -f vpc -c 'read -P 0x77 2190431223808 2M' big.vhd >log
if grep -q 'Pattern verification failed' log; then
	fail "the last block at 2040 GiB: $(cat log)"
fi
exits 1 "$dump" create dynamic 2190433321472 big2.vhd 2>log
contains log 'a VHD holds at most 2040 GiB'

# A footer that is lost or filled: the copy serves, as it does for QEMU.
"$dump" create dynamic 104857600 o.vhd
"$dump" fill o.vhd 1 0x11
truncate -s -512 o.vhd
equal "$(field o.vhd footer_place)" 3
same o.vhd
head -c 512 /dev/zero | tr '\0' '\307' >>o.vhd
equal "$(field o.vhd footer_place)" 3
same o.vhd

# Damage is named.
"$dump" create dynamic 104857600 bad.vhd
printf '\0\0\0\001' | dd of=bad.vhd bs=1 seek=1536 conv=notrunc status=none
exits 1 "$dump" info bad.vhd 2>log
contains log 'BAT entry is 1: the block ends past the data'
"$dump" create dynamic 104857600 bad.vhd
"$dump" fill bad.vhd 0 1
printf '\0\0\0\001' | dd of=bad.vhd bs=1 seek=1540 conv=notrunc status=none
exits 1 "$dump" info bad.vhd 2>log
contains log 'BAT entry is 1: the block lies over metadata'
"$dump" create dynamic 104857600 bad.vhd
"$dump" fill bad.vhd 0 1
dd if=bad.vhd of=bad.vhd bs=4 skip=384 seek=385 count=1 conv=notrunc \
	status=none
exits 1 "$dump" info bad.vhd 2>log
contains log 'two blocks share a place in the file'
: >empty
exits 1 "$dump" info empty 2>log
contains log 'file size is 0: too short for a VHD footer'
