#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The benchmark runs, measures all it should, and leaves nothing.
. "${srcdir:-.}/tests/shell/functions.sh"
requires fio awk
fio --enghelp | grep -qw nbd || skip "needs fio with its nbd engine"
run=$srcdir/tests/bench/run

"$run" --help >help
contains help 'usage: '
exits 2 "$run" --rouns 3 2>log
contains log "option '--rouns' is unknown"

[ -z "${SAN_CFLAGS:-}" ] || skip "sanitizers are slow"
mkdir images
"$run" --quick --dirs "$tmp/images" --json >out 2>log || fail "$(cat log)"
equal "$(ls -A images)" ""
for load in randread-32 randwrite-1; do
	for server in tapdisk libblktap fio_uring; do
		contains out "\"load\":\"$load\",\"server\":\"$server\",\"iops\":"
	done
done
contains out '"mode":"direct"'
contains out '"mode":"buffered"'
contains out '"mode":"process-direct"'
contains out '"load":"start-ms","server":"tapdisk-direct","value":'
contains out '"load":"idle-kib","server":"tapdisk-direct","value":'
if command -v qemu-nbd >/dev/null; then
	contains out '"server":"qemu_writeback","iops":'
	contains out '"ours_to_it":'
fi
fails grep -E '"(iops|value)":(0|-)' out
"$run" --quick --formats --size 4M --dirs "$tmp/images" >formats 2>log ||
	fail "$(cat log)"
equal "$(ls -A images)" ""
for mode in qcow2 MiB/s start; do
	contains formats "images, $mode"
done
contains formats 16T-KiB
if command -v python3 >/dev/null; then
	python3 -m json.tool out >/dev/null
fi
