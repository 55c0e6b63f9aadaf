# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# What the tests of tap-ctl map share; after functions.sh.
[ -x "${BLKTAP_MAP:-}" ] || skip "needs blktap-map, which needs libfuse3"

# What is left at the end is taken away, whatever state it is in.
unmap_all()
{
	tap-ctl map --list | sed -n 's/^name=\([^ ]*\) .*/\1/p' |
		while read -r name; do
			tap-ctl unmap --lazy "$name"
		done
	grep -F " $tmp/" /proc/self/mounts | cut -d ' ' -f 2 |
		while read -r point; do
			umount -l "$point"
		done
}
cleanup_fn unmap_all

# map_pid NAME
map_pid()
{
	tap-ctl map --list | sed -n "s/^name=$1 pid=\([0-9]*\) .*/\1/p"
}

is_dead()
{
	tap-ctl map --list | grep -q "^name=$1 pid=[0-9]* dead "
}

is_gone()
{
	! tap-ctl map --list | grep -q "^name=$1 "
}

not_mounted()
{
	! grep -qF " $1 " /proc/self/mounts
}

# Nothing is mapped, mounted or attached.
nothing_left()
{
	equal "$(tap-ctl map --list)" ""
	equal "$(ls -A "$BLKTAP_RUNDIR/map")" ""
	fails grep -F " $tmp/" /proc/self/mounts
	fails grep -sqF "$tmp/" /sys/block/loop*/loop/backing_file
}
