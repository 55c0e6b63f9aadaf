#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The images of both corpora are seeds for the fuzz entries of their formats: each
# as it is, and changed. BLKTAP_SEED repeats a run, BT_FUZZ_SECONDS makes it
# longer.
. "${srcdir:-.}/tests/shell/functions.sh"
fuzz=$builddir/tests/fuzz
[ -x "$fuzz/fuzz-vhd" ] && [ -x "$fuzz/fuzz-qcow" ] ||
	skip 'the fuzz entries are not built'
if nm "$fuzz/fuzz-vhd" 2>/dev/null | grep -q LLVMFuzzerRunDriver; then
	skip 'built for libFuzzer: give it the corpus by hand'
fi
BT_FUZZ_SEED=${BLKTAP_SEED:-$(date +%s)}
BT_FUZZ_SECONDS=${BT_FUZZ_SECONDS:-1}
export BT_FUZZ_SEED BT_FUZZ_SECONDS
echo "BLKTAP_SEED=$BT_FUZZ_SEED"

# entry NAME DIR AT_LEAST: runs it, and looks how many files it found
entry()
{
	BT_FUZZ_CORPUS=$2 "$fuzz/$1" >out || fail "$1: $(cat out)"
	cat out
	entry_files=$(sed -n 's/.* \([0-9]*\) files.*/\1/p' out)
	[ "$entry_files" -ge "$3" ] || fail "$1: $entry_files files"
}

mkdir vhd qcow
"$builddir/tests/shell/vhd-corpus" vhd
# with its checksums set right, so that what is behind them is met; and as it is
for prefix in 0 2; do
	(
		export BT_FUZZ_PREFIX=$prefix
		entry fuzz-vhd vhd 60
	)
done
# whatever else is wrong with it there, it leaves its images
BLKTAP_CORPUS=$tmp/qcow "$builddir/tests/unit/test-qcow-corpus" >made 2>&1 ||
	fail "$(tail -n 3 made)"
entry fuzz-qcow qcow 90
