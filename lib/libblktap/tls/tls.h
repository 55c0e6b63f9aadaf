/* SPDX-License-Identifier: BSD-3-Clause */
/* TLS between the owner of a connection and the network.
 *
 * A pump takes the network's socket and gives its owner one end of a pair of
 * sockets instead, which he uses as he used the other. Bytes go through a session
 * of TLS between the two, by the loop; what the owner sends before the handshake
 * is done waits for that. The end of either side is passed on when all that came
 * before it has been; a failure closes both, and there is a text that says why.
 *
 *   owner <- pair of sockets -> pump: session of TLS <- socket -> peer
 *
 * TLS 1.2 and newer. Without GnuTLS nothing can be created (-ENOTSUP). */
#ifndef BT_TLS_TLS_H
#define BT_TLS_TLS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct blktap_error;
struct bt_loop;
struct bt_tls;
struct bt_tls_creds;

/* ---- who we are, and whom we trust (creds.c) ------------------------------ */

/* Bytes that a connection takes at most, with the buffers of its handshake. */
#define BT_TLS_MEMORY (320u << 10)

struct bt_tls_files {
	bool is_server;
	/* One of the two; a client may have neither, and trusts whom the system
	 * trusts. Certificates: a directory with ca-cert.pem, ca-crl.pem,
	 * and {server,client}-{cert,key}.pem. */
	const char *certificates;
	const char *psk; /* a file of lines "user:key", the key hexadecimal */
	const char *user; /* a client's, of these */
	/* A server asks for certificates; a client believes none that it cannot
	 * check. */
	bool verify_peer;
};

/* Reads the files; later nothing is read. who begins messages. */
int bt_tls_creds_create(const char *who, const struct bt_tls_files *files,
			struct bt_tls_creds **out, struct blktap_error **err);
/* After all sessions that use them. NULL is fine. */
void bt_tls_creds_destroy(struct bt_tls_creds *creds);

/* ---- a connection (pump.c, tls.c) ----------------------------------------- */

struct bt_tls_options {
	const struct bt_tls_creds *creds;
	/* A client's: the name that the server's certificate must have. */
	const char *host;
	uint64_t limit_ns; /* for the handshake; 0: none */
	/* Called once by the loop, when both sides have ended or it failed. It
	 * may destroy the pump. NULL: the owner sees it by his socket. */
	void (*ended)(void *opaque);
	void *opaque;
};

/* Takes over fd in every case. *out_fd is the owner's end, not blocking. */
int bt_tls_create(struct bt_loop *loop, const struct bt_tls_options *options,
		  int fd, int *out_fd, struct bt_tls **out);
/* What has not gone out yet is lost. NULL is fine. */
void bt_tls_destroy(struct bt_tls *tls);

/* What can be done without waiting; for who cannot turn the loop, and for what
 * was sent last before destroy. */
void bt_tls_step(struct bt_tls *tls);
/* What it waits for, besides the owner's end. */
void bt_tls_get_polls(const struct bt_tls *tls, struct pollfd polls[2]);

/* Why it failed: a negative errno, the text, and a hint, which is static or NULL.
 * 0: it did not. */
int bt_tls_get_error(const struct bt_tls *tls, const char **why,
		     const char **hint);

#endif
