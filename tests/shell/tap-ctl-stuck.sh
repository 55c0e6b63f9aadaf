#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk whose requests do not end keeps nobody waiting but who wants to close it,
# and that is told to who wants to pause it: others in its tapdisk are created,
# served and destroyed meanwhile. So are they while a client of a disk that is
# closed does not take its last replies.
. "${srcdir:-.}/tests/shell/functions.sh"
requires nbdkit qemu-io

nbdkit -f -U "$tmp/far" -P far.pid memory 16M &
cleanup_fn kill -KILL $!
wait_for test -s far.pid
truncate -s 16M near.raw
tap-ctl create -a "nbd:nbd+unix:///?socket=$tmp/far" >/dev/null
pid=$(tap-ctl list | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
cleanup_fn stop_tapdisk "$pid" 0

kill -STOP "$(cat far.pid)"
qemu-io -f raw -c 'write 0 64k' \
	"nbd+unix:///?socket=$BLKTAP_RUNDIR/nbd$pid.0" >far.log 2>&1 &
client=$!
sleep 0.3
# a pause with a deadline gives up, says who is stuck, and the disk runs on
rc=0
tap-ctl pause -p "$pid" -m 0 -t 1 2>pause.err || rc=$?
[ $rc -ne 0 ] || fail "a stuck disk was paused"
grep -q "node 'nbd:.*has not finished 1 request" pause.err ||
	fail "the pause said: $(cat pause.err)"
tap-ctl list | grep -q "minor=0 state=0 " || fail "$(tap-ctl list)"
tap-ctl close -p "$pid" -m 0 &
close=$!
sleep 0.3

tap-ctl attach -p "$pid" -m 1 2>/dev/null || {
	tap-ctl allocate >/dev/null
	tap-ctl attach -p "$pid" -m 1
}
timeout 5 tap-ctl open -p "$pid" -m 1 -a "aio:$tmp/near.raw" >/dev/null
timeout 5 qemu-io -f raw -c 'write 0 64k' -c flush \
	"nbd+unix:///?socket=$BLKTAP_RUNDIR/nbd$pid.1" >/dev/null
timeout 5 tap-ctl close -p "$pid" -m 1
kill -0 $close || fail "the stuck disk was closed: $(cat far.log)"

kill -CONT "$(cat far.pid)"
wait $close || fail "the close failed after the disk went on"
wait $client || :
grep -q 'wrote 65536' far.log || fail "the write was lost: $(cat far.log)"

# One that asks for much and reads nothing: its disk is closed all the same, but
# others are closed before. It has two seconds to change its mind, which a busy
# machine may need for less, so there are several rounds; where others wait, none
# of them can be won.
requires perl
truncate -s 64M wide.raw
start_tapdisk "aio:$tmp/wide.raw"
other=$(tap-ctl allocate)
other=${other##*tapdisk-}
tap-ctl attach -p "$pid" -m "$other"
being_closed()
{
	tap-ctl list -p "$pid" | grep -q "minor=$minor state=0x"
}
other_first()
{
	tap-ctl open -p "$pid" -m "$other" -a "ram:1M"
	perl -I"$srcdir/tests/shell" -e 'use BtNbd; use strict;
		my $c = BtNbd->connect($ARGV[0], 1);
		$c->send($BtNbd::READ, 0, 1 << 20) for 1 .. 64;
		syswrite STDOUT, "asked\n";
		sleep 600' "$socket" >asked &
	client=$!
	wait_for grep -q asked asked
	rm -f closed
	(
		tap-ctl close -p "$pid" -m "$minor"
		echo wide >>closed
	) &
	close=$!
	wait_for being_closed
	tap-ctl close -p "$pid" -m "$other"
	echo other >>closed
	wait $close
	kill $client
	[ "$(head -n 1 closed)" = other ]
}
round=1
until other_first; do
	round=$((round + 1))
	[ $round -le 10 ] || fail "others wait for a client of a disk"
	tap-ctl open -p "$pid" -m "$minor" -a "aio:$tmp/wide.raw"
done
