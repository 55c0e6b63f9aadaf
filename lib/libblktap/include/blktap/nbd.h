/* SPDX-License-Identifier: BSD-3-Clause */
/* Serving a disk over NBD: fixed newstyle handshake and simple and structured
 * replies, as in the document "The NBD protocol" (doc/proto.md of the NBD
 * reference implementation). */
#ifndef BLKTAP_NBD_H
#define BLKTAP_NBD_H

#include <blktap/disk.h>

BLKTAP_BEGIN_DECLS

struct blktap_nbd_server;

/* Whether a client may begin TLS, or must, before it may ask for anything. */
enum blktap_nbd_tls {
	BLKTAP_NBD_TLS_OFF,
	BLKTAP_NBD_TLS_ON,
	BLKTAP_NBD_TLS_REQUIRE
};

struct blktap_nbd_options {
	size_t size; /* sizeof(struct blktap_nbd_options) */
	const char *unix_path; /* socket to make, mode 0600; or NULL */
	const char *host; /* TCP address to bind; NULL: no TCP */
	const char *port; /* TCP port or service; NULL: 10809 */
	const char *export_name; /* what LIST answers; NULL: "" */
	const char *description; /* of the export; NULL: none */
	bool any_name; /* accept every export name, not only export_name */
	bool read_only; /* even where the disk is writable */
	uint32_t max_clients; /* 0: 1024 */
	uint32_t client_memory; /* bytes a client's requests may hold; 0: 32 MiB
				 * and 64 KiB */
	/* TLS shows and believes what is in one of these, which are read at
	 * once: a directory of ca-cert.pem, server-cert.pem, server-key.pem and,
	 * where there is one, ca-crl.pem; or a file of keys that both sides know
	 * (PSK), lines of "user:hexadecimal key". */
	const char *tls_certificates;
	const char *tls_psk;
	enum blktap_nbd_tls tls;
	bool tls_verify_peer; /* clients need a certificate that ca-cert.pem
			       * signed */
};

/* Fills options with the defaults, size included: as many bytes as the caller's
 * headers have. Since 0.1. */
BLKTAP_API void blktap_nbd_options_init_sized(
	struct blktap_nbd_options *options, size_t size);
static inline void blktap_nbd_options_init(struct blktap_nbd_options *options)
{
	blktap_nbd_options_init_sized(options, sizeof(*options));
}

/* Offers disk to NBD clients, at once. A stale socket at unix_path is replaced,
 * a live one is refused with -EADDRINUSE, a disk that is being closed with
 * -ESHUTDOWN. The server must be destroyed before its disk is closed. Since 0.1. */
BLKTAP_API int blktap_nbd_server_create(
	struct blktap_disk *disk, const struct blktap_nbd_options *options,
	struct blktap_nbd_server **out, struct blktap_error **err);

/* Stops listening, removes the socket file, answers the requests in flight (with
 * ESHUTDOWN those that wait for a paused disk), ends every connection, and frees
 * the server; NULL is fine. A client that takes no replies is waited for at most
 * two seconds. Returns 0 or a negative errno, and then the server stays: -EDEADLK
 * from inside a callback. Since 0.1. */
BLKTAP_API int blktap_nbd_server_destroy(struct blktap_nbd_server *server);

/* "nbd+unix:///?socket=/path" or "nbd://host:port", as the NBD URI document has
 * it, with nbds where there is TLS; owned by server. Since 0.1. */
BLKTAP_API const char *blktap_nbd_server_get_uri(
	const struct blktap_nbd_server *server);

/* Connections at present, those in the handshake included. Since 0.1. */
BLKTAP_API uint32_t
blktap_nbd_server_get_clients(const struct blktap_nbd_server *server);

BLKTAP_END_DECLS

#endif
