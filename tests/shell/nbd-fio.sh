#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Random writes of mixed sizes at depth 32 are read back by fio with their
# checksums, on several connections at once and through every engine.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
requires fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

truncate -s 64M disk.raw
for engine in io_uring libaio sync; do
	# a disk that cannot be: what is asked is whether the engine is there
	fails "$builddir/tests/nbd-serve" -e "$engine" "$tmp/none" ram:0 2>err
	! grep -q context err || continue
	serve "raw:$tmp/disk.raw" -e "$engine"
	fio --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=512-128k \
		--verify=crc32c --iodepth=32 --size=16M --name=one \
		--name=two --offset=16M --name=three --offset=32M \
		--bssplit=4k/50:512/25:1M/25 --loops=2 --do_verify=1 \
		--verify_state_save=0 >fio.log 2>&1 || fail "$(cat fio.log)"
	served_well
done
