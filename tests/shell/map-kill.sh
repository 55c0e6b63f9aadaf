#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Whatever ends the daemon of a mapped disk, what was flushed is in the image and
# what is left of the map can be taken away.
. "${srcdir:-.}/tests/shell/functions.sh"
requires fuse
. "$srcdir/tests/shell/map-functions.sh"

truncate -s 16M a.raw
make_image data 5000000

# kill -9: the dead mount is seen, and unmap takes it away.
file=$(tap-ctl map a.raw)
dd if=data of="$file" conv=notrunc,fsync status=none
kill -9 "$(map_pid a.raw)"
wait_for is_dead a.raw
tap-ctl map --list --json >list
contains list '"alive":false'
tap-ctl unmap a.raw 2>log
contains log 'its daemon had died'
nothing_left
cmp -n 5000000 data a.raw

# Or the next map does, and takes the name again.
file=$(tap-ctl map a.raw)
kill -9 "$(map_pid a.raw)"
wait_for is_dead a.raw
equal "$(tap-ctl map a.raw)" "$file"
cmp -n 5000000 data "$file"
tap-ctl unmap a.raw
nothing_left

# What was written with O_DSYNC needs no flush behind it.
qcow-create -f qcow2 16 a.qcow2
file=$(tap-ctl map qcow2:a.qcow2)
dd if=data of="$file" bs=100000 oflag=dsync conv=notrunc status=none
kill -9 "$(map_pid a.qcow2)"
wait_for is_dead a.qcow2
file=$(tap-ctl map qcow2:a.qcow2)
cmp -n 5000000 data "$file"
tap-ctl unmap "$file"
nothing_left

# With a reader in the middle of it.
file=$(tap-ctl map a.raw)
(while cat "$file"; do :; done) >/dev/null 2>&1 &
reader=$!
sleep 0.2
kill -9 "$(map_pid a.raw)"
wait "$reader" || :
wait_for is_dead a.raw
tap-ctl unmap "$file" 2>log
nothing_left

# SIGTERM and SIGINT, in use or not.
for signal in TERM INT; do
	tap-ctl map a.raw >/dev/null
	kill -s "$signal" "$(map_pid a.raw)"
	wait_for is_gone a.raw
	nothing_left
done
tap-ctl map a.raw >/dev/null
exec 7<>"$file"
pid=$(map_pid a.raw)
kill "$pid"
wait_for not_mounted "$file"
printf 'last words' >&7
kill "$pid"
wait_for is_gone a.raw
(printf 'too late' >&7) 2>/dev/null && fail "somebody still answers"
exec 7>&-
equal "$(head -c 10 a.raw)" 'last words'
nothing_left

# A caller that is killed while it maps leaves nothing, or a whole map. A busy machine
# may take its time to start the daemon, which has not seen yet that it is alone.
no_daemon()
{
	for file in $(grep -lsx blktap-map /proc/[0-9]*/comm); do
		! grep -sqF "$BLKTAP_RUNDIR" "${file%comm}environ" || return 1
	done
}
is_over()
{
	tap-ctl unmap a.raw >log 2>&1 || grep -q 'nothing of that name' log ||
		return 1
	no_daemon
}
for delay in 0 0.002 0.004 0.008 0.016; do
	tap-ctl map a.raw >/dev/null 2>&1 &
	caller=$!
	sleep "$delay"
	kill -9 "$caller" 2>/dev/null || :
	wait "$caller" || :
	wait_for is_over
	nothing_left
done
