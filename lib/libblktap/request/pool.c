/* SPDX-License-Identifier: BSD-3-Clause */
/* Pools of requests. Memory is reserved when the pool is made, and touched when
 * a request is first used, so that an idle connection costs little. */
#include "request/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/checked.h"

struct bt_pool {
	uint32_t count;
	uint32_t fresh; /* items that were never taken start here */
	uint32_t in_use;
	size_t item_size;
	char *items;
	struct bt_frame_block *block; /* for requests that come back */
	struct bt_list free;
	struct bt_list spares;
	struct bt_list waiters;
};

static struct bt_frame_block *block_create(uint32_t count, uint32_t room)
{
	struct bt_frame_block *block = calloc(1, sizeof(*block));

	if (!block)
		return NULL;
	block->room = room;
	block->memory = calloc(count, room);
	if (!block->memory) {
		free(block);
		return NULL;
	}
	return block;
}

static void block_destroy(struct bt_frame_block *block)
{
	free(block->memory);
	free(block);
}

int bt_pool_create(uint32_t count, size_t item_size, uint32_t frame_bytes,
		   struct bt_pool **out)
{
	struct bt_pool *pool = calloc(1, sizeof(*pool));
	uint64_t size;

	if (!pool)
		return -ENOMEM;
	bt_list_init(&pool->free);
	bt_list_init(&pool->spares);
	bt_list_init(&pool->waiters);
	pool->count = count;
	if (item_size < sizeof(struct bt_request) ||
	    !bt_checked_align_up(item_size, 64, &size)) {
		free(pool);
		return -EINVAL;
	}
	pool->item_size = (size_t)size;
	pool->items = calloc(count, pool->item_size);
	pool->block = block_create(count, frame_bytes);
	if (!pool->items || !pool->block) {
		bt_pool_destroy(pool);
		return -ENOMEM;
	}
	*out = pool;
	return 0;
}

void bt_pool_destroy(struct bt_pool *pool)
{
	struct bt_list *node;

	if (!pool)
		return;
	while ((node = bt_list_pop(&pool->spares))) {
		struct bt_segment *segment =
			bt_list_entry(node, struct bt_segment, link);

		free(segment->memory);
		free(segment);
	}
	if (pool->block)
		block_destroy(pool->block);
	free(pool->items);
	free(pool);
}

/* Points the request, which has no frames, at memory of the pool's block. */
static void use_block(struct bt_pool *pool, struct bt_request *req)
{
	struct bt_frame_block *old = req->block;
	size_t index = (size_t)((char *)req - pool->items) / pool->item_size;

	req->block = pool->block;
	req->block->users++;
	req->frames = req->block->memory + index * req->block->room;
	req->frame_room = req->block->room;
	if (old && --old->users == 0)
		block_destroy(old);
}

static struct bt_request *take_fresh(struct bt_pool *pool)
{
	struct bt_request *req;

	if (pool->fresh == pool->count)
		return NULL;
	req = (struct bt_request *)(void *)(pool->items +
					    pool->item_size * pool->fresh++);
	req->pool = pool;
	bt_list_init(&req->link);
	bt_list_init(&req->life);
	bt_list_init(&req->range.link);
	bt_list_init(&req->segments);
	use_block(pool, req);
	return req;
}

/* What a request must not have from the one before. op, done and opaque are its taker's
 * to set. */
static void reset(struct bt_request *req)
{
	req->top = NULL;
	req->flags = 0;
	req->offset = 0;
	req->length = 0;
	memset(&req->data, 0, sizeof(req->data));
	req->move = NULL;
	req->copy = 0;
	req->extents = NULL;
	req->extent_max = 0;
	req->extent_count = 0;
	req->error = 0;
	req->failed = NULL;
	req->cursor = 0;
	req->pending = 0;
	req->attempts = 0;
	req->late = false;
	req->was_written = false;
	req->emulated = false;
	req->unflushed = false;
	req->told = false;
}

struct bt_request *bt_pool_take(struct bt_pool *pool)
{
	struct bt_list *node = bt_list_pop(&pool->free);
	struct bt_request *req;

	if (bt_likely(node != NULL))
		req = bt_list_entry(node, struct bt_request, link);
	else
		req = take_fresh(pool);
	if (!req)
		return NULL;
	reset(req);
	pool->in_use++;
	return req;
}

void bt_pool_give(struct bt_request *req)
{
	struct bt_pool *pool = req->pool;
	struct bt_list *waiter;

	pool->in_use--;
	if (bt_unlikely(req->block != pool->block))
		use_block(pool, req);
	/* the one used last is the one still in the cache */
	bt_list_add(&pool->free, &req->link);
	waiter = bt_list_pop(&pool->waiters);
	if (bt_unlikely(waiter != NULL)) {
		struct bt_pool_waiter *w =
			bt_list_entry(waiter, struct bt_pool_waiter, link);

		w->fn(w);
	}
}

void bt_pool_wait(struct bt_pool *pool, struct bt_pool_waiter *waiter)
{
	bt_list_del(&waiter->link);
	bt_list_add_tail(&pool->waiters, &waiter->link);
}

void bt_pool_wait_cancel(struct bt_pool_waiter *waiter)
{
	bt_list_del(&waiter->link);
}

uint32_t bt_pool_in_use(const struct bt_pool *pool)
{
	return pool->in_use;
}

static bool add_spare(struct bt_pool *pool, uint32_t room)
{
	struct bt_segment *segment = calloc(1, sizeof(*segment));

	if (!segment)
		return false;
	segment->room = room;
	segment->memory = calloc(1, room);
	if (!segment->memory) {
		free(segment);
		return false;
	}
	bt_list_add(&pool->spares, &segment->link);
	return true;
}

/* A spare for each request that is out: each may be anywhere on its way, and meets the
 * deeper graph next. */
int bt_pool_reserve(struct bt_pool *pool, uint32_t frame_bytes)
{
	struct bt_frame_block *block, *old = pool->block;
	struct bt_list *pos;
	uint32_t i;

	if (frame_bytes <= old->room)
		return 0;
	block = block_create(pool->count, frame_bytes);
	if (!block)
		return -ENOMEM;
	for (i = 0; i < pool->in_use; i++)
		if (!add_spare(pool, frame_bytes)) {
			block_destroy(block);
			return -ENOMEM;
		}
	pool->block = block;
	old->users++; /* not freed under the loop */
	bt_list_for_each (pos, &pool->free)
		use_block(pool, bt_list_entry(pos, struct bt_request, link));
	if (--old->users == 0)
		block_destroy(old);
	return 0;
}

struct bt_segment *bt_pool_take_segment(struct bt_pool *pool, uint32_t need)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &pool->spares) {
		struct bt_segment *segment =
			bt_list_entry(pos, struct bt_segment, link);

		if (segment->room < need)
			continue;
		bt_list_del(&segment->link);
		return segment;
	}
	return NULL;
}

void bt_pool_give_segment(struct bt_pool *pool, struct bt_segment *segment)
{
	bt_list_add(&pool->spares, &segment->link);
}
