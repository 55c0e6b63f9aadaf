#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Encrypted VHDs: what is in the file is AES-XTS, no data comes without the key or
# with another, and chains of them are read, written, copied and coalesced.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-io
u=${builddir:?}/vhd-util

# spec FILE KEY
spec()
{
	echo "vhd(\"$tmp/$1\", key=\"file:$tmp/$2\")"
}

# bytes FILE KEY: what the disk holds, with its parents
bytes()
{
	# shellcheck disable=SC2016 # the inner shell's
	tapdisk --run 'qemu-img convert -f raw -O raw "$uri" bytes.raw' -R \
		"$(spec "$1" "$2")" >out 2>&1 || fail "$(cat out)"
	cat bytes.raw
}

# change FILE KEY ARGUMENT...: as a guest does
change()
{
	change_spec=$(spec "$1" "$2")
	shift 2
	start_tapdisk "$change_spec"
	qemu-io -f raw "$@" -c flush "$uri" >out
	if grep -q failed out; then
		fail "$(cat out)"
	fi
	tap-ctl destroy -p "$pid" -m "$minor"
}

make_image plain.raw 6M
"$builddir/img2qcow" -f qcow2 plain.qcow2 plain.raw
head -c 64 /dev/urandom >k64
head -c 32 /dev/urandom >k32
head -c 64 /dev/urandom >other
"$u" create -n plain.vhd -s 6
start_tapdisk "vhd:$tmp/plain.vhd"
qemu-img convert -n -f raw -O raw plain.raw "$uri"
tap-ctl destroy -p "$pid" -m "$minor"
if ! "$u" key -C -k k64 >sum 2>err; then
	contains err 'cannot hash a key'
	skip 'built without GnuTLS'
fi

echo '# a copy is encrypted, by keys of both lengths'
for k in k32 k64; do
	"$u" copy -n plain.vhd -N $k.vhd -k $k
	equal "$("$u" key -p -n $k.vhd)" \
		"$(printf '%064d' 0) $("$u" key -C -k $k)"
	bytes $k.vhd $k | cmp - plain.raw
	if grep -q 11111 $k.vhd; then
		fail "the text is in $k.vhd"
	fi
	"$u" check -n $k.vhd -b >out
done
"$u" copy -n plain.vhd -N e.vhd -E <k64
"$u" key -c -n e.vhd -k k64
bytes e.vhd k64 | cmp - plain.raw

echo '# it is what others call aes-xts-plain64'
"$u" read -n k64.vhd -d 0 >block.raw
echo "d :: disk(\"d\") -> crypt(key=\"file:$tmp/k64\") ->
	raw(\"$tmp/block.raw\");" >d.mason
# shellcheck disable=SC2016 # the inner shell's
tapdisk --run 'qemu-img convert -f raw -O raw "$uri" clear.raw' \
	"mason:$tmp/d.mason"
cmp -n 2097152 clear.raw plain.raw

echo '# ciphertext is never data'
cp k64.vhd before.vhd
for command in 'tapdisk --run true -R' 'tapdisk --run true'; do
	fails $command "vhd:$tmp/k64.vhd" 2>err
	contains err 'the image is encrypted'
	contains err 'hint: give its key'
done
exits 126 "$u" read -n k64.vhd -R 0 >out 2>err
[ ! -s out ] || fail 'something was read'
exits 126 "$u" fill -n k64.vhd >out 2>err
exits 126 "$u" copy -n k64.vhd -N x.vhd >out 2>err
[ ! -e x.vhd ] || fail 'x.vhd was made'
exits 129 "$u" copy -n k64.vhd -N x.vhd -k other 2>err
contains err 'is not the one of this image'
for k in other k32; do
	fails tapdisk --run true "$(spec k64.vhd $k)" 2>err
	contains err 'is not the one of this image'
done
fails tapdisk --run true "$(spec plain.vhd k64)" 2>err
contains err 'the image is not encrypted'
fails tapdisk --run true "vhd(\"$tmp/k64.vhd\", key=\"$(printf %064d 0)\")" \
	2>err
contains err 'key: is not the name of a file'
head -c 33 /dev/zero >long
exits 22 "$u" copy -n plain.vhd -N x.vhd -k long 2>err
contains err '32 or 64 bytes'
exits 2 "$u" copy -n plain.vhd -N x.vhd -k none 2>err
exits 22 "$u" copy -n plain.vhd -N x.vhd -k k64 -E 2>err </dev/null
cmp before.vhd k64.vhd
[ ! -e x.vhd ] || fail 'x.vhd was made'

echo '# a chain: its children have the key of what they stand on'
"$u" snapshot -n c.vhd -p k64.vhd
"$u" key -c -n c.vhd -k k64
exits 126 "$u" read -n c.vhd -R 0 >out 2>err
cp plain.raw want.raw
qemu-io -f raw -c 'write -P 1 1000k 300k' -c 'write -P 2 0 512' \
	-c 'write -P 0 5M 64k' want.raw >out
change c.vhd k64 -c 'write -P 1 1000k 300k' -c 'write -P 2 0 512' \
	-c 'write -P 0 5M 64k'
bytes c.vhd k64 | cmp - want.raw
# grown in place, several at once, and snapshotted while it is in use
start_tapdisk "$(spec c.vhd k64)"
qemu-io -f raw -c 'aio_write -P 3 100k 700k' -c 'aio_write -P 4 2M 900k' \
	-c 'aio_write -P 5 4M 300k' -c aio_flush "$uri" >out
tap-ctl snapshot -p "$pid" -m "$minor" >out 2>&1 || fail "$(cat out)"
qemu-io -f raw -c 'read -P 3 100k 700k' -c 'write -P 6 3M 4k' \
	-c 'read -P 4 2M 900k' -c flush "$uri" >out
if grep -q failed out; then
	fail "$(cat out)"
fi
tap-ctl destroy -p "$pid" -m "$minor"
qemu-io -f raw -c 'write -P 3 100k 700k' -c 'write -P 4 2M 900k' \
	-c 'write -P 5 4M 300k' -c 'write -P 6 3M 4k' want.raw >out
bytes c.vhd k64 | cmp - want.raw
equal "$("$u" query -n c.vhd -d)" 'chain depth: 3'

echo '# it is coalesced without the key, where both have the same'
"$u" coalesce -n c.vhd >out
"$u" modify -n c.vhd -p k64.vhd
exits 0 "$u" coalesce -n c.vhd.snap1 >out
exits 0 "$u" coalesce -n c.vhd >out
bytes k64.vhd k64 | cmp - want.raw

echo '# a base that a commit leaves alone is opened with its key after a pause'
"$u" snapshot -n e2.vhd -p e.vhd
start_tapdisk "vhd(\"$tmp/e2.vhd\", key=\"file:$tmp/k64\")"
qemu-io -f raw -c 'write -P 85 1M 64k' -c flush "$uri" >out
tap-ctl job start -p "$pid" -m "$minor" commit --wait >out
tap-ctl pause -p "$pid" -m "$minor"
tap-ctl unpause -p "$pid" -m "$minor"
qemu-io -f raw -c 'read -P 85 1M 64k' "$uri" >out
if grep -q failed out; then
	fail "$(cat out)"
fi
tap-ctl destroy -p "$pid" -m "$minor"
cp plain.raw want2.raw
qemu-io -f raw -c 'write -P 85 1M 64k' want2.raw >out
bytes e.vhd k64 | cmp - want2.raw

echo '# an encrypted child of a clear parent: its data does not go there'
"$u" snapshot -n m.vhd -p plain.vhd
"$u" key -s -n m.vhd -k k32
change m.vhd k32 -c 'write -P 7 64k 64k'
cp plain.vhd before.vhd
exits 129 "$u" coalesce -n m.vhd >out 2>err
contains err 'not encrypted with the same key'
cmp before.vhd plain.vhd
truncate -s 6M base.raw
"$u" snapshot -n r.vhd -p base.raw -m
"$u" key -s -n r.vhd -k k32
change r.vhd k32 -c 'write -P 7 64k 64k'
exits 129 "$u" coalesce -n r.vhd >out 2>err
equal "$(tr -d '\0' <base.raw | wc -c)" 0

echo '# an empty image that is encrypted is not stepped over'
"$u" snapshot -n empty.vhd -p plain.vhd
"$u" key -s -n empty.vhd -k k32
"$u" snapshot -n child.vhd -p empty.vhd
"$u" key -c -n child.vhd -k k32

echo '# with its own key into another, and into none'
"$u" copy -n m.vhd -N n.vhd -k other --source-key k32
"$u" copy -n m.vhd -N clear.vhd --source-key k32
equal "$("$u" key -p -n clear.vhd)" none
cp plain.raw want.raw
qemu-io -f raw -c 'write -P 7 64k 64k' want.raw >out
bytes n.vhd other | cmp - want.raw
"$u" read -n clear.vhd -R 0 -c 6291456 | cmp - want.raw

echo '# resized by whole blocks: what grows must read as zeroes'
exits 126 "$u" resize -n n.vhd -s 5 -j j >out 2>err
[ ! -e j ] || fail 'a journal was left'
bytes n.vhd other | cmp - want.raw
"$u" resize -n n.vhd -s 4 -j j
"$u" resize -n n.vhd -s 8 -j j
truncate -s 4M want.raw
truncate -s 8M want.raw
bytes n.vhd other | cmp - want.raw
