#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Signals in a storm while a disk is written and read: none is lost of what was
# asked for, and a storm of TERMs ends the tapdisk once, in order, with all that
# was acknowledged in the image.
. "${srcdir:-.}/tests/shell/functions.sh"
requires perl

cat >storm.pl <<'END'
use strict;
use warnings;
use BtNbd;

my ($path, $pid, $file, @signals) = @ARGV;
my ($BLOCK, $BLOCKS, $DEPTH, $STORM) = (4096, 256, 16, 1000);
my $c = BtNbd->connect($path, 1);
my $ends = grep { $_ eq 'TERM' } @signals;
my (%what, @is, %busy, $n, $sent, $answered);

# Whether or not its parent has seen that yet.
sub ended {
	open my $f, '<', "/proc/$pid/stat" or return 1;
	return (<$f> // '') =~ /\) Z / }
sub block { my ($n, $b) = @_; $n ? pack('N N', $n, $b) x ($BLOCK / 8) :
	"\0" x $BLOCK }

eval {
	until ($sent && $sent >= $STORM && !$c->pending) {
		while ($c->pending < $DEPTH && ($sent // 0) < $STORM) {
			my $b = int rand $BLOCKS;
			next if $busy{$b};
			my $type = rand() < 0.5 ? $BtNbd::READ : $BtNbd::WRITE;
			$busy{$b} = ++$n;
			my $id = $c->send($type, $b * $BLOCK, $BLOCK,
				$type == $BtNbd::WRITE ? block($n, $b) : '');
			$what{$id} = [$type, $b, $n];
		}
		kill $_, $pid for @signals;
		$sent++;
		my ($id, $error, $data) = $c->receive;
		my ($type, $b, $number) = @{delete $what{$id}};
		delete $busy{$b};
		$answered++;
		# one that ends may say so
		next if $error == 108 && $ends;
		die "error $error\n" if $error;
		$is[$b] = $number if $type == $BtNbd::WRITE;
		die "block $b\n" if $type == $BtNbd::READ &&
			$data ne block($is[$b] // 0, $b);
	}
	1;
} or do {
	die $@ unless $ends && $@ =~ /^gone/;
};
print "$sent rounds of @signals, $answered answers\n";
if ($ends) {
	kill('TERM', $pid) for 1 .. $STORM;
	select undef, undef, undef, 0.01 until ended();
}

# What was acknowledged is in the file, or what was under way when it ended.
open my $f, '<:raw', $file or die "$file: $!";
for my $b (0 .. $BLOCKS - 1) {
	read($f, my $data, $BLOCK);
	next if $data eq block($is[$b] // 0, $b);
	next if $busy{$b} && $data eq block($busy{$b}, $b);
	die "block $b of the file\n";
}
END

truncate -s 1M a.raw
start_tapdisk "aio:$tmp/a.raw"
timeout 250 perl -I"$srcdir/tests/shell" storm.pl "$socket" "$pid" a.raw \
	HUP USR1 USR2 CHLD PIPE || fail "in the storm"
equal "$(tap-ctl list)" "pid=$pid minor=0 state=0 args=aio:$tmp/a.raw"
tap-ctl destroy -p "$pid" -m "$minor"

rm a.raw
truncate -s 1M a.raw
start_tapdisk "aio:$tmp/a.raw"
timeout 250 perl -I"$srcdir/tests/shell" storm.pl "$socket" "$pid" a.raw \
	TERM INT HUP || fail "when it ended"
wait_for process_gone "$pid"
equal "$(find "$BLKTAP_RUNDIR" ! -type d)" ""
