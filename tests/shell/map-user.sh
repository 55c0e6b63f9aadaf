#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A user without privilege maps a disk where /dev/fuse is open to them, and is told
# what is missing where it is not.
. "${srcdir:-.}/tests/shell/functions.sh"
requires root fuse unshare setpriv mknod
unshare -m true 2>/dev/null || skip "needs a mount namespace of its own"
. "$srcdir/tests/shell/map-functions.sh"

# The programs where that user may read them, and a /dev/fuse of our own, which
# nobody outside sees.
mkdir user
chmod 0755 "$tmp"
cp "$(command -v tap-ctl)" "$BLKTAP_MAP" user
cp -L "$(ldd "$BLKTAP_MAP" | sed -n 's/.*=> \([^ ]*libblktap[^ ]*\) .*/\1/p')" \
	user
mknod -m 0666 user/fuse c 10 229 || skip "needs to make device nodes"
make_image user/a.raw 1048576
chown -R 65534:65534 user
cat >user/script <<'END'
set -eu
cd "$1"
export LD_LIBRARY_PATH=. BLKTAP_MAP=./blktap-map BLKTAP_RUNDIR=$1/run
if [ "$2" = shut ]; then
	if ./tap-ctl map a.raw || ./tap-ctl map --block a.raw; then
		exit 1
	fi
	[ -z "$(ls -A run/map)" ]
	exit 0
fi
file=$(./tap-ctl map a.raw)
cmp "$file" a.raw
printf 'by a user' | dd of="$file" conv=notrunc,fsync status=none
[ "$(head -c 9 a.raw)" = 'by a user' ]
exec 7<"$file"
status=0
./tap-ctl unmap a.raw || status=$?
[ "$status" = 75 ]
exec 7<&-
./tap-ctl unmap a.raw
[ -z "$(ls -A run/map)" ]
file=$(./tap-ctl map a.raw)
kill -9 "$(./tap-ctl map --list | sed 's/.*pid=\([0-9]*\).*/\1/')"
while ! ./tap-ctl map --list | grep dead; do :; done
./tap-ctl unmap a.raw
[ -z "$(ls -A run/map)" ]
if grep -F " $file " /proc/self/mounts; then
	exit 1
fi
END

# as_user NODE WAY
as_user()
{
	unshare -m sh -euc '
		mount --bind "$2" /dev/fuse
		exec setpriv --reuid=65534 --regid=65534 --clear-groups \
			sh "$1/script" "$1" "$3"' sh "$tmp/user" "$1" "$2"
}

as_user "$tmp/user/fuse" open >log 2>&1 || fail "$(cat log)"
contains log 'its daemon had died'
chmod 0600 user/fuse
chown 0:0 user/fuse
as_user "$tmp/user/fuse" shut >log 2>&1 || fail "$(cat log)"
contains log 'Permission denied (EACCES)'
contains log 'hint: run as root, or map it as a file'
