#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Random operations through our VHD driver are read back by QEMU, and the
# reverse, on the same image turn by turn. SEED repeats a run.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
. "$srcdir/tests/shell/peers-functions.sh"
requires qemu-img qemu-io awk

seed=${SEED:-$$$(date +%s)}
echo "SEED=$seed"
size=20971520
ops=500

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
