# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# For tests of the NBD server with a program of its own, tests/nbd-serve.

stop_serving()
{
	[ -z "$serve_pid" ] || kill "$serve_pid" 2>/dev/null || :
	[ -z "$serve_pid" ] || wait "$serve_pid" || serve_rc=$?
	serve_pid=
}

serves_or_ended()
{
	[ -s uri ] || process_gone "$serve_pid"
}

# serve SPEC [OPTION...]: sets $uri, $socket and $serve_pid.
serve()
{
	serve_spec=$1
	shift
	socket=$tmp/nbd
	serve_rc=0
	rm -f uri
	"$builddir/tests/nbd-serve" "$@" "$socket" "$serve_spec" >uri \
		2>serve.err &
	serve_pid=$!
	cleanup_fn stop_serving
	wait_for serves_or_ended
	[ -s uri ] || fail "$serve_spec is not served: $(cat serve.err)"
	uri=$(head -n 1 uri)
	export uri socket
}

# The server ends well and leaves no socket.
served_well()
{
	stop_serving
	equal "$serve_rc" 0
	[ ! -e "$socket" ] || fail "$socket was left behind"
}
