/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of a snapshot; only the snap*.c files include it. */
#ifndef BT_MODULE_SNAP_H
#define BT_MODULE_SNAP_H

#include "module/buffers.h"
#include "module/header.h"
#include "module/task.h"
#include "request/rangelock.h"

#define BT_SNAP_BATCH 16u /* chunks that are copied at once */
#define BT_SNAP_BLOCK 4096u /* of the map in the delta */
#define BT_SNAP_ENTRY 16u

enum { BT_SNAP_LIVE, BT_SNAP_IMAGE }; /* upper ports */

enum bt_snap_state {
	BT_SNAP_ACTIVE,
	BT_SNAP_DROPPING, /* the header that says so is on its way */
	BT_SNAP_DROPPED, /* the image is lost; writes are not looked at */
};

struct bt_snap_item {
	uint64_t chunk;
	/* taken from the moment that the item is chosen */
	uint32_t slot;
	int error;
	/* the chunk as it was, until the batch is finished */
	char *buffer;
	struct bt_range range; /* held against image reads of the chunk */
};

struct bt_snap {
	struct bt_node *node;
	struct bt_port *origin, *delta;
	uint64_t size; /* of the image */
	uint32_t chunk; /* bytes */
	uint32_t chunk_count;
	uint32_t slot_count;
	uint64_t data_at; /* of slot 0 in the delta */
	bool stop_when_full;
	enum bt_snap_state state;
	uint32_t drop_tries; /* to say so in the header */
	/* Two maps, the one by the other. slots[] is what the copy means to
	 * reads and writes, and is set when it is durable; chunks[] is what
	 * stands, or may stand, in the delta's map, and keeps a slot from being
	 * taken again. */
	uint32_t *slots; /* by chunk: its slot + 1; 0: not copied */
	uint32_t *chunks; /* by slot: its chunk + 1; 0: free */
	uint32_t used; /* slots */
	uint32_t next; /* where to look for a free slot */
	uint32_t copied; /* chunks */
	struct bt_header header;
	struct bt_header_writer writer;
	/* copying */
	struct bt_list
		waiting; /* live writes to what is not copied, in order */
	struct bt_rangelock lock; /* of bytes of the image */
	struct bt_pool *pool;
	struct bt_buffers buffers; /* a chunk each */
	/* blocks of the map on their way, one an item at most */
	char *map; /* BT_SNAP_BATCH blocks */
	struct bt_task task;
	struct bt_snap_item items[BT_SNAP_BATCH];
	uint32_t item_count; /* 0: nothing is being copied */
	/* of the batch: locks that are not had yet, and one while they are
	 * asked for */
	uint32_t locks_left;
};

struct bt_snap_frame {
	/* FLUSH: the delta's result. A FLUSH goes to the delta first, then to
	 * the origin. */
	int error;
	bool second;
	/* the image's requests as they came */
	struct bt_range range;
	struct bt_sgl data;
	uint64_t offset, length;
	/* bytes of the image's request that are read */
	uint64_t cursor;
	/* bytes of the one that is under way */
	uint64_t piece;
};

static inline uint64_t bt_snap_map_at(uint32_t slot)
{
	return BT_HEADER_AREA +
	       bt_align_down((uint64_t)slot * BT_SNAP_ENTRY, BT_SNAP_BLOCK);
}

/* snap-store.c: the delta's layout. */
int bt_snap_store_open(struct bt_snap *snap, struct blktap_error **err);
/* The block of the map that holds the slot's entry, as it is in memory. */
void bt_snap_encode(const struct bt_snap *snap, uint32_t slot, void *block);
/* A free slot, or -ENOSPC. */
int bt_snap_take_slot(struct bt_snap *snap, uint64_t chunk, uint32_t *slot);

/* snap-copy.c: what a live write waits for. */
void bt_snap_write(struct bt_snap *snap, struct bt_request *req);

/* snap-image.c: the image's upper port. */
void bt_snap_image_submit(struct bt_snap *snap, struct bt_request *req);
void bt_snap_image_complete(struct bt_snap *snap, struct bt_request *req);

#endif
