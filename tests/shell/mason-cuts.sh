#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Power cuts, with Block Mason's own tools: all that a module keeps lies on slices of
# one disk behind a writelog, whose replay makes what a cut would have left. What a
# client had flushed is there, and nothing that is older.
# BLKTAP_SEED repeats a run; BLKTAP_TEST_LONG=1 cuts behind every entry, in every
# way.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
requires qemu-io nbdcopy
replay=$builddir/tests/writelog-replay
seed=${BLKTAP_SEED:-$(date +%s)}
echo "BLKTAP_SEED=$seed"

# graph MODULE BELOW: the disk, and its parts on slices of what BELOW declares as w.
graph()
{
	part1='slice(offset=0, size=8M) -> w'
	part2='slice(offset=8M, size=8M) -> w'
	part3='slice(offset=16M, size=12M) -> w'
	case $1 in
	cache)
		echo 'd :: disk("d") -> n :: cache(mode=writeback, size=4M);'
		echo "n[origin] -> $part1; n[store] -> $part2;"
		;;
	checksum)
		echo 'd :: disk("d") -> n :: checksum();'
		echo "n[lower] -> $part1; n[store] -> $part2;"
		;;
	bitmap)
		echo 'd :: disk("d") -> n :: bitmap(checkpoints=["mon"]);'
		echo "n[lower] -> $part1; n[store] -> $part2;"
		;;
	snap)
		echo 'd :: disk("d") -> [live] n :: snap();'
		echo "n[origin] -> $part1; n[delta] -> $part3;"
		;;
	cow)
		echo 'd :: disk("d") -> n :: cow();'
		echo "n[base] -> raw($tmp/base, ro=true); n[top] -> $part3;"
		;;
	mirror)
		echo 'd :: disk("d") -> n :: mirror(sync=background)'
		echo "=> ($part1), ($part2); n[log] -> $part3;"
		;;
	esac
	echo "$2"
}

entries()
{
	"$replay" -l log | wc -l
}

# What is at a place: its bytes, each once
bytes_at()
{
	dd if=now.raw bs=4096 skip="$1" count="$2" status=none |
		od -An -v -tu1 -w1 | sort -nu | tr -d ' ' | tr '\n' ' '
}

# cut_at MODULE N STEP: behind entry N, with STEP flushed; a long test tries every
# way to cut there
cut_at()
{
	models='nothing all some torn'
	if [ -z "${BLKTAP_TEST_LONG:-}" ]; then
		model=$(((seed + $2) % 4 + 1))
		models=$(echo "$models" | cut -d ' ' -f "$model")
	fi
	for model in $models; do
		rm -f disk
		truncate -s 28M disk
		"$replay" -n "$2" -c "$model" -s "$((seed + $2))" log disk
		serve "mason:$tmp/plain.mason"
		nbdcopy "$uri" now.raw
		served_well
		for place in '0 16' '256 32' '1000 1'; do
			# shellcheck disable=SC2086 # two words
			for byte in $(bytes_at $place); do
				[ "$byte" -eq "$3" ] ||
					[ "$byte" -eq "$(($3 + 1))" ] ||
					fail "$1, cut behind $2 ($model):" \
						"$byte at $place, not $3"
			done
		done
	done
}

truncate -s 8M base
for module in cache checksum bitmap snap cow mirror; do
	rm -f disk log
	truncate -s 28M disk
	truncate -s 32M log
	graph $module "w :: raw($tmp/disk);" >plain.mason
	graph $module "w :: writelog(); w[lower] -> raw($tmp/disk);
		w[log] -> raw($tmp/log);" >logged.mason
	serve "mason:$tmp/logged.mason"
	entries >at.0
	for step in 1 2 3; do
		qemu-io -f raw -c "write -P $step 0 64k" \
			-c "write -P $step 1M 128k" \
			-c "write -P $step 4000k 4k" -c flush "$uri" >io ||
			fail "$(cat io)"
		entries >at.$step
	done
	stop_serving
	entries >at.4
	for step in 1 2 3; do
		first=$(cat at.$step)
		end=$(cat at.$((step + 1)))
		by=$(((end - first) / 2 + 1))
		[ -z "${BLKTAP_TEST_LONG:-}" ] || by=1
		while [ "$first" -lt "$end" ]; do
			cut_at $module "$first" $step
			first=$((first + by))
		done
	done
done
