#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# tap-ctl map --block that is killed at any of its writes leaves nothing: the
# device stands in the state before it is attached.
. "${srcdir:-.}/tests/shell/functions.sh"
requires root fuse loop
. "$srcdir/tests/shell/map-functions.sh"
. "$srcdir/tests/shell/kill-functions.sh"

# Its daemon takes it away, or it died before that was there.
is_over()
{
	is_gone a.raw || is_dead a.raw
}

truncate -s 4M a.raw
n=1
while at_call KILL write $n "$BLKTAP_MAP" map --block "$tmp/a.raw"; do
	wait_for is_over
	is_gone a.raw || tap-ctl unmap a.raw 2>log
	nothing_left
	n=$((n + 1))
done
# image, file, made-file, device and the device on standard output
[ $n -gt 5 ] || fail "it wrote $((n - 1)) times: $(cat out trace)"
equal "$signal_rc" 0
tap-ctl unmap a.raw
nothing_left
