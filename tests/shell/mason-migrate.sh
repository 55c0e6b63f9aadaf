#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Live migration, the manual's three files: a disk under load moves to another
# tapdisk over NBD, and the first one is killed right after the switch. Its client
# sees no error, and every byte is where it belongs.
#
# The client stands in for the virtual machine: a disk of its own, which compares
# all it reads from the tapdisks, by way of a link to the socket of one of them,
# with a flat reference.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/mason-functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
requires fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"

make_image vm42.raw 33554432
cp vm42.raw reference.raw
truncate -s 32M new.raw

start_tapdisk "raw:$tmp/new.raw"
there_pid=$pid there_minor=$minor there=$socket
example 4-migrate-1 "s,/old/,$tmp/,"
start_tapdisk "mason:$tmp/4-migrate-1.mason"
example 4-migrate-2 "s,/old/,$tmp/,; s,/run/b.sock,$there,"
example 4-migrate-3 "s,/run/b.sock,$there,"

ln -s "$socket" vm
cat >vm.mason <<END
vm :: disk("vm") -> c :: compare();
c[a] -> nbd("nbd+unix:///?socket=$tmp/vm", reconnect=60s);
c[b] -> raw($tmp/reference.raw);
END
serve "mason:$tmp/vm.mason"

# Writes, read back with their checksums, again and again; a byte in count for each run.
load()
{
	while [ ! -e stop ]; do
		fio --ioengine=nbd --uri="$uri" --rw=randwrite \
			--bsrange=512-128k --iodepth=16 --size=32M --name=x \
			--io_size=8M --verify=crc32c --verify_backlog=64 \
			--verify_state_save=0 --randrepeat=0 >fio.log 2>&1 ||
			return 1
		printf x >>count
	done
}
# runs COUNT: that many runs are over
runs()
{
	[ "$(stat -c %s count)" -ge "$1" ]
}
: >count
load &
load_pid=$!
wait_for runs 1

mason apply 4-migrate-2.mason >out
contains out 'holds writes'
# The last file says itself when: refused while there is something to copy.
switched=
i=0
while [ -z "$switched" ]; do
	if mason apply 4-migrate-3.mason >out 2>err; then
		switched=1
	else
		contains err 'assert'
		i=$((i + 1))
		[ $i -lt 3000 ] || fail "never in sync: $(cat err)"
		sleep 0.02
	fi
done
kill -9 "$pid"
ln -sfn "$there" vm
wait_for runs $(($(stat -c %s count) + 2))
touch stop
wait "$load_pid" || fail "$(cat fio.log serve.err)"
served_well
tap-ctl destroy -p "$there_pid" -m "$there_minor"
same_bytes new.raw reference.raw
fails cmp -s vm42.raw reference.raw
