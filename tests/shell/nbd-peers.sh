#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The nbd driver on servers nobody here wrote, and on our own: what is written
# comes back, holes are holes, errors are the server's, over a unix socket and
# over TCP, on one connection and on several.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
. "$srcdir/tests/shell/nbd-peer-functions.sh"
requires nbdkit qemu-nbd qemu-io qemu-img nbdcopy nbdinfo fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

verify()
{
	fio --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=512-128k \
		--verify=crc32c --iodepth=32 --size=8M --name=one --name=two \
		--offset=8M --do_verify=1 --verify_state_save=0 >fio.log 2>&1 ||
		fail "$(cat fio.log)"
}

# nbdkit: structured replies, no block sizes; TCP with several connections
peer nbdkit -f -U "$tmp/peer" memory 16M
serve "nbd:$peer_uri"
verify
served_well
serve "nbd(\"$peer_uri\", connections=4)"
verify
served_well
peer_stop
# without structured replies there is no block status, and all goes on
peer nbdkit -f --no-sr -U "$tmp/peer" memory 16M
serve "nbd:$peer_uri"
verify
nbdinfo "$uri" >info
served_well
peer_stop

# what a server makes up comes through as it is
peer nbdkit -f -U "$tmp/peer" pattern 20M
nbdcopy "$peer_uri" want.raw
serve "nbd:$peer_uri"
nbdcopy --connections=4 "$uri" got.raw
cmp want.raw got.raw
nbdcopy --connections=1 --requests=1 "$uri" got.raw
cmp want.raw got.raw
nbdinfo --json "$uri" >info
contains info '"is_read_only": true'
served_well
peer_stop

# the server's error is the client's
peer nbdkit -f -U "$tmp/peer" --filter=error memory 16M \
	error-pwrite=ENOSPC error-pwrite-rate=100%
serve "nbd:$peer_uri"
fails qemu-io -f raw -c 'write 0 4k' "$uri" >io 2>&1
contains io 'No space left on device'
served_well
peer_stop

# replies in another order than the requests
peer nbdkit -f -U "$tmp/peer" --filter=delay memory 16M rdelay=2ms wdelay=1ms
serve "nbd:$peer_uri"
fio --ioengine=nbd --uri="$uri" --rw=randrw --bs=4k --iodepth=64 --size=2M \
	--verify=crc32c --name=x --verify_state_save=0 >fio.log 2>&1 ||
	fail "$(cat fio.log)"
served_well
peer_stop

# qemu-nbd: block sizes, FAST_ZERO, holes
truncate -s 16M disk.raw
peer qemu-nbd -t -e 8 -k "$tmp/peer" -f raw --discard=unmap disk.raw
serve "nbd:$peer_uri"
verify
qemu-io -f raw -c 'write -z 1M 32k' -c 'write -z -u 2M 1M' -c 'discard 4M 1M' \
	-c 'write -P 0x33 777 333' -c 'read -P 0x33 777 333' \
	-c 'read -P 0 2M 1M' -c flush "$uri" >io 2>&1 || fail "$(cat io)"
qemu-img compare -f raw -F raw disk.raw "$uri"
nbdinfo --map --totals "$uri" >map.ours
nbdinfo --map --totals "$peer_uri" >map.theirs
cmp map.ours map.theirs
served_well
peer_stop

# our own server: TCP, and a client of it behind another
truncate -s 16M disk.raw
"$builddir/tests/nbd-serve" -p 0 - "raw:$tmp/disk.raw" >peer.uri &
peer_pid=$!
wait_for test -s peer.uri
serve "nbd($(head -n 1 peer.uri), connections=2)"
verify
served_well
serve "nbd:$(head -n 1 peer.uri)"
qemu-img compare -f raw -F raw disk.raw "$uri"
served_well
peer_stop

# no server, and one that has no such export
fails "$builddir/tests/nbd-serve" "$tmp/nbd" "nbd:$peer_uri" 2>err
contains err 'cannot connect'
peer qemu-nbd -t -e 8 -k "$tmp/peer" -x this -f raw disk.raw
fails "$builddir/tests/nbd-serve" "$tmp/nbd" "nbd:$peer_uri" 2>err
contains err "has no such export"
