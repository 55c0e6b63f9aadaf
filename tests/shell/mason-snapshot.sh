#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The manual's snapshot: while a disk is written to, a change puts a snapshot into
# its graph, whose image a backup program reads over NBD at a socket of its own;
# another change takes it out again.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/mason-functions.sh"
requires fio nbdcopy nbdinfo qemu-io qemu-img
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

make_image 42.raw 16777216
truncate -s 64M 42.delta
example 5-snapshot "s,/vm/,$tmp/,; s,/scratch/,$tmp/,"
echo 'd0 :: disk("vm42") -> old :: raw("'"$tmp"'/42.raw");' >plain.mason
start_tapdisk "mason:$tmp/plain.mason"
backup=$BLKTAP_RUNDIR/export$pid.$minor.vm42-snap
backup_uri="nbd+unix:///vm42-snap?socket=$backup"
[ ! -e "$backup" ] || fail "an export that is not there is served"

# What no export had is not asked for, and what it has is read-only.
cp 42.raw before.raw
mason apply 5-snapshot.mason >out
contains out 'holds writes'
tap-ctl list --json >info
contains info '"exports":[{"name":"vm42-snap","uri":"nbd+unix:///vm42-snap'
nbdinfo --json "$backup_uri" >info
contains info '"is_read_only": true'
contains info '"export-size": 16777216'
fails nbdinfo "nbd+unix:///other?socket=$backup" >out 2>&1

# All of the disk is written to, many times over, while the backup is made.
load()
{
	while [ ! -e stop ]; do
		fio --ioengine=nbd --uri="$uri" --rw=randwrite \
			--bsrange=512-128k --iodepth=16 --size=16M --name=x \
			--serialize_overlap=1 --randrepeat=0 \
			--verify=crc32c --verify_state_save=0 >fio.log 2>&1 ||
			return 1
		printf x >>count
	done
}
runs()
{
	[ "$(stat -c %s count)" -ge "$1" ]
}
: >count
load &
load_pid=$!
wait_for runs 1
nbdcopy "$backup_uri" backup.raw
same_bytes backup.raw before.raw
fails qemu-io -f raw -c 'write 0 512' "$backup_uri" >io 2>&1
nbdcopy "$backup_uri" backup.raw
same_bytes backup.raw before.raw

# The snapshot ends under load: its clients are sent away, the disk's are not.
clients()
{
	tap-ctl list --json >info
	grep -q 'vm42-snap","uri":"[^"]*","clients":'"$1" info
}
wait_for clients 0
qemu-io -f raw -r -c 'sleep 60000' "$backup_uri" >io 2>&1 &
reader=$!
wait_for clients 1
mason apply plain.mason >out
[ ! -e "$backup" ] || fail "$backup is still there"
kill "$reader"
wait "$reader" 2>/dev/null || :
tap-ctl list --json >info
contains info '"exports":[]'
wait_for runs $(($(stat -c %s count) + 1))
touch stop
wait "$load_pid" || fail "$(cat fio.log)"

# What could not be done is as it was: no export, and one that is served.
sed "s,42.delta,none.delta," 5-snapshot.mason >bad.mason
exits 4 mason apply bad.mason >out 2>err
contains err 'none.delta'
[ ! -e "$backup" ] || fail "$backup is there"
qemu-io -f raw -c 'write -P 9 0 64k' "$uri" >io || fail "$(cat io)"
nbdcopy "$uri" now.raw
truncate -s 0 42.delta
truncate -s 64M 42.delta
mason apply 5-snapshot.mason >out
qemu-io -f raw -c 'write -P 8 0 64k' "$uri" >io || fail "$(cat io)"
echo 'assert run.s.none == 1; disk("vm42") -> old :: raw("'"$tmp"'/42.raw");' \
	>never.mason
fails mason apply never.mason >out 2>err
nbdcopy "$backup_uri" backup.raw
same_bytes backup.raw now.raw

# A tapdisk that starts again serves it again, with what it held.
kill -9 "$pid"
wait_for process_gone "$pid"
tap-ctl free -m "$minor"
start_tapdisk "mason:$tmp/plain.mason"
backup_uri="nbd+unix:///vm42-snap?socket=$BLKTAP_RUNDIR/export$pid.$minor.vm42-snap"
nbdcopy "$backup_uri" backup.raw
same_bytes backup.raw now.raw
[ ! -e "$backup" ] || fail "the socket of the one that was killed is left"
tap-ctl close -p "$pid" -m "$minor"
equal "$(find "$BLKTAP_RUNDIR" -name 'export*')" ""
