#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Many changes of a graph under load: a disk with 16 requests in flight, each read
# verified, is changed again and again, in turn by what holds nothing, what holds
# writes and what holds all. No request fails, no read is wrong; then the tapdisk
# is killed in the middle of a change, and the next one goes on with the old graph
# or the new one. Prints how many changes there were and how long they held what
# was held. BLKTAP_TEST_LONG=1 makes 1,000 changes instead of 60.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/mason-functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
requires fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"
count=60
[ "${BLKTAP_TEST_LONG:-}" != 1 ] || count=1000

for file in a b; do
	truncate -s 32M $file.raw
done
truncate -s 48M delta.raw
truncate -s 4M bits.raw
top='d :: disk("d") ->' a=":: raw($tmp/a.raw)" b=":: raw($tmp/b.raw)"
echo "$top a $a;" >0.mason
echo "$top t :: throttle(iops=900000/s) -> a $a;" >1.mason
echo "$top t :: throttle(iops=800000/s) -> log(what=errors) -> a $a;" >2.mason
cat >3.mason <<END
$top b :: bitmap();
b[lower] -> a $a;
b[store] -> raw($tmp/bits.raw);
END
echo "$top m :: mirror(sync=background, source=0) => a $a, b $b;" >4.mason
cat >5.mason <<END
assert run.m.state == synced && run.m.dirty == 0;
$top b $b;
END
cat >6.mason <<END
$top m :: mirror(sync=background, source=0) => b $b, a $a;
END
cat >7.mason <<END
assert run.m.state == synced && run.m.dirty == 0;
$top a $a;
END
cat >8.mason <<END
$top [live] s :: snap();
s[origin] -> a $a;
s[delta] -> raw($tmp/delta.raw);
END

# Writes, read back with their checksums, again and again
load()
{
	while [ ! -e stop ]; do
		fio --ioengine=nbd --uri="$uri" --rw=randwrite \
			--bsrange=512-64k --iodepth=16 --size=32M --name=x \
			--io_size=16M --verify=crc32c --verify_backlog=64 \
			--verify_state_save=0 --randrepeat=0 >fio.log 2>&1 ||
			return 1
		printf x >>count
	done
}
runs()
{
	[ "$(stat -c %s count)" -ge "$1" ]
}

# change FILE: as often as its assert asks for
change()
{
	until mason apply --json "$1" >out 2>err; do
		grep -q assert err || fail "$1: $(cat err)"
		kill -0 $load_pid 2>/dev/null || fail "$(cat fio.log)"
		sleep 0.01
	done
	sed -n 's/.*"pause_us":\([0-9]*\).*/\1/p' out >>pauses
}

start_tapdisk "mason:$tmp/0.mason"
: >count
: >pauses
load &
load_pid=$!
wait_for runs 1
n=0
while [ $n -lt $count ]; do
	for file in 1 2 1 0 3 0 4 5 6 7 8 0; do
		case $file in
		# a snapshot and a bitmap begin with nothing
		3 | 8)
			truncate -s 0 delta.raw bits.raw
			truncate -s 48M delta.raw
			truncate -s 4M bits.raw
			;;
		esac
		change $file.mason
		n=$((n + 1))
	done
done
touch stop
wait $load_pid || fail "$(cat fio.log)"
sort -n pauses | awk '{ p[NR] = $1 / 1e3 } END {
	printf "%d changes: none held for longer than %.2f ms, " \
		"the median for %.2f ms\n", NR, p[NR], p[int((NR + 1) / 2)] }'

# kill -9 in the middle: what the next one finds is a graph that ran.
round=0
while [ $round -lt 5 ]; do
	was=$(mason dump | sed -n '1s/.*generation \([0-9]*\).*/\1/p')
	while mason apply 4.mason && mason apply 0.mason; do
		:
	done >out 2>&1 &
	changer=$!
	sleep 0.0$((round * 2 + 1))
	kill -9 "$pid"
	wait_for process_gone "$pid"
	wait $changer 2>/dev/null || :
	tap-ctl free -m "$minor"
	start_tapdisk "mason:$tmp/0.mason"
	mason dump >now
	[ "$(sed -n '1s/.*generation \([0-9]*\).*/\1/p' now)" -ge "$was" ] ||
		fail "generation $was: $(cat now)"
	nodes=$(grep -c '::' now)
	case $nodes in
	2 | 4) ;;
	*) fail "no graph that ran: $(cat now)" ;;
	esac
	round=$((round + 1))
done
