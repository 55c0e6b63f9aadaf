#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# vhd-util prints, line by line, what toolstacks read of it, and ends with the
# errno.
. "${srcdir:-.}/tests/shell/functions.sh"
u=${builddir:?}/vhd-util

exits 0 "$u" >out
contains out 'usage: vhd-util'
exits 22 "$u" nonsense >out 2>&1
exits 22 "$u" create -n a.vhd >out 2>&1
exits 22 "$u" create -n a.vhd -s -1 >out 2>&1
exits 22 "$u" create -n a.vhd -s 3000000 >out 2>&1
[ ! -e a.vhd ] || fail 'a disk of 2.9 TiB was made'

"$u" create -n a.vhd -s 100
equal "$("$u" query -n a.vhd -vsafp)" "100
3584
a.vhd has no parent
hidden: 0
0"
equal "$("$u" query -n a.vhd -m)" 'marker: 0'
equal "$("$u" query -n a.vhd -S)" 100
equal "$("$u" query -n a.vhd -d)" 'chain depth: 1'
"$u" create -n big.vhd -s 100 -S 1000
equal "$("$u" query -n big.vhd -vS)" "100
1000"

exits 2 "$u" query -n nope.vhd -v >out 2>err
equal "$(cat out)" 'error opening nope.vhd: -2'

# Children: relative as stored, absolute as found.
"$u" snapshot -n b.vhd -p a.vhd
mkdir sub
"$u" snapshot -n sub/c.vhd -p b.vhd -e
equal "$("$u" query -n b.vhd -p)" "$(pwd -P)/a.vhd"
equal "$("$u" query -n b.vhd -pu)" './a.vhd'
equal "$("$u" query -n sub/c.vhd -pu)" './../b.vhd'
equal "$("$u" query -n sub/c.vhd -p)" "$(pwd -P)/b.vhd"
equal "$("$u" query -n sub/c.vhd -d)" 'chain depth: 3'
equal "$("$u" query -n sub/c.vhd -v)" 100
# Without -e an empty parent is stepped over.
"$u" snapshot -n d.vhd -p b.vhd
equal "$("$u" query -n d.vhd -pu)" './a.vhd'
fails "$u" snapshot -n e.vhd -p sub/c.vhd -e -l 3 2>err
[ ! -e e.vhd ] || fail 'a chain longer than its limit was made'
truncate -s 50M base.raw
"$u" snapshot -n r.vhd -p base.raw -m
equal "$("$u" query -n r.vhd -vp)" "50
$(pwd -P)/base.raw"
equal "$("$u" query -n r.vhd -d)" 'chain depth: 2'

# A name that is not ASCII, and a long one.
"$u" create -n 'größe 1.vhd' -s 4
"$u" snapshot -n long.vhd -p 'größe 1.vhd' -e
equal "$("$u" query -n long.vhd -p)" "$(pwd -P)/größe 1.vhd"

"$u" set -n a.vhd -f hidden -v 1
"$u" set -n a.vhd -f marker -v 7
equal "$("$u" query -n a.vhd -fm)" "hidden: 1
marker: 7"
exits 22 "$u" set -n a.vhd -f hiden -v 1 2>err
exits 22 "$u" set -n a.vhd -f hidden -v 256 2>err
"$u" create -n f.vhd -s 4 -r
"$u" set -n f.vhd -f hidden -v 2
equal "$("$u" query -n f.vhd -fsa)" "4194816
hidden: 2
0"

# check
for image in a.vhd f.vhd; do
	equal "$("$u" check -n $image)" "$image is valid"
done
equal "$("$u" check -n sub/c.vhd -p)" "sub/c.vhd is valid
$(pwd -P)/b.vhd is valid
$(pwd -P)/a.vhd is valid"
cp a.vhd hurt.vhd
# the first table entry says that a block lies in the header
printf '\000\000\000\001' |
	dd of=hurt.vhd bs=1 seek=1536 conv=notrunc status=none
exits 22 "$u" check -n hurt.vhd >out 2>err
contains out 'hurt.vhd appears invalid; hurt.vhd: BAT entry of block 0 is 1'
cp a.vhd cut.vhd
truncate -s -512 cut.vhd
exits 22 "$u" check -n cut.vhd >out 2>err
contains out 'the footer at the end of the file is missing'
equal "$("$u" check -n cut.vhd -i)" 'cut.vhd is valid'
# query and check leave an image as it is
cmp -n 3072 a.vhd cut.vhd

# No parent is opened that nobody asked for.
rm base.raw
equal "$("$u" query -n r.vhd -v)" 50
fails "$u" query -n r.vhd -p >out 2>err
contains out 'query failed'
