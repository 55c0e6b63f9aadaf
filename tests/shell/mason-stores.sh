#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Graphs whose nodes keep something in a store, under clients nobody here wrote:
# cache, crypt, checksum and snap hold what fio and qemu-io wrote, also when the
# server is killed in the middle of it.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/mason-functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
requires qemu-io nbdcopy fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

io()
{
	qemu-io -f raw "$@" "$uri" >io || fail "$(cat io)"
	if grep -q 'verification failed' io; then
		fail "$(cat io)"
	fi
}

# verified [OPTION...]: random I/O that fio checks
verified()
{
	fio --ioengine=nbd --uri="$uri" --rw=randrw --bsrange=512-64k \
		--iodepth=16 --size=8M --name=x --verify=crc32c \
		--verify_state_save=0 "$@" >fio.log 2>&1 ||
		fail "$(cat fio.log)"
}

serve_killed()
{
	kill -9 "$serve_pid"
	wait "$serve_pid" || :
	serve_pid=
	rm -f "$socket"
}

truncate -s 16M origin.raw
truncate -s 6M store.raw
cache()
{
	cat >cache.mason <<END
d :: disk("d") -> c :: cache($1);
c[origin] -> raw($tmp/origin.raw);
c[store] -> raw($tmp/store.raw);
END
}

# ---- a cache, both ways -----------------------------------------------------
for mode in writethrough writeback; do
	cache "mode=$mode, dirty=80%"
	serve "mason:$tmp/cache.mason"
	verified
	io -c 'write -P 1 1M 300k' -c 'write -z 2M 64k' -c 'discard 3M 64k' \
		-c 'write -P 2 16773120 4096' -c flush
	nbdcopy "$uri" now.raw
	served_well
	same_bytes now.raw origin.raw
done

# What was flushed is there after a crash, with any mode.
for mode in writethrough writeback; do
	cache "mode=$mode, dirty=100%, rate=64k/s"
	serve "mason:$tmp/cache.mason"
	io -c 'write -P 7 4M 1M' -c 'write -P 8 9000k 512' -c flush
	serve_killed
	cache 'mode=writethrough'
	serve "mason:$tmp/cache.mason"
	io -c 'read -P 7 4M 1M' -c 'read -P 8 9000k 512'
	io -c 'write -P 9 4M 1M' -c 'write -P 9 9000k 512' -c flush
	served_well
	equal "$(od -An -tu1 -j 4194304 -N 1 origin.raw | tr -d ' ')" 9
done

# A cache changes its mode while the disk is in use, says when nothing in it is
# dirty, and goes.
rm store.raw
truncate -s 6M store.raw
echo "d :: disk(\"d\") -> raw($tmp/origin.raw);" >plain.mason
cache 'mode=writeback'
start_tapdisk "mason:$tmp/cache.mason"
io -c 'write -P 5 6M 64k'
cache 'mode=writethrough'
mason apply cache.mason >out
contains out 'pause: none'
wait_for node_says c 'dirty=0'
echo 'assert run.c.dirty == 0;' >>plain.mason
mason apply plain.mason >out || fail "$(cat out)"
equal "$(od -An -tu1 -j 6291456 -N 1 origin.raw | tr -d ' ')" 5
io -c 'read -P 5 6M 64k'
tap-ctl destroy -p "$pid" -m "$minor"

# ---- the vault: what is cached is ciphertext ---------------------------------
# A wrong byte below is an error, and never data.
rm store.raw
truncate -s 6M store.raw sums.raw
truncate -s 16M vault.raw
head -c 64 /dev/urandom >key
cat >vault.mason <<END
d :: disk("d") -> k :: crypt(key="file:$tmp/key") -> s :: checksum();
s[lower] -> c :: cache(mode=writeback);
s[store] -> raw($tmp/sums.raw);
c[origin] -> raw($tmp/vault.raw);
c[store] -> raw($tmp/store.raw);
END
serve "mason:$tmp/vault.mason"
verified --size=2M
for i in 0 1 2 3 4 5 6 7; do
	echo "a secret that nobody below may see"
done | dd of=plain bs=4096 conv=sync status=none
nbdcopy "$uri" before.raw
qemu-io -f raw -c "write -s $tmp/plain 12M 4096" -c flush "$uri" >io ||
	fail "$(cat io)"
nbdcopy "$uri" now.raw
contains now.raw 'a secret'
served_well
for i in vault.raw store.raw sums.raw; do
	if grep -q 'a secret' "$i"; then
		fail "$i holds what should be secret"
	fi
done
serve "mason:$tmp/vault.mason"
nbdcopy "$uri" again.raw
served_well
same_bytes now.raw again.raw
# no cache, and one byte of the origin is another
rm store.raw
truncate -s 6M store.raw
byte=$(od -An -tu1 -j 12582912 -N 1 vault.raw | tr -d ' ')
printf %b "\\0$(printf %o $(((byte + 1) % 256)))" |
	dd of=vault.raw bs=1 seek=12582912 conv=notrunc status=none
serve "mason:$tmp/vault.mason"
qemu-io -f raw -c 'read 12M 4096' "$uri" >io 2>&1 || :
contains io 'Input/output error'
io -c 'read 8M 64k'
served_well

# ---- a snapshot of a disk that is written to -----------------------------------
truncate -s 16M vm.raw
truncate -s 24M delta.raw
qemu-io -f raw -c 'write -P 3 0 16M' vm.raw >io
cat >snap.mason <<END
d0 :: disk("vm42") -> [live] s :: snap(on_full=drop-image);
bk :: export("vm42-snap", ro=true) -> [image] s;
s[origin] -> old :: raw($tmp/vm.raw);
s[delta] -> delta :: raw($tmp/delta.raw);
END
start_tapdisk "mason($tmp/snap.mason, disk=vm42)"
# its export is served with it
image="nbd+unix:///vm42-snap?socket=$BLKTAP_RUNDIR/export$pid.$minor.vm42-snap"
live=$uri
fio --ioengine=nbd --uri="$live" --rw=randrw --bsrange=512-64k --iodepth=16 \
	--size=16M --name=x --verify=crc32c --verify_state_save=0 \
	>fio.log 2>&1 &
fio_pid=$!
nbdcopy "$image" image.raw
wait "$fio_pid" || fail "$(cat fio.log)"
nbdcopy "$image" later.raw
qemu-io -f raw -c 'read -P 3 0 16M' image.raw >io
same_bytes image.raw later.raw
if grep -q 'verification failed' io; then
	fail "the image is not what the disk was: $(cat io)"
fi
nbdcopy "$live" now.raw
fails cmp -s now.raw image.raw
tap-ctl destroy -p "$pid" -m "$minor"
same_bytes now.raw vm.raw
