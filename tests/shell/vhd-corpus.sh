#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Each image of the corpus is told for what it is, with its field, its value and
# what to do, and nothing is written to it.
. "${srcdir:-.}/tests/shell/functions.sh"
u=${builddir:?}/vhd-util
table=$srcdir/tests/shell/vhd-corpus.md

mkdir corpus
"$builddir/tests/shell/vhd-corpus" corpus
cd corpus

# Each image has its line, and each line its image.
ls >../have
sed -n 's/^| \([a-z]*-[a-z0-9-]*\) |.*/\1.vhd/p' "$table" | sort >../want
LC_ALL=C sort ../have >../have.sorted
LC_ALL=C sort ../want >../want.sorted
diff ../have.sorted ../want.sorted || fail "images and $table differ"

sum()
{
	cksum <"$1"
}

for f in *.vhd; do
	name=${f%.vhd}
	status=$(sed -n "s/^| $name | \([0-9]*\) |.*/\1/p" "$table")
	message=$(sed -n "s/^| $name | [0-9]* | \(.*\) |\$/\1/p" "$table")
	before=$(sum "$f")
	exits "$status" "$u" check -n "$f" -b >../out 2>../err
	contains ../out "$message"
	for verb in 'query -vsfmSa' 'read -p -B' 'check -s'; do
		# shellcheck disable=SC2086 # words
		"$u" $verb -n "$f" >../out2 2>&1 || :
	done
	case $name in
	good-*) equal "$status" 0 ;;
	*)
		[ "$status" != 0 ] || fail "$name: status 0"
		grep -q '^hint: ..' ../err || fail "$name: no hint"
		;;
	esac
	case $name in
	good-* | bad-locator-* | bad-batmap-lies) ;;
	bad-footer-differ | bad-footer-missing | bad-footer-killed | \
		bad-footer-copy-lost) ;;
	*)	# what is refused is refused for writing too
		fails "$u" set -n "$f" -f hidden -v 3 2>/dev/null
		fails "$u" modify -n "$f" -z >/dev/null 2>&1
		fails "$u" resize -n "$f" -s 9 -j ../journal >/dev/null 2>&1
		[ ! -e ../journal ] || fail "$name: a journal was left"
		;;
	esac
	equal "$(sum "$f")" "$before"
done

# What a hint says helps.
for f in bad-footer-differ bad-footer-missing bad-footer-killed \
	bad-footer-copy-lost; do
	"$u" repair -n $f.vhd
	equal "$("$u" check -n $f.vhd)" "$f.vhd is valid"
done
"$u" create -n p.vhd -s 2
for f in bad-locator-*.vhd; do
	"$u" modify -n "$f" -p p.vhd
	equal "$("$u" check -n "$f" -p)" "$f is valid
$(pwd -P)/p.vhd is valid"
done
# A differencing disk without a locator is no crash, in a scan either.
"$builddir/tests/shell/vhd-corpus" .
exits 0 "$u" scan -c -m 'bad-*' >../out
grep -q 'vhd=bad-locator-none.vhd scan-error=22 ' ../out ||
	fail "the scan does not name bad-locator-none: $(cat ../out)"
exits 22 "$u" scan -m 'bad-header*' >../out
equal "$(wc -l <../out)" 1
