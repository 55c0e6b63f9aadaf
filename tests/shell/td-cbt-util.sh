#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# td-util and cbt-util print and return what toolstacks know.
. "${srcdir:-.}/tests/shell/functions.sh"
t=${builddir:?}/td-util
c=$builddir/cbt-util

exits 255 "$t" >out 2>&1
exits 255 "$t" create qcow 1 a >out 2>&1
contains out "td-util: cannot create type 'qcow'"
exits 255 "$t" crate vhd 1 a >out 2>&1
contains out "td-util: unknown command 'crate'"
exits 255 "$t" create >out 2>&1
exits 22 "$t" create vhd -Q 1 a >out 2>&1
exits 22 "$t" create vhd 100 >out 2>&1
"$t" create vhd 100 a.vhd
equal "$("$t" query vhd -v a.vhd)" 100
equal "$("$t" query vhd -p a.vhd)" 'a.vhd has no parent'
"$t" snapshot vhd b.vhd a.vhd
equal "$("$t" query vhd -vpfbd b.vhd)" "100
$(pwd -P)/a.vhd
hidden: 0
chain depth: 2"
"$t" set vhd a.vhd hidden 1
equal "$("$t" query vhd -f a.vhd)" 'hidden: 1'
exits 2 "$t" query vhd -v nope.vhd >out 2>err
equal "$(cat out)" 'failed opening nope.vhd: -2'
"$t" create vhd -r 4 f.vhd
equal "$(stat -c %s f.vhd)" 4194816
"$t" create aio 3 r.raw
equal "$("$t" query aio -v r.raw)" 3
"$t" snapshot vhd -m r.vhd r.raw
equal "$("$t" query vhd -v r.vhd)" 3
exits 2 "$t" query aio -v nope >out 2>err
equal "$(cat out)" 'failed opening nope: -2'

exits 22 "$c" >out 2>&1
exits 22 "$c" crate >out 2>&1
contains out "cbt-util: unknown command 'crate'"
"$c" create -n l -s 104857600
equal "$(stat -c %s l)" 248
equal "$("$c" get -n l -s)" 104857600
equal "$("$c" get -n l -f)" 0
equal "$("$c" get -n l -p)" 00000000-0000-0000-0000-000000000000
u=01234567-89ab-cdef-0123-456789abcdef
"$c" set -n l -p $u -f 1
equal "$("$c" get -n l -pf)" "$u
1"
exits 22 "$c" set -n l -c nonsense 2>err
exits 2 "$c" get -n nope -s 2>err
contains err 'Failed to open log file nope. No such file or directory'
printf '\201' | dd of=l bs=1 seek=48 conv=notrunc status=none
equal "$("$c" get -n l -b | od -An -tx1 -N 2)" ' 81 00'
"$c" create -n k -s 209715200
printf '\002' | dd of=k bs=1 seek=48 conv=notrunc status=none
"$c" coalesce -p l -c k
equal "$("$c" get -n k -b | od -An -tx1 -N 2)" ' 83 00'
exits 22 "$c" coalesce -p k -c l 2>err
exits 2 "$c" coalesce -p nope -c k 2>err
contains err 'Failed to open log file nope. No such file or directory'
# a size: bits past the end go, and come back clear
"$c" set -n k -s 262144
equal "$("$c" get -n k -b | od -An -tx1)" ' 03'
"$c" set -n k -s 1048576
equal "$("$c" get -n k -b | od -An -tx1)" ' 03 00'
equal "$(stat -c %s k)" 50
# no log: too short, a size that no disk has
printf '%040d' 0 >short
exits 22 "$c" get -n short -s 2>err
contains err 'too short'
printf '%48s' ' ' >huge
exits 22 "$c" get -n huge -b 2>err
contains err 'no disk is that large'
truncate -s 100 l
exits 22 "$c" get -n l -b 2>err
contains err 'too short for its bits'
# what stands where a new log is written is not written through
echo mine >victim
# shellcheck disable=SC2016 # the pid of the program that is run
sh -c 'ln -s victim "n.new-$$"; exec "$1" create -n n -s 65536' sh "$c"
equal "$(cat victim)" mine
equal "$("$c" get -n n -s)" 65536
