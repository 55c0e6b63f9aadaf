#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# vhd-util's verbs that read and change: output, exit status, and that the disk
# holds what it has to.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img qemu-io
u=${builddir:?}/vhd-util

# bytes FILE: what the disk holds, with its parents.
bytes()
{
	"$u" read -n "$1" -R 0 -c "$(($("$u" query -n "$1" -v) * 1048576))"
}

valid()
{
	equal "$("$u" check -n "$1" -b)" "$1 is valid"
}

# change FILE ARGUMENT...: writes to the disk, as a guest does. (QEMU itself puts
# blocks where the batmap is.)
change()
{
	change_file=$1
	shift
	start_tapdisk "vhd:$tmp/$change_file"
	qemu-io -f raw "$@" -c flush "$uri" >/dev/null
	tap-ctl destroy -p "$pid" -m "$minor"
}

"$u" create -n a.vhd -s 20
change a.vhd -c 'write -P 1 0 1M' -c 'write -P 2 5M 64k'
"$u" snapshot -n b.vhd -p a.vhd

# read
"$u" read -n b.vhd -p >out
grep -qE '^Disk type +: Differencing hard disk$' out || fail 'no disk type'
contains out 'decoded name   : ./a.vhd'
"$u" read -n a.vhd -p >out
grep -qE '^Disk type +: Dynamic hard disk$' out || fail 'no disk type'
equal "$("$u" read -n a.vhd -b 0 -c 3)" "block: 0: offset: 7
block: 1: not allocated
block: 2: offset: 4111"
equal "$("$u" read -n a.vhd -b 2 -x)" 'block: 0x2: offset: 0x100f'
equal "$("$u" read -n a.vhd -B | od -An -tx1)" ' a0 00'
equal "$("$u" read -n a.vhd -m 1 | od -An -tx1 | head -n 2)" \
	" 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
*"
equal "$("$u" read -n a.vhd -i 10242)" 'block 2: sec: 2050: 1'
equal "$("$u" read -n a.vhd -e 2000 -c 200)" "2000 48 here
2048 152 absent"
equal "$("$u" read -n a.vhd -j 2)" 'batmap for block 2: 0'
equal "$("$u" read -n a.vhd -a | wc -c)" 2
equal "$("$u" read -n a.vhd -d 0 | wc -c)" 2097152
equal "$("$u" read -n a.vhd -r 10240 | od -An -tx1 -N 2)" ' 02 02'
equal "$("$u" read -n b.vhd -R 5242881 -c 3 | od -An -tx1)" ' 02 02 02'
"$u" read -n a.vhd -t 10242 >out
contains out 'block number: 2, sector offset: 2050, file offset: 6162, here'
exits 34 "$u" read -n a.vhd -b 10 >out 2>&1
exits 34 "$u" read -n a.vhd -r 40960 >out 2>&1
exits 2 "$u" read -n nope.vhd -p >out 2>&1
contains out 'Failed to open nope.vhd: -2'
"$u" read -n b.vhd -p --json >out
contains out '"Disk type":"Differencing hard disk"'

# scan
equal "$("$u" scan -f -m '*.vhd')" \
	"vhd=a.vhd capacity=20971520 size=4203008 hidden=0 parent=none
vhd=b.vhd capacity=20971520 size=5120 hidden=0 parent=a.vhd"
equal "$("$u" scan -m 'b.vhd' -a -p -M)" \
	"vhd=a.vhd capacity=20971520 size=4203008 hidden=0 marker=0 \
keyhash= parent=none
   vhd=b.vhd capacity=20971520 size=5120 hidden=0 marker=0 keyhash= \
parent=a.vhd"
equal "$("$u" scan -m "$tmp/b.vhd" | sed 's/.*parent=//')" "$tmp/a.vhd"
equal "$("$u" scan -m 'none*')" ''

# coalesce: only what the child has, the child as it was.
qemu-img create -q -f raw want.raw 20M
qemu-io -f raw -c 'write -P 1 0 1M' -c 'write -P 2 5M 64k' \
	-c 'write -P 3 512 512' -c 'write -P 4 19M 4k' want.raw >/dev/null
change b.vhd -c 'write -P 3 512 512' -c 'write -P 4 19M 4k'
bytes b.vhd | cmp - want.raw
cp b.vhd b.old
equal "$("$u" coalesce -n b.vhd)" 'Coalesced 9 sectors'
cmp b.vhd b.old
valid a.vhd
bytes a.vhd | cmp - want.raw
qemu-img compare -q -f vpc -F raw a.vhd want.raw
equal "$("$u" coalesce -n b.vhd)" 'Coalesced 9 sectors'
exits 22 "$u" coalesce -n a.vhd >out 2>err
contains out 'error coalescing: -22'
# into a raw parent, and into an ancestor
truncate -s 20M base.raw
"$u" snapshot -n r1.vhd -p base.raw -m
cp b.vhd r2.vhd
"$u" modify -n r2.vhd -p r1.vhd
equal "$("$u" query -n r2.vhd -p)" "$(pwd -P)/r1.vhd"
"$u" coalesce -n r2.vhd -a base.raw >out
contains out 'Coalesced 9 sectors'
equal "$(od -An -tx1 -j 512 -N 1 base.raw)" ' 03'
equal "$(od -An -tx1 -j 19922944 -N 1 base.raw)" ' 04'
"$u" create -n small.vhd -s 4
"$u" modify -n r2.vhd -p small.vhd
exits 28 "$u" coalesce -n r2.vhd >out 2>err
contains err 'vhd-util resize'
# the whole chain into one
"$u" coalesce -n b.vhd -o flat.vhd
bytes flat.vhd | cmp - want.raw

# resize
"$u" create -n p.vhd -s 20 -S 100
"$u" resize -n p.vhd -s 100 -f
equal "$("$u" query -n p.vhd -v)" 100
exits 22 "$u" resize -n p.vhd -s 102 -f >out 2>err
equal "$(cat out)" ''
# a size in the wrong unit cuts nothing off
exits 22 "$u" resize -n p.vhd -s 1 >out 2>err
contains err 'it has 100 MiB'
contains err '-j FILE'
equal "$("$u" query -n p.vhd -v)" 100
"$u" resize -n p.vhd -s 100
"$u" resize -n p.vhd -s 102
equal "$("$u" query -n p.vhd -v)" 102
exits 2 "$u" resize -n none.vhd -s 1 >out 2>err
equal "$(cat out)" 'error opening none.vhd: -2'
"$u" resize -n a.vhd -s 4000 -j journal
[ ! -e journal ] || fail 'a journal was left'
valid a.vhd
equal "$("$u" query -n a.vhd -vS)" "4000
4000"
"$u" read -n a.vhd -R 0 -c 20971520 | cmp - want.raw
qemu-img convert -f vpc -O raw a.vhd q.raw
cmp -n 20971520 q.raw want.raw
"$u" resize -n a.vhd -s 6 -j journal
valid a.vhd
[ "$(stat -c %s a.vhd)" -lt 6400000 ] || fail 'no space was given back'
cmp -n 6291456 q.raw want.raw
# what comes back is empty
"$u" resize -n a.vhd -s 20 -j journal
equal "$(bytes a.vhd | tail -c +6291457 | tr -d '\0' | wc -c)" 0
# a parent that has more than the child, whose data would come up
head -c 4194304 want.raw >p.raw
for parent in "p.raw -m" a.vhd; do
	rm -f c.vhd
	# shellcheck disable=SC2086 # two words
	"$u" snapshot -n c.vhd -p $parent
	"$u" resize -n c.vhd -s 2 -j journal
	exits 95 "$u" resize -n c.vhd -s 30 -j journal >out 2>err
	contains err 'stands on a larger image, whose data would be seen'
	[ ! -e journal ] || fail 'a journal was left'
	equal "$("$u" query -n c.vhd -v)" 2
done
# one as large, and one that is not there, are no hindrance
rm c.vhd
"$u" snapshot -n c.vhd -p a.vhd
"$u" resize -n c.vhd -s 30
equal "$("$u" read -n c.vhd -R 20971520 -c 10485760 | tr -d '\0' | wc -c)" 0
"$u" resize -n c.vhd -s 2 -j journal
mv a.vhd away.vhd
"$u" resize -n c.vhd -s 30
mv away.vhd a.vhd
"$u" create -n f.vhd -s 4 -r
qemu-io -f vpc -c 'write -P 7 0 4M' f.vhd >/dev/null
"$u" resize -n f.vhd -s 8 -j journal
equal "$(bytes f.vhd | tr -d '\0' | wc -c)" 4194304
qemu-img info f.vhd >/dev/null
"$u" resize -n f.vhd -s 2 -j journal
valid f.vhd
equal "$(stat -c %s f.vhd)" 2097664
# what lies between the end of the disk and a footer that was moved is no data
for mib in 6 10; do
	"$u" modify -n f.vhd -s $(((mib + 2) * 1048576 + 512))
	"$u" modify -n f.vhd -s $(((mib + 1) * 1048576 + 512))
	"$u" resize -n f.vhd -s $mib -j journal
	valid f.vhd
	equal "$(bytes f.vhd | tr -d '\0' | wc -c)" 2097152
done
"$u" modify -n f.vhd -s 11534848
"$u" resize -n f.vhd -s 14
equal "$(bytes f.vhd | tr -d '\0' | wc -c)" 2097152

# modify, repair, fill
exits 22 "$u" modify -n a.vhd -p f.vhd >out 2>err
cp b.vhd moved.vhd
mkdir sub
mv a.vhd sub/x.vhd
exits 2 "$u" check -n moved.vhd -p >out 2>err
"$u" modify -n moved.vhd -p sub/x.vhd
equal "$("$u" query -n moved.vhd -u)" './sub/x.vhd'
"$u" check -n moved.vhd -p >/dev/null
exits 22 "$u" modify -n moved.vhd -s 60000000 2>err
exits 28 "$u" modify -n moved.vhd -s 5120 2>err
"$u" modify -n moved.vhd -s 60000256
equal "$(stat -c %s moved.vhd)" 60000256
valid moved.vhd
"$u" modify -n moved.vhd -z
equal "$("$u" query -n moved.vhd -a)" 0
valid moved.vhd
truncate -s -512 moved.vhd
exits 22 "$u" check -n moved.vhd >out 2>err
"$u" repair -n moved.vhd
valid moved.vhd
# a footer at the end that is of another disk
tail -c 512 f.vhd | dd of=moved.vhd bs=1 conv=notrunc status=none \
	seek="$(($(stat -c %s moved.vhd) - 512))"
exits 22 "$u" check -n moved.vhd >out 2>err
"$u" repair -n moved.vhd -b
valid moved.vhd
"$u" create -n e.vhd -s 20
"$u" fill -n e.vhd -b -f 4096 -t 8192
equal "$("$u" query -n e.vhd -a)" 2
valid e.vhd
exits 22 "$u" fill -n e.vhd -f 0 >out 2>err
"$u" modify -n b.vhd -p sub/x.vhd
bytes b.vhd >before.raw
"$u" fill -n b.vhd --progress=1 >out
bytes b.vhd | cmp - before.raw
equal "$("$u" query -n b.vhd -a)" 10
contains out '100/100'

# key
head -c 32 /dev/zero >key
"$u" create -n k.vhd -s 4
equal "$("$u" key -p -n k.vhd)" none
exits 126 "$u" key -c -n k.vhd -k key 2>err
nonce=$(printf '%064d' 0)
"$u" key -s -n k.vhd -k key -N "$nonce"
hash=$(head -c 64 /dev/zero | sha256sum | cut -d' ' -f1)
equal "$("$u" key -p -n k.vhd)" "$nonce $hash"
equal "$("$u" key -C -k key -N "$nonce")" "$hash"
equal "$("$u" key -C -k key)" "$hash"
"$u" key -c -n k.vhd -k key
head -c 32 /dev/urandom >other
exits 22 "$u" key -c -n k.vhd -k other 2>err
contains err 'other: is not the key of this image'
exits 17 "$u" key -s -n k.vhd -k other 2>err
"$u" scan -M -m k.vhd >out
contains out "keyhash=$hash"
# a child has the key of its parent
"$u" snapshot -n kc.vhd -p k.vhd -e
equal "$("$u" key -p -n kc.vhd)" "$nonce $hash"

# a fixed disk tells its holes
truncate -s 8M sparse.raw
qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on sparse.raw h.vhd
start_tapdisk "vhd:$tmp/h.vhd"
qemu-io -f raw -c 'write -P 5 4M 64k' -c flush "$uri" >/dev/null
qemu-img map -f raw --output=json "$uri" >map
tap-ctl destroy -p "$pid" -m "$minor"
contains map '"zero": true'
contains map '"zero": false'

# A coalesce under a chain that is read: what it adds to the parent is no damage to
# the reader.
"$u" create -n base.vhd -s 20
change base.vhd -c 'write -P 1 0 64k'
"$u" snapshot -n mid.vhd -p base.vhd
change mid.vhd -c 'write -P 2 10M 64k'
"$u" snapshot -n top.vhd -p mid.vhd
start_tapdisk "vhd:$tmp/top.vhd"
qemu-io -f raw -c 'read -P 2 10M 64k' "$uri" >/dev/null
equal "$("$u" coalesce -n mid.vhd)" 'Coalesced 128 sectors'
qemu-io -f raw -c 'read -P 2 10M 64k' -c 'read -P 0 11M 64k' \
	-c 'read -P 1 0 64k' -c 'write -P 3 12M 4k' "$uri" >out
if grep -q failed out; then
	fail "read beside a coalesce: $(cat out)"
fi
tap-ctl destroy -p "$pid" -m "$minor"
"$u" modify -n top.vhd -p base.vhd
equal "$("$u" read -n top.vhd -R 10485760 -c 2 | od -An -tx1)" ' 02 02'
"$u" check -n top.vhd -p >/dev/null
