#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A tapdisk comes and goes: it starts at once and keeps nothing of who started
# it, ends after its last minor, survives signals, and leaves nothing behind.
. "${srcdir:-.}/tests/shell/functions.sh"

truncate -s 1M a.raw
nothing_left()
{
	equal "$(find "$BLKTAP_RUNDIR" ! -type d)" ""
	equal "$(tap-ctl list)" ""
}

# Output ends although the daemon lives, even where it inherits descriptors.
exec 7>inherited 9<a.raw
pid=$(tap-ctl spawn)
cleanup_fn stop_tapdisk "$pid" 0
for fd in 0 1 2; do
	equal "$(readlink "/proc/$pid/fd/$fd")" /dev/null
done
[ ! -e "/proc/$pid/fd/7" ] ||
	[ "$(readlink "/proc/$pid/fd/7")" != "$tmp/inherited" ] ||
	fail "descriptor 7 was inherited"
# (the pipe by which it says that it has started may be open for a moment)
no_strangers()
{
	for fd in "/proc/$1/fd"/*; do
		case $(readlink "$fd") in
		"$tmp"/* | pipe:*) return 1 ;;
		esac
	done
}
wait_for no_strangers "$pid"
exec 7>&- 9<&-
equal "$(readlink "/proc/$pid/cwd")" /

# started by hand, with descriptors open: the same
path=$(tapdisk 8<a.raw)
other=${path##*/ctl}
cleanup_fn stop_tapdisk "$other" 0
equal "$path" "$BLKTAP_RUNDIR/ctl$other"
wait_for no_strangers "$other"
equal "$(tr '\0' '\n' <"/proc/$other/cmdline" | head -n 1)" tapdisk
kill -TERM "$other"
wait_for process_gone "$other"

# many disks on one tapdisk; it ends after the last
i=0
while [ $i -lt 50 ]; do
	truncate -s 1M "$i.raw"
	equal "$(tap-ctl allocate)" "$BLKTAP_RUNDIR/tapdisk/tapdisk-$i"
	tap-ctl attach -p "$pid" -m $i
	tap-ctl open -p "$pid" -m $i -a "aio:$tmp/$i.raw"
	i=$((i + 1))
done
equal "$(tap-ctl list | wc -l)" 50
equal "$(tap-ctl list | head -n 1 | cut -d' ' -f2)" minor=49
while [ $i -gt 0 ]; do
	i=$((i - 1))
	kill -0 "$pid" || fail "tapdisk ended too early"
	# at once: neither close nor detach answers before it is done
	tap-ctl destroy -p "$pid" -m $i
done
wait_for process_gone "$pid"
nothing_left

# signals in a storm
start_tapdisk "aio:$tmp/a.raw"
i=0
while [ $i -lt 300 ]; do
	kill -HUP "$pid"
	kill -USR1 "$pid"
	kill -USR2 "$pid"
	kill -PIPE "$pid"
	i=$((i + 1))
done
equal "$(tap-ctl list)" "pid=$pid minor=0 state=0 args=aio:$tmp/a.raw"

# TERM and INT: disks are closed, and sockets and marks are gone
kill -TERM "$pid"
wait_for process_gone "$pid"
nothing_left
start_tapdisk "aio:$tmp/a.raw"
kill -INT "$pid"
wait_for process_gone "$pid"
nothing_left
start_tapdisk "aio:$tmp/a.raw"
tap-ctl pause -p "$pid" -m 0
kill -TERM "$pid"
wait_for process_gone "$pid"
nothing_left

# killed: its minor is free again, and the next tapdisk sweeps its sockets
start_tapdisk "aio:$tmp/a.raw"
kill -9 "$pid"
wait_for process_gone "$pid"
equal "$(tap-ctl list)" "minor=0"
exits 2 tap-ctl attach -p "$pid" -m 0 2>/dev/null
next=$(tap-ctl spawn)
cleanup_fn stop_tapdisk "$next" 0
[ ! -e "$BLKTAP_RUNDIR/ctl$pid" ] || fail "ctl$pid is left"
[ ! -e "$BLKTAP_RUNDIR/nbd$pid.0" ] || fail "nbd$pid.0 is left"
tap-ctl attach -p "$next" -m 0
tap-ctl open -p "$next" -m 0 -a "aio:$tmp/a.raw"
tap-ctl destroy -p "$next" -m 0
wait_for process_gone "$next"
nothing_left

# A paused disk can be closed although a client's requests wait: they fail.
if command -v nbdcopy >/dev/null; then
	start_tapdisk "aio:$tmp/a.raw"
	tap-ctl pause -p "$pid" -m 0
	nbdcopy "$uri" null: 2>/dev/null &
	sleep 0.3
	exits 0 timeout 10 tap-ctl close -p "$pid" -m 0
	fails wait $!
	tap-ctl open -p "$pid" -m 0 -a "aio:$tmp/a.raw"
	tap-ctl pause -p "$pid" -m 0
	nbdcopy "$uri" null: 2>/dev/null &
	sleep 0.3
	kill -TERM "$pid"
	wait_for process_gone "$pid"
	fails wait $!
	nothing_left
fi

# TCP when asked
path=$(tap-ctl create -a "aio:$tmp/a.raw" --tcp 127.0.0.1:0 2>err) || {
	# a port of our own choice is not for every system
	cat err
	path=
}
if [ -n "$path" ]; then
	pid=$(tap-ctl list | sed 's/pid=\([0-9]*\).*/\1/')
	cleanup_fn stop_tapdisk "$pid" 0
	tap-ctl list --json >json
	contains json '"nbd://127.0.0.1:'
	tap-ctl destroy -p "$pid" -m 0
fi
exits 22 tap-ctl create -a "aio:$tmp/a.raw" --tcp 10809 2>err
contains err hint:
nothing_left
