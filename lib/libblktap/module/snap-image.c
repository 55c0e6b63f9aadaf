/* SPDX-License-Identifier: BSD-3-Clause */
/* The image: copied chunks are in the delta, the others in the origin as they
 * were. A request goes piece by piece, each to one of the two, under a shared lock
 * of its chunks, which keeps them from being copied and written meanwhile. */
#include <errno.h>

#include "module/snap.h"
#include "util/checked.h"

static void finish(struct bt_snap *snap, struct bt_request *req, int error)
{
	struct bt_snap_frame *frame = bt_request_frame(req);

	req->offset = frame->offset;
	req->length = frame->length;
	req->data = frame->data;
	/* live writes went on without a copy, perhaps of what was read; looked
	 * at when the data is there, since the image may have been dropped
	 * while it was read */
	if (snap->state != BT_SNAP_ACTIVE && !error)
		error = -EIO;
	bt_range_unlock(&snap->lock, &frame->range);
	bt_request_complete(req, error);
}

/* The bytes from `at` on that lie together, and where. Slots that follow each
 * other in the delta are one piece, as are chunks that are all in the origin.
 */
static uint64_t run(const struct bt_snap *snap, uint64_t at, uint64_t most,
		    struct bt_port **port, uint64_t *offset)
{
	uint64_t chunk = at / snap->chunk;
	uint64_t in_chunk = at % snap->chunk;
	uint64_t length = snap->chunk - in_chunk;
	uint32_t slot = snap->slots[chunk];

	*port = slot ? snap->delta : snap->origin;
	*offset = slot ? snap->data_at + (uint64_t)(slot - 1) * snap->chunk +
				  in_chunk
		       : at;
	while (length < most) {
		uint32_t next = snap->slots[++chunk];

		if (slot ? next != ++slot : next)
			break;
		length += snap->chunk;
	}
	return bt_min_u64(length, most);
}

/* The map is looked at anew for each piece; under the lock no chunk of the
 * request changes sides. */
static void step(struct bt_snap *snap, struct bt_request *req)
{
	struct bt_snap_frame *frame = bt_request_frame(req);
	struct bt_port *port;

	frame->piece = run(snap, frame->offset + frame->cursor,
			   frame->length - frame->cursor, &port, &req->offset);
	req->length = frame->piece;
	req->data = frame->data;
	bt_sgl_advance(&req->data, frame->cursor);
	bt_port_submit(port, req);
}

/* One extent, or what the origin says of its part. The delta's part is data,
 * whatever it holds. */
static void status(struct bt_snap *snap, struct bt_request *req)
{
	struct bt_snap_frame *frame = bt_request_frame(req);
	struct bt_port *port;
	uint64_t at, length;

	length = run(snap, frame->offset, frame->length, &port, &at);
	if (port == snap->origin) {
		req->length = length;
		bt_port_submit(port, req);
		return;
	}
	req->extents[0].length = length;
	req->extents[0].flags = 0;
	req->extents[0].depth = 0;
	req->extent_count = 1;
	finish(snap, req, 0);
}

static void granted(struct bt_range *range)
{
	struct bt_request *req = range->owner;
	struct bt_snap *snap = req->top->node->data;

	if (req->op == BLKTAP_OP_BLOCK_STATUS)
		status(snap, req);
	else
		step(snap, req);
}

/* The lock is by whole chunks from the first on; it is had until the last piece
 * is read. */
void bt_snap_image_submit(struct bt_snap *snap, struct bt_request *req)
{
	struct bt_snap_frame *frame = bt_request_frame(req);
	uint64_t first = bt_align_down(req->offset, snap->chunk);

	if (bt_op_is_writing(req->op)) {
		bt_request_complete(req, -EPERM);
		return;
	}
	if (snap->state != BT_SNAP_ACTIVE) {
		bt_request_complete(req, -EIO);
		return;
	}
	/* an image has nothing to flush, and nothing is read ahead for it */
	if (req->op == BLKTAP_OP_FLUSH || req->op == BLKTAP_OP_PREFETCH) {
		bt_request_complete(req, 0);
		return;
	}
	frame->offset = req->offset;
	frame->length = req->length;
	frame->data = req->data;
	frame->cursor = 0;
	frame->range.owner = req;
	if (bt_range_lock(&snap->lock, &frame->range, first,
			  req->offset + req->length - first, false, granted))
		granted(&frame->range);
}

void bt_snap_image_complete(struct bt_snap *snap, struct bt_request *req)
{
	struct bt_snap_frame *frame = bt_request_frame(req);

	frame->cursor += frame->piece;
	if (req->error || req->op == BLKTAP_OP_BLOCK_STATUS ||
	    frame->cursor == frame->length)
		finish(snap, req, req->error);
	else
		step(snap, req);
}
