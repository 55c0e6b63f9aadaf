#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What was flushed before kill -9 is in the image; a server that was killed
# leaves a socket the next one replaces; clients killed at work trouble nobody.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
requires qemu-io fio

truncate -s 64M disk.raw
serve "raw:$tmp/disk.raw"
qemu-io -f raw -c 'write -P 0x77 1M 1M' -c flush "$uri" >io
kill -9 "$serve_pid"
stop_serving
[ -S "$socket" ] || fail "there should be a stale socket"
serve "raw:$tmp/disk.raw"
qemu-io -f raw -c 'read -P 0x77 1M 1M' "$uri" >io || fail "$(cat io)"

# a second server is told no, and the first does not mind
fails "$builddir/tests/nbd-serve" "$socket" ram:1M 2>err
contains err "another server listens there"

fds=$(ls "/proc/$serve_pid/fd" | wc -l)
for _ in 1 2 3 4 5; do
	fio --thread --name=x --ioengine=nbd --uri="$uri" --rw=randrw --bs=64k \
		--iodepth=64 --time_based --runtime=60 >/dev/null 2>&1 &
	fio_pid=$!
	sleep 0.3
	kill -9 "$fio_pid"
	wait "$fio_pid" || :
done
qemu-io -f raw -c 'write -P 0x78 1M 1M' -c 'read -P 0x78 1M 1M' "$uri" >io ||
	fail "$(cat io)"
fds_are_back()
{
	[ "$(ls "/proc/$serve_pid/fd" | wc -l)" = "$fds" ]
}
wait_for fds_are_back
served_well
