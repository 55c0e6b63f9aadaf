#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk opened from a file; another file applied to it while it runs; undone;
# printed; drawn.
. "${srcdir:-.}/tests/shell/functions.sh"

truncate -s 1M a.raw b.raw
echo 'd :: disk("x") -> a :: raw("'"$PWD"'/a.raw");' >x.mason
cat >y.mason <<'END'
let $rate = 1000/s;
let $image = "/none";
d :: disk("x") -> t :: throttle(iops=$rate) -> a :: raw($image);
END

pid=$(tap-ctl spawn)
minor=$(tap-ctl allocate | sed 's/.*[^0-9]//')
tap-ctl attach -p "$pid" -m "$minor"
tap-ctl open -p "$pid" -m "$minor" -a "mason:$PWD/x.mason"
disk="-p $pid -m $minor"

# What would be done is said, and not done.
# shellcheck disable=SC2086
exits 0 tap-ctl mason plan y.mason $disk -D image="$PWD/a.raw" >out
contains out 'add         t (throttle)'
contains out 'move        x: a -> t, holds none'
contains out '1 kept, 0 reconfigured, 0 replaced, 1 added, 0 removed; pause: none'
[ ! -e x.mason.state ] || fail 'a plan has left a state'

# shellcheck disable=SC2086
exits 0 tap-ctl mason apply y.mason $disk -D image="$PWD/a.raw" >out
contains out 'generation 2, paused for 0 us'
[ -e x.mason.state ] || fail 'no state'
# shellcheck disable=SC2086
exits 0 tap-ctl mason apply y.mason $disk -D image="$PWD/a.raw" \
	-D rate=2000/s >out
contains out 'reconfigure t (throttle)'

# Mistakes and refusals leave it as it is.
# shellcheck disable=SC2086
exits 4 tap-ctl mason apply y.mason $disk 2>err
contains err "a: /none: No such file or directory"
echo 'disk("x") -> thortle() -> ram(1M);' >typo.mason
# shellcheck disable=SC2086
exits 1 tap-ctl mason apply typo.mason $disk 2>err
contains err "typo.mason:1:14: error: there is no class 'thortle'"
contains err '(EINVAL)'
contains err '             ^'
# more mistakes than fit in an answer, and a definition of any length
{
	cat typo.mason
	seq 1 300 | sed 's/.*/disk("x&") -> thortle() -> ram(&M);/'
} >typos.mason
# shellcheck disable=SC2086
exits 1 tap-ctl mason apply typos.mason $disk 2>err
contains err "typos.mason:1:14: error: there is no class 'thortle'"
[ "$(wc -l <err)" -gt 40 ] || fail "only $(wc -l <err) lines"
contains err '...'
# shellcheck disable=SC2086
exits 1 tap-ctl mason apply y.mason $disk -D image="$PWD/a.raw" \
	-D "rate=$(printf '%05000d' 7)z" 2>err
contains err "007z"
echo 'disk("x") -> slice(offset=0, size=64k) -> raw("'"$PWD"'/a.raw");' >s.mason
# shellcheck disable=SC2086
exits 1 tap-ctl mason apply s.mason $disk 2>err
contains err "disk 'x' would shrink from 1048576 to 65536 bytes"
# read-only, where it is not now: it is no other program that stands against it
echo 'disk("x", ro=true) -> a :: raw("'"$PWD"'/a.raw");' >ro.mason
# shellcheck disable=SC2086
exits 1 tap-ctl mason apply ro.mason $disk 2>err
contains err "disk 'x' would lose writes: the new graph makes it read-only"
echo 'disk("x") -> a :: raw("'"$PWD"'/a.raw", ro=true);' >ro.mason
# shellcheck disable=SC2086
exits 75 tap-ctl mason apply ro.mason $disk 2>err
contains err "a.raw: the image is open in this process already, for writing"
contains err 'hint: close it there'
# shellcheck disable=SC2086
exits 95 tap-ctl resize $disk 2M 2>err
contains err "a graph's images are the file's"
# shellcheck disable=SC2086
exits 1 tap-ctl mason apply x.mason $disk --if-gen 2 2>err
contains err 'runs generation 3, and not 2'
# shellcheck disable=SC2086
exits 2 tap-ctl mason apply x.mason $disk --deadline 5x 2>err
contains err "--deadline '5x' is not a time"

# shellcheck disable=SC2086
exits 0 tap-ctl mason dump $disk >dump.mason
contains dump.mason 't :: throttle(iops=2000/s);'
exits 0 tap-ctl mason check dump.mason >out
# shellcheck disable=SC2086
exits 0 tap-ctl mason plan dump.mason $disk >out
contains out '2 kept, 0 reconfigured, 0 replaced, 0 added, 0 removed'
# shellcheck disable=SC2086
exits 0 tap-ctl mason live $disk >out
contains out '0 in flight'
equal "$(grep -c '^	edge \[fontsize=8\];$' out)" 1
exits 0 tap-ctl mason deps a.raw -p "$pid" >out
contains out '"how":"writes"'
exits 0 tap-ctl mason deps b.raw -p "$pid" >out
contains out '"disks":[]'

# of all tapdisks, which need not be known, and below other images
exits 0 tap-ctl mason deps b.raw >out
equal "$(cat out)" '{"disks":[]}'
truncate -s 4M base.raw
qcow-create -f qcow2 -F raw 0 leaf.qcow2 base.raw
pid2=$(tap-ctl spawn)
cleanup_fn kill -9 "$pid2"
minor2=$(tap-ctl allocate)
minor2=${minor2##*-}
tap-ctl attach -p "$pid2" -m "$minor2"
tap-ctl open -p "$pid2" -m "$minor2" -a "qcow2:$PWD/leaf.qcow2"
exits 0 tap-ctl mason deps base.raw >out
equal "$(cat out)" "{\"disks\":[{\"pid\":$pid2,\"minor\":$minor2,\"disk\":\"qcow2:$PWD/leaf.qcow2\",\"how\":\"reads\"}]}"
exits 0 tap-ctl mason deps a.raw >out
equal "$(grep -o '"pid"' out | wc -l)" 1
# shellcheck disable=SC2086
exits 0 tap-ctl mason undo $disk >out
contains out 'reconfigure t (throttle)'
contains out 'generation 4, paused for 0 us'

# What ran last runs again.
tap-ctl close -p "$pid" -m "$minor"
tap-ctl open -p "$pid" -m "$minor" -a "mason:$PWD/x.mason"
# shellcheck disable=SC2086
exits 0 tap-ctl mason dump $disk >out
contains out '# generation 4'
contains out 'throttle(iops=1000/s)'
tap-ctl close -p "$pid" -m "$minor"
tap-ctl detach -p "$pid" -m "$minor"
tap-ctl free -m "$minor"

# Of all tapdisks, one of which does not answer: it might stand on the file.
if command -v perl >/dev/null; then
	perl -MIO::Socket::UNIX -e '
		my $s = IO::Socket::UNIX->new(Listen => 5,
			Local => "$ENV{BLKTAP_RUNDIR}/ctl$$") or die;
		while (my $client = $s->accept) { close $client }' &
	mute=$!
	cleanup_fn kill -9 "$mute"
	wait_for test -S "$BLKTAP_RUNDIR/ctl$mute"
	status=0
	tap-ctl mason deps base.raw >out 2>err || status=$?
	contains out '"how":"reads"'
	contains err "cannot look up base.raw: tapdisk $mute"
	[ $status != 0 ] || fail "no answer was taken for an answer"
fi
