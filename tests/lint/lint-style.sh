#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Sizes and leftovers: no .c file over 600 lines, no function over 100, no line over
# 90 columns (clang-format breaks code at 80, and leaves comments alone), nothing put
# off and nothing switched off.
. "${srcdir:-.}/tests/lint/lint.sh"

sources_like '*.[ch]' >files
perl - "$srcdir" files >bad <<'END'
use strict;
my ($srcdir, $list) = @ARGV;
my (@sizes, @functions, $comment, $all);
open my $l, '<', $list or die;
while (my $file = <$l>) {
	chomp $file;
	open my $f, '<', "$srcdir/$file" or die "$file: $!";
	my ($start, $in);
	while (<$f>) {
		chomp(my $line = $_);
		1 while $line =~ s/^([^\t]*)\t/$1 . " " x (8 - length($1) % 8)/e;
		print "$file:$.: ", length $line, " columns\n"
			if length $line > 90;
		$in = 1 if m,/\*,;
		$comment += $in || m,//, ? 1 : 0 if $file =~ m,^lib/,;
		$in = 0 if m,\*/,;
		$all++ if $file =~ m,^lib/,;
		# kernel style: only a function has its braces in column one
		$start = $. if /^\{/;
		if (/^\}/ && $start) {
			my $n = $. - $start + 1;
			push @functions, $n if $file =~ m,^lib/,;
			print "$file:$start: a function of $n lines\n"
				if $n > 100;
			$start = 0;
		}
	}
	next unless $file =~ /\.c$/;
	my $limit = 600;
	print "$file: $. lines\n" if $. > $limit;
	push @sizes, $. if $file =~ m,^lib/,;
}
sub median { my @s = sort { $a <=> $b } @_; $s[@s / 2] }
printf STDERR "lib/: %d .c files, median %d lines; %d functions, median %d " .
	"lines; %d %% of lines are comment\n", scalar @sizes, median(@sizes),
	scalar @functions, median(@functions), 100 * $comment / $all;
END
verdict bad

# The words are broken up so that this file does not hold them.
sources_like '*.[ch]' '*.sh' '*.am' '*.ac' '*.m4' '*.in' '*.md' '*.pod' \
	quickstart .ci/run '*.map' '*.pl' '*.py' '*/LAYERS' >files
while read -r f; do
	grep -nE '\bT[O]DO\b|\bFIX[M]E\b|\bX[X]X\b|^[ 	]*#[ 	]*if +[0]\b' \
		"$srcdir/$f" | sed "s|^|$f:|"
done <files >bad
verdict bad

while read -r f; do
	grep -nE '[ 	]+$' "$srcdir/$f" | sed "s|^|$f:|;s|\$|<- blanks|"
done <files >bad
verdict bad
