/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the room tls. */
#ifndef BT_TLS_PRIVATE_H
#define BT_TLS_PRIVATE_H

#include <stddef.h>

#include "loop/loop.h"
#include "tls/tls.h"
#include "util/gnutls.h"

#ifdef HAVE_GNUTLS

#define BT_TLS_WHY 256
#define BT_TLS_USER 64 /* as much of a user's name as messages have */

/* ---- keys that both sides know (psk.c) ------------------------------------ */

struct bt_tls_key {
	char *user;
	unsigned char *data;
	size_t size;
};

struct bt_tls_psk {
	struct bt_tls_key *keys;
	size_t count;
};

int bt_tls_psk_read(const char *who, const char *path, struct bt_tls_psk *psk,
		    struct blktap_error **err);
/* NULL: there is no such user. */
const struct bt_tls_key *bt_tls_psk_find(const struct bt_tls_psk *psk,
					 const char *user);
/* Wipes the keys. Harmless where *psk is zeroed. */
void bt_tls_psk_fini(struct bt_tls_psk *psk);

/* ---- creds.c -------------------------------------------------------------- */

struct bt_tls_creds {
	struct bt_gnutls gnutls;
	bool is_server, verify_peer;
	gnutls_priority_t priority;
	/* one of the three, the others NULL */
	gnutls_certificate_credentials_t certificates;
	gnutls_psk_client_credentials_t psk_client;
	gnutls_psk_server_credentials_t psk_server;
	struct bt_tls_psk psk; /* a server's */
};

/* A session with all that does not depend on the connection; a GnuTLS error. */
int bt_tls_session_create(const struct bt_tls_creds *creds, const char *host,
			  gnutls_session_t *out);

/* ---- pump.c, tls.c -------------------------------------------------------- */

/* Bytes from pos to end wait. */
struct bt_tls_buffer {
	uint8_t *data;
	size_t pos, end, cap;
};

struct bt_tls_side {
	int fd; /* -1: closed */
	struct bt_watch watch;
	bool can_read, can_write; /* as far as we know */
};

struct bt_tls {
	struct bt_loop *loop;
	const struct bt_tls_creds *creds;
	const struct bt_gnutls *gnutls;
	gnutls_session_t session;
	void (*ended)(void *opaque);
	void *opaque;
	struct bt_timer timer; /* the handshake; the last bytes */
	struct bt_work work; /* more to do, or ended to be called */
	uint64_t limit_ns;
	bool is_shaking; /* the handshake is not done */
	bool has_ended;

	struct bt_tls_side net, pair;
	/* from the peer: sealed, then open */
	struct bt_tls_buffer net_in, pair_out;
	int lost; /* why it is, where that is an error */
	bool has_data; /* something has been opened */
	bool net_end; /* nothing more is to be received */
	bool in_end; /* nothing more is to be opened */
	bool in_done; /* and the owner knows */
	/* to the peer: open, then sealed */
	struct bt_tls_buffer pair_in, net_out;
	bool pair_gone; /* the owner has closed */
	bool out_end; /* he sends no more */
	bool bye; /* close_notify is in net_out */
	bool out_done; /* and the peer knows */

	bool unknown_user; /* a server's client */
	char user[BT_TLS_USER];
	char *host; /* or NULL */
	int error; /* 0: none, else why */
	const char *hint;
	char why[BT_TLS_WHY];
};

static inline size_t bt_tls_held(const struct bt_tls_buffer *b)
{
	return b->end - b->pos;
}

/* The session reads from net_in and writes to net_out. */
void bt_tls_attach(struct bt_tls *tls);
/* All that can be done now, once; whether anything was. */
bool bt_tls_round(struct bt_tls *tls);
/* The owner has closed his end. */
void bt_tls_lose_owner(struct bt_tls *tls);
/* Closes both sides, and has ended called by the loop. */
void bt_tls_end(struct bt_tls *tls);
void bt_tls_close(struct bt_tls *tls);

/* Writes why, and a hint where there is one, for what GnuTLS said (why.c). */
void bt_tls_explain(struct bt_tls *tls, int rc);
/* After the handshake the peer has closed without a word. */
void bt_tls_explain_end(struct bt_tls *tls);
void bt_tls_set_why(struct bt_tls *tls, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
#endif
