# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# Random operations for qemu-io, for tests that compare an image with QEMU's view
# of it. The test sets $seed, $ops and $size.

# commands ROUND: operations for qemu-io, the same for the same seed. A discard
# is no part of them: what it leaves is undefined.
commands()
{
	awk -v seed="$seed$1" -v n=$ops -v size=$size 'BEGIN {
		srand(seed % 2147483647)
		for (i = 0; i < n; i++) {
			align = rand() < 0.8 ? 512 : 1
			at = int(rand() * size / align) * align
			len = int(rand() * rand() * 300000 / align + 1) * align
			if (at + len > size)
				len = size - at
			kind = rand()
			if (kind < 0.45)
				printf "write -q -P %d %d %d\n", \
					rand() * 255 + 1, at, len
			else if (kind < 0.6)
				printf "write -q -z %s %d %d\n", \
					(rand() < 0.5 ? "-u" : ""), at, len
			else if (kind < 0.65)
				print "flush"
			else if (kind < 0.85)
				printf "aio_write -q -P %d %d %d\naio_flush\n", \
					rand() * 255 + 1, at, len
			else
				printf "read -q %d %d\n", at, len
		}
	}'
}

# apply FORMAT IMAGE: the commands of the file cmds.
apply()
{
	qemu-io -f "$1" "$2" <cmds >io 2>&1 || fail "$2: $(cat io)"
	if grep -qE 'failed|error|rror:' io; then
		fail "$2: $(grep -E 'failed|rror' io | head -n 3)"
	fi
}
