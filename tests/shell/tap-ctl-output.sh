#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every line that tap-ctl prints on success is byte for byte what toolstacks
# parse, and their parsers find in it what they look for.
. "${srcdir:-.}/tests/shell/functions.sh"

truncate -s 1M a.raw
truncate -s 2M b.raw
marks=$BLKTAP_RUNDIR/tapdisk/tapdisk-

# allocate, spawn: what scripts cut off to get the numbers
equal "$(tap-ctl list)" ""
equal "$(tap-ctl allocate)" "${marks}0"
equal "$(tap-ctl allocate | sed 's|.*/tapdisk/tapdisk-\([0-9]*\)$|\1|')" 1
equal "$(tap-ctl list)" "minor=0
minor=1"
pid=$(tap-ctl spawn)
cleanup_fn stop_tapdisk "$pid" 0
printf '%s\n' "$pid" | grep -qx '[0-9][0-9]*' || fail "spawn printed '$pid'"
equal "$(tap-ctl list)" "pid=$pid
minor=0
minor=1"

silent()
{
	"$@" >out 2>&1 || fail "$*: $(cat out)"
	[ ! -s out ] || fail "$* printed: $(cat out)"
}

# attached, open, paused, closed; what is not there is left out
silent tap-ctl attach -p "$pid" -m 0
equal "$(tap-ctl list -m 0)" "pid=$pid minor=0 state=0"
silent tap-ctl open -p "$pid" -m 0 -a "aio:$tmp/a.raw"
equal "$(tap-ctl list -m 0)" "pid=$pid minor=0 state=0 args=aio:$tmp/a.raw"
silent tap-ctl pause -p "$pid" -m 0
equal "$(tap-ctl list -m 0)" "pid=$pid minor=0 state=0x2a args=aio:$tmp/a.raw"
silent tap-ctl unpause -p "$pid" -m 0 -a "aio:$tmp/b.raw"
equal "$(tap-ctl list -m 0)" "pid=$pid minor=0 state=0 args=aio:$tmp/b.raw"
silent tap-ctl pause -p "$pid" -m 0 -t 5
silent tap-ctl unpause -p "$pid" -m 0
silent tap-ctl close -p "$pid" -m 0 -t 120
equal "$(tap-ctl list -m 0)" "pid=$pid minor=0 state=0x2"
silent tap-ctl open -p "$pid" -m 0 -a "aio:$tmp/a.raw" -R -D -t 30

# several disks: the newest first; minors that nobody has last
silent tap-ctl attach -p "$pid" -m 1
silent tap-ctl open -p "$pid" -m 1 -a "aio:$tmp/b.raw"
equal "$(tap-ctl allocate)" "${marks}2"
equal "$(tap-ctl list)" "pid=$pid minor=1 state=0 args=aio:$tmp/b.raw
pid=$pid minor=0 state=0 args=aio:$tmp/a.raw
minor=2"

# filters
equal "$(tap-ctl list -f "$tmp/a.raw")" \
	"pid=$pid minor=0 state=0 args=aio:$tmp/a.raw"
equal "$(tap-ctl list -t aio -f "$tmp/b.raw")" \
	"pid=$pid minor=1 state=0 args=aio:$tmp/b.raw"
equal "$(tap-ctl list -p "$pid" -m 1 | wc -l)" 1
equal "$(tap-ctl list -m 2)" "minor=2"
for f in '-p 1' '-t vhd' '-f /no' '-m 7'; do
	# shellcheck disable=SC2086 # an option and its value
	equal "$(tap-ctl list $f)" ""
done

# on a terminal: columns
# (a container may have no pseudo-terminals)
if script -qec true /dev/null >/dev/null 2>&1; then
	script -qec 'tap-ctl list' /dev/null | tr -d '\r' >columns
	printf '%8s %4s %4s %10s %s\n' \
		"$pid" 1 0 aio "$tmp/b.raw" \
		"$pid" 0 0 aio "$tmp/a.raw" \
		- 2 - - - >wanted
	diff wanted columns
fi

# a path may hold what it likes: nothing is escaped
truncate -s 1M 'a = b, c:d.raw'
silent tap-ctl close -p "$pid" -m 1
silent tap-ctl open -p "$pid" -m 1 -a "aio:$tmp/a = b, c:d.raw"
equal "$(tap-ctl list -m 1)" \
	"pid=$pid minor=1 state=0 args=aio:$tmp/a = b, c:d.raw"

# stats: a JSON object on the first line, then an empty one
tap-ctl stats -p "$pid" -m 0 >stats
equal "$(wc -l <stats)" 2
equal "$(sed -n 2p stats)" ""
grep -qxE '\{ "name": "aio:[^"]*", "secs": \[ [0-9]+, [0-9]+ \], "images": \[ \{ "name": "[^"]*", "hits": \[ [0-9]+, [0-9]+ \], "fail": \[ 0, 0 \], "driver": \{ "type": 0, "name": "aio", "status": \{ "reqs": \{ "max": [0-9]+, "pending": 0 \} \} \} \} \], "FIX'"ME"'_enospc_redirect_count": 0, "nbd_mirror_failed": 0, "reqs_outstanding": 0, "read_caching": "false" \}' stats ||
	fail "stats: $(cat stats)"

# JSON for new programs
tap-ctl list --json >json
contains json "\"pid\":$pid,\"minor\":0,\"state\":0,\"args\":\"aio:$tmp/a.raw\""
contains json '"type":"aio"'
contains json '"size":1048576'
contains json '{"minor":2}'
tap-ctl stats -p "$pid" -m 0 --json >json
contains json '"state":"running"'
if command -v python3 >/dev/null; then
	tap-ctl list --json | python3 -c 'import json, sys; json.load(sys.stdin)'
	tap-ctl doctor --json | python3 -c 'import json, sys; json.load(sys.stdin)'
fi

# The parsers that are out there, as patterns.
tap-ctl list -m 0 >row
# key=value, split at blanks at most thrice, each with one '='; numbers
grep -qE '^pid=[0-9]+ minor=[0-9]+ state=(0|0x[0-9a-f]+) args=(aio|vhd):[^=]+$' row
# rest of the line is the image
equal "$(sed 's/.*args=[^:]*://' row)" "$tmp/a.raw"
# the last pid= and minor= word of a line split at blanks and commas
equal "$(tr ' ,' '\n\n' <row | sed -n 's/^pid=//p' | tail -n 1)" "$pid"
equal "$(tr ' ,' '\n\n' <row | sed -n 's/^minor=//p' | tail -n 1)" 0
# the NBD socket that goes with them
[ -S "$BLKTAP_RUNDIR/nbd$pid.0" ] || fail "no NBD socket"
find "$BLKTAP_RUNDIR" -name 'nbd*' | grep -qE '/nbd[0-9]+\.0$'
# who scans processes looks for argv[0] and no other
equal "$(tr '\0' '\n' <"/proc/$pid/cmdline" | head -n 1)" tapdisk

# create, destroy
path=$(tap-ctl create -a "aio:$tmp/a.raw" -R)
equal "$path" "${marks}3"
tap-ctl list -m 3 | grep -qE "^pid=[0-9]+ minor=3 state=0 args=aio:$tmp/a.raw\$"
other=$(tap-ctl list -m 3 | sed 's/pid=\([0-9]*\).*/\1/')
silent tap-ctl destroy -p "$other" -m 3
equal "$(tap-ctl list -m 3)" ""
[ ! -e "$path" ] || fail "$path is left"

silent tap-ctl close -p "$pid" -m 0
silent tap-ctl detach -p "$pid" -m 0
silent tap-ctl free -m 0
silent tap-ctl destroy -p "$pid" -m 1
silent tap-ctl free -m 2
equal "$(tap-ctl list)" ""
