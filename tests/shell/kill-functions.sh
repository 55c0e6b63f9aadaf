# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# Programs that get a signal at each of their calls, for tests that start from
# functions.sh:
#
#	. "$srcdir/tests/shell/kill-functions.sh"
#	for call in $(calls_of COMMAND...); do
#		n=1
#		while at_call KILL "$call" $n COMMAND...; do
#			... $signal_rc is its status, out what it said ...
#			n=$((n + 1))
#		done
#	done
requires strace

# what changes files, their names, and what is on disk of both
calls='pwrite64 pwritev pwritev2 write ftruncate fallocate fsync fdatasync unlink
	link linkat rename renameat2 io_uring_enter io_submit'

# a process that is traced cannot look for its own leaks
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
strace -o trace -e trace=write true 2>err ||
	skip "strace does not work here: $(cat err)"

# calls_of COMMAND...: the kinds of them that it makes
calls_of()
{
	strace -f -o "$tmp/trace" -e "trace=$(echo $calls | tr ' ' ,)" "$@" \
		>"$tmp/out" 2>&1 ||
		fail "$*: $(cat "$tmp/out")"
	sed -n 's/^[0-9]* *\([a-z0-9_]*\)(.*/\1/p' "$tmp/trace" | LC_ALL=C sort -u
}

# at_call SIGNAL CALL N COMMAND...: true where it had an N-th call of that kind, at
# which it got the signal. strace counts each kind by itself.
at_call()
{
	at_call_signal=$1 at_call_name=$2 at_call_n=$3
	shift 3
	rm -f "$tmp/trace"
	signal_rc=0
	(
		exec strace -o "$tmp/trace" -e "trace=$at_call_name" -e \
			"inject=$at_call_name:signal=$at_call_signal:when=$at_call_n" \
			"$@"
	) >"$tmp/out" 2>&1 || signal_rc=$?
	grep -qE "^(--- SIG$at_call_signal|\\+\\+\\+ killed)" "$tmp/trace"
}
