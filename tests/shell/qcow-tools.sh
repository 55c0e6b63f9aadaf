#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# qcow-create, img2qcow and qcow2raw: what they make is what QEMU reads, a target
# is whole or not there, and exit codes tell the truth.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img

# data, holes, zeroes, and a tail that is no whole sector
truncate -s 20M a.raw
dd if=/dev/urandom of=a.raw bs=64k count=40 seek=11 conv=notrunc 2>/dev/null
dd if=/dev/zero of=a.raw bs=1M count=2 seek=9 conv=notrunc 2>/dev/null
dd if=/dev/urandom of=a.raw bs=777 count=1 seek=20000 conv=notrunc 2>/dev/null

img2qcow -f qcow2 a.qcow2 a.raw
qemu-img check -q a.qcow2
qemu-img compare -q a.raw a.qcow2
img2qcow a.qcow a.raw
qemu-img compare -q -f raw -F qcow a.raw a.qcow
qemu-img convert -O vpc -o force_size=on a.raw a.vhd
img2qcow -S vhd -f qcow2 --json b.qcow2 a.vhd >out
contains out '"format":"qcow2"'
qemu-img compare -q a.raw b.qcow2

qcow2raw b.raw a.qcow 2>err
contains err 'TRANSFER COMPLETE'
cmp a.raw b.raw
qcow2raw -S qcow2 --force b.raw a.qcow2 2>/dev/null
cmp a.raw b.raw
# a hole stays a hole
[ "$(du -k b.raw | cut -f1)" -lt 6000 ] || fail "b.raw: $(du -k b.raw)"

# sizes that are no whole cluster, page or sector, down to the smallest
for bytes in 2 511 512 513 4096 4608 65537 1000001; do
	tail -c +720897 a.raw | head -c $bytes >s.raw
	for f in qcow qcow2; do
		img2qcow -f $f --force s.img s.raw
		qcow2raw -S $f --force s.back s.img 2>/dev/null
		cmp -n $bytes s.raw s.back
		[ "$(stat -c %s s.back)" -lt $((bytes + 512)) ] ||
			fail "$bytes bytes became $(stat -c %s s.back)"
		# QEMU has them all, too, and those of a child
		qemu-img compare -q -f raw -F $f s.back s.img
		qcow-create --force -f $f -F raw 0 s.child s.raw
		qemu-img compare -q -f raw -F $f s.back s.child
	done
done

# a target that is full: told of, and nothing is left
exits 1 sh -c 'ulimit -f 2000; trap "" XFSZ
	exec img2qcow -f qcow2 full.qcow2 a.raw 2>err'
contains err EFBIG
equal "$(ls full* 2>/dev/null)" ""

# a target that is there is asked about, and kept
echo kept >there
exits 1 qcow2raw there a.qcow </dev/null 2>err
contains err 'replace it? (y/n)'
contains err EEXIST
equal "$(cat there)" kept
echo y | qcow2raw there a.qcow 2>/dev/null
cmp there a.raw
exits 1 img2qcow a.qcow2 a.raw 2>err
contains err EEXIST
exits 1 img2qcow --force a.raw a.raw 2>err
contains err 'it is the source'
start_tapdisk "aio:$tmp/there" # --force takes it from no disk that runs
inode=$(stat -c %i there)
exits 1 qcow2raw --force there a.qcow 2>err
contains err 'in use by another program'
exits 1 img2qcow --force there a.raw 2>err
contains err EBUSY
equal "$(stat -c %i there)" "$inode"
tap-ctl destroy -p "$pid" -m "$minor"
qcow2raw --force there a.qcow
[ "$(stat -c %i there)" != "$inode" ] || fail 'there was not replaced'
cmp there a.raw
exits 1 qcow2raw c.raw a.raw 2>err # raw is no qcow, and is not guessed
exits 1 img2qcow c.qcow none 2>err
contains err ENOENT
exits 2 img2qcow c.qcow 2>err
equal "$(ls ./*.part-* c.* 2>/dev/null)" ""

# sizes with units, and MiB as always
qcow-create 10 d.qcow
contains_size()
{
	qemu-img info -f "$1" "$2" | grep -q "virtual size: $3" ||
		fail "$(qemu-img info -f "$1" "$2")"
}
contains_size qcow d.qcow '10 MiB'
qcow-create -f qcow2 3G e.qcow2
contains_size qcow2 e.qcow2 '3 GiB'
exits 1 qcow-create -f qcow2 3G e.qcow2 2>err
contains err EEXIST
exits 255 qcow-create 3X f.qcow 2>err
exits 255 qcow-create 10 2>err

# a child: as large as its backing file, whose format is said
exits 1 qcow-create -f qcow2 0 child.qcow2 a.raw 2>err
contains err 'never guessed'
qcow-create -f qcow2 -F raw 0 child.qcow2 a.raw
qemu-img compare -q a.raw child.qcow2
qemu-img info child.qcow2 | grep -q 'backing file format: raw'

# a raw disk into which a guest wrote a header with a backing file is still raw
cp child.qcow2 evil.raw
img2qcow -f qcow2 evil.qcow2 evil.raw
qemu-img compare -q -f raw -F qcow2 evil.raw evil.qcow2

# interrupted: nothing is left, the source is as it was
truncate -s 2G big.raw
dd if=/dev/urandom of=big.raw bs=1M count=200 conv=notrunc 2>/dev/null
sum=$(cksum <a.raw)
img2qcow -f qcow2 big.qcow2 big.raw &
job=$!
sleep 0.1
kill -INT $job 2>/dev/null || :
rc=0
wait $job || rc=$?
[ $rc = 130 ] || [ $rc = 0 ] || fail "interrupted: $rc"
[ $rc = 0 ] || equal "$(ls ./big.qcow2* 2>/dev/null)" ""
equal "$(cksum <a.raw)" "$sum"

# live snapshots of a qcow2 disk
cp a.qcow2 live.qcow2
tap-ctl create -a "qcow2:$tmp/live.qcow2" >/dev/null
pid=$(tap-ctl list | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
cleanup_fn stop_tapdisk "$pid" 0
tap-ctl snapshot -p "$pid" -m 0 >/dev/null 2>&1
tap-ctl snapshot -p "$pid" -m 0 >/dev/null 2>&1
tap-ctl destroy -p "$pid" -m 0
qemu-img check -q live.qcow2
qemu-img compare -q a.raw live.qcow2
[ "$(qemu-img info --backing-chain live.qcow2 | grep -c '^image:')" = 3 ] ||
	fail "$(qemu-img info --backing-chain live.qcow2)"
