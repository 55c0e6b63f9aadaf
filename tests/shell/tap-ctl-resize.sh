#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk grows while it is written to; what is new is zeroes, and QEMU agrees.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img qemu-io nbdinfo nbdcopy fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

# grows TYPE FILE: from 64M to 1G to 1500M, under fio
grows()
{
	start_tapdisk "$1:$tmp/$2"
	fio --name=w --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k \
		--iodepth=8 --size=16M --loops=500 --time_based --runtime=2 \
		--verify=crc32c --do_verify=1 --verify_backlog=256 \
		--verify_state_save=0 >fio.log 2>&1 &
	fio=$!
	sleep 0.3
	equal "$(tap-ctl resize -p "$pid" -m "$minor" 1G 2>err)" 1073741824
	contains err 'paused for'
	tap-ctl resize -p "$pid" -m "$minor" -s 1500M --json >out
	contains out '"size":1572864000'
	wait $fio || fail "$(tail -n 20 fio.log)"
	equal "$(nbdinfo --size "$uri")" 1572864000
	qemu-img convert -f raw -O raw "$uri" now.raw
	exits 22 tap-ctl resize -p "$pid" -m "$minor" 1G 2>err
	contains err 'is not made smaller'
	exits 22 tap-ctl resize -p "$pid" -m "$minor" much 2>err
	contains err "'much' is no size"
	exits 22 tap-ctl resize -p "$pid" -m "$minor" 1572864001 2>err
	contains err 'whole sectors'
	equal "$(tap-ctl list | sed 's/.*state=\([^ ]*\).*/\1/')" 0
	tap-ctl destroy -p "$pid" -m "$minor"
	tail -c 1400M now.raw | tr -d '\000' | head -c 1 >rest
	equal "$(wc -c <rest)" 0
}

truncate -s 64M d.raw
grows raw d.raw
cmp d.raw now.raw

qemu-img create -q -f qcow2 d.qcow2 64M
grows qcow2 d.qcow2
qemu-img check -q d.qcow2
qemu-img compare -q -f qcow2 -F raw d.qcow2 now.raw

qemu-img create -q -f vpc -o force_size=on d.vhd 64M
grows vhd d.vhd
vhd-util check -n d.vhd >/dev/null
equal "$(vhd-util query -n d.vhd -v)" 1500
qemu-img compare -q -f vpc -F raw d.vhd now.raw
rm now.raw

# tables without room move: the L1 table at 1G, the refcount table, too, at 64G
for compat in 0.10 1.1; do
	qemu-img create -q -f qcow2 -o cluster_size=512,compat=$compat s.qcow2 1M
	qemu-io -f qcow2 -c 'write -P 7 0 1M' s.qcow2 >/dev/null
	start_tapdisk "qcow2:$tmp/s.qcow2"
	equal "$(tap-ctl resize -p "$pid" -m "$minor" 1G 2>err)" 1073741824
	equal "$(tap-ctl resize -p "$pid" -m "$minor" 64G 2>err)" 68719476736
	equal "$(nbdinfo --size "$uri")" 68719476736
	qemu-io -f raw -c 'write -P 8 60G 64k' "$uri" >/dev/null
	exits 95 tap-ctl resize -p "$pid" -m "$minor" 1T 2>err
	contains err 'no room for'
	tap-ctl destroy -p "$pid" -m "$minor"
	qemu-img check -q -f qcow2 s.qcow2
	qemu-io -r -f qcow2 -c 'read -P 7 0 1M' -c 'read -P 0 1M 1M' \
		-c 'read -P 8 60G 64k' s.qcow2 >out
	! grep 'verification failed' out || fail "$compat: $(cat out)"
done

# a parent whose data would come up
make_image big.raw 2M
qemu-img create -q -f qcow2 -F raw -b big.raw s.qcow2 1M
start_tapdisk "qcow2:$tmp/s.qcow2"
exits 95 tap-ctl resize -p "$pid" -m "$minor" 2M 2>err
contains err 'would be seen'
tap-ctl destroy -p "$pid" -m "$minor"

# what a larger disk left in the last cluster does not come back
# grows_clean TYPE FILE
grows_clean()
{
	start_tapdisk "$1:$tmp/$2"
	equal "$(tap-ctl resize -p "$pid" -m "$minor" 2M 2>err)" 2097152
	nbdcopy "$uri" now.raw
	cmp -n 1049088 full.raw now.raw
	equal "$(tail -c +1049089 now.raw | tr -d '\000' | wc -c)" 0
	tap-ctl destroy -p "$pid" -m "$minor"
}
head -c 2097152 /dev/zero | tr '\000' 'x' >full.raw
for compat in 0.10 1.1; do
	qemu-img convert -f raw -O qcow2 -o compat=$compat full.raw s.qcow2
	qemu-img resize -q --shrink -f qcow2 s.qcow2 1049088
	grows_clean qcow2 s.qcow2
	qemu-img check -q s.qcow2
done
head -c 1052672 full.raw >q.raw
qemu-img convert -f raw -O qcow q.raw s.qcow
printf '\000\000\000\000\000\020\002\000' |
	dd of=s.qcow bs=1 seek=24 conv=notrunc 2>/dev/null
grows_clean qcow s.qcow
# nor out of a compressed one, which is not written in its place
qemu-img convert -c -f raw -O qcow2 full.raw s.qcow2
qemu-img resize -q --shrink -f qcow2 s.qcow2 1049088
start_tapdisk "qcow2:$tmp/s.qcow2"
exits 95 tap-ctl resize -p "$pid" -m "$minor" 3M 2>err
contains err 'has data past the end'
tap-ctl destroy -p "$pid" -m "$minor"
