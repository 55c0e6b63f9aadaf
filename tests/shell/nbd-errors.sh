#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A thousand reads, writes and flushes that fail with EIO, and a thousand writes
# with ENOSPC: each client hears of its own failures, with their number, in both
# kinds of reply; no failed read brings bytes, and no other request is touched.
. "${srcdir:-.}/tests/shell/functions.sh"
requires perl
seed=${BLKTAP_SEED:-$$}
faults=${BLKTAP_FAULTS:-1000}
echo "BLKTAP_SEED=$seed BLKTAP_FAULTS=$faults"

cat >errors.pl <<'END'
use strict;
use warnings;
use BtNbd;

my ($path, $structured, $faults, $seed, $file, $space) = @ARGV;
my ($BLOCK, $BLOCKS, $DEPTH) = (4096, 256, 16);
my ($EIO, $ENOSPC) = (5, 28);
srand $seed;
my $c = BtNbd->connect($path, $structured);
my @names = ('read', 'write', undef, 'flush');
my %failed = (read => 0, write => 0, flush => 0);
# A block holds the number of the last write that was acknowledged, or of one that
# failed after it.
my @may = map { { 0 => 1 } } 1 .. $BLOCKS;
my (%busy, %what, $number);

sub block { my ($n, $b) = @_; $n ? pack('N N', $n, $b) x ($BLOCK / 8) :
	"\0" x $BLOCK }

sub enough {
	return $failed{write} >= $faults if $space;
	return !grep { $_ < $faults } values %failed;
}

until (enough() && !$c->pending) {
	while (!enough() && $c->pending < $DEPTH) {
		if (rand() < 0.3) {
			$what{$c->send($BtNbd::FLUSH, 0, 0)} = [$BtNbd::FLUSH];
			next;
		}
		my $b = int rand $BLOCKS;
		next if $busy{$b}++;
		my $type = rand() < 0.5 ? $BtNbd::READ : $BtNbd::WRITE;
		my $n = ++$number;
		my $id = $c->send($type, $b * $BLOCK, $BLOCK,
			$type == $BtNbd::WRITE ? block($n, $b) : '');
		$what{$id} = [$type, $b, $n];
	}
	my ($id, $error, $data) = $c->receive;
	my ($type, $b, $n) = @{delete $what{$id}};
	my $want = $space ? $ENOSPC : $EIO;
	die "$names[$type] failed with $error\n" if $error && $error != $want;
	die "$names[$type] has no reason to fail\n"
		if $error && $space && $type != $BtNbd::WRITE;
	$failed{$names[$type]}++ if $error;
	next if $type == $BtNbd::FLUSH;
	delete $busy{$b};
	if ($type == $BtNbd::WRITE) {
		$may[$b] = {} unless $error;
		$may[$b]{$n} = 1;
	} elsif ($error) {
		die "a failed read of block $b brought bytes\n" if defined $data;
	} else {
		my $is = unpack 'N', $data;
		die "block $b holds write $is\n" unless $may[$b]{$is};
		die "block $b holds a mixture\n" if $data ne block($is, $b);
	}
}
$c->leave;
print join(', ', map { "$failed{$_} $_" } sort keys %failed), " failed\n";

# The file itself, when nothing fails any more.
open my $f, '<:raw', $file or die "$file: $!";
for my $b (0 .. $BLOCKS - 1) {
	read($f, my $data, $BLOCK);
	my $is = unpack 'N', $data;
	die "the file's block $b holds $is\n"
		if !$may[$b]{$is} || $data ne block($is, $b);
}
END

# run RULES [space]: for both kinds of reply
run()
{
	for structured in 0 1; do
		rm -f a.raw
		truncate -s 1M a.raw
		cat >d.mason <<END
d :: disk("d") -> fault(seed=$seed, rules=[$1]) -> raw($tmp/a.raw);
END
		start_tapdisk "mason:$tmp/d.mason"
		timeout 250 perl -I"$srcdir/tests/shell" errors.pl "$socket" \
			$structured "$faults" "$seed" a.raw "${2:-}" ||
			fail "with kind $structured of reply: $1"
		# the close flushes, too, and tells where that fails
		tap-ctl destroy -p "$pid" -m "$minor" 2>err ||
			contains err 'the last flush failed'
		seed=$((seed + 1))
	done
}
run '"read EIO p=20%", "write EIO p=20%", "flush EIO p=20%"'
run '"write ENOSPC p=30%"' space
