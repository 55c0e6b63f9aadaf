#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The control socket takes what old clients send, however it is split, and stays
# alive and fair whatever else comes.
. "${srcdir:-.}/tests/shell/functions.sh"
requires perl

truncate -s 1M a.raw
start_tapdisk "aio:$tmp/a.raw"
fds()
{
	find "/proc/$pid/fd" -type l | wc -l
}
before=$(fds)

cat >talk.pl <<'END'
use strict;
use warnings;
use IO::Socket::UNIX;
use Socket;
use Time::HiRes qw(sleep time);

my ($path, $pid, $image) = @ARGV;
my $failed = 0;

sub dial { IO::Socket::UNIX->new(Peer => $path) or die "$path: $!" }
sub message { my ($type, $cookie, $rest) = @_;
	pack('S S x4 a536', $type, $cookie, $rest // '') }
sub slurp { my ($s, $n) = @_; my $b = '';
	while (!defined $n || length $b < $n) {
		my $r = sysread $s, $b, (defined $n ? $n - length $b : 65536),
			length $b;
		last unless $r;
	}
	$b }
sub ask { my $s = dial(); print $s $_[0]; $s->flush; slurp($s, 544) }
sub ok { my ($what, $good) = @_;
	return if $good;
	print "not ok: $what\n"; $failed = 1 }
sub params { my ($flags, $path) = @_;
	pack('L L L Z256 L S Z256', $flags, 0, 0, $path, 0, 0, '') }

# Old messages, old answers.
my $r = ask(message(3, 0));
ok('PID', length $r == 544 && unpack('S', $r) == 4 &&
	unpack('x8 l', $r) == $pid);
my $s = dial();
print $s message(19, 0xffff); $s->flush;
$r = slurp($s);
ok('LIST: a row and the end', length $r == 2 * 544);
my ($type, $cookie, $count, $minor, $state, $args) =
	unpack('S S x4 l l l Z256', $r);
ok('LIST row', $type == 20 && $count == 1 && $minor == 0 && $state == 0 &&
	$args eq "aio:$image");
($type, $cookie, $count, $minor) = unpack('x544 S S x4 l l', $r);
ok('LIST end', $type == 20 && $count == 0 && $minor == -1);
$s = dial();
print $s message(21, 0); $s->flush;
$r = slurp($s);
ok('STATS', unpack('S', $r) == 22 &&
	length $r == 544 + unpack('x8 x8 Q', $r) && $r =~ /\{ "name": /);
$s = dial();
print $s message(21, 0xffff); $s->flush;
ok('STATS of all', slurp($s) =~ /\[ \{ "name": /);
$r = ask(message(28, 0));
ok('DISK_INFO', unpack('S', $r) == 29 && unpack('x8 Q', $r) == 2048 &&
	unpack('x16 L', $r) == 512);

# Errors: type 1 and a positive errno.
sub refused { my ($what, $errno, $m) = @_; my $r = ask($m);
	ok("$what: " . unpack('x8 l', $r . "\0" x 544),
		length $r == 544 && unpack('S', $r) == 1 &&
		unpack('x8 l', $r) == $errno) }
refused('unknown type', 22, message($_, 0)) for 0, 31, 63, 66, 999, 65535;
refused('an answer is no request', 22, message($_, 0))
	for 1, 2, 4, 8, 18, 20, 65;
refused('LIST_MINORS', 22, message(17, 0));
refused('ATTACH twice', 17, message(5, 0));
refused('OPEN twice', 114, message(7, 0, params(0, "aio:$image")));
refused('CLOSE of nothing', 19, message(13, 9));
refused('RESUME of what runs', 22, message(11, 0, params(0, '')));
refused('DETACH while open', 16, message(15, 0));
refused('STATS of nothing', 19, message(21, 9));
refused('XENBLKIF_CONNECT', 95, message(24, 0));
refused('XENBLKIF_DISCONNECT', 95, message(26, 0));
refused('path without an end', 36, message(7, 0, 'x' x 536));
refused('extension of another version', 22,
	message(64, 0, pack('L L Z32', 2, 0, 'info')));
refused('extension too long', 90,
	message(64, 0, pack('L L Z32', 1, 1 << 20, 'info')));
refused('unknown verb', 95,
	message(64, 0, pack('L L Z32', 1, 0, 'fly')));
refused('parameters without an end', 22,
	message(64, 0xffff, pack('L L Z32', 1, 3, 'info')) . 'a=b');
refused('key too long', 90,
	message(7, 0, params(0x400, "aio:$image")) . chr(200));

# A minor without an image has nothing to hand over, and stays where it is.
ok('ATTACH', unpack('S', ask(message(5, 1))) == 6);
refused('handover of nothing', 19,
	message(64, 1, pack('L L Z32', 1, 0, 'handover')));
ok('attached still', unpack('S', ask(message(15, 1))) == 16);

# A verb, byte by byte.
my $m = message(64, 0xffff, pack('L L Z32', 1, 4, 'info')) . "a=b\0";
$s = dial();
for (split //, $m) { syswrite $s, $_ }
$r = slurp($s);
ok('extension', unpack('S', $r) == 65 && $r =~ /"version":/ &&
	length $r == 544 + unpack('x12 L', $r));

# Split anywhere, with pauses.
for my $at (1, 2, 4, 7, 8, 300, 543) {
	$s = dial();
	syswrite $s, substr(message(3, 0), 0, $at);
	sleep 0.01;
	syswrite $s, substr(message(3, 0), $at);
	ok("split at $at", unpack('S', slurp($s, 544)) == 4);
}

# Short, and gone.
for my $n (0, 1, 4, 543) {
	$s = dial();
	syswrite $s, "\3" x $n;
	close $s;
}
# Asked, and gone before the answer.
for (1 .. 50) {
	$s = dial();
	syswrite $s, message(19, 0xffff);
	close $s;
}
# Garbage of every size.
srand 7;
for my $i (1 .. 200) {
	$s = dial();
	my $n = int rand 2000;
	$SIG{PIPE} = 'IGNORE';
	syswrite $s, join('', map { chr int rand 256 } 1 .. $n);
	close $s;
}

# Idle connections, more than there may be, keep nobody out.
my @idle = map { dial() } 1 .. 400;
ok('an answer beside 400 idle clients', unpack('S', ask(message(3, 0))) == 4);
# Clients that do not read keep nobody out.
my @deaf = map { my $s = dial(); syswrite $s, message(21, 0); $s } 1 .. 50;
ok('an answer beside deaf clients', unpack('S', ask(message(3, 0))) == 4);
@idle = @deaf = ();

# A client that leaves during its pause does not leave the disk paused.
$s = dial();
syswrite $s, message(9, 0);
close $s;
for (1 .. 100) {
	$r = ask(message(19, 0xffff));
	last if unpack('x16 l', $r) == 0;
	sleep 0.02;
}
sleep 0.1;
$r = ask(message(19, 0xffff));
ok('no pause without its client, or one it was told of',
	unpack('x16 l', $r) == 0 || unpack('x16 l', $r) == 0x2a);
exit $failed;
END
tap-ctl allocate >spare
timeout 60 perl talk.pl "$BLKTAP_RUNDIR/ctl$pid" "$pid" "$tmp/a.raw"
tap-ctl free -m 1

tap-ctl unpause -p "$pid" -m 0 2>/dev/null || :
equal "$(tap-ctl list)" "pid=$pid minor=0 state=0 args=aio:$tmp/a.raw"
same_fds()
{
	# where it was counted, the pipe of its start may have been open
	[ "$(fds)" -le "$before" ]
}
wait_for same_fds

# Who says nothing is shown the door: the limit is ten seconds.
perl -MIO::Socket::UNIX -MTime::HiRes=time -e '
	my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die;
	my $t = time;
	sysread($s, my $b, 1) and die "an answer to nothing";
	$t = time - $t;
	die "closed after $t s" if $t < 8 || $t > 60;
' "$BLKTAP_RUNDIR/ctl$pid"
