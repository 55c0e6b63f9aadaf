#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A start that does not come to its end leaves nothing: neither a minor nor a
# tapdisk, whether tap-ctl is told to end or the tapdisk does not come.
. "${srcdir:-.}/tests/shell/functions.sh"
requires python3

truncate -s 1M a.raw
nothing_left()
{
	[ -z "$(tap-ctl list)" ] &&
		[ -z "$(find "$BLKTAP_RUNDIR" ! -type d)" ]
}

# starts COMMANDS: what is started for a tapdisk does these first
starts()
{
	printf '#!/bin/sh\n%s\n' "$*" >program
	chmod +x program
}
real=$(command -v tapdisk)
TAPDISK=$tmp/program
export TAPDISK

echo '# told to end meanwhile, it takes back what it has made'
starts "kill -TERM \$PPID; exec '$real' \"\$@\""
exits 143 tap-ctl create "aio:$tmp/a.raw" >out
[ ! -s out ] || fail "it printed $(cat out)"
wait_for nothing_left
exits 143 tap-ctl spawn >out
[ ! -s out ] || fail "it printed $(cat out)"
wait_for nothing_left

echo '# and told twice, it ends'
starts 'while kill -TERM $PPID; do sleep 0.05; done 2>/dev/null'
exits 143 tap-ctl spawn
exits 143 tap-ctl create "aio:$tmp/a.raw"

echo '# one that hangs in its start goes with the process that waits for it'
# names of tapdisks that do not take calls: each is asked for a second
python3 - <<'END' &
import os, signal, socket

dir = os.environ["BLKTAP_RUNDIR"]
held = []
for n in range(2, 200):
    name = "%s/ctl%d" % (dir, n)
    server = socket.socket(socket.AF_UNIX)
    server.bind(name)
    server.listen(0)
    held.append(server)
    try:
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            client.connect(name)
            held.append(client)
    except BlockingIOError:
        pass
open("ready", "w").close()
signal.pause()
END
cleanup_fn kill $!
wait_for test -e ready
"$real" >out 2>&1 &
first=$!
has_child()
{
	second=$(tr -d ' ' <"/proc/$first/task/$first/children")
	[ "$second" ]
}
wait_for has_child
cleanup_fn kill -9 "$second"
kill -9 "$first"
wait_for process_gone "$second"
[ ! -s out ] || fail "it came: $(cat out)"
