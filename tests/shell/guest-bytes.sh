#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What a guest writes into its disk is data. It makes no other format of the
# image, has no file of the host opened, and changes nothing that a tool says;
# a name of a file inside an image is followed only by who was asked for the chain.
. "${srcdir:-.}/tests/shell/functions.sh"
requires perl qemu-img cmp

cat >put.pl <<'END'
use strict;
use warnings;
use BtNbd;

# put.pl PATH FILE: writes the file over the disk's beginning, and flushes.
my ($path, $file) = @ARGV;
my $c = BtNbd->connect($path, 1);
open my $f, '<:raw', $file or die "$file: $!";
read($f, my $data, 1 << 20);
my ($error) = $c->call($BtNbd::WRITE, 0, length $data, $data);
print "write $error\n";
($error) = $c->call($BtNbd::FLUSH, 0, 0);
print "flush $error\n";
$c->leave;
END
# guest_writes FILE
guest_writes()
{
	perl -I"$srcdir/tests/shell" put.pl "$socket" "$1" >said
}

echo "the host's own" >secret
truncate -s 4K secret
qemu-img create -q -f qcow2 -b "$tmp/secret" -F raw header 64M
qcow-create --backing-format raw 64 header1 "$tmp/secret"
for bytes in header header1; do
	head -c 65536 "$bytes" >"$bytes.64k"
	rm -f a.raw
	truncate -s 4M a.raw
	start_tapdisk "aio:$tmp/a.raw"
	guest_writes "$bytes.64k"
	contains said "write 0"
	# the next opening of the same thing sees the same disk
	tap-ctl close -p "$pid" -m "$minor"
	tap-ctl open -p "$pid" -m "$minor" -a "aio:$tmp/a.raw"
	tap-ctl pause -p "$pid" -m "$minor"
	tap-ctl unpause -p "$pid" -m "$minor"
	equal "$(find "/proc/$pid/fd" -lname "$tmp/secret")" ""
	qemu-img convert -f raw -O raw "$uri" got.raw
	tap-ctl destroy -p "$pid" -m "$minor"
	cmp a.raw got.raw
	cmp -n "$(stat -c %s "$bytes.64k")" a.raw "$bytes.64k"
	# as a parent, it is as raw as it was told to be
	rm -f child.qcow2 child.vhd
	qemu-img create -q -f qcow2 -b "$tmp/a.raw" -F raw child.qcow2
	vhd-util snapshot -n child.vhd -p a.raw -m
	for child in qcow2:child.qcow2 vhd:child.vhd; do
		start_tapdisk "${child%%:*}:$tmp/${child#*:}"
		equal "$(find "/proc/$pid/fd" -lname "$tmp/secret")" ""
		qemu-img convert -f raw -O raw "$uri" got.raw
		tap-ctl destroy -p "$pid" -m "$minor"
		cmp a.raw got.raw
	done
done

# Nobody guesses: without a type there is no disk, and of a qcow that stands in
# a raw disk only who names it as one makes a qcow.
exits 22 tap-ctl create -a "$tmp/a.raw" 2>err
contains err "does not begin with a type"
exits 22 tapdisk --run true "$tmp/a.raw" 2>err
contains err "does not begin with a type"
exits 22 vhd-util query -n a.raw -v 2>err
contains err "there is no VHD footer"

# What a tool says is the same whatever the guest wrote: partition tables, file
# systems, other images.
perl -e 'print "\0" x 446, "\x80\1\1\0\x83\xfe\xff\xff", pack("V V", 2048, 4096),
	"\0" x 48, "\x55\xaa", "EFI PART", "\0" x 504,
	"conectix", "\0" x 504, "vhdxfile", "KDMV", "\0" x 500' >table
for kind in -r ''; do
	vhd-util create -n v.vhd -s 4 $kind
	for bytes in none header.64k header1.64k table; do
		start_tapdisk "vhd:$tmp/v.vhd"
		head -c 65536 /dev/zero >zeroes
		[ "$bytes" = none ] || guest_writes "$bytes"
		[ "$bytes" != none ] || guest_writes zeroes
		tap-ctl destroy -p "$pid" -m "$minor"
		{
			vhd-util query -n v.vhd -v -s -f -m -d -S
			vhd-util check -n v.vhd
			vhd-util scan -f -m "$tmp/v.vhd"
			td-util query vhd -vpf v.vhd
		} >"says.$bytes" 2>&1 || fail "$(cat "says.$bytes")"
		cmp says.none "says.$bytes"
	done
	rm v.vhd
done

# Told to be read-only, it is so for every client, before a pause and behind it.
make_image r.raw 1M
touch -d @1000000000 r.raw
cp -p r.raw was.raw
start_tapdisk "aio:$tmp/r.raw" -R
for _ in 1 2; do
	guest_writes table
	contains said "write 1"
	contains said "flush 0"
	tap-ctl pause -p "$pid" -m "$minor"
	tap-ctl unpause -p "$pid" -m "$minor"
done
tap-ctl destroy -p "$pid" -m "$minor"
cmp r.raw was.raw
equal "$(stat -c %Y r.raw)" 1000000000

# The name of an export is the whole name.
requires nbdinfo
# shellcheck disable=SC2016 # tapdisk's shell expands it
tapdisk --export disk --run 'for name in dis disk0 disk/ Disk; do
		! nbdinfo --size "nbd+unix:///$name?socket=$unixsocket" 2>/dev/null ||
			exit 1
	done
	nbdinfo --size "nbd+unix:///disk?socket=$unixsocket"' ram:1M >out
equal "$(cat out)" 1048576

# Whoever asks about one image is told about one image: its parent is opened for
# who asks where that is, and for nobody else.
requires strace
# leaks cannot be looked for under strace
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
strace -o trace -e trace=openat true 2>err ||
	skip "strace does not work here: $(cat err)"
vhd-util create -n p.vhd -s 4
vhd-util snapshot -n c.vhd -p p.vhd
alone()
{
	strace -f -o trace -e trace=open,openat,openat2 "$@" >out 2>&1 ||
		fail "$*: $(cat out)"
	grep -q 'c\.vhd' trace || fail "$* did not open the image"
	! grep 'p\.vhd"' trace || fail "$* opened the parent"
}
for item in v s f m S; do
	alone vhd-util query -n c.vhd -$item
done
alone vhd-util check -n c.vhd
alone vhd-util scan -f -m "$tmp/c.vhd"
alone td-util query vhd -vf c.vhd
