#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The manual's examples of Block Mason run, with real images and servers nobody
# here wrote: the golden image, the mirror, the macro, the faults, the library.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/mason-functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
. "$srcdir/tests/shell/nbd-peer-functions.sh"
requires nbdkit qemu-nbd qemu-io qemu-img nbdcopy nbdinfo fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

# ---- 1: the golden image ----------------------------------------------------
make_image debian.raw 4194304
sum=$(cksum <debian.raw)
qcow-create 4 root.qcow >out
example 1-golden "s,/img/,$tmp/,; s,/vm/42/,$tmp/,"
serve "mason:$tmp/1-golden.mason"
nbdcopy "$uri" out.raw
same_bytes debian.raw out.raw
qemu-io -f raw -c 'write -P 7 1M 64k' -c 'write -P 8 3000k 512' -c flush \
	"$uri" >io || fail "$(cat io)"
nbdcopy "$uri" out.raw
qemu-io -f raw -c 'read -P 7 1M 64k' -c 'read -P 8 3000k 512' out.raw >io
if grep -q 'verification failed' io; then
	fail "what was written is not there: $(cat io)"
fi
equal "$(cmp -l debian.raw out.raw | awk '$1 <= 1048576 || $1 > 1114112' |
	awk '$1 <= 3072000 || $1 > 3072512' | wc -l)" 0
# nobody writes to the base while a disk stands on it
fails qemu-io -f raw -c 'write 0 512' debian.raw >io 2>&1
contains io 'lock'
served_well
equal "$(cksum <debian.raw)" "$sum"

# ---- 2: mirrored and throttled ----------------------------------------------
# The far leg dies under load: the disk goes on; it comes back: what it missed is
# copied, and the legs are the same.
truncate -s 32M data.raw far.raw
far()
{
	peer nbdkit -f -U "$tmp/peer" file "$tmp/far.raw"
}
far
# a dead server is to be noticed in the time of a test
example 2-mirror "s,/a/,$tmp/,; s,/run/r.sock\",$tmp/peer\"\, reconnect=200ms,
	s,for=5s,for=200ms,; s,5000/s,50000/s,"
start_tapdisk "mason:$tmp/2-mirror.mason"
fio --ioengine=nbd --uri="$uri" --rw=randrw --bsrange=512-64k --iodepth=16 \
	--size=32M --name=x --verify=crc32c --verify_state_save=0 \
	>fio.log 2>&1 &
fio_pid=$!
# some of it is there before it dies
far_has_data()
{
	[ "$(stat -c %b far.raw)" -gt 2000 ]
}
wait_for far_has_data
kill -9 "$peer_pid"
wait "$peer_pid" 2>/dev/null || :
wait "$fio_pid" || fail "$(cat fio.log)"
contains fio.log 'err= 0'
# the last of the load may have found the leg well
qemu-io -f raw -c 'write -P 5 0 64k' "$uri" >io || fail "$(cat io)"
node_says m 'legs=in-sync,stale' || fail "$(cat live.dot)"
node_says m 'state=degraded' || fail "$(cat live.dot)"
fails cmp -s data.raw far.raw
far
sed 's/read=fastest/read=fastest, sync=background/' 2-mirror.mason >heal.mason
mason apply heal.mason >out
contains out '0 replaced, 0 added, 0 removed; pause: none'
wait_for node_says m 'state=synced'
qemu-io -f raw -c 'write -P 6 1M 64k' -c flush "$uri" >io || fail "$(cat io)"
nbdcopy "$uri" out.raw
tap-ctl destroy -p "$pid" -m "$minor"
peer_stop
same_bytes out.raw data.raw
same_bytes out.raw far.raw

# ---- 6: a macro -------------------------------------------------------------
# Chunks of 256 KiB go to the two legs in turn. One of them is behind TCP.
truncate -s 4M a.raw b.raw
make_image all.raw 8388608
peer qemu-nbd -t -k "$tmp/peer" -e 8 -x x -f raw "$tmp/b.raw"
serve "raw:$tmp/a.raw" -p 0
tcp=$uri tcp_pid=$serve_pid
example 6-macro "s,nbd://127.0.0.1:1/x,$tcp,
	s,nbd://127.0.0.1:2/x,nbd+unix:///x?socket=$tmp/peer,"
serve_pid=
serve "mason:$tmp/6-macro.mason"
equal "$(nbdinfo --size "$uri")" 8388608
nbdcopy all.raw "$uri"
fio --ioengine=nbd --uri="$uri" --rw=randrw --bsrange=512-512k --iodepth=8 \
	--offset=4M --size=4M --name=x --verify=crc32c \
	--verify_state_save=0 >fio.log 2>&1 || fail "$(cat fio.log)"
nbdcopy "$uri" out.raw
served_well
serve_pid=$tcp_pid
stop_serving
peer_stop
cmp -n 4194304 all.raw out.raw
for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
	dd if=out.raw bs=256k skip=$((i * 2)) count=1 status=none >>even
	dd if=out.raw bs=256k skip=$((i * 2 + 1)) count=1 status=none >>odd
done
same_bytes even a.raw
same_bytes odd b.raw

# ---- 7: reproducible faults -------------------------------------------------
# A write for each sector from 512 KiB to 2.5 MiB; those that failed left zeroes.
awk 'BEGIN { for (i = 1024; i < 5120; i++)
	printf "write -q -P 1 %d 512\n", i * 512 }' >writes
# broken SEED: the sectors that are not written
broken()
{
	example 7-faults "s/seed = 42/seed = $1/; s/1G/8M/"
	serve "mason:$tmp/7-faults.mason"
	qemu-io -f raw "$uri" <writes >io 2>&1 || :
	nbdcopy "$uri" out.raw
	served_well
	truncate -s 8M zero.raw
	cmp -l zero.raw out.raw | awk '{ s[int(($1 - 1) / 512)] = 1 }
		END { for (i = 1024; i < 5120; i++) if (!(i in s)) print i }' \
		>"broken.$1"
	equal "$(wc -l <"broken.$1")" \
		"$(grep -c 'write failed: Input/output error' io)"
}
broken 42
mv broken.42 first
n=$(wc -l <first)
[ "$n" -ge 4 ] && [ "$n" -le 80 ] || fail "$n of 2048 writes failed, not 1 %"
[ "$(head -n 1 first)" -ge 2048 ] && [ "$(tail -n 1 first)" -lt 4096 ] ||
	fail "outside of the rule's range: $(cat first)"
broken 42
same_bytes first broken.42
broken 43
fails cmp -s first broken.43

# ---- 8: a library of defs ---------------------------------------------------
# The same file, with a value of the command line: the disk grows while in use.
truncate -s 16M home.raw far8.raw
cp -R "$srcdir/tests/mason/examples/site" .
peer nbdkit -f -U "$tmp/peer" -e home file "$tmp/far8.raw"
example 8-library "s,/a/,$tmp/,; s/64G/8M/
	s,nbd://127.0.0.1:10809/home,nbd+unix:///home?socket=$tmp/peer,"
start_tapdisk "mason:$tmp/8-library.mason"
equal "$(nbdinfo --size "$uri")" 8388608
mason apply 8-library.mason -D size=16M >out
equal "$(nbdinfo --size "$uri")" 16777216
exits 1 mason apply 8-library.mason -D size=12M >out 2>err
contains err "disk 'home' would shrink from 16777216 to 12582912 bytes"
fio --ioengine=nbd --uri="$uri" --rw=randrw --bsrange=512-64k --iodepth=16 \
	--size=16M --name=x --verify=crc32c --verify_state_save=0 \
	>fio.log 2>&1 || fail "$(cat fio.log)"
tap-ctl destroy -p "$pid" -m "$minor"
peer_stop
same_bytes home.raw far8.raw
