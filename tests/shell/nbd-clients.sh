#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Clients nobody here wrote use a served disk: nbdinfo sees what it can do,
# nbdcopy moves images in and out bit by bit, qemu-img and qemu-io work on it.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
requires nbdinfo nbdcopy qemu-img qemu-io openssl

make_image in.raw 20M
# a hole in the middle, and a tail that is no multiple of anything
dd if=/dev/zero of=in.raw bs=1M seek=8 count=4 conv=notrunc 2>dd.log
printf tail >>in.raw
truncate -s 20972032 in.raw
truncate -s 20972032 disk.raw

serve "raw:$tmp/disk.raw"
nbdinfo --json "$uri" >info
for flag in can_cache can_df can_fast_zero can_flush can_fua can_multi_conn \
	can_trim can_zero; do
	case $flag in
	can_cache) ;;
	*) contains info "\"$flag\": true" ;;
	esac
done
contains info '"is_read_only": false'
contains info '"export-size": 20972032'
contains info '"protocol": "newstyle-fixed"'
contains info '"base:allocation"'
contains info '"block_size_minimum": 1'
contains info '"block_size_maximum": 33554432'
nbdinfo --list "$uri" >list
contains list 'export=""'

nbdcopy in.raw "$uri"
nbdcopy --connections=1 --requests=1 "$uri" out1.raw
nbdcopy --connections=4 "$uri" out2.raw
nbdcopy --synchronous "$uri" out3.raw
for out in out1.raw out2.raw out3.raw; do
	cmp in.raw "$out"
done

nbdinfo --map "$uri" >map
qemu-img info "$uri" >info
contains info 'virtual size: 20 MiB (20972032 bytes)'
qemu-img compare -f raw -F raw in.raw "$uri"
qemu-img convert -f raw -O raw "$uri" out4.raw
cmp in.raw out4.raw
qemu-img map -f raw --output=json "$uri" >map

qemu-io -f raw -c 'write -P 0x5a 1M 64k' -c 'read -P 0x5a 1M 64k' \
	-c 'write -P 0x11 -f 3M 4k' -c 'write -z 1M 32k' \
	-c 'write -z -u 2M 1M' -c 'discard 4M 1M' -c 'read -P 0 1M 32k' \
	-c 'read -P 0x5a 1081344 32k' -c 'read -P 0 2M 1M' \
	-c 'aio_write -P 0x22 5M 14M' -c 'aio_flush' -c flush \
	-c 'write -P 0x33 777 333' -c 'read -P 0x33 777 333' "$uri" >io 2>&1 ||
	fail "$(cat io)"
if grep -q 'failed' io; then
	fail "$(cat io)"
fi
served_well

# read-only holds on every way in
sum=$(sha256sum <disk.raw)
serve "raw:$tmp/disk.raw" -r
nbdinfo --json "$uri" >info
contains info '"is_read_only": true'
fails qemu-io -f raw -c 'write 0 4k' "$uri" >io 2>&1
fails nbdcopy in.raw "$uri" 2>err
served_well
equal "$(sha256sum <disk.raw)" "$sum"

# over TCP
serve "raw:$tmp/disk.raw" -p 0
nbdcopy "$uri" out5.raw
cmp disk.raw out5.raw
stop_serving
equal "$serve_rc" 0
