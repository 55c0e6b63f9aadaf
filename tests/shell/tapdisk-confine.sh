#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A tapdisk that was confined to a directory does all that toolstacks ask it for
# inside, and refuses, with EACCES and by name, to open any file outside.
. "${srcdir:-.}/tests/shell/functions.sh"
requires qemu-img
tap-ctl doctor >doctor || :
grep -q '^ok *landlock' doctor || skip "the kernel has no Landlock"

mkdir disks outside more
truncate -s 4M disks/a.raw outside/x.raw more/m.raw
qemu-img create -q -f qcow2 disks/q.qcow2 4M
qemu-img create -q -f qcow2 -b "$tmp/outside/x.raw" -F raw disks/far.qcow2
ln -s "$tmp/outside/x.raw" disks/link.raw

# refused COMMAND...: with EACCES, and the file's name
refused()
{
	exits 13 "$@" 2>err
	contains err "$refused_name"
	contains err EACCES
	contains err hint:
}

# What is not confined opens it all; a confined one is told by the environment.
start_tapdisk "raw:$tmp/outside/x.raw"
tap-ctl destroy -p "$pid" -m "$minor"
BLKTAP_CONFINE=$tmp/disks:$tmp/more
export BLKTAP_CONFINE
start_tapdisk "raw:$tmp/disks/a.raw"

# Outside: by its name, by a link, as a parent, read-only or not, by unpause, by
# a graph.
refused_name=$tmp/outside/x.raw
tap-ctl pause -p "$pid" -m "$minor"
refused tap-ctl unpause -p "$pid" -m "$minor" -a "raw:$tmp/outside/x.raw"
tap-ctl unpause -p "$pid" -m "$minor"
tap-ctl close -p "$pid" -m "$minor"
refused tap-ctl open -p "$pid" -m "$minor" -a "raw:$tmp/outside/x.raw"
refused tap-ctl open -p "$pid" -m "$minor" -R -a "raw:$tmp/outside/x.raw"
refused tap-ctl open -p "$pid" -m "$minor" -a "qcow2:$tmp/disks/far.qcow2"
refused_name=$tmp/disks/link.raw
refused tap-ctl open -p "$pid" -m "$minor" -a "raw:$tmp/disks/link.raw"
refused_name=/etc/shadow
refused tap-ctl open -p "$pid" -m "$minor" -R -a raw:/etc/shadow
cat >disks/d.mason <<END
d :: disk("d") -> raw($tmp/disks/a.raw);
END
tap-ctl open -p "$pid" -m "$minor" -a "mason:$tmp/disks/d.mason"
cp disks/d.mason disks/e.mason
sed "s,disks/a.raw,outside/x.raw," disks/d.mason >disks/e.mason
fails tap-ctl mason apply -p "$pid" -m "$minor" disks/e.mason 2>err
contains err "$tmp/outside/x.raw"
contains err EACCES

# Inside: another file, by apply; snapshots; a job; a resize; other directories.
sed "s,disks/a.raw,more/m.raw," disks/d.mason >disks/e.mason
tap-ctl mason apply -p "$pid" -m "$minor" disks/e.mason
tap-ctl close -p "$pid" -m "$minor"
tap-ctl open -p "$pid" -m "$minor" -a "qcow2:$tmp/disks/q.qcow2"
tap-ctl snapshot -p "$pid" -m "$minor" --name "$tmp/disks/snap.qcow2"
tap-ctl job start -p "$pid" -m "$minor" stream --wait
tap-ctl pause -p "$pid" -m "$minor"
tap-ctl unpause -p "$pid" -m "$minor"
tap-ctl resize -p "$pid" -m "$minor" 8M
tap-ctl destroy -p "$pid" -m "$minor"
wait_for process_gone "$pid"
qemu-img check -q disks/q.qcow2
equal "$(find "$BLKTAP_RUNDIR" ! -type d)" ""

# One that serves a disk from its command line is confined before it opens it.
unset BLKTAP_CONFINE
exits 13 tapdisk --confine "$tmp/disks" --unix "$tmp/s" \
	"raw:$tmp/outside/x.raw" 2>err
contains err "$tmp/outside/x.raw"
tapdisk --confine "$tmp/disks" "raw:$tmp/disks/a.raw" >out &
cleanup_fn kill $!
wait_for grep -q "^nbd+unix" out
kill -TERM $!
exits 0 wait $!

# What cannot be is said.
exits 2 tapdisk --confine "$tmp/none" -D 2>err
contains err "$tmp/none"
contains err hint:
exits 2 env BLKTAP_CONFINE="$tmp/none" tap-ctl spawn 2>err
contains err "$tmp/none"
exits 2 tapdisk --confine "$tmp/disks" --run true "raw:$tmp/disks/a.raw" 2>err
contains err "--run"
