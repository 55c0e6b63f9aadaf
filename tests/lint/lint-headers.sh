#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Each public header compiles alone, as C99 and as C++, and defines nothing
# outside its own prefix. Nothing in it moves when an enum or a struct grows.
. "${srcdir:-.}/tests/lint/lint.sh"
inc=$srcdir/lib/libblktap/include
cc=${CC:-cc}
cxx=
for c in g++ clang++ c++; do
	if command -v "$c" >/dev/null; then
		cxx=$c
		break
	fi
done

flags="-fsyntax-only -pedantic -Wall -Wextra -Werror -Wshadow -Wundef -I$inc"
for h in "$inc"/blktap/*.h; do
	h=blktap/${h##*/}
	printf '#include <%s>\n#include <%s>\n' "$h" "$h" >alone.c
	cp alone.c alone.cc
	# shellcheck disable=SC2086 # flags are words
	{
		$cc -std=c99 $flags -Wstrict-prototypes alone.c ||
			echo "$h: not C99"
		[ -z "$cxx" ] || $cxx -std=c++11 $flags alone.cc ||
			echo "$h: not C++"
	} 2>&1
	# shellcheck disable=SC2086
	$cc -E -dD $flags alone.c 2>/dev/null | awk -v mine="$inc/" '
		/^# [0-9]+ "/ { here = index($3, mine) }
		here && /^#define/ && $2 !~ /^BLKTAP_/ {
			print "'"$h"': defines " $2 }' | sort -u
done >bad
verdict bad

# An array as long as an enum moves what stands behind it; a function that fills a
# struct of the caller's has to be told how large that is.
for h in "$inc"/blktap/*.h; do
	awk -v h="blktap/${h##*/}" '
		/_COUNT\]/ { print h ":" NR ": an array that grows with an enum" }
		/^BLKTAP_API.*_init\(/ {
			print h ":" NR ": fills a struct of unknown size" }' "$h"
done >bad
verdict bad
[ -n "$cxx" ] || echo "no C++ compiler: C99 alone was tried"
