#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every file says its licence on its first line, or its second after #!; what
# has no comments is covered by .reuse/dep5; every licence named has its text.
. "${srcdir:-.}/tests/lint/lint.sh"

sources | while read -r f; do
	case $f in
	LICENSES/* | .reuse/dep5 | .gitignore | */.gitignore) continue ;;
	*.md | *.raw | *.img | *.bin | *.json | *.txt | *.vhd | *.qcow*) continue ;;
	tests/*/files/* | tests/*/corpus/*) continue ;;
	esac
	want='BSD-3-Clause'
	case $f in
	kernel/*) want='(GPL-2\.0-only( WITH [A-Za-z-]+)?\)? OR )?BSD-3-Clause' ;;
	esac
	head -n 3 "$srcdir/$f" |
		grep -qE "SPDX-License-Identifier: \(?$want" ||
		echo "$f: no SPDX line"
done >bad
verdict bad

sources | sed "s|^|$srcdir/|" | tr '\n' '\0' |
	xargs -0 sed -n 's/.*SPDX-License-Identifier: \([A-Za-z0-9.() -]*\).*/\1/p' |
	tr -d '()' | sed 's/ OR /\n/g; s/ WITH /\n/g; s/ AND /\n/g' |
	sed 's/[ -]*$//' | sort -u | while read -r l; do
	[ -z "$l" ] || [ -e "$srcdir/LICENSES/$l.txt" ] ||
		echo "LICENSES/$l.txt is missing"
done >bad
verdict bad

if command -v reuse >/dev/null && [ -e "$srcdir/.git" ]; then
	reuse --root "$srcdir" lint >out 2>&1 || {
		cat out
		fail "reuse lint"
	}
else
	echo "without reuse: its own lint was not run"
fi
