/* SPDX-License-Identifier: BSD-3-Clause */
/* Replies, as hostile as a server can make them: every cookie must be that of a
 * call which was sent whole, every chunk must fit its command, no byte of a
 * read may come twice, and none may be missing at the end. Anything else ends
 * the connection, with the field and its value told.
 *
 * A reply is read in parts (enum bt_nbdc_part): a header with what its chunk
 * begins with, whole in the buffer; then data, which goes on into the request's
 * memory as it comes, or extents, eight bytes each. Functions return 1 where
 * they went on, 0 where bytes are missing (of a header none has been taken
 * then), or a negative errno, after which the connection is dropped and its
 * calls are sent again elsewhere.
 *
 * Memory of a read that has been written to is harmless then: the request is
 * not answered yet. */
#include "driver/nbd/nbd.h"

#include <errno.h>
#include <inttypes.h>

#include "core/log.h"
#include "util/bytes.h"
#include "util/checked.h"

#define ERROR_MAX (6u + NBD_STRING_MAX + 8u) /* code, length, text, offset */
/* A payload up to SMALL_READ is read into the buffer with what follows it;
 * behind a larger one only LITTLE bytes are asked for, for the next header. */
#define SMALL_READ 16384u
#define LITTLE 512u
#define ERRORS_MAX 64u /* chunks, of one reply: each may be a line of the log */

static const char *const names[NBD_CMD_COUNT] = {
	[NBD_CMD_READ] = "READ",
	[NBD_CMD_WRITE] = "WRITE",
	[NBD_CMD_DISC] = "DISC",
	[NBD_CMD_FLUSH] = "FLUSH",
	[NBD_CMD_TRIM] = "TRIM",
	[NBD_CMD_CACHE] = "CACHE",
	[NBD_CMD_WRITE_ZEROES] = "WRITE_ZEROES",
	[NBD_CMD_BLOCK_STATUS] = "BLOCK_STATUS",
};

struct chunk {
	uint16_t flags, type;
	uint32_t length;
	const uint8_t *data; /* what it begins with */
	struct bt_nbdc_call *call;
};

/* ---- the call ------------------------------------------------------------- */

/* The low byte of a cookie is the call, the rest the sending: an answer to an
 * earlier one, on a connection that was lost, has another cookie. */
static struct bt_nbdc_call *find(struct bt_nbdc_conn *conn, uint64_t cookie)
{
	struct bt_nbdc_call *call = &conn->nbd->calls[cookie % BT_NBDC_CALLS];

	if (!call->req || call->conn != conn || call->cookie != cookie)
		bt_nbdc_broken(conn, "cookie 0x%016" PRIx64 " is of no request",
			       cookie);
	else if (!call->is_sent)
		bt_nbdc_broken(conn,
			       "%s at %" PRIu64
			       " was answered before it was sent",
			       names[call->type], call->offset);
	else
		return call;
	return NULL;
}

/* Only numbers that the protocol has are passed on; any other is an I/O
 * error. */
static int to_errno(uint32_t error)
{
	switch (error) {
	case 0:
		return 0;
	case NBD_EPERM:
		return -EPERM;
	case NBD_ENOMEM:
		return -ENOMEM;
	case NBD_EINVAL:
		return -EINVAL;
	case NBD_ENOSPC:
		return -ENOSPC;
	case NBD_EOVERFLOW:
		return -EOVERFLOW;
	case NBD_ENOTSUP:
		return -ENOTSUP;
	default:
		return -EIO;
	}
}

/* A server that shuts down has not done it: another will. */
static int shutting_down(struct bt_nbdc_conn *conn)
{
	return bt_nbdc_fail(conn, -ESHUTDOWN, NULL,
			    "the server is shutting down");
}

/* ---- what has come of a read ---------------------------------------------- */

/* Notes [start, end); false where a part of it was there, or where there are
 * more gaps than any server leaves. Ranges are kept sorted, apart, and joined
 * where they meet; a server that cuts a read in pieces in order needs one. */
static bool add_range(struct bt_nbdc_call *call, uint32_t start, uint32_t end)
{
	struct bt_nbdc_range *r = call->ranges;
	uint32_t i = call->range_count, k;

	while (i && r[i - 1].start >= end)
		i--;
	if (i && r[i - 1].end > start)
		return false;
	if (i && r[i - 1].end == start) {
		r[i - 1].end = end;
		if (i < call->range_count && r[i].start == end) {
			r[i - 1].end = r[i].end;
			call->range_count--;
			for (k = i; k < call->range_count; k++)
				r[k] = r[k + 1];
		}
		return true;
	}
	if (i < call->range_count && r[i].start == end) {
		r[i].start = start;
		return true;
	}
	if (call->range_count == BT_NBDC_RANGES)
		return false;
	for (k = call->range_count++; k > i; k--)
		r[k] = r[k - 1];
	r[i].start = start;
	r[i].end = end;
	return true;
}

/* Whether [at, at + length) of the disk lies in the read and is new; *start is
 * where in the read it begins. offset is used only when at has been found to be
 * not before call->offset. */
static int claim(struct bt_nbdc_conn *conn, const struct chunk *c, uint64_t at,
		 uint64_t length, uint32_t *start)
{
	struct bt_nbdc_call *call = c->call;
	uint64_t offset = at - call->offset;

	if (call->type != NBD_CMD_READ)
		return bt_nbdc_broken(conn, "chunk type %u answers %s", c->type,
				      names[call->type]);
	if (at < call->offset || !length ||
	    !bt_range_within(offset, length, call->length))
		return bt_nbdc_broken(conn,
				      "chunk of %" PRIu64 " bytes at %" PRIu64
				      " is not in the READ of %u at %" PRIu64,
				      length, at, call->length, call->offset);
	*start = (uint32_t)offset;
	if (!add_range(call, *start, *start + (uint32_t)length))
		return bt_nbdc_broken(
			conn,
			"chunk of %" PRIu64 " bytes at %" PRIu64
			" overlaps another or leaves too many gaps",
			length, at);
	return 1;
}

/* ---- the end of a chunk --------------------------------------------------- */

/* A read is whole where its one range is all of it; one that has an error may
 * have come in part. */
static int end_chunk(struct bt_nbdc_conn *conn)
{
	struct bt_nbdc_call *call = conn->call;

	conn->part = BT_NBDC_HEADER;
	conn->call = NULL;
	if (!conn->done)
		return 1;
	if (!call->error && call->type == NBD_CMD_READ &&
	    (call->range_count != 1 || call->ranges[0].start ||
	     call->ranges[0].end != call->length))
		return bt_nbdc_broken(conn,
				      "the READ of %u bytes at %" PRIu64
				      " was ended with a part of it missing",
				      call->length, call->offset);
	if (!call->error && call->type == NBD_CMD_BLOCK_STATUS &&
	    !call->has_status)
		return bt_nbdc_broken(conn,
				      "BLOCK_STATUS at %" PRIu64
				      " was ended without an answer",
				      call->offset);
	bt_nbdc_finish(call, call->error);
	return 1;
}

/* What follows goes to the read's memory. The call's request keeps its memory
 * until the call is answered, so what comes can go there. */
static int begin_data(struct bt_nbdc_conn *conn, struct bt_nbdc_call *call,
		      uint32_t start, uint32_t length)
{
	conn->part = BT_NBDC_DATA;
	conn->call = call;
	conn->sgl = call->req->data;
	bt_sgl_advance(&conn->sgl, start);
	conn->left = length;
	/* behind a large payload comes another: little of that should have to
	 * be copied out of the buffer. Small ones are cheaper to copy than to
	 * ask the system for one by one. */
	conn->look_ahead = length > SMALL_READ ? LITTLE : BT_NBDC_BUFFER;
	return 1;
}

/* ---- chunks --------------------------------------------------------------- */

/* The chunk's first 8 bytes are the offset on the disk. */
static int on_data(struct bt_nbdc_conn *conn, const struct chunk *c)
{
	uint32_t start;
	int rc = claim(conn, c, bt_load_be64(c->data), c->length - 8, &start);

	return rc < 0 ? rc : begin_data(conn, c->call, start, c->length - 8);
}

/* All of it is here: 8 bytes of offset, 4 of length. */
static int on_hole(struct bt_nbdc_conn *conn, const struct chunk *c)
{
	uint32_t length = bt_load_be32(c->data + 8), start;
	struct bt_sgl sgl = c->call->req->data;
	int rc = claim(conn, c, bt_load_be64(c->data), length, &start);

	if (rc < 0)
		return rc;
	bt_sgl_advance(&sgl, start);
	bt_sgl_zero(&sgl, length);
	conn->call = c->call;
	return end_chunk(conn);
}

/* One context was asked for, so one chunk of it may come. */
static int on_status(struct bt_nbdc_conn *conn, const struct chunk *c)
{
	uint32_t id = bt_load_be32(c->data);

	if (c->call->type != NBD_CMD_BLOCK_STATUS)
		return bt_nbdc_broken(conn, "chunk type %u answers %s", c->type,
				      names[c->call->type]);
	if (id != conn->info.meta_id)
		return bt_nbdc_broken(conn, "context id %u, not %u", id,
				      conn->info.meta_id);
	if (c->call->has_status)
		return bt_nbdc_broken(conn, "BLOCK_STATUS was answered twice");
	c->call->has_status = true;
	conn->call = c->call;
	conn->part = BT_NBDC_EXTENTS;
	conn->left = c->length - 4;
	conn->covered = 0;
	conn->full = false;
	return 1;
}

/* Errors with an offset have 8 bytes more, which say nothing that the request
 * could use. */
static int on_error(struct bt_nbdc_conn *conn, const struct chunk *c)
{
	struct bt_nbdc *nbd = conn->nbd;
	uint32_t error = bt_load_be32(c->data);
	uint32_t text = bt_load_be16(c->data + 4);

	if (!error)
		return bt_nbdc_broken(conn, "an error chunk has error 0");
	if (++c->call->errors > ERRORS_MAX)
		return bt_nbdc_broken(conn, "more than %u error chunks for %s",
				      ERRORS_MAX, names[c->call->type]);
	if (text > c->length - 6 || text > NBD_STRING_MAX)
		return bt_nbdc_broken(
			conn,
			"text length %u is not in the error chunk of "
			"%u bytes",
			text, c->length);
	if (error == NBD_ESHUTDOWN)
		return shutting_down(conn);
	if (text) {
		/* for its tidying */
		bt_nbdc_fail(conn, to_errno(error), NULL,
			     "%s at %" PRIu64 " failed, the server says: %.*s",
			     names[c->call->type], c->call->offset,
			     (int)bt_min_u64(text, 200), c->data + 6);
		bt_log(nbd->node->env->log, BLKTAP_LOG_INFO, "%s", conn->why);
	}
	if (!c->call->error)
		c->call->error = to_errno(error);
	conn->call = c->call;
	return end_chunk(conn);
}

/* The bytes of the chunk that must be here before it is looked at; -1 where its
 * length is impossible. */
static int64_t prefix(const struct chunk *c)
{
	switch (c->type) {
	case NBD_REPLY_TYPE_NONE:
		return c->length || !(c->flags & NBD_REPLY_FLAG_DONE) ? -1 : 0;
	case NBD_REPLY_TYPE_OFFSET_DATA:
		return c->length > 8 ? 8 : -1;
	case NBD_REPLY_TYPE_OFFSET_HOLE:
		return c->length == 12 ? 12 : -1;
	case NBD_REPLY_TYPE_BLOCK_STATUS:
		return c->length >= 12 && c->length % 8 == 4 ? 4 : -1;
	default:
		if (!(c->type & NBD_REPLY_TYPE_ERROR_BIT) || c->length < 6 ||
		    c->length > ERROR_MAX)
			return -1;
		return c->length;
	}
}

static int dispatch(struct bt_nbdc_conn *conn, const struct chunk *c)
{
	switch (c->type) {
	case NBD_REPLY_TYPE_NONE:
		conn->call = c->call;
		return end_chunk(conn);
	case NBD_REPLY_TYPE_OFFSET_DATA:
		return on_data(conn, c);
	case NBD_REPLY_TYPE_OFFSET_HOLE:
		return on_hole(conn, c);
	case NBD_REPLY_TYPE_BLOCK_STATUS:
		return on_status(conn, c);
	default:
		return on_error(conn, c);
	}
}

/* length is not trusted with memory: only prefix decides how much has to be
 * here, and ERROR_MAX is the most. */
static int on_structured(struct bt_nbdc_conn *conn, const uint8_t *p,
			 size_t have)
{
	struct chunk c;
	int64_t need;

	if (have < NBD_CHUNK_LEN)
		return 0;
	c.flags = bt_load_be16(p + 4);
	c.type = bt_load_be16(p + 6);
	c.length = bt_load_be32(p + 16);
	c.data = p + NBD_CHUNK_LEN;
	if (!conn->info.structured)
		return bt_nbdc_broken(conn,
				      "a structured reply, not agreed on");
	if (c.flags & ~NBD_REPLY_FLAG_DONE)
		return bt_nbdc_broken(conn, "reply flags 0x%x are unknown",
				      c.flags);
	need = prefix(&c);
	if (need < 0)
		return bt_nbdc_broken(
			conn,
			"chunk type %u, flags 0x%x, length %u do not "
			"go together",
			c.type, c.flags, c.length);
	if (have < NBD_CHUNK_LEN + (size_t)need)
		return 0;
	c.call = find(conn, bt_load_be64(p + 8));
	if (!c.call)
		return -EPROTO;
	conn->done = c.flags & NBD_REPLY_FLAG_DONE;
	conn->pos += NBD_CHUNK_LEN + (size_t)need;
	return dispatch(conn, &c);
}

/* ---- simple replies ------------------------------------------------------- */

/* To a READ the data follows, as long as was asked for; after an error there is
 * none. */
static int on_simple(struct bt_nbdc_conn *conn, const uint8_t *p, size_t have)
{
	struct bt_nbdc_call *call;
	uint32_t error;

	if (have < NBD_SIMPLE_REPLY_LEN)
		return 0;
	error = bt_load_be32(p + 4);
	call = find(conn, bt_load_be64(p + 8));
	if (!call)
		return -EPROTO;
	if (conn->info.structured &&
	    (call->type == NBD_CMD_READ || call->type == NBD_CMD_BLOCK_STATUS))
		return bt_nbdc_broken(conn, "a simple reply to %s",
				      names[call->type]);
	if (error == NBD_ESHUTDOWN)
		return shutting_down(conn);
	conn->pos += NBD_SIMPLE_REPLY_LEN;
	conn->done = true;
	if (call->type == NBD_CMD_READ && !error) {
		add_range(call, 0, call->length);
		return begin_data(conn, call, 0, call->length);
	}
	bt_nbdc_finish(call, to_errno(error));
	return 1;
}

/* ---- the parser ----------------------------------------------------------- */

/* Both kinds of reply may come on one connection: simple ones to what has no
 * data to give. */
static int take_header(struct bt_nbdc_conn *conn)
{
	const uint8_t *p = conn->buf + conn->pos;
	size_t have = conn->end - conn->pos;
	uint32_t magic;

	if (have < 4)
		return 0;
	magic = bt_load_be32(p);
	if (magic == NBD_SIMPLE_REPLY_MAGIC)
		return on_simple(conn, p, have);
	if (magic == NBD_STRUCTURED_REPLY_MAGIC)
		return on_structured(conn, p, have);
	return bt_nbdc_broken(conn, "reply magic 0x%08x", magic);
}

/* What the system has put into the request's memory itself was counted in
 * received (transfer.c). */
static int take_data(struct bt_nbdc_conn *conn)
{
	uint64_t n = bt_min_u64(conn->left, conn->end - conn->pos);

	bt_sgl_copy_in(&conn->sgl, conn->buf + conn->pos, n);
	bt_sgl_advance(&conn->sgl, n);
	conn->pos += (size_t)n;
	conn->left -= n;
	return conn->left ? 0 : end_chunk(conn);
}

/* [start, end) of the disk, as far as it is in the request. What finds no room
 * is left out, and then all that follows. The server's extents may begin before
 * the request (align) and end behind it. */
static void add_extent(struct bt_nbdc_conn *conn, uint64_t start, uint64_t end,
		       uint32_t flags)
{
	struct bt_request *req = conn->call->req;
	struct blktap_extent *at = req->extents + req->extent_count;

	start = bt_max_u64(start, req->offset);
	end = bt_min_u64(end, req->offset + req->length);
	if (start >= end || conn->full)
		return;
	if (req->extent_count && at[-1].flags == flags) {
		at[-1].length += end - start;
	} else if (req->extent_count < req->extent_max) {
		at->length = end - start;
		at->flags = flags;
		at->depth = 0;
		req->extent_count++;
	} else {
		conn->full = true;
	}
}

/* The last one may reach past the range, and nothing may follow it. */
static int take_extent(struct bt_nbdc_conn *conn, const uint8_t *p)
{
	struct bt_nbdc_call *call = conn->call;
	uint32_t length = bt_load_be32(p), state = bt_load_be32(p + 4);
	uint64_t at = call->offset + conn->covered;

	if (!length || conn->covered >= call->length)
		return bt_nbdc_broken(conn,
				      "extent of %u bytes at %" PRIu64
				      " in the status of %u at %" PRIu64,
				      length, at, call->length, call->offset);
	add_extent(conn, at, at + length,
		   (state & NBD_STATE_HOLE ? BLKTAP_EXTENT_HOLE : 0) |
			   (state & NBD_STATE_ZERO ? BLKTAP_EXTENT_ZERO : 0));
	conn->covered += length;
	return 1;
}

/* "data" is never wrong, and an answer must have something: what the server
 * told may have been of the alignment before the request alone. */
static void need_extent(struct bt_nbdc_conn *conn)
{
	struct bt_request *req = conn->call->req;

	if (!req->extent_count)
		add_extent(conn, req->offset, req->offset + req->length, 0);
}

/* As many as are here; they are looked at one by one, so no reply needs memory
 * by its length. */
static int take_extents(struct bt_nbdc_conn *conn)
{
	int rc = 1;

	while (rc > 0 && conn->left && conn->end - conn->pos >= 8) {
		rc = take_extent(conn, conn->buf + conn->pos);
		conn->pos += 8;
		conn->left -= 8;
	}
	if (rc < 0 || conn->left)
		return rc < 0 ? rc : 0;
	need_extent(conn);
	return end_chunk(conn);
}

/* Called with new bytes in the buffer, or with none. */
int bt_nbdc_parse(struct bt_nbdc_conn *conn)
{
	int rc = 1;

	while (rc > 0) {
		switch (conn->part) {
		case BT_NBDC_HEADER:
			rc = take_header(conn);
			break;
		case BT_NBDC_DATA:
			rc = take_data(conn);
			break;
		case BT_NBDC_EXTENTS:
			rc = take_extents(conn);
			break;
		}
	}
	return rc;
}
