/* SPDX-License-Identifier: BSD-3-Clause */
/* The frame stack of a request.
 *
 * Frames lie one behind the other in the request's own memory. Where a changed
 * graph is deeper than the graph the memory was made for, the stack goes on in a
 * spare segment of the pool, so that no frame in use ever moves. */
#include "request/request.h"

#include "request/pool.h"
#include "util/checked.h"

#define FRAME_ALIGN 16u

uint32_t bt_frame_size(size_t bytes)
{
	return (uint32_t)bt_align_down(
		sizeof(struct bt_frame) + bytes + FRAME_ALIGN - 1, FRAME_ALIGN);
}

static char *spare(struct bt_request *req, uint32_t need)
{
	struct bt_segment *segment = bt_pool_take_segment(req->pool, need);

	if (!segment)
		return NULL;
	segment->room_before = req->frame_room;
	bt_list_add(&req->segments, &segment->link);
	req->frame_room = segment->room;
	return segment->memory;
}

bool bt_request_push(struct bt_request *req, struct bt_port *port,
		     struct bt_node *node, uint32_t bytes)
{
	uint32_t need = bt_frame_size(bytes);
	struct bt_frame *frame;
	bool in_spare = false;
	char *at;

	if (bt_unlikely(req->frame_room < need)) {
		at = spare(req, need);
		if (!at)
			return false;
		in_spare = true;
	} else if (req->top) {
		at = (char *)req->top + req->top->bytes;
	} else {
		at = req->frames;
	}
	req->frame_room -= need;
	frame = (struct bt_frame *)(void *)at;
	frame->prev = req->top;
	frame->port = port;
	frame->node = node;
	frame->bytes = need;
	frame->in_spare = in_spare;
	frame->passed = false;
	req->top = frame;
	return true;
}

void bt_request_pop(struct bt_request *req)
{
	struct bt_frame *frame = req->top;
	struct bt_segment *segment;

	req->top = frame->prev;
	if (bt_likely(!frame->in_spare)) {
		req->frame_room += frame->bytes;
		return;
	}
	segment = bt_list_first(&req->segments, struct bt_segment, link);
	req->frame_room = segment->room_before;
	bt_list_del(&segment->link);
	bt_pool_give_segment(req->pool, segment);
}
