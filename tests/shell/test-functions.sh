#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The functions the other tests stand on: a test that needs what is not there is
# skipped with a reason, and what it registered is cleaned up on every exit.
. "${srcdir:-.}/tests/shell/functions.sh"

cat >inner.sh <<'END'
. "$srcdir/tests/shell/functions.sh"
note() { echo "$*" >>"$notes"; }
cleanup_fn note first "$tmp"
cleanup_fn false
cleanup_fn note "it's second"
case $1 in
skip) requires sh no-such-program-here ;;
root) requires root ;;
fail) fail "on purpose" ;;
false) false ;;
unset) echo "$no_such_variable" ;;
kill) kill -TERM $$; sleep 5 ;;
pass) requires sh cat ;;
esac
END
notes=$tmp/notes
export notes

# HOW STATUS: runs inner.sh, which ends in that way and leaves nothing.
ends()
{
	rm -f "$notes"
	exits "$2" env BLKTAP_CHECK_ROOT= sh inner.sh "$1" >out 2>&1
	equal "$(head -n 1 "$notes")" "it's second"
	inner=$(sed -n 's/^first //p' "$notes")
	[ -n "$inner" ] || fail "the first cleanup did not run"
	[ ! -e "$inner" ] || fail "$inner was left behind"
}

ends pass 0
ends skip 77
contains out "needs the program no-such-program-here"
ends root 77
contains out "make check-root"
ends fail 1
contains out "on purpose"
ends false 1
ends kill 143
rm -f "$notes"
fails env sh inner.sh unset 2>/dev/null
contains "$notes" "it's second"
