#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Random operations through our drivers are read back by QEMU, and the reverse, on
# the same image turn by turn; check, compare and map agree. SEED repeats a run;
# BLKTAP_TEST_LONG=1 does more than ten thousand operations instead of some
# hundred for each kind of image.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
. "$srcdir/tests/shell/peers-functions.sh"
requires qemu-img qemu-io awk

seed=${SEED:-$$$(date +%s)}
echo "SEED=$seed"
size=12582912
ops=60 rounds=1
[ -z "${BLKTAP_TEST_LONG:-}" ] || ops=500 rounds=4
all=0

# ranges MAP FIELD VALUE: where the field has that value, neighbours joined.
ranges()
{
	sed -n "s/.*\"start\": \([0-9]*\), .*\"$2\": \([a-z]*\).*/\1 \2/p" \
		"$1" | awk -v value="$3" '
		{ is = $2 == value }
		NR == 1 || is != last { print $1, is; last = is }'
}

# same_map FORMAT IMAGE: what our BLOCK_STATUS says is zeroes is what QEMU says
# has no data. (QEMU's own "zero" knows of holes inside of clusters, too.)
same_map()
{
	qemu-img map -f "$1" --output=json "$2" >theirs.map
	qemu-img map -f raw --output=json "$uri" >ours.map
	equal "$(ranges ours.map zero true)" "$(ranges theirs.map data false)"
}

# check FORMAT IMAGE: neither damage nor leaks.
check()
{
	[ "$1" = qcow2 ] || return 0
	qemu-img check -q -f qcow2 "$2" >log 2>&1 ||
		fail "$2: $(head -n 5 log)"
}

# peers FORMAT IMAGE SPEC: model.raw holds what the image does.
peers()
{
	for _ in $(seq $rounds); do
		all=$((all + 1))
		commands $all >cmds
		apply raw model.raw
		serve "$3"
		apply raw "$uri"
		qemu-img compare -q -f raw -F raw model.raw "$uri"
		served_well
		check "$1" "$2"
		qemu-img compare -q -f raw -F "$1" model.raw "$2"
		all=$((all + 1))
		commands $all >cmds
		apply raw model.raw
		apply "$1" "$2"
		serve "$3" -r
		qemu-img compare -q -f raw -F raw model.raw "$uri"
		[ "$1" = vpc ] || same_map "$1" "$2"
		served_well
		check "$1" "$2"
	done
}

# Half of it data, in pieces.
make_image base.raw 3000000
truncate -s 5M base.raw
cat base.raw >>base.raw.2
cat base.raw >>base.raw.2
mv base.raw.2 base.raw
truncate -s $size base.raw

empty()
{
	rm -f model.raw i.img
	truncate -s $size model.raw
}

for o in cluster_size=64k cluster_size=512 cluster_size=4k cluster_size=2M \
	compat=0.10 compat=0.10,cluster_size=1k refcount_bits=1 \
	refcount_bits=64,cluster_size=512 lazy_refcounts=on; do
	empty
	qemu-img create -q -f qcow2 -o "$o" i.img $size
	peers qcow2 i.img "qcow2:$tmp/i.img"
done

# A QEMU that dies leaves refcounts that were not kept up.
cp model.raw before.raw
qemu-io -f qcow2 -c 'write -q -P 9 5M 300k' -c flush -c abort i.img \
	>/dev/null 2>&1 || :
qemu-io -f raw -c 'write -q -P 9 5M 300k' model.raw
serve "qcow2:$tmp/i.img"
qemu-img compare -q -f raw -F raw model.raw "$uri"
served_well
check qcow2 i.img

# Compressed by QEMU, then written over in parts.
for o in compat=1.1 cluster_size=4k compat=0.10 compression_type=zstd; do
	cp base.raw model.raw
	rm -f i.img
	qemu-img convert -c -f raw -O qcow2 -o "$o" base.raw i.img 2>log || {
		contains log zstd
		continue
	}
	peers qcow2 i.img "qcow2:$tmp/i.img"
done

# Chains: on raw, on a shorter base, on vpc, and three deep.
for o in cluster_size=64k cluster_size=4k,compat=0.10; do
	cp base.raw model.raw
	rm -f i.img
	qemu-img create -q -f qcow2 -o "$o" -b base.raw -F raw i.img
	peers qcow2 i.img "qcow2:$tmp/i.img"
done
head -c 5000192 base.raw >short.raw
cp short.raw model.raw
truncate -s $size model.raw
qemu-img create -q -f qcow2 -b short.raw -F raw i.img $size
peers qcow2 i.img "qcow2:$tmp/i.img"
cp i.img middle.img
qemu-img create -q -f qcow2 -o cluster_size=4k -b middle.img -F qcow2 i.img
peers qcow2 i.img "qcow2:$tmp/i.img"
qemu-img convert -f raw -O vpc -o force_size=on base.raw base.vhd
cp base.raw model.raw
qemu-img create -q -f qcow2 -b base.vhd -F vpc i.img
peers qcow2 i.img "qcow2:$tmp/i.img"

# Version 1, whose child does not say what its base is.
empty
qemu-img create -q -f qcow i.img $size
peers qcow i.img "qcow:$tmp/i.img"
cp base.raw model.raw
rm -f i.img
qemu-img create -q -f qcow -b base.raw -F raw i.img
peers qcow 'json:{"driver":"qcow","file.filename":"i.img","backing":{"driver":"raw","file.filename":"base.raw"}}' \
	"qcow(\"$tmp/i.img\", backing_format=raw)"

for o in subformat=dynamic,force_size=on subformat=fixed,force_size=on; do
	empty
	qemu-img create -q -f vpc -o "$o" i.img $size
	peers vpc i.img "vhd:$tmp/i.img"
done

# What we make is QEMU's as well.
for o in version=2 version=3 lazy_refcounts=on refcount_bits=8; do
	empty
	qcow-create -f qcow2 -o "$o" 12M i.img
	peers qcow2 i.img "qcow2:$tmp/i.img"
done
echo "$((all * ops)) operations"
