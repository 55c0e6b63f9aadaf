/* SPDX-License-Identifier: BSD-3-Clause */
/* BLOCK_STATUS: what the image maps is answered here, the rest by the base,
 * which gets the request itself for a piece of the range; its extents come back
 * one deeper.
 *
 * frame->extents and frame->extent_count are the request's as it came; while it
 * is at the base, the request's own fields are the base's to fill, from the
 * next free extent on. restore puts them back. Extents that come back may join
 * the last one here, so they are moved towards the front in place, never past
 * what is still to be read. */
#include "driver/qcow/qcow.h"
#include "util/checked.h"

/* There is room: the step stops before, and what came from the base is not more
 * than it was given. */
static void add_extent(struct bt_qcow_frame *frame, uint64_t length,
		       uint32_t flags, uint32_t depth)
{
	struct blktap_extent *last =
		frame->extent_count ? &frame->extents[frame->extent_count - 1]
				    : NULL;

	if (last && last->flags == flags && last->depth == depth) {
		last->length += length;
		return;
	}
	frame->extents[frame->extent_count++] = (struct blktap_extent){
		.length = length, .flags = flags, .depth = depth
	};
}

/* The data's place is not needed: a status has none. 2: the request is away. */
static int ask_base(struct bt_qcow_frame *frame, uint64_t length)
{
	struct bt_request *req = frame->req;

	req->offset = frame->at;
	req->length = length;
	req->extents = frame->extents + frame->extent_count;
	req->extent_max = frame->extent_max - frame->extent_count;
	req->extent_count = 0;
	bt_port_submit(&frame->run.q->node->ports[0], req);
	return 2;
}

/* Who sent the request finds it as he sent it, but for the extents. */
static void restore(struct bt_qcow_frame *frame)
{
	struct bt_request *req = frame->req;

	req->offset = frame->offset;
	req->length = frame->length;
	req->extents = frame->extents;
	req->extent_max = frame->extent_max;
	req->extent_count = frame->extent_count;
}

void bt_qcow_status_back(struct bt_qcow_frame *frame, struct bt_request *req)
{
	struct blktap_extent *from = req->extents;
	uint32_t i, n = req->extent_count;

	frame->error = req->error;
	/* in place: an extent moves towards the front or stays */
	for (i = 0; i < n && !req->error; i++) {
		struct blktap_extent extent = from[i];

		frame->at += extent.length;
		add_extent(frame, extent.length, extent.flags,
			   extent.depth + 1);
	}
	restore(frame);
	/* a base that says nothing would be asked for ever */
	if (!n)
		frame->at = frame->end;
	bt_qcow_go(frame);
}

/* An answer may cover less than was asked for, so a full array is a good end. A
 * zero cluster that keeps its place is zero and no hole; compressed clusters
 * are data. */
int bt_qcow_step_status(struct bt_qcow_frame *frame)
{
	struct bt_qcow *q = frame->run.q;
	struct bt_qcow_map map;
	uint32_t flags = 0;
	int rc;

	if (frame->extent_count == frame->extent_max) {
		frame->at = frame->end;
		return 1;
	}
	rc = bt_qcow_lookup(q, &frame->wait, frame->at, frame->end, &map);
	if (rc <= 0)
		return rc;
	if (map.kind == BT_QCOW_UNALLOCATED && frame->at < q->base_size)
		return ask_base(frame, bt_min_u64(map.length,
						  q->base_size - frame->at));
	if (map.kind == BT_QCOW_UNALLOCATED || map.kind == BT_QCOW_ZERO)
		flags = BLKTAP_EXTENT_ZERO;
	if (flags && !map.host)
		flags |= BLKTAP_EXTENT_HOLE;
	add_extent(frame, map.length, flags, 0);
	frame->at += map.length;
	frame->req->extent_count = frame->extent_count;
	return 1;
}
