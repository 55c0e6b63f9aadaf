#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# tap-ctl map makes a disk a file: its bytes, size, holes and flushes are the
# disk's, and unmap leaves nothing.
. "${srcdir:-.}/tests/shell/functions.sh"
requires fuse fallocate flock qemu-img
. "$srcdir/tests/shell/map-functions.sh"

make_image a.raw 8000000
truncate -s 16M a.raw
cp a.raw wanted.raw

# The default file, named like the image.
file=$(tap-ctl map a.raw)
equal "$file" "$BLKTAP_RUNDIR/map/a.raw"
equal "$(stat -c %s-%F-%a "$file")" "16777216-regular file-600"
cmp "$file" wanted.raw
tap-ctl map --list >list
contains list "name=a.raw pid=$(map_pid a.raw) file=$file image=raw:$tmp/a.raw"
tap-ctl map --list --json >list
contains list "\"name\":\"a.raw\",\"file\":\"$file\",\"device\":null,"
contains list '"read_only":false,"alive":true'

# What is written is in the image at once, at odd offsets and sizes too.
printf 'not aligned' | dd of="$file" bs=1 seek=12345 conv=notrunc status=none
printf 'not aligned' | dd of=wanted.raw bs=1 seek=12345 conv=notrunc status=none
make_image more 3000001
dd if=more of="$file" bs=1500001 oflag=seek_bytes seek=9000001 \
	conv=notrunc,fsync status=none
dd if=more of=wanted.raw bs=1500001 oflag=seek_bytes seek=9000001 \
	conv=notrunc status=none
cmp a.raw wanted.raw
cmp "$file" wanted.raw

# The end of the disk is the end of the file.
dd if="$file" bs=1M skip=16 of=end status=none
equal "$(stat -c %s end)" 0
fails dd if=more of="$file" bs=512 seek=32768 count=1 conv=notrunc 2>log
contains log 'No space left'
fails truncate -s 1M "$file" 2>log
contains log 'Operation not permitted'
truncate -s 16M "$file"
equal "$(stat -c %s a.raw)" 16777216

# Holes: found, punched and zeroed, in the image itself.
before=$(stat -c %b a.raw)
fallocate -p -o 4M -l 2M "$file"
dd if=/dev/zero of=wanted.raw bs=1M seek=4 count=2 conv=notrunc status=none
cmp a.raw wanted.raw
[ "$(stat -c %b a.raw)" -lt "$before" ] || fail "no space was given back"
fallocate -z -o 6M -l 1M "$file"
dd if=/dev/zero of=wanted.raw bs=1M seek=6 count=1 conv=notrunc status=none
cmp a.raw wanted.raw
qemu-img map -f raw --output=json -U "$file" |
	sed 's/"depth": 0, //; s/, "offset": [0-9]*//; s/ "present": true,//' \
	>theirs
qemu-img map -f raw --output=json -U a.raw |
	sed 's/"depth": 0, //; s/, "offset": [0-9]*//; s/ "present": true,//' \
	>image
grep -o '"start": [0-9]*, "length": [0-9]*,.*"zero": [a-z]*' image >image.map
grep -o '"start": [0-9]*, "length": [0-9]*,.*"zero": [a-z]*' theirs >theirs.map
cmp image.map theirs.map
contains image.map '"zero": true'

# Two at once, by the same name, and a file of one's own, which stays if it was
# there and goes if it was not.
cp wanted.raw b.raw
mkdir other
cp b.raw other/a.raw
: >here
second=$(tap-ctl map other/a.raw)
equal "$second" "$BLKTAP_RUNDIR/map/a.raw-2"
third=$(tap-ctl map --name third "raw:b.raw" here)
equal "$third" "$tmp/here"
fourth=$(tap-ctl map --name fourth ram:1M "with blank")
equal "$fourth" "$tmp/with blank"
cmp "$second" "$third"
printf x | dd of="$second" conv=notrunc status=none
printf y | dd of="$third" conv=notrunc status=none
equal "$(head -c 1 other/a.raw)$(head -c 1 b.raw)" xy
tap-ctl unmap a.raw-2
tap-ctl unmap here
[ -e here ] || fail "unmap removed a file that was there before"
tap-ctl unmap "with blank"
[ ! -e "with blank" ] || fail "unmap left the file it made"

# In use: refused, and everything stays; then not.
exec 7<>"$file"
exits 75 tap-ctl unmap a.raw 2>log
contains log 'Device or resource busy (EBUSY)'
contains log 'hint: '
printf 'still here' >&7
equal "$(head -c 10 a.raw)" 'still here'
exec 7>&-
tap-ctl unmap "$file"
nothing_left

# Nobody is told of it: it is taken back.
mkfifo gone
exec 8<>gone 9>gone 8<&-
exits 1 tap-ctl map a.raw 2>log >&9
contains log 'Broken pipe (EPIPE)'
exec 9>&-
nothing_left
rm gone

# Lazily: who has it open goes on, and it ends with them.
tap-ctl map a.raw >/dev/null
exec 7<>"$file"
tap-ctl unmap --lazy a.raw
[ ! -s "$file" ] || fail "it is still mounted"
printf 'until the end' >&7
exec 7>&-
wait_for is_gone a.raw
equal "$(head -c 13 a.raw)" 'until the end'
nothing_left

# Taken away by hand, it ends as well.
tap-ctl map a.raw >/dev/null
umount "$file" 2>/dev/null || fusermount3 -u "$file"
wait_for is_gone a.raw
nothing_left

# What it takes away at its end is its own, even where its name is another's by
# then.
state=$BLKTAP_RUNDIR/map/a.raw.state
tap-ctl map a.raw >/dev/null
mv "$state" "$BLKTAP_RUNDIR/own"
echo image=raw:another >"$state"
umount "$file" 2>/dev/null || fusermount3 -u "$file"
wait_for flock -n "$BLKTAP_RUNDIR/own" true
equal "$(cat "$state")" image=raw:another
[ -e "$file" ] || fail "the file of another is gone"
rm "$state" "$file" "$BLKTAP_RUNDIR/own"
nothing_left

# A runtime directory that is named by a link is the one it names.
ln -s "$BLKTAP_RUNDIR" link
(
	BLKTAP_RUNDIR=$PWD/link
	tap-ctl map a.raw >/dev/null
	tap-ctl unmap -t 5 a.raw
)
nothing_left

# Read-only holds.
tap-ctl map -R a.raw >/dev/null
equal "$(stat -c %a "$file")" 400
cp a.raw wanted.raw
fails dd if=/dev/zero of="$file" count=1 conv=notrunc 2>log
fails fallocate -p -o 0 -l 4096 "$file" 2>>log
cmp "$file" wanted.raw
tap-ctl unmap a.raw
cmp a.raw wanted.raw
nothing_left
