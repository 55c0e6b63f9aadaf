/* SPDX-License-Identifier: BSD-3-Clause */
/* The handshake: greeting, the client's flags, options and their answers.
 *
 * Only what a part needs is read from the socket, so that the first request
 * stays there for the transmission stage however early it was sent. An option is
 * looked at only when the answers to those before it are out: who does not read
 * cannot make us collect answers. */
#include "frontend/nbd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/bytes.h"

/* Two strings of the greatest length with their lengths, and room for a list of
 * short queries. Longer options are dropped as they come. */
#define OPTION_MAX (4 * NBD_STRING_MAX)
#define SCRATCH 512
#define PARTS_A_TURN 32 /* for one connection, before others get theirs */

static void greet(struct bt_nbd_haggle *haggle)
{
	uint8_t greeting[NBD_GREETING_LEN];

	bt_store_be64(greeting, NBD_MAGIC);
	bt_store_be64(greeting + 8, NBD_IHAVEOPT);
	bt_store_be16(greeting + 16,
		      NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	bt_strbuf_add(&haggle->out, greeting, sizeof(greeting));
}

/* The greeting is put at once: a client is owed one before it says a word. */
int bt_nbd_haggle_create(struct bt_nbd_conn *conn)
{
	struct bt_nbd_haggle *haggle = calloc(1, sizeof(*haggle));

	if (!haggle)
		return -ENOMEM;
	haggle->buf = malloc(SCRATCH);
	if (!haggle->buf) {
		free(haggle);
		return -ENOMEM;
	}
	haggle->cap = SCRATCH;
	haggle->need = NBD_CLIENT_FLAGS_LEN;
	greet(haggle);
	conn->haggle = haggle;
	return 0;
}

void bt_nbd_haggle_destroy(struct bt_nbd_haggle *haggle)
{
	if (!haggle)
		return;
	bt_strbuf_fini(&haggle->out);
	free(haggle->meta_name);
	free(haggle->buf);
	free(haggle);
}

void bt_nbd_option_reply(struct bt_nbd_conn *conn, uint32_t type,
			 const void *data, size_t len)
{
	struct bt_nbd_haggle *haggle = conn->haggle;
	uint8_t header[NBD_OPTION_REPLY_LEN];

	bt_store_be64(header, NBD_OPTION_REPLY_MAGIC);
	bt_store_be32(header + 8, haggle->option);
	bt_store_be32(header + 12, type);
	bt_store_be32(header + 16, (uint32_t)len);
	bt_strbuf_add(&haggle->out, header, sizeof(header));
	bt_strbuf_add(&haggle->out, data, len);
}

/* The text is for people, as the protocol has it. */
void bt_nbd_option_error(struct bt_nbd_conn *conn, uint32_t type,
			 const char *text)
{
	bt_nbd_option_reply(conn, type, text, strlen(text));
}

/* ---- parts of the handshake, in order ------------------------------------- */

/* What the next part is, and how many bytes it has. */
static void expect(struct bt_nbd_haggle *haggle, int part, size_t need)
{
	haggle->part = part;
	haggle->have = 0;
	haggle->need = need;
}

/* Bits that we did not offer mean a protocol that we do not speak. */
static void on_flags(struct bt_nbd_conn *conn)
{
	struct bt_nbd_haggle *haggle = conn->haggle;
	uint32_t flags = bt_load_be32(haggle->buf);

	if (flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
		bt_nbd_conn_kill(conn, "unknown client flags");
		return;
	}
	haggle->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
	haggle->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	expect(haggle, BT_NBD_HEADER, NBD_OPTION_LEN);
}

/* Its data is here, whole. */
static void on_option(struct bt_nbd_conn *conn)
{
	struct bt_nbd_haggle *haggle = conn->haggle;

	bt_nbd_option(conn, haggle->buf, haggle->length);
	/* an option may have ended the connection */
	if (conn->stage == BT_NBD_HAGGLE)
		expect(haggle, BT_NBD_HEADER, NBD_OPTION_LEN);
}

/* Kept for the options that follow; need is at most OPTION_MAX. */
static bool grow(struct bt_nbd_haggle *haggle, size_t need)
{
	uint8_t *buf;

	if (need <= haggle->cap)
		return true;
	buf = realloc(haggle->buf, need);
	if (!buf)
		return false;
	haggle->buf = buf;
	haggle->cap = need;
	return true;
}

/* A length is compared with OPTION_MAX before memory is taken for it; what is
 * longer is dropped in pieces. */
static void on_header(struct bt_nbd_conn *conn)
{
	struct bt_nbd_haggle *haggle = conn->haggle;

	if (bt_load_be64(haggle->buf) != NBD_IHAVEOPT) {
		bt_nbd_conn_kill(conn, "an option without its magic");
		return;
	}
	haggle->option = bt_load_be32(haggle->buf + 8);
	haggle->length = bt_load_be32(haggle->buf + 12);
	if (!haggle->fixed && haggle->option != NBD_OPT_EXPORT_NAME) {
		/* it would not understand the answer */
		bt_nbd_conn_kill(conn, "an option of fixed newstyle");
	} else if (!grow(haggle,
			 (size_t)bt_min_u64(haggle->length, OPTION_MAX))) {
		bt_nbd_conn_kill(conn, "out of memory");
	} else if (haggle->length > OPTION_MAX) {
		haggle->skip = haggle->length;
		expect(haggle, BT_NBD_SKIP, OPTION_MAX);
	} else if (haggle->length) {
		expect(haggle, BT_NBD_DATA, haggle->length);
	} else {
		on_option(conn);
	}
}

/* EXPORT_NAME has no answer that could say so. */
static void on_skipped(struct bt_nbd_conn *conn)
{
	struct bt_nbd_haggle *haggle = conn->haggle;

	haggle->skip -= (uint32_t)haggle->have;
	if (haggle->skip) {
		expect(haggle, BT_NBD_SKIP,
		       (size_t)bt_min_u64(haggle->skip, OPTION_MAX));
		return;
	}
	if (haggle->option == NBD_OPT_EXPORT_NAME) {
		bt_nbd_conn_kill(conn, "export name too long");
		return;
	}
	bt_nbd_option_error(conn, NBD_REP_ERR_TOO_BIG,
			    "the option is longer than this server takes");
	expect(haggle, BT_NBD_HEADER, NBD_OPTION_LEN);
}

/* Called when the part is complete; each of these says what comes next. */
static void on_part(struct bt_nbd_conn *conn)
{
	switch (conn->haggle->part) {
	case BT_NBD_FLAGS:
		on_flags(conn);
		break;
	case BT_NBD_HEADER:
		on_header(conn);
		break;
	case BT_NBD_DATA:
		on_option(conn);
		break;
	case BT_NBD_SKIP:
		on_skipped(conn);
		break;
	}
}

/* ---- the socket ----------------------------------------------------------- */

/* True where all is out. */
static bool flush(struct bt_nbd_conn *conn)
{
	struct bt_nbd_haggle *haggle = conn->haggle;

	if (haggle->out.failed) {
		bt_nbd_conn_kill(conn, "out of memory");
		return false;
	}
	while (haggle->sent < haggle->out.len) {
		ssize_t n = send(conn->fd, haggle->out.data + haggle->sent,
				 haggle->out.len - haggle->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			conn->blocked = true;
			return false;
		}
		if (n < 0) {
			bt_nbd_conn_kill(conn, "gone in the handshake");
			return false;
		}
		haggle->sent += (size_t)n;
	}
	conn->blocked = false;
	haggle->sent = 0;
	haggle->out.len = 0;
	return true;
}

/* True where the part is complete. No more than the part: what follows belongs
 * to the next one, or to the transmission. */
static bool fill(struct bt_nbd_conn *conn)
{
	struct bt_nbd_haggle *haggle = conn->haggle;
	ssize_t n = recv(conn->fd, haggle->buf + haggle->have,
			 haggle->need - haggle->have, 0);

	if (n > 0) {
		haggle->have += (size_t)n;
		return haggle->have == haggle->need;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	bt_nbd_conn_kill(conn, "gone in the handshake");
	return false;
}

/* Answers out, then the next part. A client that sends options without end gets
 * its turn again by the watch. */
void bt_nbd_haggle_run(struct bt_nbd_conn *conn)
{
	int parts;

	for (parts = 0; parts < PARTS_A_TURN; parts++) {
		if (!flush(conn))
			return;
		if (conn->haggle->go) {
			bt_nbd_conn_transmit(conn);
			return;
		}
		if (conn->haggle->bye) {
			bt_nbd_conn_drain(conn, "ABORT");
			return;
		}
		if (conn->haggle->starttls)
			bt_nbd_tls_start(conn);
		if (conn->stage != BT_NBD_HAGGLE)
			return;
		if (!fill(conn))
			return;
		on_part(conn);
		if (conn->stage != BT_NBD_HAGGLE)
			return;
	}
	/* an answer that is not sent yet would wait for more input */
	flush(conn);
	if (conn->stage == BT_NBD_HAGGLE &&
	    (conn->haggle->go || conn->haggle->bye || conn->haggle->starttls))
		bt_nbd_conn_defer(conn);
}
