#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Graphs of the modules for testing, with real leaves and a real server: a disk
# compared with one behind NBD while its server is killed, all of it kept in a
# log; faults where the rules say, and nowhere else.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
. "$srcdir/tests/shell/nbd-peer-functions.sh"
requires nbdkit qemu-io fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

truncate -s 16M a.raw b.raw
truncate -s 256M log.raw
cat >disk.mason <<END
d :: disk("vm") -> l :: log(what=errors) -> w :: writelog();
w[log] -> raw($tmp/log.raw);
w[lower] -> c :: compare();
c[a] -> delay(min=10us, max=300us) -> raw($tmp/a.raw);
c[b] -> retry(for=20s) -> nbd("$peer_uri", reconnect=0s);
END
start_peer()
{
	peer nbdkit -f -U "$tmp/peer" file "$tmp/b.raw"
}
start_peer
serve "mason:$tmp/disk.mason"
fio --ioengine=nbd --uri="$uri" --rw=randrw --bsrange=512-64k --iodepth=16 \
	--size=16M --name=x --verify=crc32c --verify_state_save=0 \
	>fio.log 2>&1 &
fio_pid=$!
for _ in 1 2 3; do
	sleep 0.3
	kill -9 "$peer_pid"
	wait "$peer_pid" 2>/dev/null || :
	start_peer
done
wait "$fio_pid" || fail "$(cat fio.log serve.err)"
served_well
cmp a.raw b.raw
peer_stop
# all that happened, made again from the log
truncate -s 16M again.raw
"$builddir/tests/writelog-replay" log.raw again.raw
cmp a.raw again.raw
"$builddir/tests/writelog-replay" -l log.raw >list
entries=$(wc -l <list)
[ "$entries" -ge 100 ] || fail "$entries entries"
# a cut in the middle is another disk, and the same one for the same seed
for out in one.raw two.raw; do
	truncate -s 16M "$out"
	"$builddir/tests/writelog-replay" -n $((entries / 2)) -c torn -s 5 \
		log.raw "$out"
done
cmp one.raw two.raw
fails cmp -s one.raw a.raw

truncate -s 16M a.raw
cat >disk.mason <<END
d :: disk("vm") -> f :: fault(rules=["write 1M..2M EIO", "read 4M..5M ENOSPC"])
	-> raw($tmp/a.raw);
END
serve "mason:$tmp/disk.mason"
qemu-io -f raw -c 'write -P 1 0 1M' -c 'write -P 2 2M 64k' \
	-c 'read -P 1 0 1M' "$uri" >io 2>&1 || fail "$(cat io)"
fails qemu-io -f raw -c 'write -P 3 1M 4k' "$uri" >io 2>&1
contains io 'Input/output error'
fails qemu-io -f raw -c 'read 5238784 4k' "$uri" >io 2>&1
contains io 'No space left on device'
served_well

# A leaf whose server has died goes, but not with what may be lost in it unasked.
. "$srcdir/tests/shell/mason-functions.sh"
truncate -s 16M c.raw
start_peer
echo "d :: disk(\"vm\") -> n :: nbd(\"$peer_uri\");" >dead.mason
echo "d :: disk(\"vm\") -> raw($tmp/c.raw);" >alive.mason
start_tapdisk "mason:$tmp/dead.mason"
qemu-io -f raw -c 'write -P 1 0 1M' -c flush "$uri" >io 2>&1 || fail "$(cat io)"
kill -9 "$peer_pid"
wait "$peer_pid" 2>/dev/null || :
exits 75 mason apply --deadline 100ms alive.mason >out 2>&1
contains out "a flush of 'n': Connection timed out"
contains out '--allow-loss'
mason apply --deadline 100ms --allow-loss alive.mason >out
qemu-io -f raw -c 'write -P 2 0 1M' -c flush "$uri" >io 2>&1 || fail "$(cat io)"
qemu-io -r -U -f raw -c 'read -P 2 0 1M' c.raw >io 2>&1 || fail "$(cat io)"
