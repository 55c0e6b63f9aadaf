#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Where the runtime directory is full, what cannot be made is named, and nothing
# half made is left.
. "${srcdir:-.}/tests/shell/functions.sh"
requires root

mkdir full
mount -t tmpfs -o size=64k,nr_inodes=8,mode=0700 none full
cleanup_fn umount "$tmp/full"
BLKTAP_RUNDIR=$tmp/full/run
truncate -s 1M a.raw

n=0
while tap-ctl allocate >out 2>err; do
	n=$((n + 1))
	[ $n -lt 10 ] || fail "a full directory takes another minor"
done
exits 28 tap-ctl allocate 2>err
contains err 'No space left on device'
contains err 'hint: make room'
exits 28 tap-ctl spawn 2>err
contains err 'No space left on device'
exits 28 tap-ctl create -a "aio:$tmp/a.raw" 2>err
equal "$(tap-ctl list | grep -c '^minor=')" $n

# room for the mark, but not for the socket
tap-ctl free -m 0
exits 28 tap-ctl create -a "aio:$tmp/a.raw" 2>err
contains err 'cannot listen'
equal "$(tap-ctl list | grep -c '^minor=')" $((n - 1))
equal "$(find full -type s)" ""
while [ $n -gt 1 ]; do
	n=$((n - 1))
	tap-ctl free -m $n
done
tap-ctl create -a "aio:$tmp/a.raw" >/dev/null
pid=$(tap-ctl list | sed 's/pid=\([0-9]*\).*/\1/')
tap-ctl destroy -p "$pid" -m 0
