#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# An image may be called anything: it is opened, found, snapshotted, copied and
# mapped by its name, what is printed as JSON is JSON, and its chain can be opened
# by QEMU.
. "${srcdir:-.}/tests/shell/functions.sh"
requires python3 qemu-img

PATH=$builddir:$PATH
LC_ALL=C
export LC_ALL

# json COMMAND...: prints JSON, whatever is in it
json()
{
	"$@" >json 2>err || fail "$*: $(cat err)"
	python3 -m json.tool <json >formatted 2>&1 ||
		fail "$*: no JSON: $(cat json formatted)"
}

# lines COMMAND...: a JSON object a line
lines()
{
	"$@" >json 2>err || fail "$*: $(cat err)"
	python3 -m json.tool --json-lines <json >formatted 2>&1 ||
		fail "$*: no JSON: $(cat json formatted)"
}

# live NAME: a qcow2 of that name, in use
live()
{
	qcow-create -f qcow2 4M "./$1"
	start_tapdisk "qcow2:$1"
	equal "$(tap-ctl list -f "$tmp/$1")" \
		"pid=$pid minor=$minor state=0 args=qcow2:$tmp/$1"
	json tap-ctl list --json
	json tap-ctl stats -p "$pid" -m "$minor"
	json tap-ctl stats -p "$pid" -m "$minor" --json
	json tap-ctl job list -p "$pid" -m "$minor" --json
	json tap-ctl mason deps "$tmp/$1" -p "$pid"
	tap-ctl snapshot -p "$pid" -m "$minor" >out 2>err ||
		fail "snapshot of $1: $(cat err)"
	[ "$2" = raw ] || equal "$(cat out)" "$tmp/$1.snap1"
	json tap-ctl snapshot -p "$pid" -m "$minor" --json
	tap-ctl job start -p "$pid" -m "$minor" stream --base "${1##*/}.snap1" \
		--wait 2>err || fail "stream of $1: $(cat err)"
	json tap-ctl job list -p "$pid" -m "$minor" --json
	tap-ctl pause -p "$pid" -m "$minor"
	tap-ctl unpause -p "$pid" -m "$minor"
	json tap-ctl resize -p "$pid" -m "$minor" 8M --json
	tap-ctl destroy -p "$pid" -m "$minor"
	# the chain is there for us and for QEMU
	equal "$(tapdisk --run "nbdinfo --size \"\$uri\"" "qcow2:$1")" 8388608
	qemu-img info --backing-chain "./$1" >info ||
		fail "QEMU does not open $1"
	equal "$(grep -c '^backing file:' info)" 1
}

# chain NAME: a VHD of that name, and a child of it
chain()
{
	vhd-util create -n "./$1" -s 4
	vhd-util snapshot -n child.vhd -p "./$1" -e
	json vhd-util query -n "./$1" --json
	json vhd-util query -n child.vhd --json
	equal "$(vhd-util query -n child.vhd -p)" "$tmp/$1"
	lines vhd-util check -n child.vhd -p --json
	lines vhd-util scan -m './*.vhd' -p --json
	json vhd-util read -n child.vhd -p --json
	vhd-util coalesce -n child.vhd >out
	rm -f ./*.vhd
}

mkdir 'a b'
for name in 'a b/c d' 'quo"te' "apo'strophe" 'back\slash' 'größe' 'a=b,c' \
	'100%' '$HOME`id`' 'file:a' 'nbd:unix:b' 'paren(1)' '*' '-rf'; do
	echo "# $name"
	live "$name.qcow2" text
	chain "$name.vhd"
done
tab=$(printf '\t.')
for name in "new
line" "${tab%.}tab" "$(printf 'latin\377')"; do
	live "$name.qcow2" raw
done

echo '# a name as long as the protocol has room for'
long=$(head -c 300 /dev/zero | tr '\0' x)
room=$((255 - ${#tmp} - 5)) # "aio:" and a slash
if [ $room -le 255 ]; then
	name=$(printf '%s' "$long" | head -c $room)
	truncate -s 1M "$name"
	start_tapdisk "aio:$name"
	tap-ctl list -f "$tmp/$name" | grep -q "$name"
	tap-ctl destroy -p "$pid" -m "$minor"
	mv "$name" "${name}x"
	exits 36 tap-ctl create "aio:${name}x" 2>err
	contains err 'it has 256 bytes of 255 at most: File name too long'
fi

echo '# what describes a disk is found from where tap-ctl was called'
truncate -s 1M d.raw
echo "d :: disk(\"d\") -> raw($tmp/d.raw);" >d.mason
start_tapdisk mason:d.mason
equal "$(tap-ctl list)" \
	"pid=$pid minor=$minor state=0 args=mason:$tmp/d.mason"
json tap-ctl mason check --json d.mason
tap-ctl destroy -p "$pid" -m "$minor"

json tap-ctl doctor --json
cbt-util create -n 'l"og' -s 1048576
json cbt-util get -n 'l"og' --json
