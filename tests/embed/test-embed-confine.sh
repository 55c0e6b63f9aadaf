#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A tapdisk that somebody has taken over, by a module that does what it can to get
# out, reaches no file but those of its disks, and makes no program, child, mount
# or strange socket.
# shellcheck disable=SC2016 # tapdisk's shell expands it
. "${srcdir:-.}/tests/embed/embed.sh"
requires qemu-img
tap-ctl doctor >doctor || :
grep -q '^ok *landlock' doctor || skip "the kernel has no Landlock"
grep -q '^ok *seccomp' doctor || skip "the kernel has no seccomp filters"
install_library
build_module escape
BLKTAP_MODULE_DIR=$tmp/modules
export BLKTAP_MODULE_DIR

mkdir disks secrets
truncate -s 4M disks/a.raw
echo secret >secrets/file
cat >disks/e.mason <<END
d :: disk("d") -> e :: escape(file="$tmp/secrets/file") -> raw($tmp/disks/a.raw);
END
sed "s,$tmp/secrets/file,/etc/shadow," disks/e.mason >disks/shadow.mason

# ask URI: prints what the module tells
ask()
{
	rm -f told
	qemu-img dd -U -f raw -O raw bs=512 count=1 "if=$1" of=told
	tr -d '\0' <told
}

# value NAME: what was told of it
value()
{
	sed -n "s/^\(.* \)\{0,1\}$1=\([0-9]*\).*/\2/p" told
}

# all_refused: the calls that a tapdisk never makes
all_refused()
{
	equal "$(value exec)" 1
	equal "$(value unix)" 0
	equal "$(value packet)" 1
	equal "$(value mount)" 1
	equal "$(value unshare)" 1
	equal "$(value user)" 1
	# the sanitizers' search for leaks is a child that traces
	case ${SAN_CFLAGS:-} in
	*address*) ;;
	*)
		equal "$(value fork)" 1
		equal "$(value ptrace)" 1
		;;
	esac
}

# serve NAME [OPTION...]: one disk, on ./s
serve()
{
	serve_name=$1
	shift
	tapdisk "$@" --unix "$tmp/s" "mason:$tmp/disks/$serve_name" >out &
	serving=$!
	cleanup_fn kill "$serving"
	wait_for grep -q "^nbd+unix" out
}

stop()
{
	kill -TERM "$serving"
	exits 0 wait "$serving"
	[ ! -e s ] || fail "the socket is left"
}

# The module can do what it tries where nothing is given up.
serve e.mason --confine=none
ask "nbd+unix:///?socket=$tmp/s"
equal "$(value read) $(value write) $(value make)" "0 0 0"
equal "$(value exec)" 2
equal "$(value fork)" 0
equal "$(value unshare)" 0
equal "$(value user)" 0
rm secrets/file.new
stop

# One disk: nothing at all once it is served.
for file in e shadow; do
	serve "$file.mason"
	ask "nbd+unix:///?socket=$tmp/s"
	equal "$(value read) $(value write) $(value make)" "13 13 13"
	all_refused
	stop
done
[ ! -e secrets/file.new ] || fail "it made a file"

# With a command, which itself is free.
tapdisk --run 'qemu-img dd -U -f raw -O raw bs=512 count=1 "if=$uri" of=told' \
	"mason:$tmp/disks/e.mason"
equal "$(value read) $(value write) $(value make)" "13 13 13"
all_refused

# The daemon: its disks' directory, but no other.
BLKTAP_CONFINE=$tmp/disks
export BLKTAP_CONFINE
start_tapdisk "mason:$tmp/disks/e.mason"
ask "$uri"
equal "$(value read) $(value write) $(value make)" "13 13 13"
all_refused

# The daemon that was told nothing reaches files, but the calls are gone.
unset BLKTAP_CONFINE
tap-ctl destroy -p "$pid" -m "$minor"
start_tapdisk "mason:$tmp/disks/e.mason"
ask "$uri"
equal "$(value read)" 0
all_refused
