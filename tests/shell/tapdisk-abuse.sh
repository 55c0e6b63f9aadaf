#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# NBD clients that misbehave towards a real tapdisk: one that vanishes after each
# byte of a whole session, a thousand at once, requests that cannot be. Each gets
# the answer that NBD's document asks for; the tapdisk is none the worse for it,
# and the image holds what was written well, and no more.
. "${srcdir:-.}/tests/shell/functions.sh"
requires perl

make_image a.raw 1M
cp a.raw was.raw
start_tapdisk "aio:$tmp/a.raw"

cat >abuse.pl <<'END'
use strict;
use warnings;
use IO::Socket::UNIX;
use Socket;

my ($path, $pid) = @ARGV;
my $size = 1 << 20;
my $failed = 0;
$SIG{PIPE} = 'IGNORE';

sub dial { IO::Socket::UNIX->new(Peer => $path) or die "$path: $!" }
sub ok { my ($what, $good) = @_;
	return if $good;
	print "not ok: $what\n"; $failed = 1 }
sub slurp { my ($s, $n) = @_; my $b = '';
	while (length $b < $n) {
		my $r = sysread $s, $b, $n - length $b, length $b;
		last unless $r;
	}
	$b }
sub option { my ($type, $data) = @_;
	pack('a8 N N', 'IHAVEOPT', $type, length $data) . $data }
sub request { my ($type, $offset, $length, $flags, $cookie) = @_;
	pack('N n n Q> Q> N', 0x25609513, $flags // 0, $type, $cookie // 1,
		$offset, $length) }
my $go = option(7, pack('N n', 0, 0));

# The whole session, as one string.
my $session = pack('N', 3) . option(8, '') .
	option(10, pack('N N N/a', 0, 1, 'base:allocation')) . $go .
	request(0, 4096, 4096) . request(7, 0, 65536) . request(6, 0, 4096) .
	request(4, 0, 512) . request(3, 0, 0) .
	request(1, 8192, 512) . ('x' x 512) . request(2, 0, 0);

sub leave { my ($s, $how) = @_;
	setsockopt($s, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)) if $how == 1;
	shutdown($s, 1) if $how == 2;
	slurp($s, 1 << 24) if $how == 2; # it ends, and does not hang
	close $s }

for my $n (0 .. length $session) {
	my $s = dial();
	slurp($s, 18) if $n % 2;
	syswrite $s, substr($session, 0, $n);
	leave($s, $n % 3);
}
# Bytes that come one by one are no less understood.
{
	my ($s, $t) = (dial(), dial());
	syswrite $s, $_ for split //, $session;
	syswrite $t, $session;
	my ($one, $all) = (slurp($s, 1 << 24), slurp($t, 1 << 24));
	ok('one byte at a time',
		length $one > 4096 && length $one == length $all);
}

# A client that is past the handshake; plain replies.
sub client { my $s = dial();
	slurp($s, 18);
	syswrite $s, pack('N', 3) . $go;
	my $b = '';
	until (length $b >= 20 && unpack('x12 N', $b) == 1) {
		$b = slurp($s, 20);
		my $n = unpack('x16 N', $b);
		slurp($s, $n) if $n;
		die 'no handshake' unless length $b == 20;
	}
	$s }
sub reply { my ($s) = @_; my $b = slurp($s, 16);
	length $b == 16 && unpack('N', $b) == 0x67446698 ?
		unpack('x4 N', $b) : -1 }
my $s = client();
sub answers { my ($what, $error, $bytes) = @_;
	syswrite $s, $bytes;
	my $got = reply($s);
	ok("$what: $got, not $error", $got == $error) }
my ($EPERM, $EIO, $EINVAL, $ENOSPC, $EOVERFLOW) = (1, 5, 22, 28, 75);

answers('read past the end', $EINVAL, request(0, $size - 512, 1024));
answers('read behind the end', $EINVAL, request(0, $size, 1));
answers('read at 2^64 - 1', $EINVAL, request(0, ~0, 2));
answers('write past the end', $ENOSPC,
	request(1, $size - 512, 1024) . 'y' x 1024);
answers('write behind the end', $ENOSPC, request(1, $size, 1) . 'y');
answers('write at 2^64 - 1', $ENOSPC, request(1, ~0, 2) . 'yy');
answers('zeroes past the end', $ENOSPC, request(6, $size - 512, 1024));
answers('trim past the end', $EINVAL, request(4, $size - 512, 1024));
answers("$_->[0] of nothing", $EINVAL, request($_->[1], 4096, 0))
	for ['read', 0], ['write', 1], ['trim', 4], ['zeroes', 6];
answers('a read of 4 GiB - 1', $EINVAL, request(0, 0, 0xffffffff));
answers('a read of 32 MiB and a byte', $EINVAL, request(0, 0, 0x2000001));
answers('a command of no kind', $EINVAL, request(99, 0, 512));
answers('a flag of no kind', $EINVAL, request(0, 0, 512, 1 << 15));
answers('status without its context', $EINVAL, request(7, 0, 512));
answers('flush', 0, request(3, 0, 0));
# At odd places of odd lengths, as the block size of 1 promises.
answers('a misaligned write', 0, request(1, 12345, 7) . 'odd one');
syswrite $s, request(0, 12345, 7);
ok('a misaligned read', reply($s) == 0 && slurp($s, 7) eq 'odd one');
answers('the last byte', 0, request(1, $size - 1, 1) . 'z');
# A write that says more than a request may have: an error, or the end.
syswrite $s, request(1, 0, 0xffffffff);
syswrite $s, 'w' x 65536;
close $s;
$s = client();
answers('and nobody else minds', 0, request(3, 0, 0));
# What is no request ends the connection, after the answers that were due.
syswrite $s, request(3, 0, 0) . pack('N', 0x25609514) . "\0" x 24;
ok('the answer before', reply($s) == 0);
ok('the end', slurp($s, 1) eq '');
# The answer to a good-bye is none.
$s = client();
syswrite $s, request(3, 0, 0) . request(2, 0, 0);
ok('flush, then good-bye', reply($s) == 0 && slurp($s, 1) eq '');

# A thousand at once, most of which say nothing; then one is served as ever.
my @many = map { IO::Socket::UNIX->new(Peer => $path) } 1 .. 1000;
ok('they get in', grep({ defined } @many) > 900);
@many = ();
$s = client();
answers('after a thousand', 0, request(3, 0, 0));
exit $failed;
END
# shellcheck disable=SC3045 # where the shell has none, the limit is as it is
ulimit -n 4096 2>/dev/null || :
fds()
{
	find "/proc/$pid/fd" -type l | wc -l
}
before=$(fds)
timeout 300 perl abuse.pl "$socket" "$pid" || fail "see above"

# Nothing is kept of them, and nothing spins.
same_fds()
{
	# where it was counted, the pipe of its start may have been open
	[ "$(fds)" -le "$before" ]
}
wait_for same_fds
ticks()
{
	awk '{ print $14 + $15 }' "/proc/$pid/stat"
}
quiet()
{
	quiet_was=$(ticks)
	sleep 0.2
	[ $(($(ticks) - quiet_was)) -le 2 ]
}
wait_for quiet
equal "$(tap-ctl list)" "pid=$pid minor=0 state=0 args=aio:$tmp/a.raw"
tap-ctl destroy -p "$pid" -m 0

# The session writes three times, and it came to its end: this is the image.
dd if=/dev/zero of=was.raw bs=4096 count=1 conv=notrunc status=none
perl -e 'print "x" x 512' |
	dd of=was.raw bs=512 seek=16 conv=notrunc status=none
printf 'odd one' | dd of=was.raw bs=1 seek=12345 conv=notrunc status=none
printf z | dd of=was.raw bs=1 seek=1048575 conv=notrunc status=none
cmp a.raw was.raw
equal "$(find "$BLKTAP_RUNDIR" ! -type d)" ""
