/* SPDX-License-Identifier: BSD-3-Clause */
/* Data past the slots: the module carries it between its requests and a file.
 *
 * That pays where nobody here would do anything with the data but hand it on. As
 * long as the disk is of that kind the module is asked to leave the data of writes
 * where it is (DEFER). A request that meets somebody else all the same, as the graph
 * has just changed, has its data fetched into the slot, where all other requests
 * have it. */
#include "frontend/ring.h"

#include <errno.h>
#include <stdlib.h>

static struct blktap_ring *ring_of(struct bt_mover *mover)
{
	return bt_container_of(mover, struct blktap_ring, mover);
}

/* Each request is in it once, so there is room; a second device on the same disk
 * has a mover of its own. */
static bool add(struct bt_mover *mover, struct bt_move *move, int fd,
		uint64_t offset, int64_t *result)
{
	struct blktap_ring *ring = ring_of(mover);
	const struct bt_ring_request *item =
		bt_container_of(move, struct bt_ring_request, move);
	uint32_t i = ring->move_count;

	/* a write that came before it was asked for has its data in the slot */
	if (item->req.op == BLKTAP_OP_WRITE && !item->deferred)
		return false;
	ring->move_list[i] = (struct blktap_move){
		.queue = item->queue->index,
		.tag = item->tag,
		.gen = item->gen,
		.fd = fd,
		.offset = offset,
	};
	ring->move_results[i] = result;
	ring->move_count++;
	return true;
}

/* All, or that it could not be asked for. */
static int call(struct blktap_ring *ring, struct blktap_move *moves,
		uint32_t count)
{
	struct blktap_moves m = { .size = sizeof(m),
				  .count = count,
				  .moves = (uintptr_t)moves };

	ring->enters++;
	return bt_ring_call(ring, BLKTAP_RING_MOVE, &m);
}

/* A call takes BLKTAP_MAX_DEPTH. */
static void run(struct bt_mover *mover)
{
	struct blktap_ring *ring = ring_of(mover);
	uint32_t at, n, i, count = ring->move_count;
	int rc;

	ring->move_count = 0;
	for (at = 0; at < count; at += n) {
		n = (uint32_t)bt_min_u64(count - at, BLKTAP_MAX_DEPTH);
		rc = call(ring, ring->move_list + at, n);
		for (i = at; i < at + n; i++)
			*ring->move_results[i] =
				rc < 0 ? rc : ring->move_list[i].result;
	}
}

static int fetch(struct bt_mover *mover, struct bt_move *move)
{
	struct blktap_ring *ring = ring_of(mover);
	struct bt_ring_request *item =
		bt_container_of(move, struct bt_ring_request, move);
	struct blktap_move one = {
		.queue = item->queue->index,
		.tag = item->tag,
		.gen = item->gen,
		.fd = -1,
	};
	int rc;

	if (!item->deferred)
		return 0;
	rc = call(ring, &one, 1);
	if (rc < 0)
		return rc;
	if (one.result != (int32_t)item->bytes)
		return -EIO;
	item->deferred = false;
	return 0;
}

int bt_ring_moves_init(struct blktap_ring *ring)
{
	size_t count = (size_t)ring->info.queues * ring->info.depth;

	ring->mover = (struct bt_mover){ add, run, fetch };
	if (!ring->can_move)
		return 0;
	ring->move_list = calloc(count, sizeof(*ring->move_list));
	ring->move_results = calloc(count, sizeof(*ring->move_results));
	return ring->move_list && ring->move_results ? 0 : -ENOMEM;
}

void bt_ring_moves_fini(struct blktap_ring *ring)
{
	free(ring->move_list);
	free(ring->move_results);
}

/* A module that says no is not asked again, and goes on as it did. */
void bt_ring_choose_moves(struct blktap_ring *ring)
{
	bool on = ring->can_move && bt_vbd_moves(ring->disk);
	struct blktap_defer d = { .size = sizeof(d), .on = on };

	if (bt_likely(ring->moves == on) || ring->wont_move)
		return;
	ring->wont_move = bt_ring_call(ring, BLKTAP_RING_DEFER, &d) < 0;
	ring->moves = on && !ring->wont_move;
}
