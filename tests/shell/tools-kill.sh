#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# kill -9 and SIGINT at each call by which a tool changes a file: what it makes is
# whole or not there under its name, what it read and what was there before is as it
# was, and the same command goes through afterwards. An interrupted one leaves no
# other file, either. SIGINT comes at every third call; BLKTAP_TEST_LONG=1: at each.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img qemu-io
. "$srcdir/tests/shell/kill-functions.sh"

# ---- what they start from ---------------------------------------------------

mkdir start now
cd start
make_image a.raw 4M
vhd-util create -n p.vhd -s 4
tapdisk --run "qemu-img convert -n -f raw -O raw a.raw \"\$uri\"" "vhd:$PWD/p.vhd"
vhd-util snapshot -n c.vhd -p p.vhd -e
truncate -s 4M b.raw
vhd-util snapshot -n onraw.vhd -p b.raw -m
# some of a child is its own
writes=$(seq 256 512 3840 | sed 's/.*/-c "write -P 7 &k 64k"/' | tr '\n' ' ')
for f in c.vhd onraw.vhd; do
	tapdisk --run "qemu-io -f raw $writes -c flush \"\$uri\" >\"$tmp/out\"" \
		"vhd:$PWD/$f"
done
img2qcow a.qcow a.raw
img2qcow -f qcow2 a.qcow2 a.raw
qcow2raw -S vhd c.raw c.vhd 2>/dev/null
qcow2raw -S vhd onraw.raw onraw.vhd 2>/dev/null
truncate -s 4M zero.raw
cmp -s a.raw c.raw && fail 'the child is its parent'
cd ..

# shows FORMAT FILE WANT: a whole image, which reads as the raw file WANT does
shows()
{
	case $1 in
	qcow2) qemu-img check -q "$2" ;;
	vhd) vhd-util check -p -b -n "$2" >"$tmp/said" ;;
	esac || return
	qcow2raw -S "$1" --force "$tmp/shown" "$2" 2>"$tmp/said" || return
	cmp "$tmp/shown" "$3" >"$tmp/said"
}

# ---- one command ------------------------------------------------------------

# tries FILES TARGET FORMAT WANT COMMAND...: the command makes TARGET, which then
# reads as WANT does, and needs FILES. TARGET may be one of them, an older file that
# is replaced. It may have "into TARGET": then WANT is what it reads as in the end,
# and $chain is an image above it that reads as $above all the time.
tries()
{
	tries_files=$1 tries_target=$2 tries_format=$3 tries_want=$tmp/start/$4
	shift 4
	cd "$tmp/now"
	fresh
	kinds=$(calls_of "$@")
	for signal in KILL INT; do
		tries_count=0 stride=1
		[ $signal = KILL ] || [ "${BLKTAP_TEST_LONG:-}" = 1 ] || stride=3
		for call in $kinds; do
			n=1
			fresh
			while at_call $signal "$call" $n "$@"; do
				at="$* ($signal, $call $n)"
				look
				again "$@"
				tries_count=$((tries_count + 1)) n=$((n + stride))
				fresh
			done
		done
		echo "# $*: $signal $tries_count times"
		[ "$tries_count" -gt 0 ] || fail 'nobody got a signal'
	done
}

fresh()
{
	rm -f "$tmp"/now/*
	for f in $tries_files; do
		cp -p --sparse=always "$tmp/start/$f" .
	done
}

is_new()
{
	[ -e "$tries_target" ] &&
		shows "$tries_format" "$tries_target" "$tries_want"
}

# As it was, which is not to be there where it was not.
is_old()
{
	if [ -e "$tmp/start/$tries_target" ]; then
		cmp -s "$tmp/start/$tries_target" "$tries_target"
	else
		[ ! -e "$tries_target" ]
	fi
}

# What is there now that was not, and is not the target; a coalesce has a state.
others()
{
	for f in *; do
		case " $tries_files $tries_target state " in
		*" $f "*) ;;
		*) [ ! -e "$f" ] || echo "$f" ;;
		esac
	done
}

look()
{
	for f in $tries_files; do
		[ "$f" = "$tries_target" ] || cmp "$tmp/start/$f" "$f"
	done
	if [ -n "$chain" ]; then
		shows vhd "$chain" "$tmp/start/$above" ||
			fail "$at: $chain: $(cat "$tmp/said")"
	else
		is_old || is_new || fail "$at: $(ls -l) $(cat "$tmp/said")"
	fi
	left=$(others)
	case $signal,$signal_rc in
	KILL,137)
		case $left in
		'' | "$tries_target".new-* | "$tries_target".part-*) ;;
		state.new) [ -n "$chain" ] || fail "$at: left $left" ;;
		*) fail "$at: left $left" ;;
		esac
		;;
	INT,130) [ -z "$left" ] || fail "$at: left $left" ;;
	INT,0)
		[ -z "$left" ] || fail "$at: left $left"
		is_new || fail "$at: status 0: $(ls -l)"
		;;
	*) fail "$at: status $signal_rc: $(cat "$tmp/out")" ;;
	esac
}

# The same command once more, which is told so if it had made its target.
again()
{
	again_rc=0
	"$@" >"$tmp/out" 2>&1 || again_rc=$?
	[ $again_rc = 0 ] || grep -q EEXIST "$tmp/out" ||
		fail "$at, again: $(cat "$tmp/out")"
	is_new || fail "$at, again: $(ls -l) $(cat "$tmp/said")"
	rm -f state.new # what was written there is written over
	[ "$(others)" = "$(echo "$left" | grep -v '^state.new$' || :)" ] ||
		fail "$at, again: left $(others)"
}

# ---- new images -------------------------------------------------------------

chain=
tries '' t qcow zero.raw qcow-create 4M t
tries '' t qcow zero.raw qcow-create -r 4M t
tries '' t qcow2 zero.raw qcow-create -f qcow2 4M t
tries a.raw t qcow2 a.raw qcow-create -f qcow2 -F raw 0 t a.raw
tries 'a.raw a.qcow' a.qcow qcow a.raw \
	qcow-create --force -F raw 0 a.qcow a.raw
tries '' t vhd zero.raw vhd-util create -n t -s 4
tries '' t vhd zero.raw vhd-util create -n t -s 4 -r
tries p.vhd p.vhd vhd zero.raw vhd-util create -n p.vhd -s 4
tries p.vhd t vhd a.raw vhd-util snapshot -n t -p p.vhd
tries 'p.vhd c.vhd' t vhd c.raw td-util snapshot vhd t c.vhd

# ---- copies -----------------------------------------------------------------

tries a.raw t qcow a.raw img2qcow t a.raw
tries 'p.vhd c.vhd' t qcow2 c.raw img2qcow -S vhd -f qcow2 t c.vhd
tries 'a.raw a.qcow2' a.qcow2 qcow2 a.raw \
	img2qcow --force -f qcow2 a.qcow2 a.raw
tries a.qcow t raw a.raw qcow2raw t a.qcow
tries 'a.qcow2 b.raw' b.raw raw a.raw qcow2raw -S qcow2 --force b.raw a.qcow2
tries 'p.vhd c.vhd' t vhd c.raw vhd-util copy -n c.vhd -N t
tries 'p.vhd c.vhd' t vhd c.raw vhd-util coalesce -n c.vhd -o t

# ---- a child into its parent ------------------------------------------------

chain=c.vhd above=c.raw
tries 'p.vhd c.vhd' p.vhd vhd c.raw vhd-util coalesce -n c.vhd
tries 'p.vhd c.vhd' p.vhd vhd c.raw vhd-util coalesce -n c.vhd --resume state
chain=onraw.vhd above=onraw.raw
tries 'b.raw onraw.vhd' b.raw raw onraw.raw vhd-util coalesce -n onraw.vhd
