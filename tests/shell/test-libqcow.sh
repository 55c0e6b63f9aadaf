#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The qcow codec and QEMU agree, in both directions: images QEMU writes read the
# same here, and images laid out here are whole to QEMU.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img qemu-io openssl
dump=${builddir:?make check sets it}/tests/shell/qcow-dump

qemu_io()
{
	qemu-io "$@" >qemu-io.out 2>&1 || { cat qemu-io.out >&2; fail "qemu-io"; }
	if grep -qiE 'failed|error' qemu-io.out; then
		cat qemu-io.out >&2
		fail "qemu-io"
	fi
}

# FORMAT OPTIONS SIZE: data, zeros and compressed clusters written by QEMU.
qemu_made()
{
	rm -f q.img
	qemu-img create -q -f "$1" ${2:+-o "$2"} q.img "$3" >create.out 2>&1 || {
		cat create.out >&2
		fail "qemu-img create $*"
	}
	qemu_io -f "$1" -c 'write -P 0x11 0 200k' -c 'write -P 0x22 1M 4k' \
		-c 'write -P 0x33 3000k 70k' q.img
	case $1,$2 in
	*,*0.10*) ;;
	qcow2,*) qemu_io -f qcow2 -c 'write -z 64k 64k' -c 'discard 128k 64k' \
		q.img ;;
	esac
	qemu-img convert -q -f "$1" -O raw q.img q.raw
	"$dump" raw q.img >our.raw
	cmp q.raw our.raw || fail "data differs: $*"
	"$dump" check q.img >check.out 2>check.err || fail "check $*"
	grep -q '^corruptions=0 leaks=0 ' check.out || {
		cat check.out check.err >&2
		fail "check finds damage where there is none: $*"
	}
	# All clusters compressed, in an image of the same kind.
	rm -f z.img
	if [ "$1" = qcow ]; then
		# qemu-img convert -c fails without a word on this format.
		qemu-img create -q -f qcow z.img "$3"
		qemu_io -f qcow -c 'write -c -P 0x11 0 4k' \
			-c 'write -c -P 0x22 8k 4k' \
			-c 'write -c -P 0x33 3000k 4k' \
			-c 'write -P 0x44 16k 4k' -c 'write -P 0x55 9k 1k' z.img
		qemu-img convert -q -f qcow -O raw z.img q.raw
	else
		qemu-img convert -q -c -f raw -O "$1" ${2:+-o "$2"} q.raw z.img
	fi
	"$dump" raw z.img >our.raw
	cmp q.raw our.raw || fail "compressed data differs: $*"
	"$dump" check z.img >check.out 2>check.err || fail "check -c $*"
	grep -q '^corruptions=0 leaks=0 .*compressed=[1-9]' check.out || {
		cat check.out check.err >&2
		fail "check of compressed: $*"
	}
}

qemu_made qcow "" 5000k
qemu_made qcow "" 5121024
qemu_made qcow2 compat=0.10 5000k
qemu_made qcow2 compat=1.1 5000k
qemu_made qcow2 compat=1.1,lazy_refcounts=on 5000k
for bits in 1 2 4 8 32 64; do
	qemu_made qcow2 compat=1.1,refcount_bits=$bits 5000k
done
for size in 512 4k 2M; do
	qemu_made qcow2 compat=1.1,cluster_size=$size 5000k
	qemu_made qcow2 compat=0.10,cluster_size=$size 5000k
done
if "$dump" create z.test s=65536 z=1 2>/dev/null; then
	qemu_made qcow2 compat=1.1,compression_type=zstd 5000k
fi

# Over 2 TiB, with data at the far end.
for f in qcow qcow2; do
	rm -f far.img
	qemu-img create -q -f $f far.img 5T
	qemu_io -f $f -c 'write -P 0x44 5497558000000 64k' far.img
	"$dump" info far.img >info.out
	contains info.out "size=5497558138880 "
	"$dump" check far.img >check.out
	contains check.out "corruptions=0 leaks=0 "
done

# A backing file: its name and recorded format.
qemu-img create -q -f raw base.raw 1M
qemu-img create -q -f qcow2 -b base.raw -F raw child.img
"$dump" info child.img >info.out
contains info.out "backing=base.raw format=raw"
qemu-img create -q -f qcow -b base.raw -F raw child.img
"$dump" info child.img >info.out
contains info.out "backing=base.raw format="
contains info.out "cluster=512 l2_entries=4096"

# An encrypted image: refused without the key, read with it.
for f in qcow qcow2; do
	o=encrypt.format=aes,encrypt.key-secret=s
	rm -f crypt.img
	qemu-img create -q -f $f --object secret,id=s,data=geheim -o $o \
		crypt.img 1M
	# The guest's bytes go in through convert, which takes keys.
	make_image plain.raw 1048576
	qemu-img convert -q -n --object secret,id=s,data=geheim -f raw \
		--target-image-opts plain.raw \
		"driver=$f,$o,file.filename=crypt.img"
	if "$dump" raw crypt.img >our.raw 2>err; then
		fail "ciphertext given as data: $f"
	fi
	contains err "crypt_method is 0x1: the image is encrypted"
	if grep -q GnuTLS err; then
		continue
	fi
	"$dump" raw crypt.img geheim >our.raw
	cmp plain.raw our.raw || fail "decrypted data differs: $f"
done

# Images we lay out: whole to QEMU, writable by it, and read back here.
ours()
{
	rm -f o.img
	"$dump" create o.img "$@"
	case $1 in
	v=1) f=qcow ;;
	*)
		f=qcow2
		qemu-img check -q -f qcow2 o.img || fail "qemu-img check: $*"
		;;
	esac
	"$dump" check o.img >check.out 2>check.err || fail "check: $*"
	contains check.out "corruptions=0 leaks=0 "
	qemu_io -f $f -c 'write -P 0x55 10k 90k' -c 'write -P 0x66 900k 64k' \
		o.img
	qemu-img convert -q -f $f -O raw o.img q.raw
	"$dump" raw o.img >our.raw
	cmp q.raw our.raw || fail "data differs: $*"
	[ $f = qcow ] || qemu-img check -q -f qcow2 o.img ||
		fail "qemu-img check after writing: $*"
	"$dump" check o.img >check.out 2>check.err || fail "check: $*"
	grep -q '^corruptions=0 leaks=0 ' check.out || {
		cat check.out check.err >&2
		fail "check after writing: $*"
	}
}

for v in 2 3; do
	ours v=$v s=1048576
	ours v=$v s=1234944 c=9
	ours v=$v s=1048576 c=21
done
for r in 1 2 4 8 32 64; do
	ours v=3 s=5000192 r=$r c=9
done
ours v=1 s=1048576
ours v=1 s=5242880 x=1
ours v=1 s=5242880 x=2

# The extension Xen's programs look for, where there is a digest for it.
for x in 1 2; do
	"$dump" create o.img v=1 s=5242880 x=$x
	"$dump" info o.img >info.out
	contains info.out "cluster=4096 l2_entries=512"
	if grep -q '^xen' info.out; then
		grep -qE 'xen alloc=512 flags=[23] sum=yes' info.out ||
			fail "$(cat info.out)"
		cut=$(dd if=o.img bs=1 skip=4096 count=24 2>/dev/null | md5sum |
			sed 's/\(..\)\(..\)\(..\)\(..\).*/\4\3\2\1/')
		equal "$(od -An -tx1 -j52 -N4 o.img | tr -d ' ')" "$cut"
	fi
done

# With a backing file, as QEMU sees it.
"$dump" create o.img v=3 s=1048576 b=base.raw f=raw
qemu-img info --output=json o.img >info.out
contains info.out '"backing-filename": "base.raw"'
contains info.out '"backing-filename-format": "raw"'
"$dump" create o.img v=2 s=1048576 c=9 b=base.raw f=raw
qemu-img info --output=json o.img >info.out
contains info.out '"backing-filename-format": "raw"'
"$dump" create o.img v=1 s=1048576 b=base.raw x=1
qemu-img info --output=json o.img >info.out
contains info.out '"backing-filename": "base.raw"'

# Huge, and cheap: the layout of 16 TiB is a few clusters.
"$dump" create o.img v=3 s=17592186044416
qemu-img check -q -f qcow2 o.img || fail "16 TiB"
[ "$(du -k o.img | cut -f1)" -lt 10240 ] || fail "16 TiB takes much room"

# What we do not do is refused by its name.
qemu-img create -q -f qcow2 -o extended_l2=on no.img 1M
fails "$dump" info no.img 2>err
contains err "extended L2 entries are not supported"
qemu-img create -q -f qcow2 -o data_file=data.raw no.img 1M
fails "$dump" info no.img 2>err
contains err "an external data file is not supported"
qemu-img create -q -f qcow2 no.img 1M
qemu-img snapshot -c one no.img
fails "$dump" check no.img 2>err
contains err "nb_snapshots is 0x1: internal snapshots are not supported"
"$dump" raw no.img >/dev/null
