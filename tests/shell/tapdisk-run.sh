#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# tapdisk serves one disk by itself, without a runtime directory: while a command
# runs, or until a signal comes.
. "${srcdir:-.}/tests/shell/functions.sh"

truncate -s 1M a.raw
unset BLKTAP_RUNDIR
XDG_RUNTIME_DIR=$tmp/xdg
export XDG_RUNTIME_DIR
mkdir -m 0700 xdg

# The command gets the disk's address; its status is ours.
exits 0 tapdisk --run 'test -S "$unixsocket" && echo "$uri"' raw:a.raw >out
grep -qx 'nbd+unix:///?socket=.*/xdg/blktap\..*/socket' out
exits 7 tapdisk --run 'exit 7' raw:a.raw
exits 143 tapdisk --run 'kill -TERM $$' raw:a.raw
exits 127 tapdisk --run 'no-such-program-here' raw:a.raw 2>/dev/null
equal "$(find xdg -mindepth 1)" ""

# It is the disk.
if command -v nbdinfo >/dev/null; then
	equal "$(tapdisk --run 'nbdinfo --size "$uri"' raw:a.raw)" 1048576
	tapdisk -R --run 'nbdinfo "$uri"' raw:a.raw >out
	contains out 'is_read_only: true'
fi

# One that looks for requests before it sleeps serves the same bytes.
if fio --enghelp=nbd >/dev/null 2>&1; then
	for depth in 1 8; do
		tapdisk --poll 50 --run 'fio --name=x --ioengine=nbd \
			--uri="$uri" --rw=randrw --bsrange=512-16k --size=1M \
			--verify=crc32c --iodepth='"$depth" raw:a.raw >out
		contains out 'err= 0'
	done
	truncate -s 0 a.raw
	truncate -s 1M a.raw
fi

# A command asked to end is waited for.
tapdisk --run 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.1; done' \
	raw:a.raw >ended &
wait_for grep -qx up ended
kill -TERM $!
exits 3 wait $!
contains ended bye

# A socket of one's own choice; gone with the signal.
tapdisk --unix "$tmp/s" raw:a.raw >served &
cleanup_fn kill $!
wait_for test -S s
wait_for grep -qx "nbd+unix:///?socket=$tmp/s" served
kill -TERM $!
exits 0 wait $!
[ ! -e s ] || fail "the socket is left"

# The writer's lock is respected.
tapdisk --unix "$tmp/s" raw:a.raw >out &
cleanup_fn kill $!
wait_for test -S s
exits 16 tapdisk --run true raw:a.raw 2>err
contains err a.raw
contains err hint:
exits 98 tapdisk --unix "$tmp/s" ram:1M 2>err
contains err "$tmp/s"
kill -TERM $!
wait $!

# Start to socket in few milliseconds; measured here, and not judged.
start=$(date +%s%N)
tapdisk --run true ram:1M
end=$(date +%s%N)
echo "start, serve, run, stop: $(((end - start) / 1000)) us"
equal "$(find xdg -mindepth 1)" ""
