#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What blktap(7) says to type does what it says: a disk for QEMU, a backup of a
# disk in use, and where to look when it is slow.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-io qemu-img nbdcopy nbdinfo python3

# commands SECTION: those of that section that a line begins with '#', for our
# directory and our disk
commands()
{
	sed -n "/^=head1 $1\$/,/^=head1 /p" "$srcdir/lib/libblktap/blktap.pod" |
		sed -n 's/^ # //p' |
		sed "s,/img/,$tmp/,g; s/-p 4711 -m 0/-p $pid -m $minor/"
}

qcow-create -f qcow2 16M vm.qcow2
start_tapdisk "qcow2:$tmp/vm.qcow2"
qemu-io -f raw -c 'write -P 7 1M 2M' -c flush "$uri" >io || fail "$(cat io)"

echo '# a disk for a virtual machine'
commands 'A DISK FOR A VIRTUAL MACHINE' >typed
contains typed 'tap-ctl create qcow2:'
drive=$(sed -n "/^ # qemu-system/,/^\$/p" "$srcdir/lib/libblktap/blktap.pod")
case $drive in
*"file='nbd+unix:///?socket=/run/blktap-control/nbd4711.0'"*) ;;
*) fail "not the address of a disk: $drive" ;;
esac
[ "$socket" = "$BLKTAP_RUNDIR/nbd$pid.$minor" ]
qemu-img info -f raw "$uri" >info
contains info '16 MiB (16777216 bytes)'

echo '# a backup of it, while it is in use'
commands 'BACKUP OF A DISK IN USE' | grep -v -- --base >backup.cmd
equal "$(wc -l <backup.cmd)" 4
sh -eu backup.cmd >out 2>err || fail "$(cat err)"
contains out "$tmp/vm.qcow2.snap1"
[ ! -e vm.qcow2.snap1 ] || fail "the snapshot is left"
qemu-io -f raw -c 'read -P 0 0 1M' -c 'read -P 7 1M 2M' -c 'read -P 0 3M 13M' \
	backup.raw >io || fail "$(cat io)"
if grep -q 'verification failed' io; then
	fail "the backup is another disk: $(cat io)"
fi
qemu-io -f raw -c 'write -P 8 4M 64k' -c 'read -P 7 1M 2M' -c flush "$uri" \
	>io || fail "$(cat io)"

echo '# what a slow disk is asked'
commands 'A SLOW DISK' | grep 'stats' >ask
contains ask '--json'
sh -eu ask >stats
for word in operations latency_log2_ns nodes late retries outstanding flush \
	direct; do
	contains stats "\"$word\""
done
python3 - <<'END'
import json
stats = json.load(open("stats"))
for who in [stats] + stats["nodes"]:
    for op, figures in who["operations"].items():
        assert sum(figures["latency_log2_ns"]) == figures["completed"], op
END
tap-ctl destroy -p "$pid" -m "$minor"
qemu-img check vm.qcow2 >check || fail "$(cat check)"
