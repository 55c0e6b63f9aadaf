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
# has COUNT: requests that have not ended
has()
{
	tap-ctl stats -p "$pid" -m 0 | grep -q "\"reqs_outstanding\": $1[,}]"
}
wait_for has 1
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
# who waited for the stuck one would do so for ever
timeout 60 tap-ctl open -p "$pid" -m 1 -a "aio:$tmp/near.raw" >/dev/null
timeout 60 qemu-io -f raw -c 'write 0 64k' -c flush \
	"nbd+unix:///?socket=$BLKTAP_RUNDIR/nbd$pid.1" >/dev/null
timeout 60 tap-ctl close -p "$pid" -m 1
kill -0 $close || fail "the stuck disk was closed: $(cat far.log)"

kill -CONT "$(cat far.pid)"
wait $close || fail "the close failed after the disk went on"
wait $client || :
grep -q 'wrote 65536' far.log || fail "the write was lost: $(cat far.log)"

# One that asks for much and reads nothing: its disk is closed all the same, but
# others are closed before. All by one process, which speaks with the control
# socket itself: starting programs may take longer than such a client has.
requires perl
truncate -s 64M wide.raw
start_tapdisk "aio:$tmp/wide.raw"
other=$(tap-ctl allocate)
other=${other##*tapdisk-}
tap-ctl attach -p "$pid" -m "$other"
tap-ctl open -p "$pid" -m "$other" -a "ram:1M"
cat >close.pl <<'END'
use strict;
use warnings;
use BtNbd;

my ($nbd, $control, $wide, $other) = @ARGV;
my ($CLOSE, $CLOSE_RSP, $LIST, $BYTES) = (13, 14, 19, 544);
my $client = BtNbd->connect($nbd, 1);
$client->send($BtNbd::READ, 0, 1 << 20) for 1 .. 64;

# a request is a message of so many bytes, and so is its answer
sub ask { my ($type, $minor) = @_;
	my $s = BtNbd::dial($control);
	syswrite $s, pack("S S x$BYTES", $type, $minor), $BYTES;
	return $s }
sub answer { my ($s) = @_;
	my $b = '';
	while (length $b < $BYTES) {
		sysread $s, $b, $BYTES - length $b, length $b or return;
	}
	return $b }
sub is_closing {
	my $s = ask($LIST, 0);
	while (my $b = answer($s)) {
		my ($minor, $state) = unpack 'x12 l l', $b;
		return $state != 0 if $minor == $wide;
	}
	die "minor $wide is not listed\n";
}

my $slow = ask($CLOSE, $wide);
1 until is_closing();
my $fast = ask($CLOSE, $other);
my $type = unpack 'S', answer($fast);
die "the other's close: $type\n" if $type != $CLOSE_RSP;
my $ready = '';
vec($ready, fileno $slow, 1) = 1;
print select($ready, undef, undef, 0) ? "after\n" : "before\n";
$type = unpack 'S', answer($slow);
die "the close: $type\n" if $type != $CLOSE_RSP;
END
# Where others wait, no round can be won; on a busy machine some may be lost.
round=1
until
	timeout 100 perl -I"$srcdir/tests/shell" close.pl "$socket" \
		"$BLKTAP_RUNDIR/ctl$pid" "$minor" "$other" >order ||
		fail "no close"
	[ "$(cat order)" = before ]
do
	round=$((round + 1))
	[ $round -le 10 ] || fail "others wait for a client of a disk"
	tap-ctl open -p "$pid" -m "$minor" -a "aio:$tmp/wide.raw"
	tap-ctl open -p "$pid" -m "$other" -a "ram:1M"
done
