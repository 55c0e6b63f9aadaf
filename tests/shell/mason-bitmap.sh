#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Incremental backup of a qcow2 disk with clients nobody here wrote: the bitmap
# node's checkpoints are NBD contexts, what they call clean has not changed, and a
# copy of what they call dirty makes an old backup a new one.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
requires nbdinfo nbdcopy qemu-img qemu-io

qemu-img create -q -f qcow2 disk.qcow2 16M
truncate -s 1M disk.bits
graph()
{
	cat >disk.mason <<END
d :: disk("vm") -> b :: bitmap(checkpoints=[$1]);
b[lower] -> qcow2($tmp/disk.qcow2);
b[store] -> raw($tmp/disk.bits);
END
}

# ranges CHECKPOINT: offset and length of what is dirty
ranges()
{
	nbdinfo --map="qemu:dirty-bitmap:$1" "$uri" |
		awk '$3 == 1 { print $1, $2 }'
}

graph '"mon"'
serve "mason:$tmp/disk.mason"
nbdinfo --json "$uri" >info
contains info '"base:allocation"'
contains info '"qemu:dirty-bitmap:mon"'
[ -z "$(ranges mon)" ] || fail "dirty before any write: $(ranges mon)"
nbdcopy "$uri" backup.raw

qemu-io -f raw -c 'write -P 1 1M 64k' -c 'write -P 2 1100k 4k' \
	-c 'write -z 8M 1M' -c 'discard 12M 128k' -c 'write -P 3 16776704 512' \
	"$uri" >io.out
ranges mon >dirty
cat >want <<'END'
1048576 131072
8388608 1048576
12582912 131072
16711680 65536
END
diff -u want dirty
nbdcopy "$uri" now.raw
while read -r offset length; do
	dd if=now.raw of=backup.raw bs=64k skip="$((offset / 65536))" \
		seek="$((offset / 65536))" count="$((length / 65536))" \
		conv=notrunc status=none
done <dirty
cmp now.raw backup.raw

# QEMU's own view: what is dirty is "data": false to it
qemu-img map --output=json --image-opts "driver=nbd,server.type=unix,\
server.path=$socket,export=,x-dirty-bitmap=qemu:dirty-bitmap:mon" >map
contains map '"start": 1048576, "length": 131072'
[ "$(grep -c '"data": false' map)" = 4 ] || fail "$(cat map)"
stop_serving

# The next day: the old checkpoint goes on, a new one begins
graph '"mon", "tue"'
serve "mason:$tmp/disk.mason"
ranges mon | diff -u want -
[ -z "$(ranges tue)" ] || fail "dirty before any write: $(ranges tue)"
qemu-io -f raw -c 'write -P 4 3M 1k' "$uri" >io.out
[ "$(ranges tue)" = "3145728 65536" ] || fail "$(ranges tue)"
[ "$(ranges mon | wc -l)" = 5 ] || fail "$(ranges mon)"

# A server that was killed cannot know: everything is dirty
kill -9 "$serve_pid"
wait "$serve_pid" || :
serve_pid=
serve "mason:$tmp/disk.mason"
[ "$(ranges tue)" = "0 16777216" ] || fail "$(ranges tue)"
stop_serving
