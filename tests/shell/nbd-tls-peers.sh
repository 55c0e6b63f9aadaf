#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk that stands on a server of TLS: nbdkit, qemu-nbd and our own. What is
# written comes back; a server that is not the one that was meant is refused, by
# words; and one that is killed is connected to anew, by TLS.
. "${srcdir:-.}/tests/shell/functions.sh"
. "$srcdir/tests/shell/nbd-functions.sh"
. "$srcdir/tests/shell/nbd-peer-functions.sh"
. "$srcdir/tests/shell/tls-functions.sh"
requires nbdkit qemu-nbd nbdcopy fio
fio --enghelp=nbd >/dev/null 2>&1 || skip "needs fio's nbd engine"
requires_tls

make_key alice >keys.psk
make_key alice >wrong.psk
sed s/alice/bob/ keys.psk >bob.psk
make_authority "$tmp/pki"
make_authority "$tmp/other"
make_certificate "$tmp/pki" "$tmp/pki" server DNS:localhost,IP:127.0.0.1
make_certificate "$tmp/pki" "$tmp/pki" client DNS:us
mkdir bare qemu
cp pki/ca-cert.pem bare
cp keys.psk qemu

psk="nbds+unix://alice@/?socket=$tmp/peer&tls-psk-file=$tmp/keys.psk"
pki="nbds+unix:///?socket=$tmp/peer&tls-certificates=$tmp/pki"
make_image in.raw 8388608

# copied SPEC: data goes there and comes back
copied()
{
	serve "$1"
	nbdcopy in.raw "$uri"
	nbdcopy "$uri" out.raw
	cmp in.raw out.raw
	served_well
}

# refused URI TEXT: it cannot be opened, and the error says so
refused()
{
	fails timeout 20 tapdisk --run true "nbd:$1" 2>err
	contains err "$2"
}

# nbdkit
peer nbdkit -f -U "$tmp/peer" --tls=require --tls-psk=keys.psk memory 8M
copied "nbd:$psk"
copied "nbd(\"$psk\", connections=4)"
copied "nbd(\"nbds+unix:///?socket=$tmp/peer\", tls_psk=\"$tmp/keys.psk\", tls_user=alice)"
refused "nbd+unix:///?socket=$tmp/peer" "the server wants TLS"
contains err "write nbds in place of nbd"
refused "nbds+unix://bob@/?socket=$tmp/peer&tls-psk-file=$tmp/bob.psk" \
	"in the handshake of TLS"
contains err "does the server know this user, with this key?"
refused "nbds+unix://alice@/?socket=$tmp/peer&tls-psk-file=$tmp/wrong.psk" \
	"in the handshake of TLS"
refused "nbds+unix://carol@/?socket=$tmp/peer&tls-psk-file=$tmp/keys.psk" \
	"has no user 'carol'"
refused "nbds+unix:///?socket=$tmp/peer&tls-psk-file=$tmp/keys.psk" \
	"whose key of these?"
refused "$pki" "in the handshake of TLS"
peer_stop
peer nbdkit -f -U "$tmp/peer" --tls=require --tls-certificates="$tmp/pki" \
	memory 8M
copied "nbd:$pki"
refused "$psk" "the server has certificates, and takes no keys (PSK)"
refused "nbds+unix:///?socket=$tmp/peer&tls-certificates=$tmp/other" \
	"the server's certificate is signed by nobody we trust"
contains err "tls-certificates=DIR names the directory"
refused "nbds+unix:///?socket=$tmp/peer" "is signed by nobody we trust"
refused "$pki&tls-hostname=elsewhere" \
	"the server's certificate is not for 'elsewhere'"
contains err "tls-hostname=NAME says whose certificate it should be"
copied "nbd:nbds+unix:///?socket=$tmp/peer&tls-verify-peer=false"
peer_stop
peer nbdkit -f -U "$tmp/peer" --tls=require --tls-certificates="$tmp/pki" \
	--tls-verify-peer memory 8M
copied "nbd:$pki"
refused "nbds+unix:///?socket=$tmp/peer&tls-certificates=$tmp/bare" \
	"the server closed the connection right after the handshake of TLS"
peer_stop
# in the clear is never tried
peer nbdkit -f -U "$tmp/peer" memory 8M
refused "$pki" "the server has no TLS"
peer_stop

# certificates that are no more, or not yet
make_certificate "$tmp/pki" "$tmp/old" server DNS:localhost \
	-startdate 20200101000000Z -enddate 20200201000000Z
peer nbdkit -f -U "$tmp/peer" --tls=require --tls-certificates="$tmp/old" \
	memory 1M
refused "$pki" "the server's certificate has expired"
peer_stop
make_certificate "$tmp/pki" "$tmp/early" server DNS:localhost \
	-startdate 20450101000000Z -enddate 20460101000000Z
peer nbdkit -f -U "$tmp/peer" --tls=require --tls-certificates="$tmp/early" \
	memory 1M
refused "$pki" "the server's certificate is not valid yet"
peer_stop

# qemu-nbd
truncate -s 8M disk.raw
peer qemu-nbd -t -e 8 -k "$tmp/peer" -f raw --tls-creds t0 --object \
	"tls-creds-psk,id=t0,endpoint=server,dir=$tmp/qemu" disk.raw
copied "nbd(\"$psk\", connections=2)"
# what is no matter of TLS has its own words
refused "nbds+unix://alice@/none?socket=$tmp/peer&tls-psk-file=$tmp/keys.psk" \
	"has no such export"
contains err "nbdinfo --list tells"
peer_stop
cmp in.raw disk.raw
peer qemu-nbd -t -e 8 -k "$tmp/peer" -f raw --tls-creds t0 --object \
	"tls-creds-x509,id=t0,endpoint=server,dir=$tmp/pki,verify-peer=on" \
	disk.raw
copied "nbd:$pki"
peer_stop

# our own, opened inside of a daemon's callback, and over TCP
peer tapdisk --unix "$tmp/peer" --tls=require --tls-certificates pki \
	--tls-verify-peer raw:disk.raw
start_tapdisk "nbd:$pki"
nbdcopy "$uri" out.raw
cmp in.raw out.raw
tap-ctl destroy -p "$pid" -m "$minor"
peer_stop
tapdisk --tcp 127.0.0.1:0 --tls=require --tls-certificates pki \
	raw:disk.raw >shown &
peer_pid=$!
wait_for test -s shown
copied "nbd:$(cat shown)/?tls-certificates=$tmp/bare"
refused "$(sed s/127.0.0.1/localhost/ shown)/?tls-certificates=$tmp/bare&tls-hostname=x" \
	"is not for 'x'"
peer_stop

# killed and started again, with all kinds of requests under way
for kind in nbdkit ours; do
	truncate -s 0 disk.raw
	truncate -s 16M disk.raw
	start_peer()
	{
		case $kind in
		nbdkit)
			peer nbdkit -f -U "$tmp/peer" --tls=require \
				--tls-psk=keys.psk file disk.raw
			;;
		ours)
			peer tapdisk --unix "$tmp/peer" --tls=require \
				--tls-psk=keys.psk --buffered raw:disk.raw
			;;
		esac
	}
	start_peer
	serve "nbd(\"$psk\", connections=2, reconnect=20s)"
	fio --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=512-64k \
		--iodepth=16 --size=16M --name=x --verify=crc32c \
		--do_verify=1 --verify_state_save=0 --rate=8m >fio.log 2>&1 &
	fio_pid=$!
	for _ in 1 2 3; do
		sleep 0.3
		kill -9 "$peer_pid"
		wait "$peer_pid" || :
		start_peer
	done
	wait "$fio_pid" || fail "$kind: $(cat fio.log)"
	contains fio.log 'err= 0'
	served_well
	peer_stop
done
