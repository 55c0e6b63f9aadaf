# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# What every shell test starts from:
#
#	#!/bin/sh
#	# SPDX-License-Identifier: BSD-3-Clause
#	# What is promised, in a sentence.
#	. "${srcdir:-.}/tests/shell/functions.sh"
#	requires qemu-io
#
# A test runs with set -eu in a directory of its own, $tmp, which is removed at
# the end. By hand, from the build directory: ./run sh -x TEST
set -eu
umask 022

srcdir=$(cd "${srcdir:-.}" && pwd)
builddir=$(cd "${builddir:-.}" && pwd)

# The programs' directory for sockets and minors: private to the test, short
# enough for a socket's path, and on no account the system's.
tmp=$(mktemp -d "${TMPDIR:-/tmp}/bt.XXXXXX")
BLKTAP_RUNDIR=$tmp/run
export BLKTAP_RUNDIR
mkdir -m 0700 "$BLKTAP_RUNDIR"
cd "$tmp"

me=$(basename "$0" .sh)
cleanups=

# skip REASON: ends the test as skipped.
skip()
{
	echo "$me: skipped: $*"
	exit 77
}

# fail TEXT: ends the test as failed.
fail()
{
	echo "$me: failed: $*" >&2
	exit 1
}

# A word as the shell would have it quoted.
quote()
{
	printf "'%s' " "$(printf %s "$1" | sed "s/'/'\\\\''/g")"
}

# cleanup_fn COMMAND [ARGUMENT...]: runs it at the end of the test, however that
# comes; the last registered runs first, and none stops the others.
cleanup_fn()
{
	cleanup_cmd=
	for cleanup_arg; do
		cleanup_cmd="$cleanup_cmd$(quote "$cleanup_arg")"
	done
	cleanups="$cleanup_cmd || :
$cleanups"
}

at_exit()
{
	at_exit_rc=$?
	trap - EXIT
	set +e
	eval "$cleanups"
	cd /
	rm -rf "$tmp"
	exit "$at_exit_rc"
}
trap at_exit EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# requires WHAT...: skips the test where something is missing. Words with a
# meaning of their own are root, fuse, loop and io_uring; all others are
# programs.
requires()
{
	for requires_what; do
		case $requires_what in
		root)
			# Not in a plain `make check`, even where root runs it:
			# these tests touch the system.
			[ "${BLKTAP_CHECK_ROOT:-}" = 1 ] ||
				skip "needs root: make check-root"
			[ "$(id -u)" = 0 ] || skip "needs root"
			;;
		fuse)
			[ -r /dev/fuse ] && [ -w /dev/fuse ] ||
				skip "needs /dev/fuse"
			requires fusermount3
			;;
		loop)
			[ -r /dev/loop-control ] || skip "needs loop devices"
			requires losetup
			losetup -f >/dev/null 2>&1 ||
				skip "needs a free loop device"
			;;
		io_uring)
			[ "${BLKTAP_VALGRIND:-}" != 1 ] ||
				skip "valgrind does not know io_uring"
			[ "$(cat /proc/sys/kernel/io_uring_disabled \
				2>/dev/null || echo 0)" = 0 ] ||
				skip "needs io_uring: it is disabled here"
			;;
		*)
			command -v "$requires_what" >/dev/null 2>&1 ||
				skip "needs the program $requires_what"
			;;
		esac
	done
}

# A command that should fail does: fails COMMAND [ARGUMENT...]
fails()
{
	if "$@"; then
		fail "should have failed: $*"
	fi
}

# exits STATUS COMMAND [ARGUMENT...]
exits()
{
	exits_want=$1
	shift
	exits_got=0
	"$@" || exits_got=$?
	[ "$exits_got" = "$exits_want" ] ||
		fail "exit status $exits_got, not $exits_want: $*"
}

# equal GOT WANTED
equal()
{
	[ "$1" = "$2" ] || fail "got '$1', wanted '$2'"
}

# contains FILE TEXT: TEXT stands in one of FILE's lines.
contains()
{
	grep -qF -- "$2" "$1" && return
	cat "$1" >&2
	fail "$1 does not contain '$2'"
}

# wait_for COMMAND [ARGUMENT...]: tries it for half a minute.
wait_for()
{
	wait_for_n=0
	until "$@" >/dev/null 2>&1; do
		wait_for_n=$((wait_for_n + 1))
		[ "$wait_for_n" -lt 600 ] || fail "in vain: $*"
		sleep 0.05
	done
}

# One that nobody has waited for yet is gone, too: its files are closed, and the
# first process of a container may take a second to ask for its end.
process_gone()
{
	! kill -0 "$1" 2>/dev/null ||
		grep -q '^State:[[:blank:]]*Z' "/proc/$1/status" 2>/dev/null
}

# make_image FILE SIZE: bytes that differ from place to place, always the same.
make_image()
{
	seq 1000000000 | head -c "$2" >"$1"
}

stop_tapdisk()
{
	tap-ctl destroy -p "$1" -m "$2" 2>/dev/null || :
	kill -9 "$1" 2>/dev/null || :
}

# start_tapdisk TYPE:PATH [OPTION...]: allocate, spawn, attach and open, as the
# toolstacks do. Sets $pid, $minor, $socket and $uri; the tapdisk is gone when
# the test ends.
start_tapdisk()
{
	start_tapdisk_arg=$1
	shift
	minor=$(tap-ctl allocate)
	minor=${minor##*tapdisk-}
	pid=$(tap-ctl spawn)
	cleanup_fn stop_tapdisk "$pid" "$minor"
	tap-ctl attach -p "$pid" -m "$minor"
	tap-ctl open -p "$pid" -m "$minor" -a "$start_tapdisk_arg" "$@"
	socket=$BLKTAP_RUNDIR/nbd$pid.$minor
	uri="nbd+unix:///?socket=$socket"
	export pid minor socket uri
}
