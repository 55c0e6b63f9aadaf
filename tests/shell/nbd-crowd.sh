#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Clients in great number: thousands that come and go, 512 at once, sixteen that
# stop reading beside one that works, and a thousand that say good-bye with
# requests pending. Each of the living is served, every reply that is due comes,
# and at the end descriptors and memory are as at the beginning.
. "${srcdir:-.}/tests/shell/functions.sh"
requires perl
comings=${BLKTAP_COMINGS:-2000}
goodbyes=${BLKTAP_GOODBYES:-100}
echo "BLKTAP_COMINGS=$comings BLKTAP_GOODBYES=$goodbyes"

make_image a.raw 4M
start_tapdisk "aio:$tmp/a.raw"

cat >crowd.pl <<'END'
use strict;
use warnings;
use BtNbd;
use Time::HiRes qw(time);

my ($what, $path, $count, $pid) = @ARGV;

sub read_ok { my ($c) = @_;
	my ($error, $data) = $c->call($BtNbd::READ, 4096, 4096);
	die "error $error\n" if $error }
sub rss {
	open my $f, '<', "/proc/$pid/status" or die;
	my ($kib) = map { /VmRSS:\s+(\d+)/ ? $1 : () } <$f>;
	return $kib }

# bare, in the handshake, past it, with a request pending: in turn
sub churn { for my $i (1 .. $count) {
	if ($i % 4 == 0) { BtNbd::dial($path); next }
	if ($i % 4 == 1) {
		my $s = BtNbd::dial($path);
		syswrite $s, pack('N', 3) . 'IHAVEOPT';
		next;
	}
	my $c = BtNbd->connect($path, $i & 4);
	$c->send($BtNbd::READ, 0, 65536) if $i % 4 == 2;
	$c->leave if $i % 4 == 3;
} }

sub together {
	my @all = map { BtNbd->connect($path, $_ & 1) } 1 .. $count;
	$_->send($BtNbd::READ, 4096, 4096) for @all;
	for (@all) { my (undef, $error) = $_->receive;
		die "error $error\n" if $error }
	print "$count at once are served\n" }

sub goodbye {
	my $replies = 0;
	for (1 .. $count) {
		my $c = BtNbd->connect($path, $_ & 1);
		$c->send($BtNbd::READ, 4096 * $_, 4096) for 1 .. 64;
		$c->put(pack('N n n Q> Q> N', 0x25609513, 0, $BtNbd::DISC,
			0, 0, 0));
		while ($c->pending) { my (undef, $error) = $c->receive;
			die "error $error\n" if $error;
			$replies++ }
		die "more than was asked for\n" if sysread $c->{s}, my $b, 1;
	}
	die "$replies replies\n" if $replies != 64 * $count;
	print "good-byes with 64 pending: $replies of $replies replies\n" }

# Each stuck client asks for 64 MiB and reads nothing.
sub stuck {
	my $before = rss();
	my @stuck = map { BtNbd->connect($path, 1) } 1 .. 16;
	for my $c (@stuck) { $c->send($BtNbd::READ, 0, 1 << 20) for 1 .. 64 }
	my $live = BtNbd->connect($path, 1);
	my (@took, $most);
	for (1 .. $count) {
		my $start = time;
		read_ok($live);
		push @took, time - $start;
		my $now = rss();
		$most = $now if !defined $most || $now > $most;
	}
	@took = sort { $a <=> $b } @took;
	printf "beside 16 that are stuck: median %.3f ms, 99%% %.3f ms; " .
		"%.1f MiB for them\n", 1e3 * $took[@took / 2],
		1e3 * $took[0.99 * @took], ($most - $before) / 1024;
	die "memory is not bounded\n" if $most - $before > 16 * 32 * 1024;
	# and when they read after all, they get all of it
	for my $c (@stuck[0, 15]) { while ($c->pending) {
		my (undef, $error) = $c->receive;
		die "error $error\n" if $error } }
	die "much too slow\n" if $took[@took / 2] > 1 }

{ no strict 'refs'; &$what }
END

crowd()
{
	timeout 250 perl -I"$srcdir/tests/shell" crowd.pl "$1" "$socket" "$2" \
		"$pid" || fail "$1"
}
fds()
{
	find "/proc/$pid/fd" -type l | wc -l
}
rss()
{
	sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status"
}
# Both as they were; a freed page or two may stay with the allocator.
as_before()
{
	[ "$(fds)" -le "$fds" ] && [ "$(rss)" -le $((rss + room)) ]
}
# What the sanitizers keep of freed memory is theirs.
room=2048
case ${SAN_CFLAGS:-} in
*address*) room=1048576 ;;
esac

fds=$(fds)
rss=$(rss)
echo "$fds descriptors, $rss KiB"
crowd churn "$comings"
wait_for as_before
crowd together 512
wait_for as_before
crowd goodbye "$goodbyes"
wait_for as_before
crowd stuck 500
wait_for as_before
echo "$(fds) descriptors, $(rss) KiB"
equal "$(tap-ctl list)" "pid=$pid minor=0 state=0 args=aio:$tmp/a.raw"
