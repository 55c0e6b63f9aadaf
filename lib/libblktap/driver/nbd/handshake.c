/* SPDX-License-Identifier: BSD-3-Clause */
/* The handshake, one question at a time: fixed newstyle, structured replies,
 * base:allocation, then GO with block sizes; EXPORT_NAME where there is no GO.
 * Whatever the server sends is checked before it is used, and told by name and
 * value where it is wrong.
 *
 *   GREETING    server: magic, magic, flags    client: flags, STRUCTURED_REPLY
 *   STARTTLS    where the URI wants it, before that. ACK: TLS, then as if nothing
 *               had been said; an error ends it
 *   STRUCTURED  ACK: replies are structured, ask for META; error: ask GO
 *   META        META_CONTEXT, ACK; an error is an answer, too: ask GO
 *   GO          INFO ..., ACK: UP; UNSUP: ask EXPORT_NAME
 *   NAME        size, flags, zeroes: UP
 *
 * The next question goes out when the last one's answer is here, so there is
 * never more than one that a reply can be to. A step returns 1 where it went
 * on, 0 where bytes are to come or to go, or a negative errno with the reason
 * noted. */
#include "driver/nbd/nbd.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

#include "core/error.h"
#include "util/bytes.h"

/* Longer replies, and more of them, have no place in a handshake. */
#define REPLY_MAX 32768u
#define REPLIES_MAX 256u /* to one option */

static const char *const stage_names[] = {
	[BT_NBDC_DOWN] = "nothing",
	[BT_NBDC_CONNECTING] = "connecting",
	[BT_NBDC_GREETING] = "the greeting",
	[BT_NBDC_STARTTLS] = "STARTTLS",
	[BT_NBDC_STRUCTURED] = "STRUCTURED_REPLY",
	[BT_NBDC_META] = "SET_META_CONTEXT",
	[BT_NBDC_GO] = "GO",
	[BT_NBDC_NAME] = "EXPORT_NAME",
	[BT_NBDC_UP] = "requests",
};

/* ---- bytes ---------------------------------------------------------------- */

/* 1 where so many bytes are in the buffer, 0 where they are still to come. What
 * was taken before goes out of the buffer first. need is bounded by whoever
 * asks (REPLY_MAX), and the buffer is larger. */
static int fill(struct bt_nbdc_conn *conn, size_t need)
{
	char reason[BT_STRERROR_MAX];
	ssize_t n;

	memmove(conn->buf, conn->buf + conn->pos, conn->end - conn->pos);
	conn->end -= conn->pos;
	conn->pos = 0;
	while (conn->end < need) {
		n = recv(conn->fd, conn->buf + conn->end,
			 BT_NBDC_BUFFER - conn->end, MSG_DONTWAIT);
		if (n > 0)
			conn->end += (size_t)n;
		else if (n == 0)
			return bt_nbdc_fail(
				conn, -ECONNRESET,
				"the server's log may tell more",
				"the server closed the connection during %s",
				stage_names[conn->stage]);
		else if (errno == EAGAIN)
			return 0;
		else if (errno != EINTR)
			return bt_nbdc_fail(conn, -errno, NULL,
					    "cannot receive: %s",
					    bt_strerror(-errno, reason));
	}
	return 1;
}

/* 1 where all is out. */
static int flush_out(struct bt_nbdc_conn *conn)
{
	char reason[BT_STRERROR_MAX];

	while (conn->out_pos < conn->out_len) {
		ssize_t n = send(conn->fd, conn->out + conn->out_pos,
				 conn->out_len - conn->out_pos,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0)
			conn->out_pos += (size_t)n;
		else if (errno == EAGAIN)
			return 0;
		else if (errno != EINTR)
			return bt_nbdc_fail(conn, -errno, NULL,
					    "cannot send: %s",
					    bt_strerror(-errno, reason));
	}
	conn->out_pos = conn->out_len = 0;
	return 1;
}

/* All questions of one step fit: OUT_MAX is twice the longest name, and
 * flush_out has emptied it before. */
static void put(struct bt_nbdc_conn *conn, const void *data, size_t len)
{
	memcpy(conn->out + conn->out_len, data, len);
	conn->out_len += len;
}

static void put32(struct bt_nbdc_conn *conn, uint32_t v)
{
	uint8_t b[4];

	bt_store_be32(b, v);
	put(conn, b, sizeof(b));
}

/* ---- questions ------------------------------------------------------------ */

/* len is that of the option's data, which the caller puts behind. */
static void ask(struct bt_nbdc_conn *conn, enum bt_nbdc_stage stage,
		uint32_t option, uint32_t len)
{
	uint8_t b[NBD_OPTION_LEN];

	bt_store_be64(b, NBD_IHAVEOPT);
	bt_store_be32(b + 8, option);
	bt_store_be32(b + 12, len);
	put(conn, b, sizeof(b));
	conn->stage = stage;
	conn->option = option;
	conn->replies = 0;
}

/* At most NBD_STRING_MAX bytes (check_args, uri.c). */
static void put_name(struct bt_nbdc_conn *conn)
{
	const char *name = conn->nbd->export;

	put32(conn, (uint32_t)strlen(name));
	put(conn, name, strlen(name));
}

/* One query, so at most one context is told. */
static void ask_meta(struct bt_nbdc_conn *conn)
{
	static const char query[] = NBD_CONTEXT_ALLOCATION;
	uint32_t name = (uint32_t)strlen(conn->nbd->export);
	uint32_t len = sizeof(query) - 1;

	ask(conn, BT_NBDC_META, NBD_OPT_SET_META_CONTEXT, 12 + name + len);
	put_name(conn);
	put32(conn, 1);
	put32(conn, len);
	put(conn, query, len);
}

/* Block sizes are asked for: a server that has some may then insist on them. */
static void ask_go(struct bt_nbdc_conn *conn)
{
	uint8_t b[4];

	ask(conn, BT_NBDC_GO, NBD_OPT_GO,
	    8 + (uint32_t)strlen(conn->nbd->export));
	put_name(conn);
	bt_store_be16(b, 1);
	bt_store_be16(b + 2, NBD_INFO_BLOCK_SIZE);
	put(conn, b, sizeof(b));
}

/* The last question: there is no error reply to it. */
static void ask_name(struct bt_nbdc_conn *conn)
{
	const char *name = conn->nbd->export;

	ask(conn, BT_NBDC_NAME, NBD_OPT_EXPORT_NAME, (uint32_t)strlen(name));
	put(conn, name, strlen(name));
}

/* ---- answers -------------------------------------------------------------- */

/* The client's flags are those of the server's that it knows. */
static int on_greeting(struct bt_nbdc_conn *conn)
{
	const uint8_t *p = conn->buf;
	uint64_t magic, kind;
	uint16_t flags;
	int rc = fill(conn, NBD_GREETING_LEN);

	if (rc <= 0)
		return rc;
	magic = bt_load_be64(p);
	kind = bt_load_be64(p + 8);
	flags = bt_load_be16(p + 16);
	if (magic != NBD_MAGIC)
		return bt_nbdc_broken(
			conn, "magic 0x%016" PRIx64 " is not NBD's", magic);
	if (kind == NBD_OLDSTYLE)
		return bt_nbdc_fail(conn, -EPROTONOSUPPORT,
				    "use a newer server",
				    "the server speaks oldstyle NBD");
	if (kind != NBD_IHAVEOPT)
		return bt_nbdc_broken(
			conn, "second magic 0x%016" PRIx64 " is not NBD's",
			kind);
	if (!(flags & NBD_FLAG_FIXED_NEWSTYLE))
		return bt_nbdc_fail(conn, -EPROTONOSUPPORT,
				    "use a newer server",
				    "handshake flags 0x%x are without fixed "
				    "newstyle",
				    flags);
	conn->pos = NBD_GREETING_LEN;
	conn->has_export = false;
	conn->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	put32(conn, flags & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
	if (conn->nbd->tls)
		ask(conn, BT_NBDC_STARTTLS, NBD_OPT_STARTTLS, 0);
	else
		ask(conn, BT_NBDC_STRUCTURED, NBD_OPT_STRUCTURED_REPLY, 0);
	return 1;
}

/* Bytes that are here already came in the clear, and may be anybody's. */
static int start_tls(struct bt_nbdc_conn *conn)
{
	int rc;

	if (conn->pos != conn->end)
		return bt_nbdc_broken(conn,
				      "%zu bytes in the clear behind STARTTLS",
				      conn->end - conn->pos);
	rc = bt_nbdc_tls_start(conn);
	if (rc < 0)
		return rc;
	ask(conn, BT_NBDC_STRUCTURED, NBD_OPT_STRUCTURED_REPLY, 0);
	return 1;
}

/* Its id is the server's choice, and what BLOCK_STATUS replies are held
 * against. */
static int on_context(struct bt_nbdc_conn *conn, const uint8_t *p, uint32_t len)
{
	static const char name[] = NBD_CONTEXT_ALLOCATION;

	if (len != 4 + sizeof(name) - 1 || memcmp(p + 4, name, len - 4))
		return bt_nbdc_broken(conn,
				      "META_CONTEXT of %u bytes is not "
				      "base:allocation",
				      len);
	if (conn->info.has_meta)
		return bt_nbdc_broken(conn, "base:allocation was told twice");
	conn->info.has_meta = true;
	conn->info.meta_id = bt_load_be32(p);
	return 1;
}

/* Kinds of info that are not known are passed over, as the protocol wants
 * it. */
static int on_info(struct bt_nbdc_conn *conn, const uint8_t *p, uint32_t len)
{
	struct bt_nbdc_info *info = &conn->info;
	uint16_t type = len < 2 ? UINT16_MAX : bt_load_be16(p);

	if (len < 2 || (type == NBD_INFO_EXPORT && len != 12) ||
	    (type == NBD_INFO_BLOCK_SIZE && len != 14))
		return bt_nbdc_broken(conn, "INFO %u has %u bytes", type, len);
	if (type == NBD_INFO_EXPORT) {
		conn->has_export = true;
		info->size = bt_load_be64(p + 2);
		info->flags = bt_load_be16(p + 10);
	} else if (type == NBD_INFO_BLOCK_SIZE) {
		info->has_blocks = true;
		info->min_block = bt_load_be32(p + 2);
		info->preferred_block = bt_load_be32(p + 6);
		info->max_block = bt_load_be32(p + 10);
	}
	return 1;
}

/* An option was refused; what the server says of it is text. */
static int refused(struct bt_nbdc_conn *conn, uint32_t type, const uint8_t *p,
		   uint32_t len)
{
	const char *hint = NULL, *what = "refuses it";
	int code = -EINVAL;

	switch (type) {
	case NBD_REP_ERR_UNKNOWN:
		code = -ENOENT;
		what = "has no such export";
		hint = "nbdinfo --list tells what there is";
		break;
	case NBD_REP_ERR_TLS_REQD:
		code = -ENOTSUP;
		what = "wants TLS";
		hint = "write nbds in place of nbd";
		break;
	case NBD_REP_ERR_POLICY:
		code = -EACCES;
		what = "does not allow it";
		break;
	case NBD_REP_ERR_SHUTDOWN:
		code = -ESHUTDOWN;
		what = "is shutting down";
		break;
	}
	if (conn->stage == BT_NBDC_STARTTLS &&
	    (type == NBD_REP_ERR_UNSUP || type == NBD_REP_ERR_POLICY)) {
		code = -ENOTSUP;
		what = "has no TLS";
		hint = "nothing is sent in the clear where the URI says nbds";
	}
	return bt_nbdc_fail(
		conn, code, hint,
		"export '%.100s': the server %s (%s, error 0x%x)%s%.*s",
		conn->nbd->export, what, stage_names[conn->stage], type,
		len ? ": " : "", (int)bt_min_u64(len, 200), p);
}

/* What can be done without is done without: structured replies, contexts, GO
 * itself. TLS that is demanded, and an end that is announced, end it. */
static int on_error(struct bt_nbdc_conn *conn, uint32_t type, const uint8_t *p,
		    uint32_t len)
{
	if (type == NBD_REP_ERR_TLS_REQD || type == NBD_REP_ERR_SHUTDOWN ||
	    conn->stage == BT_NBDC_STARTTLS)
		return refused(conn, type, p, len);
	if (conn->stage == BT_NBDC_GO && type != NBD_REP_ERR_UNSUP)
		return refused(conn, type, p, len);
	/* without structured replies there are no contexts either */
	if (conn->stage == BT_NBDC_GO)
		ask_name(conn);
	else
		ask_go(conn);
	return 1;
}

/* Ends the option. Only GO's has to have brought something. */
static int on_ack(struct bt_nbdc_conn *conn)
{
	if (conn->stage == BT_NBDC_STARTTLS)
		return start_tls(conn);
	if (conn->stage == BT_NBDC_STRUCTURED) {
		conn->info.structured = true;
		ask_meta(conn);
	} else if (conn->stage == BT_NBDC_META) {
		ask_go(conn);
	} else if (!conn->has_export) {
		return bt_nbdc_broken(conn,
				      "GO was answered without INFO_EXPORT");
	} else {
		conn->stage = BT_NBDC_UP;
	}
	return 1;
}

static int dispatch(struct bt_nbdc_conn *conn, uint32_t type, const uint8_t *p,
		    uint32_t len)
{
	if (type & NBD_REP_ERROR_BIT)
		return on_error(conn, type, p, len);
	if (type == NBD_REP_ACK)
		return on_ack(conn);
	if (type == NBD_REP_META_CONTEXT && conn->stage == BT_NBDC_META)
		return on_context(conn, p, len);
	if (type == NBD_REP_INFO && conn->stage == BT_NBDC_GO)
		return on_info(conn, p, len);
	return bt_nbdc_broken(conn, "option reply type 0x%x during %s", type,
			      stage_names[conn->stage]);
}

/* A reply is looked at when it is here whole; a header that is looked at again
 * is not counted again. */
static int on_reply(struct bt_nbdc_conn *conn)
{
	const uint8_t *p = conn->buf;
	uint32_t option, type, len;
	int rc = fill(conn, NBD_OPTION_REPLY_LEN);

	if (rc <= 0)
		return rc;
	option = bt_load_be32(p + 8);
	type = bt_load_be32(p + 12);
	len = bt_load_be32(p + 16);
	if (bt_load_be64(p) != NBD_OPTION_REPLY_MAGIC)
		return bt_nbdc_broken(conn, "option reply magic 0x%016" PRIx64,
				      bt_load_be64(p));
	if (option != conn->option)
		return bt_nbdc_broken(conn, "reply to option %u, not to %u",
				      option, conn->option);
	if (len > REPLY_MAX)
		return bt_nbdc_broken(conn, "option reply length %u is over %u",
				      len, REPLY_MAX);
	if (++conn->replies > REPLIES_MAX)
		return bt_nbdc_broken(conn, "more than %u replies to option %u",
				      REPLIES_MAX, option);
	rc = fill(conn, NBD_OPTION_REPLY_LEN + len);
	if (rc <= 0) {
		conn->replies--;
		return rc;
	}
	conn->pos = NBD_OPTION_REPLY_LEN + len;
	return dispatch(conn, type, p + NBD_OPTION_REPLY_LEN, len);
}

/* Neither this nor anything else follows where the server does not like the
 * name: it closes. */
static int on_export(struct bt_nbdc_conn *conn)
{
	size_t len = 10 + (conn->no_zeroes ? 0 : NBD_EXPORT_NAME_ZEROES);
	int rc = fill(conn, len);

	if (rc <= 0)
		return rc;
	conn->info.size = bt_load_be64(conn->buf);
	conn->info.flags = bt_load_be16(conn->buf + 8);
	conn->pos = len;
	conn->stage = BT_NBDC_UP;
	return 1;
}

/* ---- driving it ----------------------------------------------------------- */

/* Only what has become of connect(): nothing has been read. */
static int finish_connect(struct bt_nbdc_conn *conn)
{
	struct pollfd pfd = { .fd = conn->fd, .events = POLLOUT };
	char reason[BT_STRERROR_MAX];
	socklen_t len = sizeof(int);
	int error = 0;

	if (poll(&pfd, 1, 0) <= 0)
		return 0;
	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error)
		return bt_nbdc_fail(conn, -error, "is the server running?",
				    "cannot connect: %s",
				    bt_strerror(-error, reason));
	conn->stage = BT_NBDC_GREETING;
	return 1;
}

/* Nothing is read before what is to be said has gone out. */
static int step(struct bt_nbdc_conn *conn)
{
	int rc;

	if (conn->stage == BT_NBDC_CONNECTING)
		return finish_connect(conn);
	rc = flush_out(conn);
	if (rc <= 0)
		return rc;
	switch (conn->stage) {
	case BT_NBDC_GREETING:
		return on_greeting(conn);
	case BT_NBDC_NAME:
		return on_export(conn);
	default:
		return on_reply(conn);
	}
}

int bt_nbdc_progress(struct bt_nbdc_conn *conn)
{
	int rc = 1;

	while (rc > 0 && conn->stage != BT_NBDC_UP)
		rc = step(conn);
	return rc < 0 ? rc : 0;
}

/* out is the handshake's; blocked that of a connection that is up. */
uint32_t bt_nbdc_wants(const struct bt_nbdc_conn *conn)
{
	if (conn->stage == BT_NBDC_CONNECTING)
		return EPOLLOUT;
	return EPOLLIN |
	       (conn->out_pos < conn->out_len || conn->blocked ? EPOLLOUT : 0);
}
