#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The C is as clang-format 14 writes it. Other versions write it differently.
. "${srcdir:-.}/tests/lint/lint.sh"
requires clang-format-14

sources_like 'lib/*.[ch]' 'daemons/*.[ch]' 'tests/*.[ch]' 'kernel/*.[ch]' |
	while read -r f; do
		(cd "$srcdir" && clang-format-14 "$f") |
			cmp -s - "$srcdir/$f" || echo "$f: clang-format -i $f"
	done >bad
verdict bad
