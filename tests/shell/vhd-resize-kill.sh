#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# kill -9 at any call that changes the image: a resize leaves the one size or the
# other, with all data, and the next one goes on. BLKTAP_TEST_LONG=1 kills at
# every call instead of at each fifth.
. "${srcdir:-.}/tests/shell/functions.sh"
requires strace qemu-img
u=${builddir:?}/vhd-util
# a process that is traced cannot look for its own leaks
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
calls=pwrite64,pwritev,write,ftruncate,fallocate,fsync,fdatasync,unlink,rename
strace -o trace -e "trace=$calls" true 2>err ||
	skip "strace does not work here: $(cat err)"

# killed N COMMAND...: 137 where it has an N-th call, else its status
killed()
{
	killed_n=$1
	shift
	rm -f trace
	set +e
	(
		exec strace -o trace -e "trace=$calls" \
			-e "inject=$calls:signal=KILL:when=$killed_n" "$@"
	) >out 2>&1
	killed_rc=$?
	set -e
}

shows()
{
	"$u" read -n "$1" -R 0 -c "$2" | cmp - "$3"
}

make_image data.raw 4M
stride=5
[ "${BLKTAP_TEST_LONG:-}" != 1 ] || stride=1

# kills NAME SIZE OTHER KEPT [OPTION...]: an image NAME of SIZE MiB becomes OTHER
# MiB large; the first KEPT bytes are data.raw's, before and after.
kills()
{
	kills_name=$1 kills_size=$2 kills_other=$3 kills_kept=$4
	shift 4
	echo "# $kills_name: from $kills_size to $kills_other MiB $*"
	kills_n=1
	while :; do
		cp "$kills_name" r.vhd
		rm -f journal
		killed $kills_n "$u" resize -n r.vhd -s "$kills_other" "$@"
		[ $killed_rc != 0 ] || break
		[ $killed_rc = 137 ] ||
			fail "call $kills_n: status $killed_rc: $(cat out)"
		kills_now=$("$u" query -n r.vhd -v)
		case $kills_now in
		"$kills_size" | "$kills_other") ;;
		*) fail "call $kills_n: $kills_now MiB" ;;
		esac
		shows r.vhd "$kills_kept" kept.raw
		# what a writer does, without a repair
		"$u" set -n r.vhd -f hidden -v 1
		"$u" check -n r.vhd -b >out || fail "call $kills_n: $(cat out)"
		if [ -s journal ]; then
			"$u" revert -n r.vhd -j journal
			equal "$("$u" query -n r.vhd -v)" "$kills_size"
			"$u" check -n r.vhd -b >out || fail "$(cat out)"
		fi
		rm -f journal
		"$u" resize -n r.vhd -s "$kills_other" "$@"
		equal "$("$u" query -n r.vhd -v)" "$kills_other"
		shows r.vhd "$kills_kept" kept.raw
		kills_n=$((kills_n + stride))
	done
	[ "$kills_n" -gt 1 ] || fail 'nobody was killed'
	shows r.vhd "$kills_kept" kept.raw
}

"$u" create -n d.vhd -s 4
start_tapdisk "vhd:$tmp/d.vhd"
qemu-img convert -n -f raw -O raw data.raw "$uri"
tap-ctl destroy -p "$pid" -m "$minor"
"$u" create -n f.vhd -s 4 -r
dd if=data.raw of=f.vhd bs=1M conv=notrunc status=none

cp data.raw kept.raw
kills d.vhd 4 4000 4194304 -j journal
kills d.vhd 4 4000 4194304
kills f.vhd 4 6 4194304 -j journal
head -c 2097152 data.raw >kept.raw
kills d.vhd 4 2 2097152 -j journal
kills f.vhd 4 2 2097152
