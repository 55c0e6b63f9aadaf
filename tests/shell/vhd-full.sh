#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Where there is no more space, a tool or a tapdisk says so and leaves an image that is
# whole, its footer in its place, with all that it had; when there is space, the same
# command goes through. (A file that may not grow is as good as a full file system.)
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img qemu-io

make_image a.raw 24M
vhd-util create -n p.vhd -s 64
vhd-util snapshot -n c.vhd -p p.vhd -e
tapdisk --run 'qemu-img convert -n -f raw -O raw a.raw "$uri"' "vhd:$tmp/c.vhd"
truncate -s 64M a.raw

# full COMMAND...: files grow to 8 or 16 MiB, as the shell counts
full()
{
	sh -c 'ulimit -f 16384; trap "" XFSZ; exec "$@"' sh "$@"
}

# whole IMAGE...: and what c.vhd shows is what was written
whole()
{
	for f; do
		vhd-util check -n "$f" -b >out || fail "$f: $(cat out)"
	done
	# shellcheck disable=SC2016 # the inner shell's
	tapdisk -R --run 'qemu-img compare -q -f raw -F raw a.raw "$uri"' \
		"vhd:$tmp/c.vhd"
}

echo '# coalesce'
for state in '' '--resume state'; do
	rm -f p.vhd
	vhd-util create -n p.vhd -s 64
	vhd-util modify -n c.vhd -p p.vhd
	# shellcheck disable=SC2086 # words
	exits 27 full vhd-util coalesce -n c.vhd $state >out 2>err
	contains err "$tmp/p.vhd"
	contains err EFBIG
	whole p.vhd c.vhd
	# what was not committed takes no space
	[ "$(stat -c %s p.vhd)" -lt 65536 ] || fail "$(ls -l p.vhd)"
	# shellcheck disable=SC2086
	equal "$(vhd-util coalesce -n c.vhd $state)" 'Coalesced 49152 sectors'
	whole p.vhd c.vhd
done

echo '# fill, with and without data'
for how in '' -b; do
	vhd-util create -n f.vhd -s 64
	# shellcheck disable=SC2086
	exits 27 full vhd-util fill -n f.vhd $how 2>err
	contains err f.vhd
	contains err EFBIG
	whole f.vhd
	# shellcheck disable=SC2086
	vhd-util fill -n f.vhd $how
	equal "$(vhd-util query -n f.vhd -a)" 32
	whole f.vhd
done

echo '# tables that move behind the data'
for what in 'resize -s 400000' 'resize -s 400000 -j journal' 'modify -p p.vhd'; do
	cp c.vhd m.vhd
	# shellcheck disable=SC2086
	exits 27 full vhd-util $what -n m.vhd 2>err
	contains err EFBIG
	cmp c.vhd m.vhd || whole m.vhd
	rm -f journal
	# shellcheck disable=SC2086
	vhd-util $what -n m.vhd
	whole m.vhd
done

echo '# a disk'
vhd-util create -n d.vhd -s 64
fails full tapdisk --run 'qemu-img convert -n -f raw -O raw a.raw "$uri"' \
	"vhd:$tmp/d.vhd" >out 2>&1
whole d.vhd
# shellcheck disable=SC2016
tapdisk --run 'qemu-img convert -n -f raw -O raw a.raw "$uri" &&
	qemu-img compare -q -f raw -F raw a.raw "$uri"' "vhd:$tmp/d.vhd"
whole d.vhd

echo '# the footer of an image whose tapdisk was killed: where there is no space for it'
# held IMAGE COMMAND: COMMAND with a disk whose file may not grow
held()
{
	held_blocks=$(($(stat -c %s "$1") / 512))
	sh -c "ulimit -f $held_blocks"'; trap "" XFSZ; exec "$@"' sh \
		tapdisk --run "$2" "vhd:$tmp/$1" 2>err
}
# shellcheck disable=SC2016
over='qemu-io -f raw -c "write -P 3 0 64k" -c flush -c "read -P 3 0 64k" "$uri"'
# behind half a block that no table names, which makes room for it
cp c.vhd half.vhd
truncate -s -512 half.vhd
end=$(stat -c %s half.vhd)
truncate -s +8k half.vhd
held half.vhd "$over"
vhd-util check -n half.vhd -b
equal "$(stat -c %s half.vhd)" $((end + 512))
# behind the last block: the copy at the start goes on
cp c.vhd last.vhd
truncate -s -512 last.vhd
held last.vhd "$over"
contains err 'the copy at its start serves'
exits 22 vhd-util check -n last.vhd >out 2>&1
vhd-util check -n last.vhd -i -b
# and when there is space, it is back
tapdisk --run "$over" "vhd:$tmp/last.vhd" 2>err
vhd-util check -n last.vhd -b
