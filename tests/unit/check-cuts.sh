#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Power cuts at every moment, by `make check-cuts`: each program that records what
# reaches an image's file looks at every event in every way, with SEEDS seeds (3).
# The last line is the sum of the images that were made. Ends with status 1 where one
# does not open, or shows what it must not.
seeds=${SEEDS:-3}
first=${BLKTAP_SEED:-$(date +%s)}
sum=0
failed=0
BLKTAP_CUTS=all
CK_TIMEOUT_MULTIPLIER=${CK_TIMEOUT_MULTIPLIER:-30}
export BLKTAP_CUTS CK_TIMEOUT_MULTIPLIER
log=$(mktemp)
trap 'rm -f "$log"' EXIT
n=0
while [ $n -lt "$seeds" ]; do
	BLKTAP_SEED=$((first + n))
	export BLKTAP_SEED
	for program; do
		"$program" >"$log" 2>&1 || {
			failed=1
			cat "$log"
		}
		count=$(sed -n 's/^\([0-9]*\) \(images\|cuts\) of .*/\1/p' \
			"$log" | awk '{ s += $1 } END { print s + 0 }')
		sum=$((sum + count))
		echo "seed $BLKTAP_SEED: ${program##*/}: $count images"
	done
	n=$((n + 1))
done
echo "$sum images"
exit $failed
