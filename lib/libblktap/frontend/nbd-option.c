/* SPDX-License-Identifier: BSD-3-Clause */
/* The options, one function each. data holds exactly len bytes. */
#include "frontend/nbd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/nbd-cursor.h"
#include "util/bytes.h"

/* The option is as the protocol does not have it; haggling goes on. */
static void invalid(struct bt_nbd_conn *conn, const char *text)
{
	bt_nbd_option_error(conn, NBD_REP_ERR_INVALID, text);
}

static void ack(struct bt_nbd_conn *conn)
{
	bt_nbd_option_reply(conn, NBD_REP_ACK, NULL, 0);
}

/* any_name: toolstacks ask for names of their own making. */
bool bt_nbd_is_export(const struct bt_nbd_conn *conn, const char *name,
		      uint32_t len)
{
	const struct blktap_nbd_server *server = conn->server;

	return server->any_name || !len ||
	       (len == strlen(server->export_name) &&
		!memcmp(name, server->export_name, len));
}

/* The export's own word, or the disk's, which may change while a client is
 * there: so it is asked each time. */
static bool is_read_only(const struct bt_nbd_conn *conn)
{
	return conn->server->read_only ||
	       bt_vbd_get_limits(conn->server->disk)->read_only;
}

/* By what the disk can do now. FUA is offered without native FUA, too: the disk
 * follows such a write with a flush. */
uint16_t bt_nbd_flags(const struct bt_nbd_conn *conn)
{
	uint32_t ops = bt_vbd_get_limits(conn->server->disk)->operations;
	/* All connections go to one disk, so a flush on any covers them all. */
	uint32_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_CAN_MULTI_CONN;

	if (ops & (1u << BLKTAP_OP_FLUSH))
		flags |= NBD_FLAG_SEND_FLUSH;
	if (ops & (1u << BLKTAP_OP_PREFETCH))
		flags |= NBD_FLAG_SEND_CACHE;
	if (conn->structured)
		flags |= NBD_FLAG_SEND_DF;
	if (is_read_only(conn))
		return (uint16_t)(flags | NBD_FLAG_READ_ONLY);
	flags |= NBD_FLAG_SEND_FUA;
	if (ops & (1u << BLKTAP_OP_DISCARD))
		flags |= NBD_FLAG_SEND_TRIM;
	if (ops & (1u << BLKTAP_OP_WRITE_ZEROES))
		flags |= NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	return (uint16_t)flags;
}

/* Contexts hold for the export they were chosen for and no other. */
static void go(struct bt_nbd_conn *conn, const char *name, uint32_t len)
{
	struct bt_nbd_haggle *haggle = conn->haggle;

	if (conn->meta &&
	    (len != haggle->meta_len || memcmp(name, haggle->meta_name, len)))
		bt_nbd_meta_forget(conn);
	haggle->go = true;
}

/* Size and flags go out without a header: the oldest form, in which nothing can
 * be refused but by hanging up. */
static void opt_export_name(struct bt_nbd_conn *conn, struct cursor c)
{
	uint8_t answer[10 + NBD_EXPORT_NAME_ZEROES] = { 0 };
	size_t len = conn->haggle->no_zeroes ? 10 : sizeof(answer);

	/* this option has no way to say no */
	if (c.left > NBD_STRING_MAX ||
	    !bt_nbd_is_export(conn, (const char *)c.at, c.left)) {
		bt_nbd_conn_kill(conn, "unknown export name");
		return;
	}
	bt_store_be64(answer, bt_vbd_get_limits(conn->server->disk)->size);
	bt_store_be16(answer + 8, bt_nbd_flags(conn));
	bt_strbuf_add(&conn->haggle->out, answer, len);
	go(conn, (const char *)c.at, c.left);
}

/* Acknowledged, though a client may be gone by then; the end follows when that
 * is out. */
static void opt_abort(struct bt_nbd_conn *conn, struct cursor c)
{
	ack(conn);
	conn->haggle->bye = true;
}

/* There is one export, whatever else its name may be asked as. */
static void opt_list(struct bt_nbd_conn *conn, struct cursor c)
{
	const struct blktap_nbd_server *server = conn->server;
	size_t name = strlen(server->export_name);
	size_t text = server->description ? strlen(server->description) : 0;
	uint8_t answer[4 + 2 * NBD_STRING_MAX];

	if (c.left) {
		invalid(conn, "LIST takes no data");
		return;
	}
	bt_store_be32(answer, (uint32_t)name);
	memcpy(answer + 4, server->export_name, name);
	if (text)
		memcpy(answer + 4 + name, server->description, text);
	bt_nbd_option_reply(conn, NBD_REP_SERVER, answer, 4 + name + text);
	ack(conn);
}

/* Nothing of the connection changes: what was agreed on in the clear stays what
 * it was. */
static void opt_starttls(struct bt_nbd_conn *conn, struct cursor c)
{
	bt_nbd_option_starttls(conn, c.left);
}

/* Twice is as good as once. */
static void opt_structured_reply(struct bt_nbd_conn *conn, struct cursor c)
{
	if (c.left) {
		invalid(conn, "STRUCTURED_REPLY takes no data");
		return;
	}
	conn->structured = true;
	ack(conn);
}

/* ---- INFO and GO ---------------------------------------------------------- */

/* Of this moment: size and flags are the disk's, which may be resized. */
static void info_export(struct bt_nbd_conn *conn)
{
	uint8_t info[12];

	bt_store_be16(info, NBD_INFO_EXPORT);
	bt_store_be64(info + 2, bt_vbd_get_limits(conn->server->disk)->size);
	bt_store_be16(info + 10, bt_nbd_flags(conn));
	bt_nbd_option_reply(conn, NBD_REP_INFO, info, sizeof(info));
}

/* Both texts were bounded when the server was made (copy_text). */
static void info_text(struct bt_nbd_conn *conn, uint16_t type, const char *text)
{
	uint8_t info[2 + NBD_STRING_MAX];
	size_t len = strlen(text);

	bt_store_be16(info, type);
	memcpy(info + 2, text, len);
	bt_nbd_option_reply(conn, NBD_REP_INFO, info, 2 + len);
}

/* The smallest is 1, as the disk reads, changes and writes what is less than a
 * block. */
static void info_block_size(struct bt_nbd_conn *conn)
{
	const struct bt_limits *limits = bt_vbd_get_limits(conn->server->disk);
	uint32_t most = conn->server->payload_max;
	uint32_t preferred = limits->preferred_block_size;
	uint8_t info[14];

	if (!bt_is_pow2(preferred) || preferred < 512)
		preferred = 4096;
	if (preferred > most)
		preferred = most;
	bt_store_be16(info, NBD_INFO_BLOCK_SIZE);
	bt_store_be32(info + 2, 1); /* the disk pads what is smaller */
	bt_store_be32(info + 6, preferred);
	bt_store_be32(info + 10, most);
	bt_nbd_option_reply(conn, NBD_REP_INFO, info, sizeof(info));
}

/* What there is nothing to say about is left out, as the protocol lets a server
 * do. */
static void info(struct bt_nbd_conn *conn, uint16_t type)
{
	const struct blktap_nbd_server *server = conn->server;

	if (type == NBD_INFO_NAME)
		info_text(conn, type, server->export_name);
	else if (type == NBD_INFO_DESCRIPTION && server->description)
		info_text(conn, type, server->description);
	else if (type == NBD_INFO_BLOCK_SIZE)
		info_block_size(conn);
}

/* Lengths are held against what is there before a name is looked at. INFO and
 * GO differ in what follows alone. */
static void opt_info(struct bt_nbd_conn *conn, struct cursor c)
{
	bool seen[NBD_INFO_BLOCK_SIZE + 1] = { false };
	const char *name;
	uint16_t count, type;
	uint32_t len;

	if (!take_string(&c, &name, &len) || !take_u16(&c, &count) ||
	    c.left != 2u * count) {
		invalid(conn, "lengths do not fit the option");
		return;
	}
	if (!bt_nbd_is_export(conn, name, len)) {
		bt_nbd_option_error(conn, NBD_REP_ERR_UNKNOWN,
				    "no export of that name");
		return;
	}
	info_export(conn);
	/* each kind once, so that a list of many cannot make a long answer */
	while (take_u16(&c, &type)) {
		if (type > NBD_INFO_BLOCK_SIZE || seen[type])
			continue;
		seen[type] = true;
		info(conn, type);
	}
	ack(conn);
	if (conn->haggle->option == NBD_OPT_GO)
		go(conn, name, len);
}

/* The option itself tells LIST from SET. */
static void opt_meta(struct bt_nbd_conn *conn, struct cursor c)
{
	bt_nbd_option_meta(conn, c.at, c.left);
}

/* ---- the table ------------------------------------------------------------ */

/* An option that is not known is answered, and haggling goes on: that is what
 * fixed newstyle promises. */
void bt_nbd_option(struct bt_nbd_conn *conn, const uint8_t *data, uint32_t len)
{
	static void (*const table[])(struct bt_nbd_conn *, struct cursor) = {
		[NBD_OPT_EXPORT_NAME] = opt_export_name,
		[NBD_OPT_ABORT] = opt_abort,
		[NBD_OPT_LIST] = opt_list,
		[NBD_OPT_STARTTLS] = opt_starttls,
		[NBD_OPT_INFO] = opt_info,
		[NBD_OPT_GO] = opt_info,
		[NBD_OPT_STRUCTURED_REPLY] = opt_structured_reply,
		[NBD_OPT_LIST_META_CONTEXT] = opt_meta,
		[NBD_OPT_SET_META_CONTEXT] = opt_meta,
	};
	uint32_t option = conn->haggle->option;
	struct cursor c = { data, len };

	if (bt_nbd_tls_refuses(conn))
		return;
	if (option < BT_ARRAY_SIZE(table) && table[option])
		table[option](conn, c);
	else
		bt_nbd_option_error(conn, NBD_REP_ERR_UNSUP,
				    "this server does not know the option");
}
