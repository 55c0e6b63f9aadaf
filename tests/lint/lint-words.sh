#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The tree speaks of the project alone: no path of somebody's machine and no
# package server by name. (The patterns are written so as not to match here.)
. "${srcdir:-.}/tests/lint/lint.sh"

sources | while read -r f; do
	case $f in
	LICENSES/*) continue ;;
	esac
	# -I: not in binary files
	grep -nIE -e '(^|[^A-Za-z0-9_./])/(w[o]rk|h[o]me/[a-z]+|r[o]ot)(/|\b)' \
		-e '/t[m]p/b-' \
		-e '(deb|ftp|security|snapshot|archive)\.(d[e]bian|ub[u]ntu)\.' \
		-e '(registry|static)\.(n[p]mjs|cr[a]tes)\.|p[y]pi\.org' \
		-e 'proxy\.g[o]lang|rub[y]gems\.org' \
		"$srcdir/$f" | sed "s|^|$f:|"
done >bad
verdict bad
