#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# kill -9 at each call that changes the image: a resize leaves the one size or the
# other, with all data, and the next one goes on.
. "${srcdir:-.}/tests/shell/functions.sh"
requires strace qemu-img
u=${builddir:?}/vhd-util
# a process that is traced cannot look for its own leaks
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
calls='pwrite64 pwritev write ftruncate fallocate fsync fdatasync unlink rename'
strace -o trace -e trace=write true 2>err ||
	skip "strace does not work here: $(cat err)"

# killed CALL N COMMAND...: 137 where it has an N-th call of that kind, else its
# status. strace counts each kind by itself.
killed()
{
	killed_call=$1 killed_n=$2
	shift 2
	rm -f trace
	set +e
	(
		exec strace -o trace -e "trace=$killed_call" -e \
			"inject=$killed_call:signal=KILL:when=$killed_n" "$@"
	) >out 2>&1
	killed_rc=$?
	set -e
}

shows()
{
	"$u" read -n "$1" -R 0 -c "$2" | cmp - "$3"
}

make_image data.raw 4M

# What was killed is whole, of the one size or the other, and the next one goes on.
look()
{
	look_at="$kills_call $kills_n"
	look_now=$("$u" query -n r.vhd -v)
	case $look_now in
	"$kills_size" | "$kills_other") ;;
	*) fail "$look_at: $look_now MiB" ;;
	esac
	shows r.vhd "$kills_kept" kept.raw
	# what a writer does, without a repair
	"$u" set -n r.vhd -f hidden -v 1
	"$u" check -n r.vhd -b >out || fail "$look_at: $(cat out)"
	if [ -s journal ]; then
		"$u" revert -n r.vhd -j journal
		equal "$("$u" query -n r.vhd -v)" "$kills_size"
		"$u" check -n r.vhd -b >out || fail "$look_at: $(cat out)"
	fi
	rm -f journal
	"$u" resize -n r.vhd -s "$kills_other" "$@"
	equal "$("$u" query -n r.vhd -v)" "$kills_other"
	shows r.vhd "$kills_kept" kept.raw
}

# kills NAME SIZE OTHER KEPT [OPTION...]: an image NAME of SIZE MiB becomes OTHER
# MiB large; the first KEPT bytes are data.raw's, before and after.
kills()
{
	kills_name=$1 kills_size=$2 kills_other=$3 kills_kept=$4
	shift 4
	kills_count=0
	for kills_call in $calls; do
		kills_n=1
		while :; do
			cp "$kills_name" r.vhd
			rm -f journal
			killed "$kills_call" $kills_n "$u" resize -n r.vhd \
				-s "$kills_other" "$@"
			[ $killed_rc != 0 ] || break
			[ $killed_rc = 137 ] || fail "$kills_call $kills_n:" \
				"status $killed_rc: $(cat out)"
			look "$@"
			kills_count=$((kills_count + 1))
			kills_n=$((kills_n + 1))
		done
		shows r.vhd "$kills_kept" kept.raw
	done
	echo "# $kills_name: from $kills_size to $kills_other MiB $*:" \
		"killed $kills_count times"
	[ "$kills_count" -gt 0 ] || fail 'nobody was killed'
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
