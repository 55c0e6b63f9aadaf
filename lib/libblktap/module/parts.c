/* SPDX-License-Identifier: BSD-3-Clause */
/* The frame holds the next piece, found ahead of time: so it is known of each piece
 * whether another follows before it is sent, and a child that completes at once
 * cannot end a request of which more is to come. `pending` counts one for that, too.
 *
 * Children come back in any order; the request's own memory is shared out among
 * them and copied nowhere. */
#include "module/parts.h"

#include <string.h>

#include "util/checked.h"

int bt_parts_init(struct bt_parts *parts, struct bt_node *node, uint32_t count,
		  bt_parts_next *next)
{
	parts->node = node;
	parts->next = next;
	bt_list_init(&parts->waiting);
	return bt_node_add_pool(node, count, sizeof(struct bt_request),
				&parts->pool);
}

uint64_t bt_parts_memory(uint32_t count)
{
	return bt_node_pool_memory(count, sizeof(struct bt_request));
}

static void find_next(struct bt_parts *parts, struct bt_request *req,
		      struct bt_parts_frame *frame)
{
	frame->more =
		parts->next(parts->node, req, &frame->cursor, &frame->piece);
}

/* ---- one piece ------------------------------------------------------------- */

/* No child and no copy of the window: the request's own offset and length are
 * changed for the way down, and put back in bt_parts_complete. A piece that is
 * the whole request always goes this way, so a concat of one part costs
 * nothing. */
static void send_itself(struct bt_request *req, struct bt_parts_frame *frame,
			const struct bt_piece *piece)
{
	frame->offset = req->offset;
	frame->length = req->length;
	req->offset = piece->offset;
	req->length = piece->length;
	bt_port_submit(piece->port, req);
}

void bt_parts_complete(struct bt_request *req)
{
	struct bt_parts_frame *frame = bt_request_frame(req);

	req->offset = frame->offset;
	req->length = frame->length;
	bt_request_complete(req, req->error);
}

/* ---- many ------------------------------------------------------------------ */

/* The last one out ends the request, whose frame is gone then: nothing of it
 * may be touched behind this. */
static void unpend(struct bt_request *req)
{
	struct bt_parts_frame *frame = bt_request_frame(req);

	if (--frame->pending)
		return;
	req->failed = frame->failed;
	bt_request_complete(req, frame->error);
}

static void child_done(struct bt_request *child);

/* The child's window begins where the piece does; behind it data goes on, but
 * only piece->length bytes count, and they are never copied. Flags go along: a
 * FUA write is FUA in each piece, and a LAST flush is one on every edge. */
static void send_child(struct bt_request *child, struct bt_request *req,
		       const struct bt_piece *piece)
{
	child->op = req->op;
	child->flags = req->flags;
	child->offset = piece->offset;
	child->length = piece->length;
	child->copy = req->copy;
	if (req->data.iov) {
		child->data = req->data;
		bt_sgl_advance(&child->data, piece->at);
	}
	child->done = child_done;
	child->opaque = req;
	bt_port_submit(piece->port, child);
}

/* Sends what is left; false where it waits for a child. */
static bool feed(struct bt_parts *parts, struct bt_request *req)
{
	struct bt_parts_frame *frame = bt_request_frame(req);

	while (frame->more && !frame->error) {
		struct bt_request *child = bt_pool_take(parts->pool);
		/* a copy: find_next puts the one behind it in its place, and
		 * the child may end the request before send_child returns */
		struct bt_piece piece = frame->piece;

		if (!child)
			return false;
		find_next(parts, req, frame);
		frame->pending++;
		send_child(child, req, &piece);
	}
	/* takes back the one that bt_parts_submit counted, so only now can the
	 * last child end the request */
	unpend(req);
	return true;
}

/* One that has to wait again goes back to the front, so the order stays. */
static void feed_waiting(struct bt_parts *parts)
{
	while (!bt_list_empty(&parts->waiting)) {
		struct bt_list *first = parts->waiting.next;
		struct bt_request *req =
			bt_list_entry(first, struct bt_request, link);

		bt_list_del(first);
		if (feed(parts, req))
			continue;
		bt_list_add(&parts->waiting, first);
		return;
	}
}

/* The child goes back to the pool before its request ends, which may bring the
 * next request that needs it. */
static void child_done(struct bt_request *child)
{
	struct bt_request *req = child->opaque;
	struct bt_parts_frame *frame = bt_request_frame(req);
	struct bt_parts *parts = frame->parts;

	if (child->error && !frame->error) {
		frame->error = child->error;
		frame->failed = child->failed;
	}
	bt_pool_give(child);
	unpend(req);
	feed_waiting(parts);
}

void bt_parts_submit(struct bt_parts *parts, struct bt_request *req)
{
	struct bt_parts_frame *frame = bt_request_frame(req);
	struct bt_piece first;

	memset(frame, 0, sizeof(*frame));
	frame->parts = parts;
	find_next(parts, req, frame);
	first = frame->piece;
	/* "more" says now whether a piece follows the first one. A first piece
	 * that is shorter than the request needs no second look: it goes as a
	 * child in any case, as the rest of the request (a discard) may be
	 * nobody's. */
	if (first.length == req->length || req->op == BLKTAP_OP_BLOCK_STATUS)
		find_next(parts, req, frame);
	if (!frame->more || req->op == BLKTAP_OP_BLOCK_STATUS) {
		send_itself(req, frame, &first);
		return;
	}
	/* from the beginning again: `next` is asked twice for the first piece,
	 * which is why its answer has to stay the same */
	frame->cursor = 0;
	find_next(parts, req, frame);
	frame->pending = 1;
	if (!bt_list_empty(&parts->waiting) || !feed(parts, req))
		bt_list_add_tail(&parts->waiting, &req->link);
}

bool bt_parts_every_port(struct bt_node *node, const struct bt_request *req,
			 uint64_t *cursor, struct bt_piece *piece)
{
	if (*cursor == node->port_count)
		return false;
	*piece = (struct bt_piece){
		.port = &node->ports[(*cursor)++],
		.offset = req->offset,
		.length = req->length,
	};
	return true;
}
