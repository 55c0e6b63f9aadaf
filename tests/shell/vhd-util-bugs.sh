#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Mistakes that earlier tools for VHD were shipped with, each by its name.
. "${srcdir:-.}/tests/shell/functions.sh"
requires flock qemu-io
u=${builddir:?}/vhd-util

echo '# a scan line of a name with a blank or = took its readers apart'
mkdir d
"$u" create -n 'd/a b=c.vhd' -s 4
"$u" snapshot -n d/child.vhd -p 'd/a b=c.vhd' -e
"$u" scan -m 'd/*.vhd' >out
while read -r line; do
	for word in $line; do
		case ${word#*=} in
		*=*) fail "two = in $word" ;;
		esac
	done
done <out
contains out 'vhd=d/a%20b%3Dc.vhd capacity=4194304 '
contains out 'parent=d/a%20b%3Dc.vhd'
"$u" scan -m 'd/*.vhd' --json >out
contains out '"vhd":"d/a b=c.vhd"'

echo '# looking for overlaps took the square of the blocks'
"$u" create -n many.vhd -s 1048576
"$u" fill -n many.vhd -b -f 0 -t $((30000 * 4096))
equal "$("$u" query -n many.vhd -a)" 30001
equal "$(timeout 20 "$u" check -n many.vhd)" 'many.vhd is valid'
rm many.vhd

echo '# the allocated blocks of a fixed disk were an error'
"$u" create -n fixed.vhd -s 4 -r
equal "$("$u" query -n fixed.vhd -a)" 0

echo '# widths: the last block of the largest disk'
"$u" create -n huge.vhd -s 2088960
"$u" snapshot -n hchild.vhd -p huge.vhd -e
start_tapdisk "vhd:$tmp/hchild.vhd"
qemu-io -f raw -c 'write -P 9 2088959M 1M' -c flush "$uri" >/dev/null
tap-ctl destroy -p "$pid" -m "$minor"
equal "$("$u" read -n hchild.vhd -i $((2088959 * 2048)))" \
	'block 1044479: sec: 2048: 1'
equal "$("$u" coalesce -n hchild.vhd)" 'Coalesced 2048 sectors'
equal "$("$u" read -n huge.vhd -R $((2088960 * 1048576 - 1)) | od -An -tx1)" \
	' 09'
exits 22 "$u" resize -n huge.vhd -s 2088961 -j j 2>err
[ ! -e j ] || fail 'a journal was left'

echo '# an image in use was replaced under the disk that ran on it'
"$u" create -n live.vhd -s 4
"$u" snapshot -n leaf.vhd -p live.vhd -e
start_tapdisk "vhd:$tmp/leaf.vhd"
before=$(stat -c %i live.vhd leaf.vhd)
exits 16 "$u" create -n leaf.vhd -s 4 2>err
contains err 'leaf.vhd: the image is in use by another program'
exits 16 "$u" create -n live.vhd -s 4 2>err
exits 16 "$u" snapshot -n live.vhd -p huge.vhd 2>err
exits 16 "${builddir:?}/td-util" create vhd 4 leaf.vhd 2>err
exits 1 "${builddir:?}/qcow-create" --force 4 leaf.vhd 2>err
equal "$(stat -c %i live.vhd leaf.vhd)" "$before"
tap-ctl destroy -p "$pid" -m "$minor"
"$u" create -n leaf.vhd -s 4
equal "$("$u" query -n leaf.vhd -p)" 'leaf.vhd has no parent'
for left in *.new-*; do
	[ ! -e "$left" ] || fail "$left was left"
done

echo '# a long way to the parent'
deep=d
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	deep=$deep/directory-with-a-long-name
done
mkdir -p "$deep"
"$u" snapshot -n "$deep/c.vhd" -p 'd/a b=c.vhd' -e
"$u" check -n "$deep/c.vhd" -p >/dev/null
"$u" modify -n "$deep/c.vhd" -p huge.vhd
equal "$("$u" query -n "$deep/c.vhd" -p)" "$(pwd -P)/huge.vhd"

echo '# a query opened the parent'
"$u" snapshot -n lone.vhd -p fixed.vhd -e
rm fixed.vhd
"$u" query -n lone.vhd -vsfma >/dev/null
"$u" query -n lone.vhd --json >/dev/null
"$u" read -n lone.vhd -p >/dev/null

echo '# the name of a raw parent was used after it was freed'
truncate -s 4M base4.raw
"$u" snapshot -n onraw.vhd -p base4.raw -m
truncate -s 1M base4.raw
exits 28 "$u" coalesce -n onraw.vhd >out 2>err
contains err 'base4.raw: has 1048576 bytes, less than the 4194304'

echo '# a coalesce that was interrupted began anew'
"$u" create -n base.vhd -s 4000
"$u" snapshot -n top.vhd -p base.vhd -e
"$u" fill -n top.vhd -b
start_tapdisk "vhd:$tmp/top.vhd"
qemu-io -f raw -c 'write -P 1 0 64k' -c 'write -P 2 3000M 64k' -c flush \
	"$uri" >/dev/null
tap-ctl destroy -p "$pid" -m "$minor"
"$u" coalesce -n top.vhd --resume state >/dev/null
[ ! -e state ] || fail 'a state was left'
mkfifo hold
"$u" coalesce -n top.vhd --resume state --progress=9 9>hold >out 2>&1 &
worker=$!
cleanup_fn kill -9 "$worker"
head -c 60 <hold >/dev/null || :
kill -TERM "$worker" 2>/dev/null || :
rc=0
wait "$worker" || rc=$?
case $rc in
143)	contains out 'error coalescing: -125'
	[ -e state ] || fail 'no state was left'
	contains state 'coalesce 1'
	equal "$("$u" coalesce -n top.vhd --resume state)" \
		'Coalesced 256 sectors'
	;;
0)	;; # it was faster than the signal
*)	fail "exit status $rc: $(cat out)" ;;
esac
[ ! -e state ] || fail 'a state was left'
# of another image, or nonsense: as if there were none
echo nonsense >state
equal "$("$u" coalesce -n top.vhd --resume state)" 'Coalesced 256 sectors'
"$u" check -n base.vhd -b >/dev/null

echo '# a coalesce wrote to a target that somebody else was writing to'
"$u" create -n busy.vhd -s 8
"$u" fill -n busy.vhd -b
"$u" snapshot -n busychild.vhd -p busy.vhd -e
"$u" fill -n busychild.vhd -b
truncate -s -512 busy.vhd # as it is between two commits of a coalesce
cp busy.vhd before.vhd
exits 16 flock busy.vhd "$u" coalesce -n busychild.vhd >out 2>err
contains err 'busy.vhd: another program coalesces into it'
cmp busy.vhd before.vhd
"$u" coalesce -n busychild.vhd >/dev/null
"$u" check -n busy.vhd -b >/dev/null

echo '# a snapshot with the name of an empty parent replaced what others stand on'
"$u" create -n low.vhd -s 4
"$u" snapshot -n mid.vhd -p low.vhd -e
"$u" snapshot -n high.vhd -p mid.vhd -e
exits 22 "$u" snapshot -n mid.vhd -p mid.vhd 2>err
contains err 'would replace what it is to stand on'
exits 22 "$u" snapshot -n mid.vhd -p high.vhd 2>err
"$u" check -n high.vhd -p >/dev/null

echo '# a chain without an end could be made'
exits 40 "$u" modify -n mid.vhd -p high.vhd 2>err
contains err 'high.vhd: stands on the image itself'
exits 40 "$u" modify -n mid.vhd -p mid.vhd 2>err
contains err 'mid.vhd: is the image itself'
exits 2 "$u" modify -n mid.vhd -p nope.vhd 2>err
exits 22 "$u" modify -n mid.vhd -m 2>err
equal "$("$u" query -n mid.vhd -pu)" ./low.vhd
