#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot of a running ext4: while files are written to a file system that is
# mounted from a disk of a graph, a change puts a snapshot into the graph. Its
# image, copied from its export, is what a power cut at that moment would have
# left: it mounts, its journal is replayed, e2fsck finds nothing, and what was
# synced before the snapshot is there.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/mason-functions.sh"
requires root fuse loop mkfs.ext4 e2fsck mount nbdcopy
. "$srcdir/tests/shell/map-functions.sh"

truncate -s 96M disk.raw
mkfs.ext4 -q disk.raw
truncate -s 128M delta.raw
echo 'd :: disk("d") -> o :: raw("'"$tmp"'/disk.raw");' >plain.mason
cat >snap.mason <<END
d :: disk("d") -> [live] s :: snap();
image :: export("image", ro=true) -> [image] s;
s[origin] -> o :: raw("$tmp/disk.raw");
s[delta] -> raw("$tmp/delta.raw");
END
start_tapdisk "mason:$tmp/plain.mason"
image="nbd+unix:///image?socket=$BLKTAP_RUNDIR/export$pid.$minor.image"

device=$(tap-ctl map --block "nbd:$uri")
mkdir mnt
mount "$device" mnt
cp -r "$srcdir/lib" mnt/before
sync -f mnt

# Files come and go all the time, some of them synced.
writes()
{
	writes_n=0
	while [ ! -e stop ]; do
		writes_n=$((writes_n + 1))
		dd if=/dev/urandom of="mnt/f$((writes_n % 40))" bs=4k \
			count=$((writes_n % 60 + 1)) status=none
		mv "mnt/f$((writes_n % 40))" "mnt/g$((writes_n % 7))"
		[ $((writes_n % 9)) != 0 ] || sync -f mnt
		echo "$writes_n" >written
	done
}
has_written()
{
	[ "$(cat written 2>/dev/null || echo 0)" -ge "$1" ]
}
writes &
writer=$!
wait_for has_written 30
mason apply snap.mason >out || fail "$(cat out)"
at=$(cat written)
wait_for has_written $((at + 60))
nbdcopy "$image" image.raw
wait_for has_written $((at + 90))
touch stop
wait $writer || fail "a write failed"

# As after a power cut, there is a journal to be replayed.
dumpe2fs -h image.raw 2>/dev/null >header
contains header needs_recovery
umount mnt
tap-ctl unmap "$device"

device=$(tap-ctl map --block image.raw)
mount "$device" mnt
diff -r "$srcdir/lib" mnt/before || fail "what was synced is not there"
umount mnt
tap-ctl unmap "$device"
e2fsck -fn image.raw >check || fail "$(cat check)"
e2fsck -fn disk.raw >check || fail "$(cat check)"
tap-ctl destroy -p "$pid" -m "$minor"
nothing_left
