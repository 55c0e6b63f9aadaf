#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk of each kind is written, zeroed and read at random places of random
# lengths, while it is paused, snapshotted or given another graph, and its tapdisk
# killed: every byte read is the one last written, and memory does not grow.
# BLKTAP_SOAK_OPS is for how long.
. "${srcdir:-.}/tests/shell/functions.sh"
requires perl
seed=${BLKTAP_SEED:-$$}
ops=${BLKTAP_SOAK_OPS:-600}
echo "BLKTAP_SEED=$seed BLKTAP_SOAK_OPS=$ops"

cat >soak.pl <<'END'
use strict;
use warnings;
use BtNbd;

my ($spec, $ops, $seed, $changes, $room) = @ARGV;
my ($SIZE, $MOST) = (4 << 20, 65536);
my ($pid, $minor, $c);
my ($model, $made, $child) = ("\0" x $SIZE, 0);
my %count;
srand $seed;

sub sh { my $out = `$_[0]`; die "$_[0]\n" if $?; chomp $out; return $out }
sub start {
	($minor) = sh("tap-ctl create -a '$spec'") =~ /(\d+)$/;
	($pid) = sh("tap-ctl list -m $minor") =~ /pid=(\d+)/;
	$c = BtNbd->connect("$ENV{BLKTAP_RUNDIR}/nbd$pid.$minor", 1);
}
sub settle {
	return unless $child;
	waitpid $child, 0;
	die "a change failed\n" if $?;
	undef $child;
}
# A change that goes on while the disk is in use.
sub change { my ($command) = @_;
	$child = fork // die;
	exec 'sh', '-c', "$command >change.log 2>&1" unless $child;
}
sub verify { my ($offset, $length) = @_;
	my ($error, $data) = $c->call($BtNbd::READ, $offset, $length);
	die "read $error at $offset\n" if $error;
	return if $data eq substr $model, $offset, $length;
	my $at = 0;
	$at++ while substr($data, $at, 1) eq
		substr($model, $offset + $at, 1);
	die "byte " . ($offset + $at) . " is not what was written\n";
}
sub rss { open my $f, '<', "/proc/$pid/status" or die;
	my ($kib) = map { /VmRSS:\s+(\d+)/ ? $1 : () } <$f>;
	return $kib }

sub disturb {
	my $which = (qw(pause change kill))[int rand 3];
	settle();
	$count{$which}++;
	if ($which eq 'kill') {
		# what was flushed, and nothing else, is promised
		my ($error) = $c->call($BtNbd::FLUSH, 0, 0);
		die "flush $error\n" if $error;
		kill 'KILL', $pid;
		# its minor is free when it is dead, whoever has not seen that yet
		my $n = 0;
		while (system "tap-ctl free -m $minor 2>free.log") {
			die "minor $minor stays in use\n" if ++$n > 3000;
			select undef, undef, undef, 0.01;
		}
		start();
		verify($_ * $MOST, $MOST) for 0 .. $SIZE / $MOST - 1;
	} elsif ($which eq 'pause' || $changes eq 'none') {
		change("tap-ctl pause -p $pid -m $minor && " .
			"tap-ctl unpause -p $pid -m $minor");
	} elsif ($changes eq 'snapshot') {
		# a chain of a dozen does
		change("tap-ctl snapshot -p $pid -m $minor") if $made++ < 12;
	} else {
		my $from = $made++ % 2 ? 'one' : 'two';
		change("tap-ctl mason apply -p $pid -m $minor $from.mason");
	}
}

start();
my $before;
for my $n (1 .. $ops) {
	my $offset = int rand $SIZE;
	my $length = 1 + int rand $MOST;
	$length = $SIZE - $offset if $length > $SIZE - $offset;
	my $what = rand;
	if ($what < 0.45) {
		verify($offset, $length);
	} else {
		my $zero = $what > 0.9;
		my $data = $zero ? "\0" x $length :
			substr(pack('N', $n) x (1 + $length / 4), 0, $length);
		my ($error) = $c->call($zero ? $BtNbd::ZEROES : $BtNbd::WRITE,
			$offset, $length, $zero ? '' : $data);
		die "write $error at $offset\n" if $error;
		substr($model, $offset, $length) = $data;
	}
	if ($n % 25 == 0 && $n < $ops / 2) { disturb() }
	# the second half is one process in peace
	if ($n == int($ops * 0.75)) { settle(); $before = rss() }
}
settle();
my $grown = rss() - $before;
verify($_ * $MOST, $MOST) for 0 .. $SIZE / $MOST - 1;
$c->leave;
sh("tap-ctl destroy -p $pid -m $minor");
printf "%s: %d operations, %s; %d KiB grown\n", $spec, $ops,
	join(', ', map { "$count{$_} $_" } sort keys %count), $grown;
die "memory grows\n" if $grown > $room;
END

room=2048
case ${SAN_CFLAGS:-} in
*address*) room=262144 ;; # the sanitizers keep freed memory
esac
end_taps()
{
	tap-ctl list | sed -n 's/^pid=\([0-9]*\) minor=\([0-9]*\).*/\1 \2/p' |
		while read -r p m; do
			stop_tapdisk "$p" "$m"
		done
}
cleanup_fn end_taps

# soak TYPE:PATH CHANGES
soak()
{
	timeout 280 perl -I"$srcdir/tests/shell" soak.pl "$1" "$ops" "$seed" \
		"$2" "$room" ||
		fail "$1: $(cat change.log 2>/dev/null || :)"
	seed=$((seed + 1))
}
truncate -s 4M a.raw far.raw
soak "aio:$tmp/a.raw" none
qcow-create 4 a.qcow
soak "qcow:$tmp/a.qcow" none
qcow-create -f qcow2 4 a.qcow2
soak "qcow2:$tmp/a.qcow2" snapshot
vhd-util create -n a.vhd -s 4
soak "vhd:$tmp/a.vhd" snapshot
vhd-util check -n a.vhd >check || fail "$(cat check)"
truncate -s 0 a.raw
truncate -s 4M a.raw
cat >one.mason <<END
d :: disk("d") -> m :: mirror() => raw($tmp/a.raw), raw($tmp/far.raw);
END
sed 's/-> m ::/-> throttle(iops=100000\/s) -> m ::/' one.mason >two.mason
cp one.mason d.mason
soak "mason:$tmp/d.mason" apply
cmp a.raw far.raw
