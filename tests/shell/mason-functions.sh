# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# For tests of graphs that run: the manual's examples on the test's own files, and
# the verbs of `tap-ctl mason` on the disk that start_tapdisk opened.

# example NAME SED: the manual's example as ./NAME.mason, with paths of this test
# in place of its own. Each path of the page has to be named.
example()
{
	sed -e '1,/^#/d' -e '/^#/d' -e "$2" \
		"$srcdir/tests/mason/examples/$1.mason" >"$1.mason"
	exits 0 tap-ctl mason check "$1.mason" >"$1.check"
}

# mason VERB [ARGUMENT...]: of the disk of start_tapdisk, whatever it ends with
mason()
{
	mason_verb=$1
	shift
	tap-ctl mason "$mason_verb" "$@" -p "$pid" -m "$minor"
}

# node_says NODE TEXT: the picture of the running graph has TEXT at the node
node_says()
{
	mason live >live.dot || return 1
	grep -F "\"$1\" [shape=" live.dot | grep -qF -- "$2"
}

# same_bytes FILE FILE
same_bytes()
{
	cmp "$1" "$2" || fail "$1 and $2 differ"
}
