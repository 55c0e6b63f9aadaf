#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Another tapdisk for a block device goes on with the log of changed blocks that was
# given beside the image, or not at all. As far as that goes without the kernel's
# module: the device itself is tests/kernel's.
. "${srcdir:-.}/tests/shell/functions.sh"
[ ! -e /dev/xen/blktap-2 ] || skip "would use the kernel's minors"
img=$tmp/a.raw log=$tmp/log
truncate -s 8M "$img"
cbt-util create -n "$log" -s 8388608
minor=$(tap-ctl allocate)
minor=${minor##*-}
mark=$BLKTAP_RUNDIR/tapdisk/tapdisk-$minor

# what a tapdisk leaves that dies with a device: -C is flag 0x10
left()
{
	printf 'ring=1\nflags=0x10\ntimeout=120\nlog=%s\nargs=raw:%s\nend\n' \
		"$log" "$img" >"$mark"
	cp "$mark" mark
}

# nobody is left who has the minor, and whose it was is known still
same_mark()
{
	equal "$(tap-ctl list)" "minor=$minor"
	cmp "$mark" mark
}

echo '# it is opened with the log: all but the device is there'
left
exits 2 tap-ctl upgrade -m "$minor" 2>err
contains err "/dev/xen/blktap-2/blktap$minor: No such file"
contains err 'once this is mended, tap-ctl upgrade goes on'
same_mark

echo '# a log that is not there, and one that is none, end it'
mv "$log" away
exits 2 tap-ctl upgrade -m "$minor" 2>err
contains err "$log: No such file"
same_mark
truncate -s 8M "$log"
exits 22 tap-ctl upgrade -m "$minor" 2>err
contains err "$log: is a log of 0 bytes"
same_mark
mv away "$log"

echo '# an heir by hand gives the same log'
pid=$(tap-ctl spawn)
cleanup_fn stop_tapdisk "$pid" "$minor"
tap-ctl attach -p "$pid" -m "$minor"
exits 17 tap-ctl open -p "$pid" -m "$minor" -a "raw:$img" 2>err
contains err 'with other options of -2, -C, -e and -E'
exits 17 tap-ctl open -p "$pid" -m "$minor" -a "raw:$img" -C "$img" 2>err
contains err "died with $log as its log"
cmp "$mark" mark
exits 2 tap-ctl open -p "$pid" -m "$minor" -a "raw:$img" -C "$log" 2>err
contains err "/dev/xen/blktap-2/blktap$minor: No such file"
