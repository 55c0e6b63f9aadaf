#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# kill -9 at each call that changes the image: a resize leaves the one size or the
# other, with all data, and the next one goes on.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img
. "$srcdir/tests/shell/kill-functions.sh"
u=vhd-util

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
	cp "$kills_name" r.vhd
	for kills_call in $(calls_of "$u" resize -n r.vhd -s "$kills_other" \
		"$@"); do
		kills_n=1
		cp "$kills_name" r.vhd
		while at_call KILL "$kills_call" $kills_n "$u" resize \
			-n r.vhd -s "$kills_other" "$@"; do
			look "$@"
			kills_count=$((kills_count + 1))
			kills_n=$((kills_n + 1))
			cp "$kills_name" r.vhd
		done
		[ $signal_rc = 0 ] || fail "status $signal_rc: $(cat out)"
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
kills f.vhd 4 2 2097152 -j journal
