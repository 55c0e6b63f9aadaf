/* SPDX-License-Identifier: BSD-3-Clause */
/* Replies: built when a request completes, sent later with all the others of the
 * turn. Where the client has structured replies, reads and errors use them, and
 * zeroes are not sent but told. */
#include "frontend/nbd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "util/bytes.h"

/* A read is looked through for zeroes in pieces of this size. */
#define GRANULE 65536u
#define HOLE_MIN 512u
#define TEXT_MAX 160

/* ---- the parts of a reply ------------------------------------------------- */

/* A part that lies in the item or its buffer, until the reply is out. */
static void out(struct bt_nbd_request *item, const void *base, size_t len)
{
	struct iovec *iov = &item->out[item->out_count++];

	iov->iov_base = (void *)(uintptr_t)base;
	iov->iov_len = len;
	item->out_len += len;
}

/* After an error nothing follows it; after a read that went well the data does.
 */
static void out_simple(struct bt_nbd_request *item, uint32_t error)
{
	bt_store_be32(item->head, NBD_SIMPLE_REPLY_MAGIC);
	bt_store_be32(item->head + 4, error);
	bt_store_be64(item->head + 8, item->cookie);
	out(item, item->head, NBD_SIMPLE_REPLY_LEN);
}

/* The head of a structured reply: 20 bytes, big-endian. */
static void chunk(struct bt_nbd_request *item, uint8_t *head, uint16_t flags,
		  uint16_t type, size_t len)
{
	bt_store_be32(head, NBD_STRUCTURED_REPLY_MAGIC);
	bt_store_be16(head + 4, flags);
	bt_store_be16(head + 6, type);
	bt_store_be64(head + 8, item->cookie);
	bt_store_be32(head + 16, (uint32_t)len);
}

/* ---- errors --------------------------------------------------------------- */

/* An error of ours may have any number, and the protocol has eight. EFBIG is a
 * file that may not grow, which to a writer is want of space. */
uint32_t bt_nbd_errno(int error, uint16_t cmd_flags)
{
	switch (-error) {
	case 0:
		return 0;
	case EPERM:
	case EACCES:
	case EROFS:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case ENOTSUP:
		/* the protocol knows it as the answer to FAST_ZERO alone */
		return cmd_flags & NBD_CMD_FLAG_FAST_ZERO ? NBD_ENOTSUP
							  : NBD_EINVAL;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

/* Which node failed and how, for the people at the other end. TEXT_MAX with the
 * chunk's fields fits into head. */
static size_t describe(const struct bt_nbd_request *item, int error,
		       const char *text, char *to)
{
	char buf[BT_STRERROR_MAX];
	const struct bt_node *node = item->req.failed;
	int n;

	if (text)
		n = snprintf(to, TEXT_MAX, "%s", text);
	else if (node)
		n = snprintf(to, TEXT_MAX, "%s: %s", node->name,
			     bt_strerror(error, buf));
	else
		n = snprintf(to, TEXT_MAX, "%s", bt_strerror(error, buf));
	if (n < 0)
		return 0;
	return (size_t)n < TEXT_MAX ? (size_t)n : TEXT_MAX - 1;
}

/* ERROR_OFFSET only where a read reached the disk; the offset told is the
 * request's own. */
static void reply_error(struct bt_nbd_request *item, int error,
			const char *text)
{
	uint32_t code = bt_nbd_errno(error, item->flags);
	/* text: the request never got to the disk, so no offset is at fault */
	bool at = !text && item->type == NBD_CMD_READ;
	uint8_t *p = item->head + NBD_CHUNK_LEN;
	size_t len;

	if (!item->conn->structured) {
		out_simple(item, code);
		return;
	}
	len = describe(item, error, text, (char *)p + 6);
	bt_store_be32(p, code);
	bt_store_be16(p + 4, (uint16_t)len);
	len += 6;
	if (at) {
		bt_store_be64(p + len, item->req.offset);
		len += 8;
	}
	chunk(item, item->head, NBD_REPLY_FLAG_DONE,
	      at ? NBD_REPLY_TYPE_ERROR_OFFSET : NBD_REPLY_TYPE_ERROR, len);
	out(item, item->head, NBD_CHUNK_LEN + len);
}

/* ---- reads ---------------------------------------------------------------- */

/* The first bytes against zeroes, and each other one against one before it: one
 * memcmp at the machine's speed. */
static bool is_zero(const uint8_t *p, size_t len)
{
	static const uint8_t zeroes[16];
	size_t lead = len < sizeof(zeroes) ? len : sizeof(zeroes);

	return !memcmp(p, zeroes, lead) && !memcmp(p, p + lead, len - lead);
}

/* The run of pieces from pos on that are all zero or all data. A run ends at a
 * piece of the other kind; pieces below HOLE_MIN are not worth a hole. */
static size_t run_end(const struct bt_nbd_request *item, size_t pos, bool *zero)
{
	const uint8_t *data = item->buffer;
	size_t end = pos;

	while (end < item->length) {
		size_t n = (size_t)bt_min_u64(GRANULE, item->length - end);
		bool z = n >= HOLE_MIN && is_zero(data + end, n);

		if (end == pos)
			*zero = z;
		else if (z != *zero)
			break;
		end += n;
	}
	return end;
}

/* Returns where the next head goes. */
static uint8_t *out_content(struct bt_nbd_request *item, uint8_t *head,
			    size_t pos, size_t end, bool zero)
{
	uint16_t flags = end == item->length ? NBD_REPLY_FLAG_DONE : 0;

	bt_store_be64(head + NBD_CHUNK_LEN, item->req.offset + pos);
	if (zero) {
		chunk(item, head, flags, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
		bt_store_be32(head + NBD_CHUNK_LEN + 8, (uint32_t)(end - pos));
		out(item, head, BT_NBD_HOLE_LEN);
		return head + BT_NBD_HOLE_LEN;
	}
	chunk(item, head, flags, NBD_REPLY_TYPE_OFFSET_DATA, 8 + end - pos);
	out(item, head, NBD_CHUNK_LEN + 8);
	out(item, (uint8_t *)item->buffer + pos, end - pos);
	return head + NBD_CHUNK_LEN + 8;
}

/* Chunks cover the read from its beginning to its end without a gap. Their
 * number is bounded by the room for heads. */
static void reply_chunks(struct bt_nbd_request *item)
{
	uint8_t *head = item->head;
	size_t pos = 0, end;
	uint32_t n = 0;
	bool zero = false;

	while (pos < item->length) {
		end = run_end(item, pos, &zero);
		/* one chunk where the client asked not to split; and what the
		 * last one cannot tell apart goes as data */
		if (end < item->length &&
		    (++n == BT_NBD_CHUNKS || item->flags & NBD_CMD_FLAG_DF)) {
			zero = false;
			end = item->length;
		}
		head = out_content(item, head, pos, end, zero);
		pos = end;
	}
}

/* Without structured replies there is one form, holes and all. */
static void reply_read(struct bt_nbd_request *item)
{
	if (item->conn->structured) {
		reply_chunks(item);
		return;
	}
	out_simple(item, 0);
	out(item, item->buffer, item->length);
}

/* ---- block status --------------------------------------------------------- */

/* The two that base:allocation has; what else an extent says is not for
 * clients. */
static uint32_t state_flags(const struct blktap_extent *extent)
{
	return (extent->flags & BLKTAP_EXTENT_HOLE ? NBD_STATE_HOLE : 0) |
	       (extent->flags & BLKTAP_EXTENT_ZERO ? NBD_STATE_ZERO : 0);
}

/* Rewrites the extents as descriptors, 8 bytes for 16, and joins neighbours that
 * look alike. Their sum stays within the request. Returns how many. In place: a
 * descriptor is half as long as an extent, so what is written never reaches
 * what is not read yet. */
static uint32_t descriptors(struct bt_nbd_request *item)
{
	const struct blktap_extent *extents = item->buffer;
	uint8_t *to = item->buffer;
	uint32_t left = item->length, n = 0, i;
	uint32_t sum = 0, flags = 0;

	for (i = 0; i < item->req.extent_count && left; i++) {
		struct blktap_extent e = extents[i];
		uint32_t length = (uint32_t)bt_min_u64(e.length, left);

		if (!length)
			continue;
		if (n && state_flags(&e) == flags) {
			sum += length;
		} else {
			n++;
			sum = length;
			flags = state_flags(&e);
		}
		left -= length;
		bt_store_be32(to + 8 * (n - 1), sum);
		bt_store_be32(to + 8 * (n - 1) + 4, flags);
	}
	return n;
}

/* What a bitmap says of the range. As many as there is room for; the client
 * asks again for the rest. */
static uint32_t dirty_descriptors(const struct bt_nbd_request *item,
				  const char *name, uint8_t *to)
{
	uint64_t at = item->req.offset, left = item->length, length;
	uint32_t n = 0, max = BT_NBD_STATUS_ROOM / 8;
	bool dirty;

	if (item->flags & NBD_CMD_FLAG_REQ_ONE)
		max = 1;
	for (; left && n < max; n++) {
		length = bt_vbd_get_dirty(item->conn->server->disk, name, at,
					  left, &dirty);
		bt_store_be32(to + 8 * n, (uint32_t)length);
		bt_store_be32(to + 8 * n + 4, dirty ? NBD_STATE_DIRTY : 0);
		at += length;
		left -= length;
	}
	return n;
}

/* One chunk for each context; the last one of the reply is marked. */
static void out_context(struct bt_nbd_request *item, uint8_t *head, uint32_t id,
			const uint8_t *bytes, uint32_t n, bool last)
{
	chunk(item, head, last ? NBD_REPLY_FLAG_DONE : 0,
	      NBD_REPLY_TYPE_BLOCK_STATUS, 4 + 8 * (size_t)n);
	bt_store_be32(head + NBD_CHUNK_LEN, id);
	out(item, head, NBD_CHUNK_LEN + 4);
	out(item, bytes, 8 * (size_t)n);
}

/* Room for each context is fixed, so the heads and the bytes of several do not
 * meet. */
static void reply_status(struct bt_nbd_request *item)
{
	const struct bt_nbd_conn *conn = item->conn;
	uint8_t *head = item->head, *bytes = item->buffer;
	uint32_t n = descriptors(item), i;

	/* "data" is never wrong, and a reply must have something */
	if (!n) {
		bt_store_be32(bytes, item->length);
		bt_store_be32(bytes + 4, 0);
		n = 1;
	}
	if (conn->meta_base)
		out_context(item, head, BT_NBD_META_ID, bytes, n,
			    !conn->meta_bitmaps);
	for (i = 0; i < conn->meta_bitmaps; i++) {
		head += BT_NBD_HOLE_LEN;
		bytes += BT_NBD_STATUS_ROOM;
		n = dirty_descriptors(item, conn->meta_names[i], bytes);
		out_context(item, head, BT_NBD_META_ID + 1 + i, bytes, n,
			    i + 1 == conn->meta_bitmaps);
	}
}

/* ---- the way out ---------------------------------------------------------- */

/* As soon as it is not needed any more, not when the reply is out: others may
 * wait for its memory. */
static void drop_payload(struct bt_nbd_request *item)
{
	struct bt_nbd_conn *conn = item->conn;

	if (item->arena)
		bt_nbd_arena_unref(conn, item->arena);
	item->arena = NULL;
	if (!item->buffer)
		return;
	bt_nbd_buffer_give(&conn->server->cache, item->buffer, item->shift);
	bt_nbd_discharge(conn, (uint64_t)1 << item->shift);
	item->buffer = NULL;
}

/* The request is another's as soon as it is given back. */
void bt_nbd_release(struct bt_nbd_request *item)
{
	struct bt_nbd_conn *conn = item->conn;

	drop_payload(item);
	conn->held--;
	bt_pool_give(&item->req);
}

/* It goes out with all the others of this turn. */
static void queue(struct bt_nbd_request *item)
{
	bt_list_add_tail(&item->conn->replies, &item->req.link);
	bt_nbd_conn_defer(item->conn);
}

/* As an answer of the disk's would go: in turn, with the others. */
void bt_nbd_refuse(struct bt_nbd_request *item, int error, const char *text)
{
	item->out_count = 0;
	item->out_len = 0;
	reply_error(item, error, text);
	queue(item);
}

/* A disk that cannot tell holes from data: all of it may be data. */
static bool is_unknown_status(const struct bt_nbd_request *item)
{
	return item->type == NBD_CMD_BLOCK_STATUS &&
	       item->req.error == -ENOTSUP;
}

/* Called in any order, and in any stage. In DEAD nobody is there to answer, and
 * the last one brings the connection's end. */
void bt_nbd_done(struct bt_request *req)
{
	struct bt_nbd_request *item = (struct bt_nbd_request *)req;
	struct bt_nbd_conn *conn = item->conn;

	conn->in_flight--;
	if (conn->stage == BT_NBD_DEAD) {
		bt_nbd_release(item);
		bt_nbd_conn_defer(conn);
		return;
	}
	item->out_count = 0;
	item->out_len = 0;
	if (is_unknown_status(item)) {
		req->extent_count = 0;
		reply_status(item);
	} else if (req->error) {
		drop_payload(item);
		reply_error(item, req->error, NULL);
	} else if (item->type == NBD_CMD_READ) {
		reply_read(item);
	} else if (item->type == NBD_CMD_BLOCK_STATUS) {
		reply_status(item);
	} else {
		drop_payload(item);
		out_simple(item, 0);
	}
	queue(item);
}
