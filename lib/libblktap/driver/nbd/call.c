/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests become calls, calls find connections, and answers end them. All calls
 * were made when the node was opened; a request that finds none free waits.
 *
 * Who has a request: its frontend until bt_nbdc_submit, then nbd->waiting (by
 * its own link) or a call (call->req), until bt_request_complete. A call's
 * lists are told in nbd.h. The order among calls is kept from ready through
 * unsent; a server may answer in any order. */
#include "driver/nbd/nbd.h"

#include <errno.h>

#include "util/bytes.h"
#include "util/checked.h"

/* BLOCK_STATUS in one go. */
#define STATUS_MAX (1u << 30)

/* ---- from the request to the wire ----------------------------------------- */

/* FUA only where the server knows it; else the core was told (native_fua) and
 * flushes. */
static uint16_t flags_of(const struct bt_nbdc *nbd,
			 const struct bt_request *req)
{
	bool fua = nbd->info.flags & NBD_FLAG_SEND_FUA &&
		   bt_op_is_writing(req->op) &&
		   (req->flags & BLKTAP_FUA || nbd->fua_always);
	uint16_t flags = fua ? NBD_CMD_FLAG_FUA : 0;

	if (req->op == BLKTAP_OP_WRITE_ZEROES) {
		if (!(req->flags & BLKTAP_MAY_UNMAP))
			flags |= NBD_CMD_FLAG_NO_HOLE;
		if (req->flags & BLKTAP_FAST_ONLY)
			flags |= NBD_CMD_FLAG_FAST_ZERO;
	}
	if (req->op == BLKTAP_OP_BLOCK_STATUS && req->extent_max == 1)
		flags |= NBD_CMD_FLAG_REQ_ONE;
	return flags;
}

/* What the disk does not align, since it needs no exact range: the blocks it
 * touches, as many as one command takes. The size is a multiple of a block. A
 * server with blocks refuses what does not keep to them; more than was asked
 * for is told, and cut again in reply.c. */
static void align(const struct bt_nbdc *nbd, struct bt_nbdc_call *call,
		  uint64_t length, uint64_t max)
{
	uint64_t block = nbd->info.min_block;
	uint64_t start = bt_align_down(call->offset, block);
	uint64_t end = bt_align_down(call->offset + length + block - 1, block);

	call->offset = start;
	call->length = (uint32_t)bt_min_u64(end - start, max);
}

/* length is 32 bits on the wire: limits keep every request below that. */
static void describe(const struct bt_nbdc *nbd, struct bt_nbdc_call *call)
{
	static const uint16_t types[BLKTAP_OP_COUNT] = {
		[BLKTAP_OP_READ] = NBD_CMD_READ,
		[BLKTAP_OP_WRITE] = NBD_CMD_WRITE,
		[BLKTAP_OP_FLUSH] = NBD_CMD_FLUSH,
		[BLKTAP_OP_DISCARD] = NBD_CMD_TRIM,
		[BLKTAP_OP_WRITE_ZEROES] = NBD_CMD_WRITE_ZEROES,
		[BLKTAP_OP_BLOCK_STATUS] = NBD_CMD_BLOCK_STATUS,
		[BLKTAP_OP_PREFETCH] = NBD_CMD_CACHE,
	};
	const struct bt_request *req = call->req;

	call->type = types[req->op];
	call->flags = flags_of(nbd, req);
	call->offset = req->offset;
	call->length = (uint32_t)req->length;
	if (req->op == BLKTAP_OP_FLUSH)
		call->offset = call->length = 0;
	else if (req->op == BLKTAP_OP_BLOCK_STATUS)
		align(nbd, call, req->length, STATUS_MAX);
	else if (req->op == BLKTAP_OP_PREFETCH)
		align(nbd, call, req->length, nbd->node->limits.max_transfer);
}

/* magic, flags, type, cookie, offset, length: 28 bytes. */
static void write_header(struct bt_nbdc_call *call)
{
	uint8_t *p = call->header;

	bt_store_be32(p, NBD_REQUEST_MAGIC);
	bt_store_be16(p + 4, call->flags);
	bt_store_be16(p + 6, call->type);
	bt_store_be64(p + 8, call->cookie);
	bt_store_be64(p + 16, call->offset);
	bt_store_be32(p + 24, call->length);
}

/* ---- finding a connection ------------------------------------------------- */

/* The one with the fewest calls. There is one: nbd->up is not 0. */
static struct bt_nbdc_conn *choose(const struct bt_nbdc *nbd)
{
	struct bt_nbdc_conn *best = NULL;
	uint32_t i;

	for (i = 0; i < nbd->conn_count; i++) {
		struct bt_nbdc_conn *conn = &nbd->conns[i];

		if (conn->counted &&
		    (!best || conn->in_flight < best->in_flight))
			best = conn;
	}
	return best;
}

/* The cookie's low byte finds the call; the rest tells a late answer from one
 * to the present sending. What an earlier sending brought is forgotten. It goes
 * out at the end of the turn, with what else is assigned until then. */
static void assign(struct bt_nbdc_conn *conn, struct bt_nbdc_call *call)
{
	struct bt_nbdc *nbd = conn->nbd;

	call->cookie = ++nbd->next_cookie << 8 | (uint64_t)(call - nbd->calls);
	write_header(call);
	call->conn = conn;
	call->is_sent = false;
	call->since_ns = bt_loop_now(nbd->loop);
	call->error = 0;
	call->errors = 0;
	call->has_status = false;
	call->range_count = 0;
	call->req->extent_count = 0;
	bt_list_add_tail(&conn->unsent, &call->link);
	conn->in_flight++;
	bt_nbdc_expect(conn);
	if (!conn->blocked)
		bt_loop_defer(nbd->loop, &conn->send);
}

/* Oldest first. */
void bt_nbdc_pump(struct bt_nbdc *nbd)
{
	while (nbd->up && !bt_list_empty(&nbd->ready)) {
		struct bt_list *at = bt_list_pop(&nbd->ready);

		assign(choose(nbd),
		       bt_list_entry(at, struct bt_nbdc_call, link));
	}
}

/* mark is of this moment: a flush covers what was answered before it was asked
 * for. */
static void start(struct bt_nbdc *nbd, struct bt_nbdc_call *call,
		  struct bt_request *req)
{
	call->req = req;
	call->lost_ns = 0;
	call->mark = nbd->written;
	describe(nbd, call);
	if (nbd->up) {
		assign(choose(nbd), call);
	} else {
		call->conn = NULL;
		bt_list_add_tail(&nbd->ready, &call->link);
	}
}

/* ---- submit --------------------------------------------------------------- */

/* What needs no server: 1 where the request is to be sent. A flush of a server
 * that cannot flush is a lie that settle has warned of. A flush of a disk that
 * is only read has nothing to make durable. A prefetch is a wish. */
static int answer_alone(const struct bt_nbdc *nbd, const struct bt_request *req)
{
	uint16_t flags = nbd->info.flags;

	switch (req->op) {
	case BLKTAP_OP_FLUSH:
		if (nbd->flush_error)
			return nbd->flush_error;
		return !nbd->read_only && flags & NBD_FLAG_SEND_FLUSH ? 1 : 0;
	case BLKTAP_OP_DISCARD:
		return flags & NBD_FLAG_SEND_TRIM ? 1 : -ENOTSUP;
	case BLKTAP_OP_WRITE_ZEROES:
		if (req->flags & BLKTAP_FAST_ONLY &&
		    !(flags & NBD_FLAG_SEND_FAST_ZERO))
			return -ENOTSUP;
		return flags & NBD_FLAG_SEND_WRITE_ZEROES ? 1 : -ENOTSUP;
	case BLKTAP_OP_BLOCK_STATUS:
		return nbd->info.has_meta ? 1 : -ENOTSUP;
	case BLKTAP_OP_PREFETCH:
		return flags & NBD_FLAG_SEND_CACHE ? 1 : 0;
	default:
		return 1;
	}
}

/* Only where all calls are in use does a request wait itself. */
void bt_nbdc_submit(struct bt_node *node, struct bt_request *req)
{
	struct bt_nbdc *nbd = node->data;
	int rc = answer_alone(nbd, req);

	if (rc <= 0)
		bt_request_complete(req, rc);
	else if (nbd->failing)
		bt_request_complete(req, -EIO);
	else if (bt_list_empty(&nbd->free))
		bt_list_add_tail(&nbd->waiting, &req->link);
	else
		start(nbd,
		      bt_list_entry(bt_list_pop(&nbd->free),
				    struct bt_nbdc_call, link),
		      req);
}

/* ---- the end of a call ---------------------------------------------------- */

/* Which writes the server has made durable, as far as it told. A write that
 * failed counts as written: a part of it may be there. conn is NULL of a call
 * that was never answered: such an error says nothing of the server. */
static void note_generation(struct bt_nbdc *nbd,
			    const struct bt_nbdc_call *call, int error)
{
	if (call->type == NBD_CMD_FLUSH) {
		if (!error && call->mark > nbd->flushed)
			nbd->flushed = call->mark;
		/* the server may have dropped what it could not write, and
		 * would report success next time */
		if (error == -EIO && call->conn)
			nbd->flush_error = error;
	} else if (bt_op_is_writing(call->req->op) &&
		   (error || !(call->flags & NBD_CMD_FLAG_FUA))) {
		nbd->written++;
	}
}

/* A flush that was under way when its connection was lost is sent again, to a
 * server that knows nothing of the writes it was for, and is answered well. */
static int flush_result(const struct bt_nbdc *nbd,
			const struct bt_nbdc_call *call, int error)
{
	return call->type == NBD_CMD_FLUSH && !error ? nbd->flush_error : error;
}

/* The call is free, or already another request's, before the request is told:
 * whoever is told may submit. */
void bt_nbdc_finish(struct bt_nbdc_call *call, int error)
{
	struct bt_request *req = call->req;
	struct bt_nbdc_conn *conn = call->conn;
	struct bt_nbdc *nbd = req->top->node->data;
	struct bt_list *next = bt_list_pop(&nbd->waiting);

	error = flush_result(nbd, call, error);
	note_generation(nbd, call, error);
	bt_list_del(&call->link);
	call->req = NULL;
	call->conn = NULL;
	if (conn) {
		conn->in_flight--;
		conn->has_replied = true;
	}
	if (next)
		start(nbd, call, bt_list_entry(next, struct bt_request, link));
	else
		bt_list_add(&nbd->free, &call->link);
	bt_request_complete(req, error);
}

/* Whether a call that lost its connection may be sent again. Counted from the
 * first loss, so a server that comes and goes cannot keep a request for
 * ever. */
static bool may_replay(const struct bt_nbdc *nbd, struct bt_nbdc_call *call)
{
	uint64_t now = bt_loop_now(nbd->loop);

	if (!call->lost_ns)
		call->lost_ns = now ? now : 1;
	return nbd->reconnect_ns && now - call->lost_ns < nbd->reconnect_ns;
}

/* sent is older than unsent, and both go before what is on ready. An answer
 * that was half received is void. */
void bt_nbdc_reclaim(struct bt_nbdc_conn *conn)
{
	struct bt_nbdc *nbd = conn->nbd;
	struct bt_list had, dead, *at;

	bt_list_init(&had);
	bt_list_init(&dead);
	bt_list_splice_tail(&had, &conn->sent);
	bt_list_splice_tail(&had, &conn->unsent);
	conn->in_flight = 0;
	/* from the youngest to the oldest: each goes before the last one */
	while (!bt_list_empty(&had)) {
		struct bt_nbdc_call *call =
			bt_list_entry(had.prev, struct bt_nbdc_call, link);

		bt_list_del(&call->link);
		call->conn = NULL;
		nbd->replays += call->is_sent;
		bt_list_add(may_replay(nbd, call) ? &nbd->ready : &dead,
			    &call->link);
	}
	while ((at = bt_list_pop(&dead)))
		bt_nbdc_finish(bt_list_entry(at, struct bt_nbdc_call, link),
			       -EIO);
}

/* Also those that wait without a call, one after another, as calls become
 * free. */
void bt_nbdc_fail_all(struct bt_nbdc *nbd)
{
	struct bt_list *at;

	/* a call that ends takes the next request that waits, which ends up
	 * in ready */
	while ((at = bt_list_pop(&nbd->ready)))
		bt_nbdc_finish(bt_list_entry(at, struct bt_nbdc_call, link),
			       -EIO);
}
