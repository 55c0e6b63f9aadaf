#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A start that does not come to its end leaves nothing: neither a minor nor a
# tapdisk, whether tap-ctl is told to end or the tapdisk does not come.
. "${srcdir:-.}/tests/shell/functions.sh"

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
