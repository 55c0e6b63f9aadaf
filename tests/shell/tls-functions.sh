# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# For tests of TLS: keys that both sides know, and an authority with its
# certificates, below $tmp.

# Skips where the library was built without GnuTLS.
requires_tls()
{
	requires openssl
	make_key alice >requires_tls.psk
	tapdisk --tls=on --tls-psk=requires_tls.psk --run true ram:1M \
		2>requires_tls.err && return
	grep -q 'TLS is not built' requires_tls.err && skip "TLS is not built"
	fail "$(cat requires_tls.err)"
}

# make_key USER: a line for a file of keys
make_key()
{
	echo "$1:$(openssl rand -hex 32)"
}

# make_authority DIR: DIR/ca-cert.pem, and what signs by it
make_authority()
{
	mkdir -p "$1/ca"
	: >"$1/ca/index"
	echo 01 >"$1/ca/serial"
	echo 01 >"$1/ca/crlnumber"
	cat >"$1/ca/conf" <<END
[ca]
default_ca = it
[it]
database = $1/ca/index
serial = $1/ca/serial
crlnumber = $1/ca/crlnumber
new_certs_dir = $1/ca
certificate = $1/ca-cert.pem
private_key = $1/ca/key
default_md = sha256
default_days = 2
default_crl_days = 2
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = dn
[dn]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
END
	logged_openssl "$1" req -x509 -newkey rsa:2048 -nodes -days 2 \
		-subj /CN=authority -extensions authority \
		-config "$1/ca/conf" -keyout "$1/ca/key" -out "$1/ca-cert.pem"
}

logged_openssl()
{
	logged_openssl_dir=$1
	shift
	openssl "$@" >"$logged_openssl_dir/ca/log" 2>&1 ||
		fail "$(cat "$logged_openssl_dir/ca/log")"
}

# make_certificate AUTHORITY DIR server|client NAMES [OPTION...]: DIR/WHO-cert.pem
# and its key, with the authority's own certificate beside them
make_certificate()
{
	make_certificate_ca=$1
	make_certificate_dir=$2
	make_certificate_who=$2/$3
	make_certificate_names=$4
	shift 4
	mkdir -p "$make_certificate_dir"
	[ -e "$make_certificate_dir/ca-cert.pem" ] ||
		cp "$make_certificate_ca/ca-cert.pem" "$make_certificate_dir"
	logged_openssl "$make_certificate_ca" req -new -newkey rsa:2048 -nodes \
		-subj "/CN=somebody" -config "$make_certificate_ca/ca/conf" \
		-addext "subjectAltName=$make_certificate_names" \
		-keyout "$make_certificate_who-key.pem" \
		-out "$make_certificate_ca/ca/csr"
	logged_openssl "$make_certificate_ca" ca -batch -notext \
		-config "$make_certificate_ca/ca/conf" "$@" \
		-in "$make_certificate_ca/ca/csr" \
		-out "$make_certificate_who-cert.pem"
}

# revoke AUTHORITY CERTIFICATE: in AUTHORITY/ca-crl.pem
revoke()
{
	logged_openssl "$1" ca -config "$1/ca/conf" -revoke "$2"
	logged_openssl "$1" ca -config "$1/ca/conf" -gencrl \
		-out "$1/ca-crl.pem"
}
