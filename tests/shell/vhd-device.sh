#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# VHDs on block devices whose names are links to others, as a volume manager has
# them: made there, a child of one another by these names, written, coalesced and
# resized; the footer is at the end of the device.
. "${srcdir:-.}/tests/shell/functions.sh"
requires root loop qemu-io
mkdir vg

# volume NAME SIZE: a device as vg/NAME, with old bytes all over
volume()
{
	tr '\0' x </dev/zero | head -c "$2" >"$1.bytes"
	device=$(losetup -f --show "$1.bytes")
	cleanup_fn losetup -d "$device"
	ln -s "$device" "vg/$1"
}

# larger NAME SIZE: and the volume, with it
larger()
{
	truncate -s "$2" "$1.bytes"
	losetup -c "$(readlink "vg/$1")"
}

change()
{
	change_name=$1
	shift
	start_tapdisk "vhd:$tmp/vg/$change_name"
	qemu-io -f raw "$@" -c flush "$uri" >out
	! grep failed out || fail "$change_name: $(cat out)"
	tap-ctl destroy -p "$pid" -m "$minor"
}

# valid NAME SIZE
valid()
{
	vhd-util check -n "vg/$1" -b -p
	tail -c 512 "$1.bytes" | grep -q ^conectix || fail "$1: no footer"
	equal "$(vhd-util query -n "vg/$1" -v)" "$2"
}

volume a 8m
volume b 8m
vhd-util create -n vg/a -s 10 -S 1000
valid a 10
vhd-util snapshot -n vg/b -p vg/a -e
valid b 10
equal "$(vhd-util query -n vg/b -p)" "$tmp/vg/a"
equal "$(vhd-util query -n vg/b -pu)" ./a
equal "$(vhd-util scan -f -m "$tmp/vg/*" | sed 's/.*parent=//')" "none
$tmp/vg/a"

change a -c 'write -P 1 0 1M' -c 'write -P 2 4M 64k'
change b -c 'read -P 1 0 1M' -c 'write -P 3 512k 1k' -c 'read -P 0 9M 64k'
valid b 10
equal "$(vhd-util read -n vg/b -R 524287 -c 3 | od -An -tx1)" ' 01 03 03'

echo '# an image that is in use, or has no room, or should be fixed'
start_tapdisk "vhd:$tmp/vg/b"
exits 16 vhd-util create -n vg/b -s 10 2>err
exits 22 vhd-util snapshot -n vg/a -p vg/b -e 2>err
contains err 'would replace what it is to stand on'
tap-ctl destroy -p "$pid" -m "$minor"
valid b 10
volume tiny 3k
exits 28 vhd-util create -n vg/tiny -s 10 2>err
contains err 'tables and footer take 3584'
exits 95 vhd-util create -n vg/tiny -s 2 -r 2>err
equal "$(tr -d x <tiny.bytes)" ''

echo '# full, and larger'
start_tapdisk "vhd:$tmp/vg/b"
fails qemu-io -f raw -c 'write -P 5 0 10M' "$uri" >out
contains out 'No space left'
tap-ctl destroy -p "$pid" -m "$minor"
vhd-util check -n vg/b -b
larger b 16m
vhd-util modify -n vg/b -s 16777216
valid b 10
change b -c 'write -P 5 0 10M'
valid b 10

echo '# into the parent, and by its name'
larger a 20m
vhd-util modify -n vg/a -s 20971520
equal "$(vhd-util coalesce -n vg/b)" 'Coalesced 20480 sectors'
valid a 10
equal "$(vhd-util read -n vg/a -R 0 -c 10485760 | tr -d '\005' | wc -c)" 0
volume journal 6m
vhd-util resize -n vg/b -s 14 -j vg/journal
valid b 14
vhd-util resize -n vg/a -s 1000 -f
valid a 1000
exits 95 vhd-util resize -n vg/b -s 16 2>err
contains err 'stands on a larger image'
vhd-util modify -n vg/b -p vg/a
equal "$(vhd-util query -n vg/b -pu)" ./a

echo '# a device whose node has been made anew is the same one'
numbers=$(stat -L -c '%t %T' vg/a | (read -r a b && echo $((0x$a)) $((0x$b))))
# shellcheck disable=SC2086 # two words
mknod vg/node b $numbers
dd if=vg/node of=readable count=1 2>/dev/null || rm vg/node
if [ -e vg/node ]; then
	start_tapdisk "vhd:$tmp/vg/node"
	mv vg/node vg/old
	# shellcheck disable=SC2086
	mknod vg/node b $numbers
	tap-ctl resize -p "$pid" -m "$minor" -s 1000M
	tap-ctl destroy -p "$pid" -m "$minor"
	start_tapdisk "vhd:$tmp/vg/node"
	rm vg/node
	ln -s b vg/node
	fails tap-ctl resize -p "$pid" -m "$minor" -s 1000M 2>err
	contains err "is not the file that is in use"
	tap-ctl destroy -p "$pid" -m "$minor"
fi

echo '# again: nothing of the old one is left'
vhd-util create -n vg/b -s 4
valid b 4
equal "$(vhd-util query -n vg/b -a)" 0
