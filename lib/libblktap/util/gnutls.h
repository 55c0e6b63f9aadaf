/* SPDX-License-Identifier: BSD-3-Clause */
/* GnuTLS, loaded by who needs it when he needs it: linked, it and the six
 * libraries below it cost every process 2 MiB and its start a millisecond. */
#ifndef BT_UTIL_GNUTLS_H
#define BT_UTIL_GNUTLS_H

#ifdef HAVE_GNUTLS
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

/* The functions that are used, without their prefix. */
#define BT_GNUTLS_CIPHERS(x) \
	x(cipher_init);      \
	x(cipher_deinit);    \
	x(cipher_set_iv);    \
	x(cipher_encrypt);   \
	x(cipher_decrypt);   \
	x(cipher_encrypt2);  \
	x(cipher_decrypt2);  \
	x(hash_init);        \
	x(hash);             \
	x(hash_deinit);      \
	x(memset);           \
	x(strerror)

#define BT_GNUTLS_SESSIONS(x)              \
	x(init);                           \
	x(deinit);                         \
	x(handshake);                      \
	x(record_send);                    \
	x(record_recv);                    \
	x(bye);                            \
	x(alert_get);                      \
	x(alert_get_name);                 \
	x(alert_send_appropriate);         \
	x(priority_init);                  \
	x(priority_deinit);                \
	x(priority_set);                   \
	x(credentials_set);                \
	x(certificate_server_set_request); \
	x(session_set_verify_cert);        \
	x(session_get_verify_cert_status); \
	x(session_set_ptr);                \
	x(transport_set_ptr);              \
	x(transport_set_push_function);    \
	x(transport_set_pull_function);    \
	x(server_name_set);                \
	x(error_is_fatal)

#define BT_GNUTLS_CREDENTIALS(x)                \
	x(certificate_allocate_credentials);    \
	x(certificate_free_credentials);        \
	x(certificate_set_x509_trust_file);     \
	x(certificate_set_x509_system_trust);   \
	x(certificate_set_x509_crl_file);       \
	x(certificate_set_x509_key_file);       \
	x(psk_allocate_client_credentials);     \
	x(psk_free_client_credentials);         \
	x(psk_set_client_credentials);          \
	x(psk_allocate_server_credentials);     \
	x(psk_free_server_credentials);         \
	x(psk_set_server_credentials_function); \
	x(malloc)

#define BT_GNUTLS_FUNCTIONS(x) \
	BT_GNUTLS_CIPHERS(x);  \
	BT_GNUTLS_SESSIONS(x); \
	BT_GNUTLS_CREDENTIALS(x)

#define BT_GNUTLS_MEMBER(name) __typeof__(gnutls_##name) *name

/* tls.cipher_init(..) is gnutls_cipher_init(..). malloc is a variable there,
 * which the pointer leads to. */
struct bt_gnutls {
	void *library;
	BT_GNUTLS_FUNCTIONS(BT_GNUTLS_MEMBER);
};

/* -ENOTSUP where the library is not installed or lacks something. */
int bt_gnutls_load(struct bt_gnutls *tls);
/* Harmless where it was not loaded, if *tls is zeroed. */
void bt_gnutls_unload(struct bt_gnutls *tls);
/* gnutls_session_get_ptr, for callbacks that are told the session and nothing
 * else. NULL where the library is not loaded. */
void *bt_gnutls_get_ptr(gnutls_session_t session);
#endif

#endif
