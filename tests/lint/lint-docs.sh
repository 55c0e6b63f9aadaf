#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every public function is documented above its declaration, with the release
# it came in, which is its node in the map. And the tests are there that SECURITY.md
# names for its promises, and tests/README.md for bugs.
. "${srcdir:-.}/tests/lint/lint.sh"

for h in "$srcdir"/lib/libblktap/include/blktap/*.h; do
	perl - "$srcdir/lib/libblktap/libblktap.map" "$h" <<'END'
use strict;
my (%node, $in, $text);
open my $m, '<', $ARGV[0] or die;
while (<$m>) {
	$in = $1 if /^BLKTAP_([\d.]+)/;
	$node{$1} = $in if /^\t(\w+);/;
}
my ($h) = $ARGV[1] =~ m,(blktap/[^/]+)$,;
open my $f, '<', $ARGV[1] or die;
{ local $/; $text = <$f>; }
# Declarations without an empty line between them share the comment on top.
for my $block (split /\n\s*\n/, $text) {
	next unless $block =~ /^BLKTAP_API\b/m;
	my ($doc, $code) = $block =~ m,\A\s*(/\*.*?\*/)\s*(.*)\z,s;
	my @names = $block =~ /\bBLKTAP_API\b[^;]*?\b(blktap_\w+)\s*\(/g;
	if (!$doc) { print "$h: $_: no comment\n" for @names; next }
	my ($since) = $doc =~ /\bSince[\s*]+([\d.]+\d)/;
	for (@names) {
		if (!$since) { print "$h: $_: no 'Since'\n" }
		elsif ($node{$_} && $node{$_} ne $since) {
			print "$h: $_: since $since, but in $node{$_}\n";
		}
	}
}
END
done >bad
# missing FILE: the names on standard input that no test has.
missing()
{
	grep -oE '`[a-z0-9_./-]+`' | tr -d '`' | while read -r name; do
		case $name in
		tests/unit | -*) ;;
		*_*) grep -rqw "START_TEST($name)" "$srcdir/tests/unit" ;;
		*test-embed-*.sh) [ -e "$srcdir/tests/embed/${name##*/}" ] ;;
		*test-* | *fuzz-*)
			[ -e "$srcdir/tests/unit/${name##*/}.c" ] ||
				[ -e "$srcdir/tests/fuzz/${name##*/}.c" ]
			;;
		*.sh) [ -e "$srcdir/tests/shell/${name##*/}" ] ;;
		esac || echo "$1: there is no test $name"
	done
}
sed -n '/^## What is promised/,/^## How/p' "$srcdir/SECURITY.md" |
	missing SECURITY.md >>bad
sed -n 's/^| .* | \(`.*\) |$/\1/p' "$srcdir/tests/README.md" |
	missing tests/README.md >>bad
# and each bug names one
grep '^| ' "$srcdir/tests/README.md" | grep -vE '^\| (bug|where) \|' | grep -v '`' |
	sed 's/^/tests\/README.md: no test: /' >>bad
verdict bad
