#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shell scripts parse, and shellcheck has nothing to say about them.
. "${srcdir:-.}/tests/lint/lint.sh"

sources | while read -r f; do
	case $(head -n 1 "$srcdir/$f" | tr -d '\0') in
	'#!/bin/sh'*) echo "sh $f" ;;
	'#!/bin/bash'* | '#!/usr/bin/env bash'*) echo "bash $f" ;;
	esac
done >scripts
while read -r sh f; do
	command -v "$sh" >/dev/null || continue
	$sh -n "$srcdir/$f" 2>&1 || echo "$f: does not parse"
done <scripts >bad
verdict bad

requires shellcheck
cut -d' ' -f2 scripts >files
(cd "$srcdir" && xargs shellcheck -x -S warning <"$tmp/files") >bad 2>&1 || :
verdict bad
