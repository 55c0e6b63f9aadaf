#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# kill -9 at any call of a change that opens, writes, syncs, renames or removes a
# file: the graph starts again on the generation before it or on the one after it,
# with all data that was flushed. And power cuts in the file of the generations:
# whatever a cut leaves of the one that was being written, the other one starts.
# BLKTAP_TEST_LONG=1 kills at every call instead of at some of those that are many.
. "${srcdir:-.}/tests/shell/functions.sh"
requires strace
change=${builddir:?}/tests/mason/mason-change
# a process that is traced cannot look for its own leaks
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
calls='openat pwrite64 pwritev2 write ftruncate fallocate fsync fdatasync unlink
	link rename io_uring_enter io_submit'
strace -o trace -e trace=all true 2>err ||
	skip "strace does not work here: $(cat err)"

# From one file to another by way of a mirror, and then a snapshot of that.
cat >x.mason <<END
d :: disk("d") -> a :: raw($tmp/a.raw);
END
cat >1.mason <<END
d :: disk("d") -> m :: mirror(sync=background, source=0)
	=> a :: raw($tmp/a.raw), b :: raw($tmp/b.raw);
END
cat >2.mason <<END
assert run.m.state == synced && run.m.dirty == 0;
d :: disk("d") -> b :: raw($tmp/b.raw);
END
cat >3.mason <<END
d :: disk("d") -> [live] s :: snap();
s[origin] -> b :: raw($tmp/b.raw);
s[delta] -> raw($tmp/top.raw);
END
fresh()
{
	rm -f x.mason.state x.mason.state.new x.mason.state.old
	for fresh_file in a.raw b.raw top.raw; do
		rm -f $fresh_file
		truncate -s 1M $fresh_file
	done
	truncate -s 4M top.raw
}

# value NAME FILE: the last NAME=number of it, or 0
value()
{
	sed -n "s/.*\\<$1=\\([0-9]*\\).*/\\1/p" "$2" | tail -n 1 | grep . || echo 0
}

# starts_again: on what out says was done, or on what comes after it
starts_again()
{
	"$change" x.mason >now || fail "$1: does not start again"
	applied=$(value applied out) flushed=$(value flushed out)
	generation=$(value generation now)
	[ "$generation" -eq $((applied + 1)) ] ||
		[ "$generation" -eq $((applied + 2)) ] ||
		fail "$1: $applied changes were applied: $(cat now)"
	[ "$(value least now)" -ge "$flushed" ] ||
		fail "$1: $flushed was flushed: $(cat now)"
	[ "$(value greatest now)" -le $((flushed + 1)) ] ||
		fail "$1: $flushed was flushed: $(cat now)"
}

# kills CALL FROM: at the calls of that name, the first of them the FROM-th
kills()
{
	n=$2
	while :; do
		fresh
		set +e
		(
			exec strace -o trace -e "trace=$1" \
				-e "inject=$1:signal=KILL:when=$n" "$change" \
				x.mason 1.mason 2.mason 3.mason
		) >out 2>err
		rc=$?
		set -e
		[ $rc != 0 ] || break
		[ $rc = 137 ] || fail "$1 $n: status $rc: $(cat err)"
		starts_again "$1 $n"
		if [ "$generation" -eq $((applied + 1)) ]; then
			older=$((older + 1))
		else
			newer=$((newer + 1))
		fi
		killed=$((killed + 1)) n=$((n + 1))
		[ $n -lt $(($2 + 6)) ] || n=$((n + stride - 1))
	done
}

fresh
strace -o whole "$change" x.mason 1.mason 2.mason 3.mason >out ||
	fail "$(cat out)"
starts_again "not killed"
equal "$(cat now)" "generation=4 least=4 greatest=4"
stride=25
[ "${BLKTAP_TEST_LONG:-}" != 1 ] || stride=1
killed=0 older=0 newer=0
for call in $calls; do
	# what the dynamic linker opens is of no interest
	first=1
	[ $call != openat ] ||
		first=$(grep 'openat(' whole | grep -n x.mason | head -n 1 |
			cut -d : -f 1)
	! grep -q "^$call(" whole || kills $call $first
done
echo "$killed kills: $older started again on the old graph, $newer on the new one"
[ "$older" -gt 0 ] && [ "$newer" -gt 0 ] || fail "too few were killed"

# A cut while generation N+1 is written: it is there in part, with what was in the
# blocks before, or not at all. N is what starts.
fresh
"$change" x.mason 1.mason 2.mason >out
cp x.mason.state good
"$change" x.mason 3.mason >out2
cp x.mason.state next
cp good x.mason.state
size=$(stat -c %s next)
cut=0
while [ "$cut" -le "$size" ]; do
	head -c "$cut" next >x.mason.state.new
	head -c $((size - cut)) /dev/zero >>x.mason.state.new
	"$change" x.mason >now || fail "cut at $cut"
	equal "$(value generation now)" 3
	cut=$((cut + size / 16))
done

# What is torn at the place of the generation that runs can come from no cut: it
# is refused, and not taken for another graph.
head -c $((size - 20)) next >x.mason.state
fails "$change" x.mason >now 2>err
contains err 'is not a whole state'

# A power cut finds what was synced. So each generation is synced before it gets
# its name, and the name before the change is said to be made.
fresh
strace -o trace -y -e trace=openat,write,fsync,rename "$change" x.mason \
	1.mason 2.mason >out
awk '
	/^write.*x\.mason\.state\.new>/ { dirty = 1 }
	/^fsync.*x\.mason\.state\.new>/ { dirty = 0; synced++ }
	/^rename.*x\.mason\.state\.new/ {
		if (dirty) { print "renamed before it was synced"; exit 1 }
		renamed = 1; names++
	}
	/^fsync\([0-9]+<[^>]*>\)/ && !/x\.mason/ { renamed = 0 }
	/^write\(1<.*applied=/ {
		if (renamed) { print "said to be made before it was"; exit 1 }
		said++
	}
	END { if (names < 3 || synced < 3 || said != 2) {
		print names, synced, said
		exit 1
	} }
	' trace >wrong || fail "$(cat wrong trace)"
