/* SPDX-License-Identifier: BSD-3-Clause */
/* GnuTLS, loaded by who needs it when he needs it: linked, it and the six
 * libraries below it cost every process 2 MiB and its start a millisecond. */
#ifndef BT_UTIL_GNUTLS_H
#define BT_UTIL_GNUTLS_H

#ifdef HAVE_GNUTLS
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

/* The functions that are used, without their prefix. */
#define BT_GNUTLS_FUNCTIONS(x)                                             \
	x(cipher_init) x(cipher_deinit) x(cipher_set_iv) x(cipher_encrypt) \
		x(cipher_decrypt) x(cipher_encrypt2) x(cipher_decrypt2)    \
			x(hash_init) x(hash) x(hash_deinit) x(memset)      \
				x(strerror)

#define BT_GNUTLS_MEMBER(name) __typeof__(gnutls_##name) *name;

/* tls.cipher_init(..) is gnutls_cipher_init(..). */
struct bt_gnutls {
	void *library;
	BT_GNUTLS_FUNCTIONS(BT_GNUTLS_MEMBER)
};

/* -ENOTSUP where the library is not installed or lacks something. */
int bt_gnutls_load(struct bt_gnutls *tls);
/* Harmless where it was not loaded, if *tls is zeroed. */
void bt_gnutls_unload(struct bt_gnutls *tls);
#endif

#endif
