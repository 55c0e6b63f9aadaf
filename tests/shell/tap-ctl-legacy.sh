#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The options that toolstacks have always given beside an image: a secondary that
# writes are mirrored to, a log of changed blocks, another tapdisk's disk as parent,
# a key, copies of what was read below; and why one of them is refused.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-io nbdcopy od

io()
{
	qemu-io -f raw "$@" -c flush "$uri" >io.log 2>&1 ||
		fail "$(cat io.log)"
	! grep -q 'Pattern verification failed' io.log || fail "$(cat io.log)"
}

file_has()
{
	qemu-io -r -f raw -U -c "read -P $2 $3" "$1" >io.log 2>&1 || :
	! grep -q 'failed' io.log || fail "$1: $(cat io.log)"
}

stats()
{
	tap-ctl stats -p "$pid" -m "$minor"
}

open_it()
{
	tap-ctl open -p "$pid" -m "$minor" "$@"
}

close_it()
{
	tap-ctl close -p "$pid" -m "$minor"
	[ -z "$(find "$BLKTAP_RUNDIR" -name 'graph*')" ] || fail 'a graph is left'
}

echo '# -2: what is written is written twice'
make_image a.raw 8M
truncate -s 8M b.raw
truncate -s 8M c.raw
truncate -s 4M small.raw
start_tapdisk "aio:$tmp/a.raw" -2 "aio:b.raw"
io -c 'write -P 81 1M 64k'
file_has b.raw 81 '1M 64k'
file_has b.raw 0 '2M 64k' # nothing else
nbdcopy "$uri" now.raw
cmp a.raw now.raw
equal "$(tap-ctl list -m "$minor")" "pid=$pid minor=$minor state=0 args=aio:$tmp/a.raw"
stats >out
contains out "\"name\": \"aio:$tmp/a.raw\""
contains out '"nbd_mirror_failed": 0'
equal "$(grep -o '"driver"' out | wc -l)" 1
tap-ctl mason dump -p "$pid" -m "$minor" >out
contains out 'copy('

echo '# unpause: another secondary, none, and one that is not there'
tap-ctl pause -p "$pid" -m "$minor"
tap-ctl unpause -p "$pid" -m "$minor" -2 "aio:$tmp/c.raw"
io -c 'write -P 82 2M 64k'
file_has c.raw 82 '2M 64k'
file_has b.raw 0 '2M 64k'
tap-ctl pause -p "$pid" -m "$minor"
exits 2 tap-ctl unpause -p "$pid" -m "$minor" -2 "aio:$tmp/none" 2>err
tap-ctl unpause -p "$pid" -m "$minor"
equal "$(find "$BLKTAP_RUNDIR" -name 'graph*' | wc -l)" 1
# nor does that undo what was changed while it ran
tap-ctl mason dump -p "$pid" -m "$minor" |
	sed 's/^d -> /&log(what=errors) -> /' >changed.mason
tap-ctl mason apply -p "$pid" -m "$minor" "$tmp/changed.mason"
tap-ctl pause -p "$pid" -m "$minor"
exits 2 tap-ctl unpause -p "$pid" -m "$minor" -2 "aio:$tmp/none" 2>err
tap-ctl unpause -p "$pid" -m "$minor"
tap-ctl mason dump -p "$pid" -m "$minor" >out
contains out 'log('
io -c 'write -P 83 3M 64k'
file_has c.raw 83 '3M 64k'
tap-ctl pause -p "$pid" -m "$minor"
tap-ctl unpause -p "$pid" -m "$minor" -2 null
io -c 'write -P 84 4M 64k'
file_has c.raw 0 '4M 64k'
file_has a.raw 84 '4M 64k'
equal "$(tap-ctl list -m "$minor")" "pid=$pid minor=$minor state=0 args=aio:$tmp/a.raw"
close_it
exits 2 open_it -a "aio:$tmp/a.raw" -2 "aio:$tmp/none" 2>err
contains err none
exits 22 open_it -a "aio:$tmp/a.raw" -2 "aio:$tmp/small.raw" 2>err
contains err 'bytes'
exits 2 open_it -a "aio:$tmp/a.raw" -2 "nowhere:$tmp/b.raw" 2>err

echo '# a mirror over NBD that goes away: told, and the disk goes on'
minor2=$(tap-ctl allocate)
minor2=${minor2##*tapdisk-}
pid2=$(tap-ctl spawn)
cleanup_fn stop_tapdisk "$pid2" "$minor2"
tap-ctl attach -p "$pid2" -m "$minor2"
tap-ctl open -p "$pid2" -m "$minor2" -a "aio:$tmp/b.raw"
open_it -a "aio:$tmp/a.raw" -2 "nbd:$BLKTAP_RUNDIR/nbd$pid2.$minor2"
io -c 'write -P 85 5M 64k'
file_has b.raw 85 '5M 64k'
kill -9 "$pid2"
io -c 'write -P 86 6M 64k' -c 'read -P 86 6M 64k'
mirror_failed()
{
	stats | grep -q '"nbd_mirror_failed": 1'
}
wait_for mirror_failed
io -c 'write -P 87 7M 64k' -c 'read -P 85 5M 64k'
file_has a.raw 87 '7M 64k'
close_it

echo '# -C: a bit for what is written, in the file before the write is done'
cbt-util create -n log -s 8388608
open_it -a "aio:$tmp/a.raw" -C log
io -c 'write -P 1 1M 64k' -c 'write -P 2 5000k 4k'
bits()
{
	cbt-util get -n "$1" -b | od -An -v -tx1 | tr -d ' \n'
}
# blocks 16 and 78
equal "$(bits log)" 00000100000000000040000000000000
cbt-util create -n log2 -s 8388608
tap-ctl pause -p "$pid" -m "$minor"
tap-ctl unpause -p "$pid" -m "$minor" -c "$tmp/log2"
io -c 'discard 0 128k'
equal "$(bits log)" 00000100000000000040000000000000
equal "$(bits log2)" 03000000000000000000000000000000
close_it
open_it -a "aio:$tmp/a.raw" -C "$tmp/log2" -2 "aio:$tmp/c.raw"
io -c 'write -P 9 7M 4k'
kill -9 "$pid"
equal "$(bits log2)" 03000000000000000000000000000100
file_has c.raw 9 '7M 4k'
start_tapdisk "aio:$tmp/a.raw"
close_it
cbt-util create -n short -s 4194304
exits 22 open_it -a "aio:$tmp/a.raw" -C short 2>err
contains err 'short: is a log of 4194304 bytes'
exits 22 open_it -a "aio:$tmp/a.raw" -C /dev/null 2>err
exits 2 open_it -a "aio:$tmp/a.raw" -C none 2>err
contains err 'none'

echo '# -e: what the image stands on is the disk of another tapdisk'
make_image base.raw 8M
vhd-util snapshot -n child.vhd -p base.raw -m
mv base.raw elsewhere.raw
first=$pid first_minor=$minor
start_tapdisk "aio:$tmp/elsewhere.raw"
parent_minor=$minor
pid=$first minor=$first_minor
uri="nbd+unix:///?socket=$BLKTAP_RUNDIR/nbd$pid.$minor"
cp elsewhere.raw want.raw
open_it -a "vhd:$tmp/child.vhd" -e "$parent_minor"
nbdcopy "$uri" now.raw
cmp want.raw now.raw
io -c 'write -P 7 1M 64k' -c 'read -P 7 1M 64k'
cmp want.raw elsewhere.raw
equal "$(tap-ctl list -m "$minor")" \
	"pid=$pid minor=$minor state=0 args=vhd:$tmp/child.vhd"
close_it
exits 2 open_it -a "vhd:$tmp/child.vhd" -e 77 2>err
contains err 'minor 77'
exits 22 open_it -a "aio:$tmp/a.raw" -e "$parent_minor" 2>err
contains err 'stands on nothing'

echo '# -r: what is read below the image is in it afterwards, and nothing is dirty'
make_image base.raw 2M
truncate -s 8M base.raw
cp base.raw want.raw
qemu-img create -q -f qcow2 -F raw -b base.raw leaf.qcow2
cbt-util create -n quiet -s 8388608
truncate -s 8M d.raw
open_it -a "qcow2:$tmp/leaf.qcow2" -r -C quiet -2 "aio:$tmp/d.raw"
io -c 'read 0 4M'
copied()
{
	stats | grep -q '"hits": \[ 8192, 4096 \]' # sectors read and written
}
wait_for copied
io -c 'write -P 44 1M 4k' -c 'read -P 44 1M 4k'
tap-ctl pause -p "$pid" -m "$minor"
truncate -s 0 base.raw
truncate -s 8M base.raw # what was read there is not read again
tap-ctl unpause -p "$pid" -m "$minor"
nbdcopy "$uri" now.raw
qemu-io -f raw -c 'write -P 44 1M 4k' want.raw >io.log
cmp want.raw now.raw
equal "$(tap-ctl list -m "$minor")" \
	"pid=$pid minor=$minor state=0 args=qcow2:$tmp/leaf.qcow2"
close_it
# the one block that was written, and no other
equal "$(bits quiet)" 00000100000000000000000000000000
file_has d.raw 44 '1M 4k'
file_has d.raw 0 '0 1M'
qemu-img check -q leaf.qcow2
# zeroes took no place
qemu-img map --output=json leaf.qcow2 >out
equal "$(grep -c '"depth": 0' out)" 1
exits 22 open_it -a "qcow2:$tmp/leaf.qcow2" -r -R 2>err
contains err '-R forbids it'
open_it -a "aio:$tmp/a.raw" -r # stands alone
io -c 'read 0 1M'
close_it

echo '# -E: a key, which is told to nobody'
printf '%032d' 4711 >key
printf '%032d' 4712 >other
vhd-util create -n plain.vhd -s 8
if vhd-util copy -n plain.vhd -N secret.vhd -k key >out 2>&1; then
	open_it -a "vhd:$tmp/secret.vhd" -E <key
	io -c 'write -P 33 1M 64k'
	tap-ctl pause -p "$pid" -m "$minor"
	tap-ctl unpause -p "$pid" -m "$minor"
	io -c 'read -P 33 1M 64k'
	equal "$(tap-ctl list -m "$minor")" \
		"pid=$pid minor=$minor state=0 args=vhd:$tmp/secret.vhd"
	close_it
	# a description takes it, too; and it reaches what is encrypted below
	vhd-util snapshot -n top.vhd -p secret.vhd
	qemu-img create -q -f qcow2 -F vpc -b secret.vhd -o size=8M top.qcow2
	cp top.vhd alone.vhd
	printf 'vhd:alone.vhd\nvhd:secret.vhd\n' >chain
	for spec in "x-chain:$tmp/chain" "x-chain(\"$tmp/chain\")" \
		 "vhd(\"$tmp/top.vhd\", cache=1M)" "vhd:$tmp/top.vhd" \
		"qcow2(\"$tmp/top.qcow2\")" "qcow2:$tmp/top.qcow2"; do
		fails open_it -a "$spec" 2>err
		contains err 'the image is encrypted'
		open_it -a "$spec" -E <key
		io -c 'read -P 33 1M 64k' -c 'write -P 34 2M 64k'
		tap-ctl pause -p "$pid" -m "$minor"
		tap-ctl unpause -p "$pid" -m "$minor"
		io -c 'read -P 33 1M 64k' -c 'read -P 34 2M 64k'
		equal "$(tap-ctl list -m "$minor")" \
			"pid=$pid minor=$minor state=0 args=$spec"
		close_it
	done
	fails open_it -a "vhd(\"$tmp/top.vhd\"" -E <key 2>err
	fails open_it -a "vhd:$tmp/secret.vhd" -E <other 2>err
	fails open_it -a "x-chain:$tmp/chain" -E <other 2>err
	echo "raw:$tmp/a.raw" >chain
	fails open_it -a "x-chain:$tmp/chain" -E <key 2>err
	fails open_it -a "vhd:$tmp/secret.vhd" 2>err
fi

echo '# what is refused says why'
exits 95 open_it -a "aio:$tmp/a.raw" -2 "aio:$tmp/b.raw" -s 2>err
contains err 'two images'
exits 95 open_it -a "aio:$tmp/a.raw" -E <key 2>err
contains err 'is not encrypted'
exits 95 open_it -a "x-chain:$tmp/a.raw" -2 "aio:$tmp/b.raw" 2>err
open_it -a "aio:$tmp/a.raw"
close_it
