#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Help is everywhere, on standard output, and the manual and the completion know
# the same verbs and options.
. "${srcdir:-.}/tests/shell/functions.sh"

tap-ctl --help >help
verbs=$(sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p' help)
[ "$(echo "$verbs" | wc -l)" -ge 15 ] || fail "verbs: $verbs"
for verb in list allocate free create destroy spawn attach detach open close \
	pause unpause stats major check upgrade doctor mason job resize; do
	echo "$verbs" | grep -qx "$verb" || fail "$verb is missing"
done

pod=$srcdir/daemons/tap-ctl.pod
comp=$srcdir/daemons/tap-ctl.bash
for verb in $verbs; do
	for h in -h --help; do
		exits 0 tap-ctl "$verb" $h >out 2>err
		contains out "usage: tap-ctl $verb"
		[ ! -s err ] || fail "$verb $h: $(cat err)"
	done
	# each verb has its section, and each option its item there
	sed -n "/^=head2 $verb\\b/,/^=head[12] /p" "$pod" >section
	[ -s section ] || fail "the manual has no section on $verb"
	sed -n 's/^  -*\(.\)\{0,1\},\{0,1\} *--\([a-z-]*\).*/\2/p' out |
		grep -vxE 'help|rundir' >options || :
	while read -r o; do
		grep -q -- "--$o\b" section ||
			fail "the manual's $verb does not name --$o"
	done <options
done
tap-ctl --version | grep -q '^tap-ctl (blktap) [0-9]'
# those with words of their own list them, and each of these has help
for verb in job mason; do
	tap-ctl $verb --help >out
	sed -n 's/^  \([a-z][a-z]*\) .*/\1/p' out >words
	[ "$(wc -l <words)" -ge 6 ] || fail "$verb --help lists no words"
	while read -r word; do
		exits 0 tap-ctl $verb "$word" --help >out
		contains out "usage: tap-ctl $verb $word"
	done <words
done

exits 0 tapdisk --help >out
pod=$srcdir/daemons/tapdisk.pod
sed -n 's/^  .*--\([a-z-]*\).*/\1/p' out >options
while read -r o; do
	grep -q -- "--$o\b" "$pod" || fail "tapdisk.pod does not name --$o"
done <options
tapdisk --version | grep -q '^tapdisk (blktap) [0-9]'

# the tools on image files: the manual names every option
for tool in qcow-create img2qcow qcow2raw; do
	exits 0 "$tool" --help >out
	contains out "usage: $tool"
	sed -n 's/^  .*--\([a-z-]*\).*/\1/p' out >options
	while read -r o; do
		grep -q -- "--$o\b" "$srcdir/daemons/$tool.pod" ||
			fail "$tool.pod does not name --$o"
	done <options
done

# Completion asks the programs, so it cannot be out of date; it works.
requires bash
candidates()
{
	bash -c '
		. "$1"
		shift
		COMP_WORDS=("$@")
		COMP_CWORD=$(($# - 1))
		"_${1//-/_}" "$1" "${!#}" "${@: -2:1}"
		printf "%s\n" "${COMPREPLY[@]}"
	' bash "$comp" "$@" | sort
}
candidates tap-ctl un | grep -qx unpause
equal "$(candidates tap-ctl al)" allocate
equal "$(candidates tap-ctl mason pl)" plan
equal "$(candidates tap-ctl job sta)" start
equal "$(candidates tap-ctl job start str)" stream
equal "$(candidates tap-ctl job start --wa)" --wait
equal "$(candidates tap-ctl mason apply --if)" --if-gen
candidates tap-ctl open --re | grep -qx -- --read-only
candidates tap-ctl open -a ra | grep -qx raw:
comp=$srcdir/daemons/tapdisk.bash
candidates tapdisk --ru | grep -qx -- --run
candidates tapdisk --engine lib | grep -qx libaio
