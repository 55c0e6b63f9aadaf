#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The examples of libblktap(3) build as they stand, and do what is said of them.
. "${srcdir:-.}/tests/embed/embed.sh"
requires qemu-io
install_library

# example N: the Nth of the page
example()
{
	sed -n '/^=head1 EXAMPLES/,/^=head1 DESC/p' \
		"$srcdir/lib/libblktap/libblktap.pod" |
		awk -v n="$1" '/^[^ =]/ && !text { text = 1; at++ }
			/^ / { text = 0; if (at == n) print substr($0, 2) }'
}

# build NAME
build()
{
	# shellcheck disable=SC2046,SC2086 # flags are words
	${CC:-cc} -std=c99 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror \
		${SAN_CFLAGS:-} -o "$1" "$1.c" \
		$(pkg-config --cflags --libs blktap) || fail "$1.c does not build"
}

example 1 >serve.c
{
	echo '#include <blktap/blktap.h>'
	example 2
	echo 'int main(void)
	{
		static char memory[4096] = "by hand";
		struct blktap_context *context;
		struct blktap_control *unused;
		struct blktap_error *err = NULL;
		struct blktap_disk *disk;
		int rc;

		if (blktap_context_create(NULL, &context, &err) ||
		    blktap_disk_open(context, "qcow2:a.qcow2", NULL, &disk,
				     &err) ||
		    blktap_control_create(NULL, &unused, &err))
			return 1;
		blktap_control_destroy(unused);
		rc = write_block(context, disk, memory);
		{'
	example 3
	echo '		}
		rc = blktap_disk_close(disk) || rc;
		blktap_context_destroy(context);
		return rc;
	}
	int start(void);
	int start(void)
	{
		struct blktap_error *err = NULL;'
	example 4
	echo '		return minor;
	}'
} >parts.c
build serve
build parts

echo '# served until it is told to stop; nothing that was answered is lost'
"$builddir/qcow-create" -f qcow2 8M a.qcow2
./serve qcow2:a.qcow2 "$tmp/sock" >out &
pid=$!
cleanup_fn kill $pid
wait_for test -s out
equal "$(cat out)" "nbd+unix:///?socket=$tmp/sock"
qemu-io -t writeback -f raw -c 'write -P 7 1M 64k' "$(cat out)" >io ||
	fail "$(cat io)"
kill "$pid"
wait "$pid" || fail "it ended with status $?"
[ ! -e sock ] || fail "the socket is left"
exits 1 ./serve qcow2:none "$tmp/sock" 2>err
contains err 'hint: '

echo '# written, kept by a snapshot, and streamed'
./parts || fail "status $?"
[ -e a.qcow2.snap1 ] || fail "no snapshot"
mv a.qcow2.snap1 away
./serve qcow2:a.qcow2 "$tmp/sock" >out &
pid=$!
cleanup_fn kill $pid
wait_for test -S sock
wait_for qemu-io -f raw -c 'read -P 7 1M 64k' "$(cat out)"
qemu-io -f raw -c 'read -v 0 16' -c 'read -P 7 1M 64k' "$(cat out)" >io
contains io 'by.hand'
kill "$pid"
wait "$pid"
