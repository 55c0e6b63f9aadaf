#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk that is served by TLS is there for the clients of others, and for nobody
# in the clear where it is required; who may not come in is told why, and so is
# our log.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/tls-functions.sh"
requires nbdinfo nbdcopy qemu-img
requires_tls

make_key alice >keys.psk
make_key bob >bob.psk
make_key alice >wrong.psk
cat bob.psk >>keys.psk
make_authority "$tmp/pki"
make_authority "$tmp/other"
make_certificate "$tmp/pki" "$tmp/pki" server DNS:localhost,IP:127.0.0.1
make_certificate "$tmp/pki" "$tmp/pki" client DNS:us
make_certificate "$tmp/other" "$tmp/other" client DNS:others
mkdir bare
cp pki/ca-cert.pem bare
make_image in.raw 8388608

tapdisk_pid=
stop_serving_tls()
{
	[ -z "$tapdisk_pid" ] || kill "$tapdisk_pid" || :
	[ -z "$tapdisk_pid" ] || wait "$tapdisk_pid" || tapdisk_rc=$?
	tapdisk_pid=
}
cleanup_fn stop_serving_tls

# serve_tls OPTION... SPEC: at $tmp/s, its log in log; $shown is what it prints
serve_tls()
{
	stop_serving_tls
	tapdisk_rc=0
	: >shown
	tapdisk --log=info --unix "$tmp/s" "$@" >shown 2>log &
	tapdisk_pid=$!
	wait_for test -s shown
	shown=$(cat shown)
}

served_tls_well()
{
	stop_serving_tls
	equal "$tapdisk_rc" 0
	[ ! -e s ] || fail "the socket was left behind"
}

psk="socket=$tmp/s&tls-psk-file=$tmp"
pki="socket=$tmp/s&tls-certificates=$tmp"

# refused URI LOG: the client fails, and the log says why
refused()
{
	: >log
	fails timeout 20 nbdinfo --size "$1" >out 2>&1
	wait_for grep -qF -- "$2" log
}

# Keys: data goes in and comes out, over one connection and four.
truncate -s 8M disk.raw
serve_tls --tls=require --tls-psk keys.psk raw:disk.raw
equal "$shown" "nbds+unix:///?socket=$tmp/s"
nbdcopy in.raw "nbds+unix://alice@/?$psk/keys.psk"
nbdcopy --connections=1 "nbds+unix://bob@/?$psk/bob.psk" out.raw
cmp in.raw out.raw
nbdinfo --json "nbds+unix://alice@/?$psk/keys.psk" >info
contains info '"TLS": true'
refused "nbds+unix://alice@/?$psk/wrong.psk" \
	"the client has another key than ours for user 'alice'"
sed s/bob/carol/ bob.psk >carol.psk
refused "nbds+unix://carol@/?$psk/carol.psk" \
	"no user 'carol' in the file of keys (PSK)"
refused "nbds+unix:///?$pki/pki" "the client wants certificates"
# in the clear nothing is told, not even a list
fails nbdinfo --size "nbd+unix:///?socket=$tmp/s" 2>err
fails nbdinfo --list "nbd+unix:///?socket=$tmp/s" 2>err
served_tls_well
cmp in.raw disk.raw

# Certificates. Any client may come in, and one who wants to may do without TLS.
serve_tls --tls=on --tls-certificates pki raw:disk.raw
nbdcopy "nbds+unix:///?$pki/bare" out.raw
cmp in.raw out.raw
nbdcopy "nbd+unix:///?socket=$tmp/s" out.raw
cmp in.raw out.raw
served_tls_well

# Certificates of clients. Without a mode TLS is required.
serve_tls --tls-certificates pki --tls-verify-peer raw:disk.raw
nbdinfo --size "nbds+unix:///?$pki/pki" >size
contains size 8388608
refused "nbds+unix:///?$pki/bare" "the client has shown no certificate"
cp pki/ca-cert.pem other
refused "nbds+unix:///?$pki/other" \
	"the client's certificate is signed by nobody we trust"
fails nbdinfo --size "nbd+unix:///?socket=$tmp/s" 2>err
served_tls_well
revoke "$tmp/pki" "$tmp/pki/client-cert.pem"
serve_tls --tls-certificates pki --tls-verify-peer raw:disk.raw
refused "nbds+unix:///?$pki/pki" "the client's certificate was revoked"
served_tls_well
rm pki/ca-crl.pem

# qemu, by keys and by certificates
mkdir qemu
cp keys.psk qemu
qemu_image="driver=nbd,server.type=unix,server.path=$tmp/s,tls-creds=t0"
serve_tls --tls=require --tls-psk keys.psk raw:disk.raw
qemu-img convert -O raw --image-opts "$qemu_image" out.raw \
	--object "tls-creds-psk,id=t0,endpoint=client,dir=$tmp/qemu,username=bob"
cmp in.raw out.raw
served_tls_well
serve_tls --tls=require --tls-certificates pki --tls-verify-peer raw:disk.raw
qemu-img convert -O raw --image-opts "$qemu_image,tls-hostname=localhost" \
	--object "tls-creds-x509,id=t0,endpoint=client,dir=$tmp/pki" out.raw
cmp in.raw out.raw
served_tls_well

# Over TCP, where it is for; and by a command, which is told the address.
# shellcheck disable=SC2016 # $uri is the command's
tapdisk --tcp 127.0.0.1:0 --tls=require --tls-certificates pki --run '
	echo "$uri" >shown' raw:disk.raw
grep -q '^nbds+unix:///?socket=' shown || fail "$(cat shown)"
rm shown
tapdisk --tcp 127.0.0.1:0 --tls=require --tls-certificates pki \
	raw:disk.raw >shown 2>log &
tapdisk_pid=$!
wait_for test -s shown
nbdinfo --size "$(cat shown)/?tls-certificates=$tmp/bare" >size
contains size 8388608
stop_serving_tls

# By the daemon, which has another working directory; its unix socket stays as it
# was.
tap-ctl create -a "aio:$tmp/disk.raw" --tcp 127.0.0.1:0 --tls-psk keys.psk \
	>path 2>err || fail "$(cat err)"
pid=$(tap-ctl list | sed 's/pid=\([0-9]*\).*/\1/')
cleanup_fn stop_tapdisk "$pid" 0
tap-ctl list --json >json
contains json '"nbds://127.0.0.1:'
contains json '"nbd+unix:///?socket='
port=$(sed -n 's,.*"nbds://127.0.0.1:\([0-9]*\)".*,\1,p' json)
nbdinfo --size "nbds://bob@127.0.0.1:$port/?tls-psk-file=$tmp/bob.psk" >size
contains size 8388608
fails nbdinfo --size "nbd://127.0.0.1:$port" 2>err
tap-ctl destroy -p "$pid" -m 0
exits 22 tap-ctl create -a "aio:$tmp/disk.raw" --tls-psk keys.psk 2>err
contains err 'TLS is for TCP'
exits 22 tap-ctl create -a "aio:$tmp/disk.raw" --tcp 127.0.0.1:0 --tls=on 2>err
contains err 'needs something to show'
exits 22 tap-ctl create -a "aio:$tmp/disk.raw" --tcp 127.0.0.1:0 --tls=off 2>err
contains err 'TLS is on or require'
equal "$(tap-ctl list)" ""

# What cannot be, before a client comes
exits 2 tapdisk --tls=perhaps ram:1M 2>err
contains err '--tls is off, on or require'
fails tapdisk --tls=require ram:1M 2>err
contains err 'TLS needs something to show'
fails tapdisk --tls=off --tls-psk keys.psk ram:1M 2>err
contains err 'TLS is off'
fails tapdisk --tls-psk keys.psk --tls-certificates pki ram:1M 2>err
contains err 'by certificates and by PSK'
fails tapdisk --tls-psk none.psk ram:1M 2>err
contains err 'none.psk: No such file'
fails tapdisk --tls-certificates bare ram:1M 2>err
contains err 'bare/server-cert.pem: No such file'
cp -r pki odd
cp pki/client-key.pem odd/server-key.pem
fails tapdisk --tls-certificates odd ram:1M 2>err
contains err 'odd/server-key.pem: '
exits 2 tapdisk --tls=on 2>err
contains err 'goes with a disk'
