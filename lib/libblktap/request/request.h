/* SPDX-License-Identifier: BSD-3-Clause */
/* The request: one object per guest operation, from submission to completion.
 *
 * It is taken from a pool that its frontend made before any I/O. On its way down
 * each node it passes pushes a frame, which holds the node's bytes for this
 * request; on the way up the frames are popped. So a request needs no copy and
 * no allocation however deep the graph is.
 *
 * Whose is it? The frontend's until bt_vbd_submit (or bt_port_submit); then the
 * port's or the node's at the top of the frame stack; the frontend's again when
 * req->done is called. Only its present owner may touch it or put it on a list
 * by req->link. */
#ifndef BT_REQUEST_REQUEST_H
#define BT_REQUEST_REQUEST_H

#include <blktap/disk.h>
#include <stdint.h>

#include "request/rangelock.h"
#include "util/checked.h"
#include "util/list.h"
#include "util/move.h"
#include "util/sgl.h"

struct bt_node;
struct bt_pool;
struct bt_port;

/* Internal flags, beside BLKTAP_FUA and its like. */
#define BT_REQUEST_BYPASS \
	0x10000u /* passes a held gate: the core's own flush */
#define BT_REQUEST_LAST \
	0x20000u /* FLUSH: the graph closes after it; mark the data clean */

#define BT_REQUEST_CORE \
	0x40000u /* the core's own: not admitted, and only done is told */
#define BT_REQUEST_OUTLIVE \
	0x80000u /* a write, WRITE_ZEROES: what is answered is found in the image \
		  * when this process has been killed; see bt_keeps */

/* Operations that change the image. */
#define BT_OPS_WRITING                                         \
	((1u << BLKTAP_OP_WRITE) | (1u << BLKTAP_OP_DISCARD) | \
	 (1u << BLKTAP_OP_WRITE_ZEROES))
#define BT_OPS_ALL ((1u << BLKTAP_OP_COUNT) - 1)

struct bt_frame {
	struct bt_frame *prev;
	struct bt_port *port; /* the edge it came down */
	struct bt_node *node; /* whose frame it is */
	uint64_t entered_ns;
	uint64_t mark; /* FLUSH: the write generation it covers */
	uint32_t bytes; /* all of it, header included */
	uint32_t epoch; /* the port's, when it entered */
	uint16_t flow; /* the port's */
	bool in_spare; /* first frame of a spare segment: give that back */
	bool passed; /* the node did not see it: it went on by cls->passes */
	bool took_last; /* BT_REQUEST_LAST stays above this edge */
	/* the node's own bytes follow */
};

struct bt_request {
	struct bt_list link; /* the list of its present owner */
	struct bt_frame *top;
	enum blktap_op op;
	uint32_t flags;
	uint64_t offset;
	uint64_t length;
	struct bt_sgl data; /* READ, WRITE */
	/* READ, WRITE, or NULL: a way for all of the data that need not touch `data`.
	 * Until bt_request_bring a WRITE has it nowhere else. */
	struct bt_move *move;
	/* READ: 0, or the copy to be read alone, counted from 1, where a
	 * node below has several (limits.copies); others do not look at it. */
	uint32_t copy;
	struct blktap_extent *extents; /* BLOCK_STATUS: filled by the leaf */
	uint32_t extent_max;
	uint32_t extent_count;
	int error; /* 0 or a negative errno; final once done is called */
	bool upward; /* on its way up */
	struct bt_node
		*failed; /* the node that error came from; NULL: the core */

	/* Set before submission, by the frontend or by the node whose child it
	 * is. Called once; the request may be returned to its pool or used
	 * again inside. */
	void (*done)(struct bt_request *req);
	void *opaque; /* the frontend's */

	/* The admission's (vbd/). */
	struct bt_list life; /* vbd's list of admitted requests, oldest first */
	struct bt_range range;
	uint64_t admitted_ns;
	uint64_t cursor; /* of a split request: bytes that are in parts */
	uint32_t pending; /* of a split request: its parts under way; where
			   * was_written: the op that its flush stands for */
	uint32_t attempts;
	bool late;
	bool was_written; /* FUA: the write is done, the flush is not */
	bool emulated; /* WRITE_ZEROES that is written as data */
	bool unflushed; /* of a split request: parts of it need a flush */
	bool told; /* of a split request: that a part of it failed */

	/* The pool's. */
	struct bt_pool *pool;
	struct bt_request *queue_next; /* the trampoline's */
	struct bt_frame_block *block; /* where frames lie */
	char *frames;
	uint32_t frame_room; /* bytes left in the present segment */
	struct bt_list segments; /* spare segments in use, newest first */
};

/* The bytes of the node that has the request now. */
static inline void *bt_request_frame(struct bt_request *req)
{
	return req->top + 1;
}

static inline bool bt_op_is_writing(enum blktap_op op)
{
	return (BT_OPS_WRITING >> op) & 1u;
}

/* For who is about to look at the data, or to cut the request: from here on it is in
 * `data` alone. 0, or a negative errno: there is no data, and whoever tries the request
 * again has to ask again. A flush that stands for the write it is behind has none,
 * and leaves the write's alone. */
static inline int bt_request_bring(struct bt_request *req)
{
	int rc = 0;

	if (!req->move || req->op == BLKTAP_OP_FLUSH)
		return 0;
	if (req->op == BLKTAP_OP_WRITE)
		rc = bt_move_fetch(req->move);
	if (!rc)
		req->move = NULL;
	return rc;
}

/* A transfer that is not of whole blocks (a power of two). Disks ask for none, but an
 * image that stands on a node has pieces of its own, which may be smaller. */
static inline bool bt_request_is_part(const struct bt_request *req,
				      uint32_t block)
{
	return (req->op == BLKTAP_OP_READ || req->op == BLKTAP_OP_WRITE) &&
	       (req->offset | req->length) & (block - 1);
}

/* What bt_request_push will take for a node's bytes. */
#define BT_FRAME_ALIGN 16u

static inline uint32_t bt_frame_size(size_t bytes)
{
	return (uint32_t)(sizeof(struct bt_frame) + bytes + BT_FRAME_ALIGN -
			  1) &
	       ~(BT_FRAME_ALIGN - 1);
}

/* A place in a spare segment of the pool; NULL where there is none. */
void *bt_request_push_spare(struct bt_request *req, uint32_t need);
/* Gives the segment of the frame on top back. */
void bt_request_pop_spare(struct bt_request *req);

/* Pushes a frame of bytes for node, reached through port. Takes a spare segment
 * from the pool where the request has no room left; false where there is none,
 * which the planner rules out. In line, as is bt_request_pop: each request needs
 * both once for every node. */
static inline bool bt_request_push(struct bt_request *req, struct bt_port *port,
				   struct bt_node *node, uint32_t bytes)
{
	uint32_t need = bt_frame_size(bytes);
	bool in_spare = req->frame_room < need;
	struct bt_frame *frame;
	void *at;

	if (bt_unlikely(in_spare))
		at = bt_request_push_spare(req, need);
	else if (req->top)
		at = (char *)req->top + req->top->bytes;
	else
		at = req->frames;
	if (!at)
		return false;
	req->frame_room -= need;
	frame = (struct bt_frame *)at;
	frame->prev = req->top;
	frame->port = port;
	frame->node = node;
	frame->bytes = need;
	frame->in_spare = in_spare;
	frame->passed = false;
	req->top = frame;
	return true;
}

static inline void bt_request_pop(struct bt_request *req)
{
	struct bt_frame *frame = req->top;

	req->top = frame->prev;
	if (bt_likely(!frame->in_spare))
		req->frame_room += frame->bytes;
	else
		bt_request_pop_spare(req);
}

/* ---- pools ---------------------------------------------------------------- */

/* Waits for a request of a pool that is empty. */
struct bt_pool_waiter {
	struct bt_list link; /* init before first use */
	void (*fn)(struct bt_pool_waiter *waiter);
};

/* Makes a pool of count requests. Each is the first member of an item of
 * item_size bytes, whose rest is zeroed once and then the frontend's own.
 * frame_bytes: the deepest frame sum they will need. */
int bt_pool_create(uint32_t count, size_t item_size, uint32_t frame_bytes,
		   struct bt_pool **out);
/* Every request must be back, and nobody waits. NULL is fine. */
void bt_pool_destroy(struct bt_pool *pool);

/* The next free request, or NULL. Its flags, range, data, error and admission fields
 * are reset; op, done and opaque are as they were. */
struct bt_request *bt_pool_take(struct bt_pool *pool);
/* The request is on no list, and may be another's when this returns: the first waiter,
 * if there is one, is called inside. */
void bt_pool_give(struct bt_request *req);
/* Calls fn, once, when a request is given back; the order of waiting is kept. Who waits
 * already goes to the end. fn takes the request, or leaves it to whoever comes. */
void bt_pool_wait(struct bt_pool *pool, struct bt_pool_waiter *waiter);
/* Harmless where it does not wait. */
void bt_pool_wait_cancel(struct bt_pool_waiter *waiter);
/* How many are out. */
uint32_t bt_pool_in_use(const struct bt_pool *pool);

/* Makes room for a deeper graph, before it is used: requests get larger frames
 * as they come back, and those in use get spare segments. -ENOMEM, and then
 * nothing has changed. */
int bt_pool_reserve(struct bt_pool *pool, uint32_t frame_bytes);

#endif
