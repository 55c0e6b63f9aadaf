#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# tap-ctl map and unmap: what cannot be is refused with a reason, and leaves
# nothing.
. "${srcdir:-.}/tests/shell/functions.sh"

# Without the program that knows FUSE, tap-ctl says what is missing.
truncate -s 1M a.raw
BLKTAP_MAP=$tmp/nothing exits 1 tap-ctl map a.raw 2>log
contains log "cannot map $tmp/nothing: No such file or directory (ENOENT)"
contains log 'hint: '

requires fuse
. "$srcdir/tests/shell/map-functions.sh"

# refused STATUS TEXT COMMAND [ARGUMENT...]
refused()
{
	refused_status=$1
	refused_text=$2
	shift 2
	exits "$refused_status" "$@" >out 2>log
	contains log "$refused_text"
	equal "$(cat out)" ""
	[ ! -e "$BLKTAP_RUNDIR/map" ] || nothing_left
}

# Nothing is made before all of it was understood.
refused 2 'usage: ' tap-ctl map
refused 2 'usage: ' tap-ctl map a.raw b c
refused 2 'usage: ' tap-ctl map --list a.raw
refused 2 'usage: ' tap-ctl map --json a.raw
refused 2 'usage: ' tap-ctl unmap
refused 2 'is unknown' tap-ctl map --blok a.raw
[ ! -e "$BLKTAP_RUNDIR/map" ] || fail "a wrong option made a directory"
equal "$(tap-ctl map --list)" ""
equal "$(tap-ctl map --list --json)" "[]"

mkdir dir
: >empty
ln -s "$tmp/dir" link
refused 4 'No such file or directory (ENOENT)' tap-ctl map missing
refused 4 'No such file or directory (ENOENT)' tap-ctl map raw:missing
refused 4 'No such file or directory (ENOENT)' tap-ctl map nowhere/missing
refused 4 "there is no type 'foo'" tap-ctl map foo:a.raw
refused 4 "did you mean 'raw'" tap-ctl map rwa:a.raw
refused 1 '(EISDIR)' tap-ctl map dir
refused 1 'cannot map' tap-ctl map empty
refused 1 '(EISDIR)' tap-ctl map a.raw dir
refused 1 '(EISDIR)' tap-ctl map a.raw link
refused 1 '(EINVAL)' tap-ctl map a.raw /dev/null
refused 4 '(ENOENT)' tap-ctl map a.raw nowhere/file
refused 1 '(EINVAL)' tap-ctl map --name ../x a.raw
refused 1 '(EINVAL)' tap-ctl map --name x.state a.raw
refused 1 '(EINVAL)' tap-ctl map "a
b"
refused 4 'nothing of that name' tap-ctl unmap a.raw
refused 4 'nothing of that name' tap-ctl unmap /dev/loop0

# A raw file is raw, whatever it looks like.
qemu-img create -q -f qcow2 -b /etc/passwd -F raw looks.raw 1M 2>/dev/null ||
	printf 'QFI\373\0\0\0\002' | dd of=looks.raw bs=64k conv=sync status=none
file=$(tap-ctl map looks.raw)
cmp looks.raw "$file"
tap-ctl unmap looks.raw
nothing_left

# One disk, one writer; one file, one disk; one name, one map.
file=$(tap-ctl map a.raw)
exits 75 tap-ctl map a.raw other 2>log
[ ! -e other ] || fail "a refused map left its file"
truncate -s 1M b.raw
exits 75 tap-ctl map b.raw "$file" 2>log
contains log 'where a disk is'
exits 1 tap-ctl map --name a.raw b.raw 2>log
contains log 'File exists (EEXIST)'
contains log 'choose another --name'
equal "$(tap-ctl map --list | wc -l)" 1
tap-ctl unmap a.raw
nothing_left

# The runtime directory is nobody else's to write.
mkdir -m 0777 open
chmod 0777 open
exits 1 tap-ctl map --rundir open a.raw 2>log
contains log '(EPERM)'
mkdir -m 0700 shut
mkdir shut/map
chmod 0777 shut/map
exits 1 tap-ctl map --rundir shut a.raw 2>log
contains log '(EPERM)'
chmod 0770 shut/map
exits 1 tap-ctl map --rundir shut a.raw 2>log
contains log 'chmod go-w'
equal "$(ls -A open)$(ls -A shut/map)" ""
# nor is a file removed by what others have put there
: >theirs
printf 'image=raw:x\nfile=%s\nmade-file=1\n' "$tmp/theirs" >shut/map/x.state
exits 1 tap-ctl unmap --rundir shut x 2>log
contains log '(EPERM)'
[ -e theirs ] || fail 'a file is gone'

# Root sees what a user has mapped, and changes nothing there.
if [ "$(id -u)" = 0 ]; then
	chmod 0700 shut/map
	chown -R 65534:65534 shut
	equal "$(tap-ctl map --list --rundir shut)" \
		"name=x pid=0 dead file=$tmp/theirs image=raw:x"
	exits 1 tap-ctl unmap --rundir shut x 2>log
	contains log '(EPERM)'
	[ -e shut/map/x.state ] || fail 'a state is gone'
fi
