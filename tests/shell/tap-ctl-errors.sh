#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What goes wrong ends with the errno as exit status, the system's words for it
# on standard error, nothing on standard output, and nothing left behind.
. "${srcdir:-.}/tests/shell/functions.sh"

truncate -s 1M a.raw
truncate -s 2M b.raw
: >empty
mkdir directory

# refused STATUS TEXT COMMAND...
refused()
{
	refused_status=$1
	refused_text=$2
	shift 2
	exits "$refused_status" "$@" >out 2>err
	contains err "$refused_text"
	[ ! -s out ] || fail "$* printed on standard output: $(cat out)"
}

hinted()
{
	contains err "hint: $1"
}

# usage
exits 2 tap-ctl >out 2>err
contains err 'COMMAND := {'
refused 2 "unknown command 'pasue'" tap-ctl pasue
hinted "did you mean 'pause'?"
refused 2 'unknown command' tap-ctl zzzzzzzz
refused 22 'Invalid argument' tap-ctl attach -m 0
contains err 'usage: tap-ctl attach -p PID -m MINOR'
refused 22 'Invalid argument' tap-ctl attach -p abc -m 0
contains err "'abc' is not a number"
refused 22 'Invalid argument' tap-ctl attach -p 12x -m 0
refused 22 'Invalid argument' tap-ctl attach -p -1 -m 0
refused 22 'Invalid argument' tap-ctl attach -p 99999999999 -m 0
refused 22 'Invalid argument' tap-ctl free -m 16384
refused 22 'Invalid argument' tap-ctl free -m ''
refused 22 "'-z' is unknown" tap-ctl list -z
refused 22 "'--tipe' is unknown" tap-ctl list --tipe aio
hinted "did you mean '--type'?"
refused 22 'needs a value' tap-ctl list -p
refused 22 'not wanted here' tap-ctl list surplus
refused 95 'Operation not supported' tap-ctl allocate -d /dev/x
hinted 'leave --device away'
refused 2 "option '--rundir' stands before the command" \
	tap-ctl --rundir /x list
hinted 'the command comes first: tap-ctl COMMAND --rundir'

# no tapdisk
refused 2 'No such file or directory' tap-ctl attach -p 4000000 -m 0
contains err 'tapdisk 4000000 is not running'
hinted 'tap-ctl list'
for verb in detach close pause unpause stats; do
	refused 2 'No such file or directory' tap-ctl $verb -p 4000000 -m 0
done
refused 2 'No such file or directory' tap-ctl open -p 4000000 -m 0 -a aio:/x

# minors
pid=$(tap-ctl spawn)
tap-ctl allocate >/dev/null
cleanup_fn stop_tapdisk "$pid" 0
refused 22 'minor 5 is not allocated' tap-ctl attach -p "$pid" -m 5
tap-ctl attach -p "$pid" -m 0
refused 17 'File exists' tap-ctl attach -p "$pid" -m 0
refused 11 'Resource temporarily unavailable' tap-ctl free -m 0
refused 2 'No such file or directory' tap-ctl free -m 9
other=$(tap-ctl spawn)
cleanup_fn stop_tapdisk "$other" 1
refused 16 'Device or resource busy' tap-ctl attach -p "$other" -m 0
for verb in detach close pause unpause stats; do
	refused 19 'No such device' tap-ctl $verb -p "$pid" -m 7
	contains err "minor 7 is not attached to tapdisk $pid"
done
refused 19 'No such device' tap-ctl stats -p "$pid" -m 7 --json
refused 19 'no image is open' tap-ctl stats -p "$pid" -m 0
refused 19 'No such device' tap-ctl open -p "$pid" -m 7 -a "aio:$tmp/a.raw"

# images
open()
{
	tap-ctl open -p "$pid" -m 0 "$@"
}
refused 2 'No such file or directory' open -a "aio:$tmp/none"
contains err "$tmp/none"
refused 2 'No such file or directory' open -a "zzz:$tmp/a.raw"
contains err 'zzz'
hinted 'there are raw vhd qcow'
refused 2 'No such file or directory' open -a "rawx:$tmp/a.raw"
contains err hint:
refused 22 'Invalid argument' open -a "$tmp/a.raw"
refused 22 'Invalid argument' open
for type in sync vmdk vhdsync; do
	refused 38 'Function not implemented' open -a "$type:$tmp/a.raw"
	hinted 'use raw'
done
refused 2 "there is no argument 'diskard'" open -a "raw(a.raw, diskard=unmap)"
hinted "did you mean 'discard'?"
refused 2 "there is no argument 'x'" open -a "raw(a.raw, x=1)"
hinted 'there are path '
refused 111 'nbd://127.0.0.1:1/x: cannot connect' open -a nbd://127.0.0.1:1/x
truncate -s 2M large.mason
refused 22 'is larger than 1M, and so no graph' open -a "mason:$tmp/large.mason"
hinted 'it is text that describes a graph'
refused 36 'File name too long' open -a "aio:/$(printf '%0300d' 0)"
# what the length of a directory and an empty file are is the driver's
exits 21 open -a "aio:$tmp/directory" 2>err || cat err
contains err directory
fails open -a "aio:$tmp/empty" 2>err
contains err 'hint:'
equal "$(tap-ctl list -m 0)" "pid=$pid minor=0 state=0"

# addresses, and logs
for port in 65536 99999 4294967296; do
	refused 22 "port $port: is no port" \
		open -a "aio:$tmp/a.raw" --tcp "localhost:$port"
	hinted 'give a number up to 65535'
done
refused 99 'Cannot assign requested address' \
	open -a "aio:$tmp/a.raw" --tcp 192.0.2.1:10809
hinted 'name an address that this machine has'
refused 2 'No such file or directory' open -a "aio:$tmp/a.raw" -C "$tmp/none"
hinted 'make it: cbt-util create'

# permission; root may do what it likes
if [ "$(id -u)" != 0 ]; then
	chmod 0 b.raw
	refused 13 'Permission denied' open -a "aio:$tmp/b.raw"
	chmod 600 b.raw
fi

# what is not supported is never ignored
printf '%032d' 0 >key
refused 95 'Operation not supported' open -a "aio:$tmp/a.raw" -s
hinted ''
exits 95 open -a "aio:$tmp/a.raw" -E <key 2>err
contains err 'is not encrypted'
exits 1 open -a "aio:$tmp/a.raw" -E </dev/null 2>err
contains err 'Unsupported keysize, use either 256 bit or 512 bit key'

# nobody goes on with a disk that was in the memory of a tapdisk that died
printf 'd :: disk("x") -> slice(offset=0, size=1M) -> r :: ram(2M);\n' >r.mason
for spec in ram:4M "mason:$tmp/r.mason"; do
	tap-ctl allocate >/dev/null
	printf 'flags=0\ntimeout=120\nargs=%s\nend\n' "$spec" \
		>"$BLKTAP_RUNDIR/tapdisk/tapdisk-1"
	tap-ctl attach -p "$pid" -m 1
	refused 61 'was in its memory' tap-ctl open -p "$pid" -m 1 -a "$spec"
	hinted 'detach and free the minor'
	equal "$(tap-ctl list -m 1)" "pid=$pid minor=1 state=0"
	tap-ctl detach -p "$pid" -m 1
	tap-ctl free -m 1
done

# open
open -a "aio:$tmp/a.raw"
refused 114 'Operation already in progress' open -a "aio:$tmp/b.raw"
refused 16 'Device or resource busy' tap-ctl detach -p "$pid" -m 0
refused 22 'Invalid argument' tap-ctl unpause -p "$pid" -m 0
contains err 'not paused'
tap-ctl pause -p "$pid" -m 0
tap-ctl pause -p "$pid" -m 0
refused 2 'No such file or directory' tap-ctl unpause -p "$pid" -m 0 \
	-a "aio:$tmp/none"
equal "$(tap-ctl list -m 0)" "pid=$pid minor=0 state=0x2a args=aio:$tmp/a.raw"
tap-ctl unpause -p "$pid" -m 0

# one image, two writers
tap-ctl allocate >/dev/null
tap-ctl attach -p "$other" -m 1
exits 16 tap-ctl open -p "$other" -m 1 -a "aio:$tmp/a.raw" 2>err
contains err "$tmp/a.raw: the image is in use by another program"
contains err 'hint:'
tap-ctl close -p "$pid" -m 0
tap-ctl close -p "$pid" -m 0
tap-ctl open -p "$other" -m 1 -a "aio:$tmp/a.raw"
tap-ctl destroy -p "$other" -m 1
wait_for process_gone "$other"

# a create that fails leaves neither process nor minor
before=$(tap-ctl list)
refused 2 'No such file or directory' tap-ctl create -a "aio:$tmp/none"
equal "$(tap-ctl list)" "$before"
refused 95 'Operation not supported' tap-ctl create -a "aio:$tmp/a.raw" -s
equal "$(tap-ctl list)" "$before"
equal "$(find "$BLKTAP_RUNDIR" -name 'ctl*' | wc -l)" 1
tap-ctl detach -p "$pid" -m 0
tap-ctl free -m 0
wait_for process_gone "$pid"
equal "$(find "$BLKTAP_RUNDIR" ! -type d)" ""

# the runtime directory
long=/tmp/$(printf '%0100d' 0)
refused 36 'File name too long' tap-ctl list --rundir "$long"
hinted 'choose a shorter'
refused 36 'File name too long' tap-ctl spawn --rundir "$long"
refused 36 'File name too long' tapdisk -D --rundir "$long"
: >file
refused 20 'Not a directory' tap-ctl allocate --rundir "$tmp/file"
refused 20 'Not a directory' tap-ctl spawn --rundir "$tmp/file"
refused 2 'No such file or directory' tap-ctl spawn --rundir "$tmp/no/such"
mkdir -m 0777 open
chmod 0777 open
refused 1 'Operation not permitted' tap-ctl allocate --rundir "$tmp/open"
chmod 0770 open
refused 1 'Operation not permitted' tap-ctl allocate --rundir "$tmp/open"
contains err 'chmod go-w'
fails tap-ctl doctor --rundir "$tmp/open" >doctor
contains doctor 'chmod go-w'
if [ "$(id -u)" = 0 ]; then
	chmod 0700 "$tmp/open"
	chown 65534 "$tmp/open"
	fails tap-ctl doctor --rundir "$tmp/open" >doctor
	contains doctor "it is another user's"
	refused 1 'Operation not permitted (EPERM)' \
		tap-ctl spawn --rundir "$tmp/open"
	fails grep -F '(EPERM) (EPERM)' err
fi
if [ "$(id -u)" != 0 ]; then
	mkdir -m 0500 closed
	refused 13 'Permission denied' tap-ctl allocate --rundir "$tmp/closed"
	hinted 'run as root, or name a directory of your own'
fi

# no tapdisk to spawn
refused 2 'No such file or directory' env TAPDISK="$tmp/none" tap-ctl spawn
hinted 'name the program'
refused 5 '/bin/true did not say where it listens' \
	env TAPDISK=/bin/true tap-ctl spawn
hinted 'see whether TAPDISK names a tapdisk'

# tapdisk's own
refused 22 "engine 'io_urin' is unknown" tapdisk --engine io_urin raw:a.raw
hinted 'did you mean io_uring'
for t in 1001 -1 x 1x ''; do
	refused 22 "poll time '$t' is none" tapdisk --poll "$t" raw:a.raw
	hinted 'use 0 to 1000 microseconds'
done
refused 22 "log level 'loud' is unknown" tapdisk --log loud raw:a.raw
refused 2 'Invalid argument' tapdisk --unx /tmp/x raw:a.raw
hinted "did you mean '--unix'?"
refused 2 'No such file or directory' tapdisk raw:none
refused 22 'Invalid argument' tapdisk --tcp 10809 raw:a.raw
refused 22 'is no port' tapdisk --tcp 127.0.0.1:99999 raw:a.raw
for option in --run --unix --tcp --export; do
	refused 2 "$option goes with a disk" tapdisk $option x
done
for option in -R --buffered --force; do
	refused 2 'goes with a disk' tapdisk $option
done
equal "$(find "$BLKTAP_RUNDIR" ! -type d)" ""

# kernel ring: none here
if [ ! -e /sys/class/blktap2 ] && ! grep -q blktap /proc/misc; then
	for verb in check major; do
		exits 38 tap-ctl $verb >out 2>err
		equal "$(cat out)" 'blktap kernel module not installed'
	done
	exits 38 tap-ctl check --json >out
	equal "$(cat out)" '{"kernel_ring":false}'
fi

# what was written last to an export is not lost without a word
cat >x.mason <<END
d :: disk("d") -> raw("$tmp/a.raw");
e :: export("e") -> fault(rules="flush EIO") -> raw("$tmp/b.raw");
END
start_tapdisk "mason:$tmp/x.mason"
refused 5 'closed, but the last flush failed' \
	tap-ctl close -p "$pid" -m "$minor"
equal "$(tap-ctl list)" "pid=$pid minor=$minor state=0x2"
tap-ctl destroy -p "$pid" -m "$minor"
