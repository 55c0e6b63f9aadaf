#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# tap-ctl map --block: a file system on the device is a file system in the image.
. "${srcdir:-.}/tests/shell/functions.sh"
requires root fuse loop mkfs.ext4 e2fsck mount
. "$srcdir/tests/shell/map-functions.sh"

truncate -s 96M a.raw
device=$(tap-ctl map --block a.raw)
case $device in
/dev/loop[0-9]*) ;;
*) fail "no device but '$device'" ;;
esac
equal "$(blockdev --getsize64 "$device")" 100663296
equal "$(cat "/sys/block/${device#/dev/}/loop/dio")" 1
tap-ctl map --list >list
contains list "device=$device"

mkfs.ext4 -q "$device"
mkdir mnt
mount "$device" mnt
cp -r "$srcdir/lib" mnt/tree
sync -f mnt

# While it is mounted, unmap refuses and the file system goes on.
exits 75 tap-ctl unmap "$device" 2>log
contains log 'Device or resource busy (EBUSY)'
diff -r "$srcdir/lib" mnt/tree
umount mnt
tap-ctl unmap "$device"
nothing_left
e2fsck -fn a.raw

# The image's own bytes: through another driver of ext4 than the one that wrote.
debugfs -R 'cat tree/libblktap/LAYERS' a.raw 2>/dev/null >layers
cmp layers "$srcdir/lib/libblktap/LAYERS"

# Again, and read-only: nothing changes, not even by mounting.
sum=$(cksum <a.raw)
device=$(tap-ctl map --block --read-only a.raw)
equal "$(blockdev --getro "$device")" 1
fails dd if=/dev/zero of="$device" count=1 status=none conv=fsync 2>log
mount -o ro,noload "$device" mnt
diff -r "$srcdir/lib" mnt/tree
umount mnt
tap-ctl unmap a.raw
equal "$(cksum <a.raw)" "$sum"
nothing_left

# Discard reaches the image, which gives its space back.
device=$(tap-ctl map --block a.raw)
blkdiscard "$device"
equal "$(stat -c %b a.raw)" 0
tap-ctl unmap "$device"
nothing_left

# What fsync acknowledged is in the image when the daemon is killed.
mkfs.ext4 -q a.raw
device=$(tap-ctl map --block a.raw)
mount "$device" mnt
make_image mnt/flushed 3000000
sync mnt/flushed
kill -9 "$(map_pid a.raw)"
wait_for is_dead a.raw
umount -l mnt
tap-ctl unmap a.raw 2>log
contains log 'its daemon had died'
nothing_left
e2fsck -fy a.raw >log 2>&1 || [ $? = 1 ] || fail "$(cat log)"
make_image wanted 3000000
debugfs -R 'cat flushed' a.raw 2>/dev/null | cmp - wanted

# SIGTERM with a file system on it: it ends with the file system, not before.
device=$(tap-ctl map --block a.raw)
mount "$device" mnt
kill "$(map_pid a.raw)"
sleep 0.3
make_image mnt/after-term 1000000
umount mnt
wait_for is_gone a.raw
nothing_left
e2fsck -fn a.raw
make_image wanted 1000000
debugfs -R 'cat after-term' a.raw 2>/dev/null | cmp - wanted
