#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What is done to a disk of 1 TiB costs what the blocks cost that it has: twice as
# many of them, no more than twice the calls and the bytes. These are counted, not the
# time. BLOCKS=N has more blocks.
. "${srcdir:-.}/tests/shell/functions.sh"
requires strace qemu-io awk
blocks=${BLOCKS:-400}

# a process that is traced cannot look for its own leaks
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
calls=pread64,preadv,read,readv,pwrite64,pwritev,write,writev,fsync,fdatasync
calls=$calls,lseek,ftruncate,fallocate
strace -o trace -e "trace=$calls" true 2>err ||
	skip "strace does not work here: $(cat err)"

# make NAME PARENT N: N blocks of the disk have a sector, every third has another
make()
{
	vhd-util snapshot -n "$1" -p "$2" -e
	seq 0 $(($3 - 1)) | awk '{
		at = $1 * 10 * 2097152
		printf "write -P 5 %.0f 512\n", at
		if ($1 % 3 == 0)
			printf "write -P 6 %.0f 4096\n", at + 1048576
	} END { print "flush" }' >writes
	tapdisk --run 'qemu-io -f raw "$uri" <writes >wrote' "vhd:$tmp/$1"
	equal "$(vhd-util query -n "$1" -a)" "$3"
}

# cost COMMAND...: "CALLS BYTES"
cost()
{
	strace -o trace -e "trace=$calls" "$@" >out || fail "$*: $(cat out)"
	awk '/\) += [0-9]/ { n++ }
		/^(p?read|p?write)/ && $NF ~ /^[0-9]+$/ { bytes += $NF }
		END { print n, bytes }' trace
}

# linear ONE TWO WHAT: 5 % more than twice is for what there is once
linear()
{
	echo "$1 $2" | awk -v what="$3" '{
		print what ": " $1 " calls, " $2 " bytes; with twice the blocks " \
			$3 ", " $4
		exit $3 > 2.1 * $1 || $4 > 2.1 * $2
	}' || fail "$3 is not linear"
}

for n in 1 2; do
	vhd-util create -n base$n.vhd -s 1048576
	make child$n.vhd base$n.vhd $((blocks * n))
done
# the table, once or twice, and every bitmap; the data is not read
cost vhd-util check -n child2.vhd -b | awk -v n=$((blocks * 2)) \
	'{ print } $1 > n + 200 || $2 > 8 * 1048576 + n * 4096 { exit 1 }' ||
	fail 'a check reads too much'
# the last of them drops the blocks behind 1 GiB
for what in 'check -b' 'check -s' 'check -p' coalesce 'coalesce -s' \
	'resize -s 1100000 -j journal' 'fill -b -f 2097152 -t N' \
	'resize -s 1024 -j journal'; do
	for n in 1 2; do
		# shellcheck disable=SC2046,SC2086 # words
		cost vhd-util $(echo "$what" |
			sed "s/N/$((2097151 + n * blocks * 4096))/") \
			-n child$n.vhd >cost$n
	done
	linear "$(cat cost1)" "$(cat cost2)" "$what"
done
