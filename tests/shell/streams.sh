#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A program whose output gets lost says so by its exit status, and what it made and
# nobody was told of goes again; standard streams that are closed are no files of
# its own, so no word of it gets into an image.
. "${srcdir:-.}/tests/shell/functions.sh"
requires python3

PATH=$builddir:$PATH
make_image a.raw 1048576
cp a.raw b.raw
vhd-util create -n a.vhd -s 4

# lost STATUS COMMAND...: there is no room for what it prints, or no output at all
lost()
{
	lost_status=$1
	shift
	exits "$lost_status" "$@" 2>err >/dev/full
	contains err "cannot write its output: No space left on device (ENOSPC)"
	contains err 'hint: standard output is full or closed'
	lost_rc=0
	"$@" 2>err >&- || lost_rc=$?
	[ "$lost_rc" != 0 ] || fail "closed output, and status 0: $*"
	contains err 'cannot write its output: Bad file descriptor (EBADF)'
}

lost 28 tap-ctl --help
lost 28 tap-ctl --version
lost 28 tap-ctl list --json
lost 28 tap-ctl list --help
lost 28 tap-ctl doctor
lost 28 tap-ctl doctor --json
lost 28 tapdisk --help
lost 28 tapdisk --version
lost 28 vhd-util --help
lost 28 vhd-util query -n a.vhd -v
lost 28 vhd-util scan -m '*.vhd'
lost 28 vhd-util check -n a.vhd
lost 28 td-util query vhd -v a.vhd
lost 28 cbt-util --help
lost 28 img2qcow --help
lost 28 qcow2raw --help
lost 28 qcow-create --help

echo '# what nobody was told of is not left behind'
lost 28 tap-ctl allocate
lost 28 tap-ctl spawn
lost 28 tap-ctl create "aio:$tmp/a.raw"
lost 28 tapdisk
lost 28 tapdisk raw:a.raw
nothing_left()
{
	[ -z "$(tap-ctl list)" ] &&
		[ -z "$(find "$BLKTAP_RUNDIR" ! -type d)" ]
}
wait_for nothing_left

echo '# nor where the reader has gone'
mkfifo gone
exec 8<>gone 9>gone 8<&-
for verb in allocate spawn "create aio:$tmp/a.raw"; do
	# shellcheck disable=SC2086 # a command and its word
	exits 32 tap-ctl $verb 2>err >&9
	contains err 'cannot write its output: Broken pipe (EPIPE)'
done
exec 9>&-
wait_for nothing_left

echo '# an earlier error is what counts'
exits 2 tap-ctl create "aio:$tmp/none" >/dev/full 2>err
contains err 'No such file or directory'

echo '# whichever streams are closed, images have their bytes'
start_tapdisk "aio:$tmp/a.raw"
python3 - "$tmp/a.raw" "$tmp/b.raw" <<'END'
import itertools, os, subprocess, sys

def run(closed, *argv):
    def close():
        for fd in closed:
            os.close(fd)
    subprocess.run(argv, preexec_fn=close, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   timeout=60)

for n in range(1, 4):
    for closed in itertools.combinations((0, 1, 2), n):
        run(closed, "tapdisk", "--run", "echo out; echo err >&2",
            "raw:b.raw")
        run(closed, "tapdisk", "--log", "debug", "--run", "true", "raw:b.raw")
        run(closed, "tapdisk", "--run", "true", "vhd:b.raw")
        run(closed, "vhd-util", "query", "-n", "b.raw", "-v")
        run(closed, "vhd-util", "repair", "-n", "b.raw")
        run(closed, "img2qcow", "b.raw", "b.raw")
        run(closed, "qcow2raw", "b.raw", "b.raw")

# it is in use, which takes a second to find
run((2,), "tapdisk", "raw:a.raw")
run((1, 2), "tap-ctl", "map", "a.raw")
END
seq 1000000000 | head -c 1048576 | cmp - a.raw
cmp a.raw b.raw
