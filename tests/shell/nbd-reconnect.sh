#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A server that is killed under load and started again costs its client time and
# nothing else: no error, and every byte that was written is there.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
. "$srcdir/tests/shell/nbd-peer-functions.sh"
requires nbdkit qemu-nbd fio qemu-io
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

kills=5
[ "${BLKTAP_TEST_LONG:-}" != 1 ] || kills=100

start_peer()
{
	case $1 in
	nbdkit) peer nbdkit -f -U "$tmp/peer" file "$tmp/disk.raw" ;;
	qemu) peer qemu-nbd -t -k "$tmp/peer" -e 8 -f raw "$tmp/disk.raw" ;;
	ours)
		peer "$builddir/tests/nbd-serve" -b "$tmp/peer" \
			"raw:$tmp/disk.raw"
		;;
	esac
}

for kind in nbdkit qemu ours; do
	truncate -s 0 disk.raw
	truncate -s 16M disk.raw
	start_peer "$kind"
	serve "nbd(\"$peer_uri\", connections=2, reconnect=20s)"
	fio --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=512-64k \
		--iodepth=16 --size=16M --name=x --verify=crc32c \
		--time_based --runtime=$((kills * 4 / 10 + 1)) --fsync=64 \
		--do_verify=0 --verify_state_save=0 >fio.log 2>&1 &
	fio_pid=$!
	i=0
	while [ $i -lt $kills ]; do
		sleep 0.3
		kill -9 "$peer_pid"
		wait "$peer_pid" || :
		start_peer "$kind"
		i=$((i + 1))
	done
	wait "$fio_pid" || fail "$kind: $(cat fio.log)"
	contains fio.log 'err= 0'
	# the same writes in the same order, once through, so that the sums are
	# known; and once more a kill between writing and reading
	fio --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=512-64k \
		--iodepth=16 --size=16M --name=x --verify=crc32c \
		--do_verify=0 --verify_state_save=0 >fio.log 2>&1 &
	fio_pid=$!
	sleep 0.1
	kill -9 "$peer_pid"
	wait "$peer_pid" || :
	start_peer "$kind"
	wait "$fio_pid" || fail "$kind: $(cat fio.log)"
	fio --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=512-64k \
		--iodepth=16 --size=16M --name=x --verify=crc32c \
		--verify_only --verify_state_save=0 >fio.log 2>&1 ||
		fail "$kind: $(cat fio.log)"
	served_well
	peer_stop
done

# It stays away: an error, once its time is up; and all is well when it is back.
truncate -s 16M disk.raw
start_peer nbdkit
serve "nbd(\"$peer_uri\", reconnect=300ms)"
qemu-io -f raw -c 'write -P 5 0 64k' "$uri" >io
kill -9 "$peer_pid"
wait "$peer_pid" || :
rm -f "$tmp/peer"
fails qemu-io -f raw -c 'read 0 64k' "$uri" >io 2>&1
contains io 'Input/output error'
start_peer nbdkit
works_again()
{
	qemu-io -f raw -c 'read -P 5 0 64k' "$uri" >io 2>&1
}
wait_for works_again
served_well
