/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the pool; only the room's own files include it. */
#ifndef BT_REQUEST_POOL_H
#define BT_REQUEST_POOL_H

#include "request/request.h"

/* Frames of all requests of a pool, in one piece; freed when no request points
 * to it any more. */
struct bt_frame_block {
	uint32_t users; /* requests whose frames lie here, in use or not */
	uint32_t room; /* bytes a request */
	char *memory;
};

/* Room for the frames that a request's own memory is too small for. */
struct bt_segment {
	struct bt_list link;
	uint32_t room;
	uint32_t room_before; /* of the request, before it took this */
	char *memory;
};

/* One with room for need bytes; NULL where there is none. Nothing is allocated: see
 * bt_pool_reserve. */
struct bt_segment *bt_pool_take_segment(struct bt_pool *pool, uint32_t need);
/* It is kept for the next one, and freed with the pool. */
void bt_pool_give_segment(struct bt_pool *pool, struct bt_segment *segment);

#endif
