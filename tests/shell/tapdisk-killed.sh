#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# kill -9 of a tapdisk in the middle of writes and flushes, again and again: the
# next one opens the image at once, and every sector holds what was last flushed
# or something written since. For each format that is written to.
. "${srcdir:-.}/tests/shell/functions.sh"
requires perl
seed=${BLKTAP_SEED:-$$}
kills=${BLKTAP_KILLS:-5}
echo "BLKTAP_SEED=$seed BLKTAP_KILLS=$kills"

cat >write.pl <<'END'
use strict;
use warnings;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

my ($path, $pid, $file, $seed, $blocks, $began) = @ARGV;
my ($BLOCK, $DEPTH) = (4096, 16);
my ($WRITE, $DISC, $FLUSH) = (1, 2, 3);
$SIG{PIPE} = 'IGNORE';
srand $seed;

# A line a sector: what is durable, and what was last sent.
my (@durable, @sent, $seq);
if (open my $f, '<', $file) {
	$seq = <$f>;
	while (<$f>) { my ($d, $s) = split; push @durable, $d; push @sent, $s }
} else {
	@durable = @sent = (0) x ($blocks * 8);
	$seq = 0;
}

# The socket is there a moment after the process is.
my $s;
until ($s = IO::Socket::UNIX->new(Peer => $path)) {
	die "$path: $!" if time - $began > 30 || ($pid && !kill 0, $pid);
	select undef, undef, undef, 0.0005;
}
sub slurp { my ($n) = @_; my $b = '';
	while (length $b < $n) {
		my $r = sysread $s, $b, $n - length $b, length $b;
		return unless $r;
	}
	$b }
sub request { my ($type, $cookie, $offset, $length) = @_;
	pack('N n n Q> Q> N', 0x25609513, 0, $type, $cookie, $offset, $length) }
sub sector { my ($seq, $n) = @_;
	$seq ? pack('Q> Q>', $seq, $n) . chr(1 + $seq % 255) x 496 : "\0" x 512 }

slurp(18) or die;
syswrite $s, pack('N', 3) . pack('a8 N N N n', 'IHAVEOPT', 7, 6, 0, 0);
for (;;) {
	my ($type, $n) = unpack('x12 N N', slurp(20) // die 'no handshake');
	slurp($n) if $n;
	last if $type == 1;
}

# What the one before left.
for my $b (0 .. $blocks - 1) {
	syswrite $s, request(0, 0, $b * $BLOCK, $BLOCK);
	die "block $b cannot be read" if unpack('x4 N', slurp(16) // die);
	my $data = slurp($BLOCK);
	# from the new process to its first reply
	printf "%.1f ms\n", 1e3 * (time - $began) unless $b;
	for my $n ($b * 8 .. $b * 8 + 7) {
		my $is = substr $data, ($n - $b * 8) * 512, 512;
		my $seq = unpack('Q>', $is);
		die "sector $n has $seq; $durable[$n] was flushed, " .
			"$sent[$n] was sent\n"
			if $seq < $durable[$n] || $seq > $sent[$n];
		die "sector $n has parts of $seq\n" if $is ne sector($seq, $n);
		$durable[$n] = $sent[$n] = $seq;
	}
}

# Writes, at most one of a block at a time, and a flush now and then. After so
# many answers, with others under way, the server is killed.
my $left = 100 + int rand 1500;
my (%busy, %done, %covered);
my ($flushing, $out) = (0, 0);
while ($pid) {
	while ($out < $DEPTH) {
		my $bytes;
		if (!$flushing && !int rand 40) {
			%covered = %done;
			$flushing = 1;
			$bytes = request($FLUSH, ~0, 0, 0);
		} else {
			my $b = int rand $blocks;
			next if exists $busy{$b};
			$busy{$b} = ++$seq;
			$sent[$_] = $seq for $b * 8 .. $b * 8 + 7;
			$bytes = request($WRITE, $b, $b * $BLOCK, $BLOCK) .
				join '', map { sector($seq, $_) }
				$b * 8 .. $b * 8 + 7;
		}
		$out++;
		syswrite $s, $bytes;
	}
	kill 'KILL', $pid unless $left--;
	my $answer = slurp(16) or last;
	my ($error, $cookie) = unpack('x4 N Q>', $answer);
	die "error $error\n" if $error;
	$out--;
	if ($cookie != ~0) {
		$done{$cookie} = delete $busy{$cookie};
		next;
	}
	$flushing = 0;
	while (my ($b, $seq) = each %covered) {
		$durable[$_] = $seq for $b * 8 .. $b * 8 + 7;
	}
}
syswrite $s, request($DISC, 0, 0, 0) unless $pid;
open my $f, '>', $file or die;
print $f "$seq\n";
print $f "$durable[$_] $sent[$_]\n" for 0 .. $#sent;
close $f or die;
END

end_served()
{
	kill -9 "$served" 2>/dev/null || :
}

# Serves $spec, to write.pl at once; sets $served and $began.
serve_again()
{
	began=$(date +%s.%N)
	tapdisk --unix "$tmp/s" "$spec" >uri 2>err &
	served=$!
}

# killed TYPE: so many times, and then it is looked at once more.
killed()
{
	spec=$1:$tmp/$1.img
	round=0
	while [ $round -lt "$kills" ]; do
		round=$((round + 1))
		seed=$((seed + 1))
		serve_again
		timeout 300 perl write.pl s "$served" "$1.state" "$seed" 1024 \
			"$began" >>took || fail "$1, round $round: $(cat err)"
		wait "$served" || :
	done
	serve_again
	timeout 300 perl write.pl s 0 "$1.state" 0 1024 "$began" >>took ||
		fail "$1, at last: $(cat err)"
	kill "$served"
	wait "$served" || fail "$1: $(cat err)"
	[ "$(head -n 1 "$1.state")" -gt 400 ] || fail "$1: hardly a write"
}

served=
cleanup_fn end_served
truncate -s 4M raw.img
killed raw
qcow-create 4 qcow.img
killed qcow
qcow-create -f qcow2 4 qcow2.img
killed qcow2
vhd-util create -n vhd.img -s 4
killed vhd
vhd-util check -n vhd.img >check || fail "$(cat check)"

sort -n took | awk '{ t[NR] = $1 } END {
	print NR " starts, to the first reply: median " t[int((NR + 1) / 2)] \
		" ms, longest " t[NR] " ms" }'

command -v qemu-img >/dev/null || exit 0
# clusters that nobody points to are what a kill may leave
for f in qcow qcow2; do
	rc=0
	qemu-img check -f $f $f.img >check 2>&1 || rc=$?
	[ $rc = 0 ] || [ $rc = 3 ] || [ $rc = 63 ] || fail "$(cat check)"
done
