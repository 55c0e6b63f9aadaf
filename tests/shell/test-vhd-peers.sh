#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Random operations through our VHD driver are read back by QEMU, and the
# reverse, on the same image turn by turn. SEED repeats a run.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
requires qemu-img qemu-io awk

seed=${SEED:-$$$(date +%s)}
echo "SEED=$seed"
size=20971520
ops=500

# commands ROUND: operations for qemu-io, the same for the same seed. A discard
# is no part of them: what it leaves is undefined.
commands()
{
	awk -v seed="$seed$1" -v n=$ops -v size=$size 'BEGIN {
		srand(seed % 2147483647)
		for (i = 0; i < n; i++) {
			align = rand() < 0.8 ? 512 : 1
			at = int(rand() * size / align) * align
			len = int(rand() * rand() * 300000 / align + 1) * align
			if (at + len > size)
				len = size - at
			kind = rand()
			if (kind < 0.5)
				printf "write -q -P %d %d %d\n", \
					rand() * 255 + 1, at, len
			else if (kind < 0.6)
				printf "write -q -z %s %d %d\n", \
					(rand() < 0.5 ? "-u" : ""), at, len
			else if (kind < 0.65)
				print "flush"
			else if (kind < 0.85)
				printf "aio_write -q -P %d %d %d\naio_flush\n", \
					rand() * 255 + 1, at, len
			else
				printf "read -q %d %d\n", at, len
		}
	}'
}

# apply FORMAT IMAGE: the commands of the file cmds.
apply()
{
	qemu-io -f "$1" "$2" <cmds >io 2>&1 || fail "$2: $(cat io)"
	if grep -qE 'failed|error|rror:' io; then
		fail "$2: $(grep -E 'failed|rror' io | head -n 3)"
	fi
}

for option in subformat=dynamic,force_size=on subformat=fixed,force_size=on; do
	rm -f i.vhd
	truncate -s 0 model.raw
	truncate -s $size model.raw
	qemu-img create -q -f vpc -o "$option" i.vhd $size
	for round in 1 2 3 4; do
		commands $round >cmds
		apply raw model.raw
		if [ $((round % 2)) = 1 ]; then
			serve "vhd:$tmp/i.vhd"
			apply raw "$uri"
			qemu-img compare -q -f raw -F raw model.raw "$uri"
			served_well
			qemu-img compare -q -f raw -F vpc model.raw i.vhd
		else
			apply vpc i.vhd
			serve "vhd:$tmp/i.vhd" -r
			qemu-img compare -q -f raw -F raw model.raw "$uri"
			served_well
		fi
	done
done

# qemu_size FORMAT IMAGE
qemu_size()
{
	qemu-img info -f "$1" --output=json "$2" |
		sed -n 's/^ *"virtual-size": \([0-9]*\),*/\1/p' | head -n 1
}

# Images whose size is a geometry, as QEMU makes them by itself.
rm -f i.vhd
qemu-img create -q -f vpc i.vhd 100M
want=$(qemu_size vpc i.vhd)
serve "vhd:$tmp/i.vhd"
equal "$(qemu_size raw "$uri")" "$want"
served_well

# Whoever writes keeps the other out.
serve "vhd:$tmp/i.vhd"
fails qemu-io -f vpc -c 'write 0 512' i.vhd >log 2>&1
contains log 'lock'
served_well
