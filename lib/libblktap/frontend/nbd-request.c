/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests: from bytes to bt_vbd_submit. Every request gets exactly one answer,
 * whatever is wrong with it, save where the stream itself cannot be trusted any
 * more: then nothing more is read. */
#include "frontend/nbd.h"

#include <errno.h>
#include <string.h>

#include "util/bytes.h"

/* Payloads up to this are taken whole out of the arena. */
#define INLINE_MAX 32768u

#define APPETITE_ALL BT_NBD_ARENA_ROOM
#define APPETITE_HEADER 4096u

#define EXTENTS_MAX (BT_NBD_STATUS_ROOM / sizeof(struct blktap_extent))

struct header {
	uint16_t flags;
	uint16_t type;
	uint64_t cookie;
	uint64_t offset;
	uint32_t length;
};

static const struct {
	enum blktap_op op;
	uint16_t flags; /* that may be set */
} commands[NBD_CMD_COUNT] = {
	[NBD_CMD_READ] = { BLKTAP_OP_READ, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF },
	[NBD_CMD_WRITE] = { BLKTAP_OP_WRITE, NBD_CMD_FLAG_FUA },
	[NBD_CMD_DISC] = { BLKTAP_OP_COUNT, NBD_CMD_FLAG_FUA },
	[NBD_CMD_FLUSH] = { BLKTAP_OP_FLUSH, NBD_CMD_FLAG_FUA },
	[NBD_CMD_TRIM] = { BLKTAP_OP_DISCARD, NBD_CMD_FLAG_FUA },
	[NBD_CMD_CACHE] = { BLKTAP_OP_PREFETCH, NBD_CMD_FLAG_FUA },
	[NBD_CMD_WRITE_ZEROES] = { BLKTAP_OP_WRITE_ZEROES,
				   NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE |
					   NBD_CMD_FLAG_FAST_ZERO },
	[NBD_CMD_BLOCK_STATUS] = { BLKTAP_OP_BLOCK_STATUS,
				   NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE },
};

/* ---- what is wrong with a request ----------------------------------------- */

struct refusal {
	int error;
	const char *text; /* NULL: nothing is wrong */
};

static struct refusal refuse(int error, const char *text)
{
	struct refusal r = { error, text };

	return r;
}

/* READ and WRITE are always there; a client must not use what was not told to
 * it. */
static bool is_offered(const struct bt_nbd_conn *conn, uint16_t type,
		       uint32_t operations)
{
	switch (type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
		return true;
	case NBD_CMD_BLOCK_STATUS:
		return conn->meta;
	default:
		return operations & (1u << commands[type].op);
	}
}

static struct refusal check_range(const struct bt_nbd_conn *conn,
				  const struct header *h, uint64_t size)
{
	bool has_data = h->type == NBD_CMD_READ || h->type == NBD_CMD_WRITE;
	bool fills =
		h->type == NBD_CMD_WRITE || h->type == NBD_CMD_WRITE_ZEROES;

	if (!h->length)
		return refuse(-EINVAL, "the length is 0");
	if (!bt_range_within(h->offset, h->length, size))
		return refuse(fills ? -ENOSPC : -EINVAL,
			      "the range ends past the end of the disk");
	if (has_data && h->length > conn->server->payload_max)
		return refuse(-EINVAL, "the length is over the largest block "
				       "size of this export");
	return refuse(0, NULL);
}

/* Nothing of the disk's state but its limits, which a change may have made
 * others since the handshake. */
static struct refusal check(const struct bt_nbd_conn *conn,
			    const struct header *h)
{
	const struct bt_limits *limits = bt_vbd_get_limits(conn->server->disk);
	uint32_t allowed;

	if (h->type >= NBD_CMD_COUNT)
		return refuse(-EINVAL, "unknown command");
	allowed = commands[h->type].flags;
	if (!conn->structured)
		allowed &= ~NBD_CMD_FLAG_DF;
	if (h->flags & ~allowed)
		return refuse(-EINVAL, "a flag the command does not have");
	if (bt_op_is_writing(commands[h->type].op) &&
	    (limits->read_only || conn->server->read_only))
		return refuse(-EPERM, "the export is read-only");
	if (!is_offered(conn, h->type, limits->operations))
		return refuse(-EINVAL, "the export does not offer the command");
	if (h->type != NBD_CMD_FLUSH)
		return check_range(conn, h, limits->size);
	if (h->offset || h->length)
		return refuse(-EINVAL, "a flush has neither offset nor length");
	return refuse(0, NULL);
}

/* ---- what a request needs ------------------------------------------------- */

/* A client that has few requests at once never costs more than the small pool.
 * The second pool stays until the connection ends. */
static struct bt_nbd_request *take(struct bt_nbd_conn *conn)
{
	struct bt_request *req = bt_pool_take(conn->pools[0]);
	struct bt_nbd_request *item;

	if (!req && !conn->pools[1])
		bt_vbd_pool_create(conn->server->disk, BT_NBD_POOL_LARGE,
				   sizeof(struct bt_nbd_request),
				   &conn->pools[1]);
	if (!req && conn->pools[1])
		req = bt_pool_take(conn->pools[1]);
	if (!req)
		return NULL;
	item = (struct bt_nbd_request *)req;
	item->conn = conn;
	item->buffer = NULL;
	item->arena = NULL;
	conn->held++;
	return item;
}

/* -EAGAIN: later, when another request has ended. */
static int take_buffer(struct bt_nbd_request *item, uint64_t length)
{
	struct bt_nbd_conn *conn = item->conn;
	uint32_t shift = bt_nbd_buffer_shift(length);

	if (!bt_nbd_charge(conn, (uint64_t)1 << shift))
		return -EAGAIN;
	item->buffer = bt_nbd_buffer_take(&conn->server->cache, shift);
	if (!item->buffer) {
		bt_nbd_discharge(conn, (uint64_t)1 << shift);
		/* one that has no other request would wait for nothing */
		return conn->held > 1 ? -EAGAIN : -ENOMEM;
	}
	item->shift = shift;
	return 0;
}

/* One piece, whichever memory it is in. */
static void set_data(struct bt_nbd_request *item, void *base)
{
	item->iov.iov_base = base;
	item->iov.iov_len = item->length;
	item->req.data.iov = &item->iov;
	item->req.data.count = 1;
	item->req.data.skip = 0;
}

/* The memory is charged before the disk is asked, so a client cannot have more
 * read than it may hold. */
static int prepare_read(struct bt_nbd_request *item)
{
	int rc = take_buffer(item, item->length);

	if (!rc)
		set_data(item, item->buffer);
	return rc;
}

/* A payload that O_DIRECT cannot take where it lies goes to a buffer that it
 * can: else the engine would copy it. */
static bool needs_aligned(const struct bt_nbd_conn *conn, const uint8_t *at)
{
	uint32_t align = bt_vbd_get_limits(conn->server->disk)->memory_align;

	return align > 1 && ((uintptr_t)at & (align - 1));
}

/* The header is at the head of the arena, its payload behind it. A small one is all
 * there, and is written from where it lies, so the arena stays until it is done. Of
 * a large one the rest is received into its buffer. */
static int prepare_write(struct bt_nbd_request *item)
{
	struct bt_nbd_conn *conn = item->conn;
	uint8_t *at = conn->arena->bytes + conn->head + NBD_REQUEST_LEN;
	size_t there = conn->tail - conn->head - NBD_REQUEST_LEN;
	int rc;

	conn->appetite =
		item->length > INLINE_MAX ? APPETITE_HEADER : APPETITE_ALL;
	if (item->length <= INLINE_MAX && !needs_aligned(conn, at)) {
		item->arena = conn->arena;
		item->arena->refs++;
		set_data(item, at);
		conn->head += item->length;
		return 0;
	}
	rc = take_buffer(item, item->length);
	if (rc)
		return rc;
	there = (size_t)bt_min_u64(there, item->length);
	memcpy(item->buffer, at, there);
	set_data(item, item->buffer);
	conn->head += there;
	if (there < item->length) {
		conn->filling = item;
		conn->filled = there;
		conn->whole_ns = bt_loop_now(conn->server->loop);
	}
	return 0;
}

/* The extents are turned into the reply where they lie; what bitmaps say comes
 * behind them. */
static int prepare_status(struct bt_nbd_request *item)
{
	int rc = take_buffer(item, BT_NBD_STATUS_ROOM *
					   (1 + item->conn->meta_bitmaps));

	item->req.extents = item->buffer;
	item->req.extent_max =
		item->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX;
	return rc;
}

/* The others bring no data and want none. */
static int prepare(struct bt_nbd_request *item)
{
	switch (item->type) {
	case NBD_CMD_READ:
		return prepare_read(item);
	case NBD_CMD_WRITE:
		return prepare_write(item);
	case NBD_CMD_BLOCK_STATUS:
		return prepare_status(item);
	default:
		return 0;
	}
}

/* ---- from bytes to requests ----------------------------------------------- */

/* A small write is wanted whole; of a large one the header will do, as the rest
 * goes elsewhere. */
size_t bt_nbd_message_need(const struct bt_nbd_conn *conn)
{
	const uint8_t *at =
		conn->arena ? conn->arena->bytes + conn->head : NULL;
	uint32_t length;

	if (conn->tail - conn->head < NBD_REQUEST_LEN)
		return NBD_REQUEST_LEN;
	length = bt_load_be32(at + 24);
	if (bt_load_be16(at + 6) != NBD_CMD_WRITE || length > INLINE_MAX)
		return NBD_REQUEST_LEN;
	return NBD_REQUEST_LEN + length;
}

/* The magic has been looked at. */
static void decode(const uint8_t *at, struct header *h)
{
	h->flags = bt_load_be16(at + 4);
	h->type = bt_load_be16(at + 6);
	h->cookie = bt_load_be64(at + 8);
	h->offset = bt_load_be64(at + 16);
	h->length = bt_load_be32(at + 24);
}

/* FUA of a command that writes nothing is allowed, and means nothing. */
static uint32_t request_flags(const struct header *h)
{
	uint32_t flags = 0;

	if (h->flags & NBD_CMD_FLAG_FUA &&
	    bt_op_is_writing(commands[h->type].op))
		flags |= BLKTAP_FUA;
	if (h->type != NBD_CMD_WRITE_ZEROES)
		return flags;
	if (!(h->flags & NBD_CMD_FLAG_NO_HOLE))
		flags |= BLKTAP_MAY_UNMAP;
	if (h->flags & NBD_CMD_FLAG_FAST_ZERO)
		flags |= BLKTAP_FAST_ONLY;
	return flags;
}

/* The item is the disk's from here on, and done may be called inside. */
void bt_nbd_submit(struct bt_nbd_request *item)
{
	struct bt_nbd_conn *conn = item->conn;

	conn->in_flight++;
	bt_vbd_submit(conn->server->disk, &item->req);
}

/* A write's payload is on its way whatever is wrong with it. */
static void skip_payload(struct bt_nbd_request *item, struct refusal why)
{
	struct bt_nbd_conn *conn = item->conn;

	if (item->type != NBD_CMD_WRITE || !item->length) {
		bt_nbd_refuse(item, why.error, why.text);
		return;
	}
	conn->skip = item->length;
	conn->skipping = item;
	conn->skip_error = why.error;
	conn->skip_text = why.text;
}

static void fill_in(struct bt_nbd_request *item, const struct header *h)
{
	item->cookie = h->cookie;
	item->type = h->type;
	item->flags = h->flags;
	item->length = h->length;
	item->req.offset = h->offset;
	item->req.length = h->length;
	item->req.done = bt_nbd_done;
}

/* The header at the head of the arena is complete and not DISC. False: the rest
 * of the message, or memory, is wanting. */
static bool accept_request(struct bt_nbd_conn *conn, const struct header *h)
{
	struct refusal why = check(conn, h);
	struct bt_nbd_request *item;
	int rc;

	/* what is refused need not be there: it is skipped as it comes */
	if (!why.text && conn->tail - conn->head < bt_nbd_message_need(conn))
		return false;
	item = take(conn);
	if (!item) {
		conn->stalled = true;
		return false;
	}
	fill_in(item, h);
	if (!why.text) {
		item->req.op = commands[h->type].op;
		item->req.flags = request_flags(h);
		rc = prepare(item);
		if (rc == -EAGAIN) {
			/* as if it had not come: its header stays at the head
			 * of the arena, and is parsed again */
			bt_nbd_release(item);
			conn->stalled = true;
			return false;
		}
		if (rc)
			why = refuse(rc, "out of memory");
	}
	/* prepare has moved it past the payload; both together are the message
	 */
	conn->head += NBD_REQUEST_LEN;
	if (why.text)
		skip_payload(item, why);
	else if (conn->filling != item)
		bt_nbd_submit(item);
	return true;
}

/* Without its magic the stream is out of step, and no byte behind it can be
 * trusted. */
static bool parse_header(struct bt_nbd_conn *conn)
{
	const uint8_t *at;
	struct header h;

	if (conn->tail - conn->head < NBD_REQUEST_LEN)
		return false;
	at = conn->arena->bytes + conn->head;
	if (bt_load_be32(at) != NBD_REQUEST_MAGIC) {
		bt_nbd_conn_drain(conn, "a request without its magic");
		return false;
	}
	decode(at, &h);
	if (h.type != NBD_CMD_WRITE)
		conn->appetite = APPETITE_ALL;
	if (h.type != NBD_CMD_DISC)
		return accept_request(conn, &h);
	bt_nbd_conn_drain(conn, "DISC");
	return false;
}

/* The rest of it is being received straight into its buffer. */
static bool finish_filling(struct bt_nbd_conn *conn)
{
	struct bt_nbd_request *item = conn->filling;

	if (conn->filled < item->length)
		return false;
	conn->filling = NULL;
	bt_nbd_submit(item);
	return true;
}

/* The payload of a request that was refused, as it comes; only behind it does
 * the answer go out. */
static bool finish_skipping(struct bt_nbd_conn *conn)
{
	struct bt_nbd_request *item = conn->skipping;
	uint64_t part = bt_min_u64(conn->skip, conn->tail - conn->head);

	conn->head += (size_t)part;
	conn->skip -= part;
	if (conn->skip)
		return false;
	conn->skipping = NULL;
	bt_nbd_refuse(item, conn->skip_error, conn->skip_text);
	return true;
}

/* One message after another, as far as they are there. A large payload, or one
 * that is skipped, is finished before the next header can be. */
void bt_nbd_parse(struct bt_nbd_conn *conn)
{
	bool more = true;

	while (more && conn->stage == BT_NBD_TRANSMIT && !conn->stalled) {
		if (conn->filling)
			more = finish_filling(conn);
		else if (conn->skipping)
			more = finish_skipping(conn);
		else
			more = parse_header(conn);
	}
}
