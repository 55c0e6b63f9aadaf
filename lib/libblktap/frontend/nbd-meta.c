/* SPDX-License-Identifier: BSD-3-Clause */
/* Metadata contexts: base:allocation, and qemu:dirty-bitmap:NAME for each bitmap
 * of the disk. A choice is kept by name, since bitmaps come and go; one that went
 * is told to be dirty everywhere. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/nbd-cursor.h"
#include "frontend/nbd.h"
#include "util/checked.h"

#define BASE "base:allocation"
#define DIRTY "qemu:dirty-bitmap:"

/* What the queries ask for. */
struct wanted {
	bool base;
	uint32_t bitmaps; /* 1u << index of the disk's */
};

/* What was chosen, with the names that were kept of it. */
void bt_nbd_meta_forget(struct bt_nbd_conn *conn)
{
	while (conn->meta_bitmaps)
		free(conn->meta_names[--conn->meta_bitmaps]);
	conn->meta_base = false;
	conn->meta = false;
}

/* A query has no NUL at its end. */
static bool is_text(const char *query, uint32_t len, const char *text)
{
	return len == strlen(text) && !memcmp(query, text, len);
}

/* LIST may ask for a whole namespace, SET only for a context by its name. A
 * query that means nothing to us is no error, says the protocol: it just brings
 * no context. */
static void want(const struct bt_nbd_conn *conn, const char *query,
		 uint32_t len, bool listing, struct wanted *wanted)
{
	uint32_t prefix = sizeof(DIRTY) - 1, i;
	bool all = listing &&
		   (is_text(query, len, "qemu:") || is_text(query, len, DIRTY));
	const char *name;

	wanted->base |= is_text(query, len, BASE) ||
			(listing && is_text(query, len, "base:"));
	if (!all && (len <= prefix || memcmp(query, DIRTY, prefix)))
		return;
	for (i = 0; i < 32; i++) {
		name = bt_vbd_get_bitmap(conn->server->disk, i);
		if (!name)
			return;
		if (all || is_text(query + prefix, len - prefix, name))
			wanted->bitmaps |= 1u << i;
	}
}

/* -EINVAL where the data is malformed. No query is, in a LIST, a query for all
 * there is; in a SET it takes the choice back. */
static int scan_queries(const struct bt_nbd_conn *conn, struct cursor *c,
			bool listing, struct wanted *wanted)
{
	const char *query;
	uint32_t count, len;

	if (!take_u32(c, &count))
		return -EINVAL;
	wanted->base = listing && !count;
	wanted->bitmaps = listing && !count ? UINT32_MAX : 0;
	while (count--) {
		if (!take_string(c, &query, &len))
			return -EINVAL;
		want(conn, query, len, listing, wanted);
	}
	return c->left ? -EINVAL : 0;
}

/* By its bytes: a name may hold a NUL. */
static bool keep_export(struct bt_nbd_conn *conn, const char *name,
			uint32_t len)
{
	struct bt_nbd_haggle *haggle = conn->haggle;
	char *copy = malloc(len + 1);

	if (!copy)
		return false;
	memcpy(copy, name, len);
	free(haggle->meta_name);
	haggle->meta_name = copy;
	haggle->meta_len = len;
	return true;
}

/* A name that is too long for an answer is left out: a context that cannot be
 * told cannot be chosen. */
static void tell(struct bt_nbd_conn *conn, uint32_t id, const char *prefix,
		 const char *name)
{
	uint8_t answer[4 + 512];
	size_t a = strlen(prefix), b = strlen(name);

	if (a + b > sizeof(answer) - 4)
		return;
	bt_store_be32(answer, id);
	memcpy(answer + 4, prefix, a);
	memcpy(answer + 4 + a, name, b);
	bt_nbd_option_reply(conn, NBD_REP_META_CONTEXT, answer, 4 + a + b);
}

/* The id of the bitmap, from now on the client's; 0 where there is no room.
 * Seven at most: each is a chunk of every reply, and has its room in the
 * request's buffer. */
static uint32_t choose(struct bt_nbd_conn *conn, const char *name)
{
	uint32_t n = conn->meta_bitmaps;

	if (n == BT_NBD_BITMAPS)
		return 0;
	conn->meta_names[n] = strdup(name);
	if (!conn->meta_names[n])
		return 0;
	conn->meta_bitmaps++;
	conn->meta = true;
	return BT_NBD_META_ID + conn->meta_bitmaps;
}

/* base:allocation first, then bitmaps in the disk's order; ids follow from the
 * order of choosing. */
static void answer_all(struct bt_nbd_conn *conn, const struct wanted *wanted,
		       bool listing)
{
	const char *name;
	uint32_t i, id;

	if (wanted->base) {
		tell(conn, listing ? 0 : BT_NBD_META_ID, BASE, "");
		if (!listing)
			conn->meta = conn->meta_base = true;
	}
	for (i = 0; i < 32; i++) {
		name = bt_vbd_get_bitmap(conn->server->disk, i);
		if (!name)
			return;
		if (!(wanted->bitmaps >> i & 1u))
			continue;
		id = listing ? 0 : choose(conn, name);
		if (listing || id)
			tell(conn, id, DIRTY, name);
	}
}

/* The order of checks is the protocol's: a SET that is refused leaves nothing
 * chosen. */
void bt_nbd_option_meta(struct bt_nbd_conn *conn, const uint8_t *data,
			uint32_t len)
{
	bool listing = conn->haggle->option == NBD_OPT_LIST_META_CONTEXT;
	struct cursor c = { data, len };
	struct wanted wanted;
	const char *name;

	/* a choice that fails leaves none */
	if (!listing)
		bt_nbd_meta_forget(conn);
	if (!conn->structured) {
		bt_nbd_option_error(conn, NBD_REP_ERR_INVALID,
				    "contexts need structured replies");
		return;
	}
	if (!take_string(&c, &name, &len) ||
	    scan_queries(conn, &c, listing, &wanted)) {
		bt_nbd_option_error(conn, NBD_REP_ERR_INVALID,
				    "lengths do not fit the option");
		return;
	}
	if (!bt_nbd_is_export(conn, name, len)) {
		bt_nbd_option_error(conn, NBD_REP_ERR_UNKNOWN,
				    "no export of that name");
		return;
	}
	if (listing || keep_export(conn, name, len))
		answer_all(conn, &wanted, listing);
	bt_nbd_option_reply(conn, NBD_REP_ACK, NULL, 0);
}
