/* SPDX-License-Identifier: BSD-3-Clause */
/* The frame stack of a request.
 *
 * Frames lie one behind the other in the request's own memory. Where a changed
 * graph is deeper than the graph the memory was made for, the stack goes on in a
 * spare segment of the pool, so that no frame in use ever moves. */
#include "request/request.h"

#include "request/pool.h"

void *bt_request_push_spare(struct bt_request *req, uint32_t need)
{
	struct bt_segment *segment = bt_pool_take_segment(req->pool, need);

	if (!segment)
		return NULL;
	segment->room_before = req->frame_room;
	bt_list_add(&req->segments, &segment->link);
	req->frame_room = segment->room;
	return segment->memory;
}

void bt_request_pop_spare(struct bt_request *req)
{
	struct bt_segment *segment =
		bt_list_first(&req->segments, struct bt_segment, link);

	req->frame_room = segment->room_before;
	bt_list_del(&segment->link);
	bt_pool_give_segment(req->pool, segment);
}
