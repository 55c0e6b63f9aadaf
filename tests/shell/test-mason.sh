#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Block Mason files: every broken one gets its exact messages, every example of
# the manual is right, and stands in the tests as it stands in the page.
. "${srcdir:-.}/tests/shell/functions.sh"
tool=$builddir/tests/mason/mason-tool
corpus=$srcdir/tests/mason/corpus
examples=$srcdir/tests/mason/examples
page=$srcdir/lib/libblktap/blktap-mason.pod

# Broken files. The second line may hold options; names beginning with warn- are
# not errors.
cd "$corpus"
n=0
for f in *.mason; do
	want=1
	case $f in
	warn-*) want=0 ;;
	esac
	options=$(sed -n '2s/^# args: //p' "$f")
	# shellcheck disable=SC2086 # options are words
	exits $want "$tool" $options check "$f" >"$tmp/out"
	diff -u "${f%.mason}.expect" "$tmp/out" || fail "messages of $f"
	head -n 1 "$tmp/out" | grep -qE '^[^:]+:[0-9]+:[0-9]+: (error|warning): ' ||
		fail "$f: the first line is no message"
	n=$((n + 1))
done
[ "$n" -ge 60 ] || fail "only $n broken files"

# Examples: no message at all, a canonical form that is right as well, and the
# same picture.
cd "$examples"
for f in *.mason; do
	exits 0 "$tool" check "$f" >"$tmp/out"
	[ ! -s "$tmp/out" ] || fail "$f: $(cat "$tmp/out")"
	"$tool" fmt "$f" >"$tmp/fmt.mason"
	"$tool" fmt "$tmp/fmt.mason" | diff -u "$tmp/fmt.mason" - ||
		fail "fmt of $f is not canonical"
	cp -R site "$tmp"
	"$tool" dot "$f" >"$tmp/dot"
	"$tool" dot "$tmp/fmt.mason" | diff -u "$tmp/dot" - ||
		fail "fmt changes what $f means"
	equal "$(grep -c "label=" "$tmp/dot")" \
		"$(grep -cE 'shape=|->' "$tmp/dot")"
	if command -v dot >/dev/null; then
		dot -Tsvg "$tmp/dot" >"$tmp/svg" || fail "dot of $f"
	fi
done
equal "$("$tool" -D size=1T json 8-library.mason)" '[]'
exits 1 "$tool" -D size=1X check 8-library.mason >"$tmp/out"
contains "$tmp/out" "slice: size=1X is not a valid value"

# The page: each example is one of the files, and each file is in the page.
cd "$tmp"
perl -ne '
	if (/^=for mason (\S+)/) { open $out, ">", ($1 =~ s,/,_,r) . ".page"; next }
	next unless $out;
	if (/^    (.*\n)/) { print $out $1 } elsif (/\S/) { close $out; $out = undef }
	' "$page"
for f in "$examples"/*.mason "$examples"/site/*.mason; do
	name=${f#"$examples"/}
	sed 1d "$f" | diff -u - "$(echo "${name%.mason}" | tr / _).page" ||
		fail "$name in the page"
done
equal "$(find . -name '*.page' | wc -l)" \
	"$(find "$examples" -name '*.mason' | wc -l)"

# Every word of the grammar that stands in quotes is one the tool knows.
sed -n '/^=head2 Grammar/,/^=head2 Ports/p' "$page" >grammar
for word in let def assert include was in; do
	contains grammar "\"$word\""
done

# What an assertion may ask a class for is explained.
sed -n '/^=head2 Values/,/^=head1/p' "$page" >values
"$builddir/modules-pod" |
	sed -n 's/.*Values for asserts: \([a-z_,]*\).*/\1/p' |
	tr , '\n' | sort -u >words
[ "$(wc -l <words)" -ge 25 ] || fail "$(cat words)"
while read -r word; do
	contains values "C<$word>"
done <words

# Both ways to be wrong from outside.
printf 'a -> ;' >x.mason
exits 1 "$tool" fmt x.mason >out
equal "$(cat out)" "x.mason:1:6: error: expected a node, found ';'"
exits 1 "$tool" dot x.mason >out
contains out "x.mason: there are errors in it"
head -c 1100000 /dev/zero >x.mason
exits 1 "$tool" check x.mason >out
contains out "x.mason: larger than 1M"
echo 'include "y.mason";' >z.mason
head -c 1100000 /dev/zero >y.mason
exits 1 "$tool" check z.mason >out
contains out "z.mason:1:9: error: 'y.mason' is larger than 1M"
