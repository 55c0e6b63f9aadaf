# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# For tests of the nbd driver: servers of others, at $tmp/peer.

peer_pid=
peer_uri="nbd+unix:///?socket=$tmp/peer"
peer_log=$tmp/peer.log

peer_stop()
{
	[ -z "$peer_pid" ] || kill "$peer_pid" 2>/dev/null || :
	[ -z "$peer_pid" ] || wait "$peer_pid" || :
	peer_pid=
	rm -f "$tmp/peer"
}
cleanup_fn peer_stop

# peer COMMAND...: runs a server that listens at $tmp/peer; sets $peer_pid.
peer()
{
	rm -f "$tmp/peer"
	"$@" >>"$peer_log" 2>&1 &
	peer_pid=$!
	wait_for test -S "$tmp/peer"
}
