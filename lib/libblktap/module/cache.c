/* SPDX-License-Identifier: BSD-3-Clause */
/* cache: a fast store in front of a slow origin.
 *
 *   cache-map.c	which 64 KiB of the disk are in which slot of the store, and
 *			which of their blocks are valid and dirty
 *   cache-io.c		reads, writes, zeroes, discards, questions
 *   cache-clean.c	what is dirty goes to the origin, in the background
 *   cache-flush.c	what makes it durable, and how the store is closed
 *   cache-store.c	what the store looks like on disk
 *
 * What holds, with any mode and at any moment:
 *
 *   A read never gets what is older than the last write that was answered. Where it
 *   could (the store fails and has the only copy) it gets EIO.
 *   After a crash all that was flushed is there: in the origin, or in a slot that
 *   the durable table calls dirty. Nothing that is clean is believed after one.
 *   With mode=writethrough and nothing dirty the store may vanish at any time.
 *
 * The last flush writes everything back, so a node that is taken out of a graph, or
 * a disk that is closed, leaves an origin that is whole. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "module/cache.h"
#include "module/module.h"
#include "port/args.h"
#include "util/checked.h"

#define UNMAP_MAX (64ull << 20) /* zeroes and discards: chunks are looked up */

static const struct blktap_param params[] = {
	{ .name = "mode",
	  .type = BLKTAP_PARAM_ENUM,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "writethrough",
	  .choices = "writethrough|writeback",
	  .help = "whether a write has reached the origin when it is answered, "
		  "or the store alone" },
	{ .name = "size",
	  .type = BLKTAP_PARAM_SIZE,
	  .fallback = "1G",
	  .min = 1u << 20,
	  .max = 64ull << 40,
	  .help = "how much of the store is used, if there is so much" },
	{ .name = "dirty",
	  .type = BLKTAP_PARAM_PERCENT,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "50%",
	  .help = "writeback: how much of the cache may be newer than the "
		  "origin; further writes go through" },
	{ .name = "rate",
	  .type = BLKTAP_PARAM_RATE,
	  .flags = BLKTAP_PARAM_LIVE,
	  .help = "bytes written back a second, 100M/s; 0 or none is no limit. "
		  "A close does not wait for it" },
	{ .name = "bypass",
	  .type = BLKTAP_PARAM_SIZE,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "4M",
	  .help = "what is read or written in one run beyond this is not "
		  "taken in; 0: it is" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "origin", .help = "what is cached" },
	{ .name = "store",
	  .help = "where the cache is kept. What it has of an origin that was "
		  "written to without it is dropped: that is noticed of raw "
		  "files, and of what stands on them alone, and not of other "
		  "formats, devices and servers: clear its first 8 KiB there",
	  .flags = BT_PORT_STORE,
	  .durable_when = "mode=writeback" },
	{ .name = NULL },
};

/* LIVE: requests are in flight. What is dirty stays dirty with
 * mode=writethrough, and is written back at once, since due() looks at the
 * mode. dirty_max may be less than what is dirty: then new writes go through
 * until it is not. */
static void cache_reconfigure(struct bt_node *node, const struct bt_args *args)
{
	struct bt_cache *cache = node->data;
	uint64_t blocks =
		(uint64_t)cache->slot_count * (BT_CACHE_SLOT / BT_CACHE_BLOCK);

	cache->writeback = !strcmp(bt_args_string(args, "mode"), "writeback");
	cache->dirty_max =
		(uint64_t)((double)blocks *
			   (double)bt_args_number(args, "dirty") / 100.0);
	cache->rate = bt_args_number(args, "rate");
	cache->bypass = bt_args_number(args, "bypass");
	cache->paid_until_ns = 0;
	bt_cache_clean_kick(cache);
}

/* ---- opening and closing ------------------------------------------------------ */

/* A round of flushes has no request of the pool, and header and table have
 * children of their own: both have to be over. */
static bool is_idle(void *opaque)
{
	struct bt_cache *cache = opaque;

	return bt_cache_is_quiet(cache) && !cache->flushing;
}

/* In any state that cache_open may have left behind: everything here is
 * harmless on what is zeroed. */
static void cache_free(struct bt_cache *cache)
{
	bt_cache_clean_fini(cache);
	bt_header_writer_fini(&cache->writer);
	bt_table_fini(&cache->table);
	bt_buffers_fini(&cache->buffers);
	bt_cache_map_fini(cache);
}

/* The last flush has been answered, and nothing comes from above. A read's copy
 * may be on its way to the store still (a detached piece), or a tidying round:
 * they end by the loop. `closing` keeps the cleaner from beginning more. */
static void cache_close(struct bt_node *node)
{
	struct bt_cache *cache = node->data;

	cache->closing = true;
	bt_loop_run_until(node->env->loop, is_idle, cache, -1);
	cache_free(cache);
}

static int make_memory(struct bt_cache *cache, struct blktap_error **err)
{
	struct bt_node *node = cache->node;
	int rc = bt_buffers_init(&cache->buffers, BT_CACHE_BUFFERS,
				 BT_CACHE_SLOT);

	if (!rc)
		rc = bt_node_add_pool(node, BT_CACHE_PIECES,
				      sizeof(struct bt_cache_piece),
				      &cache->pool);
	if (!rc)
		rc = bt_node_add_pool(node, 2, sizeof(struct bt_request),
				      &cache->flush_pool);
	if (!rc)
		rc = bt_cache_clean_init(cache);
	if (!rc)
		rc = bt_header_writer_init(&cache->writer, node, cache->store,
					   &cache->header);
	cache->writer.opaque = cache;
	return rc ? bt_fail(err, rc, NULL, "%s: out of memory", node->name) : 0;
}

static void init_lists(struct bt_cache *cache)
{
	bt_list_init(&cache->held);
	bt_list_init(&cache->waiting);
	bt_list_init(&cache->flushes);
	bt_list_init(&cache->round);
	bt_list_init(&cache->wait.link);
	bt_rangelock_init(&cache->lock);
}

/* A block of the cache is 4096 bytes, so the last one of a chunk must not reach
 * over the disk's end, and what the origin takes must not be larger. */
static int check_origin(const struct bt_node *node,
			const struct bt_limits *origin,
			struct blktap_error **err)
{
	if (origin->block_size > BT_CACHE_BLOCK)
		return bt_fail(err, -EINVAL, NULL,
			       "%s: the block size %u of the origin is larger "
			       "than 4096",
			       node->name, origin->block_size);
	if (!origin->size || origin->size % BT_CACHE_BLOCK)
		return bt_fail(err, -EINVAL, "make it a multiple of 4096",
			       "%s: the origin's size %llu is no multiple of "
			       "4096",
			       node->name, (unsigned long long)origin->size);
	return 0;
}

static int cache_open(struct bt_node *node, const struct bt_args *args,
		      uint32_t flags, struct blktap_error **err)
{
	struct bt_cache *cache = node->data;
	int rc;

	(void)flags;
	cache->node = node;
	cache->origin = bt_node_port(node, BT_CACHE_ORIGIN, 0);
	cache->store = bt_node_port(node, BT_CACHE_STORE, 0);
	cache->size = cache->origin->lower->limits.size;
	init_lists(cache);
	rc = check_origin(node, &cache->origin->lower->limits, err);
	if (rc < 0)
		return rc;
	rc = make_memory(cache, err);
	if (!rc)
		rc = bt_cache_store_open(cache, bt_args_number(args, "size"),
					 err);
	if (rc < 0) {
		cache_free(cache);
		return rc;
	}
	/* before a request, so that the first one does not find a change */
	bt_cache_look_below(cache);
	cache->losses = bt_port_losses(cache->origin);
	cache->lost_all = node->env->losses;
	cache_reconfigure(node, args);
	return 0;
}

/* ---- what it can and says ------------------------------------------------------- */

/* The size is what it was at opening: the map and the store's header are made
 * for it, and what grew since cannot be cached. keeps: with writeback an
 * answered write stands in no table. */
static void cache_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct bt_cache *cache = node->data;
	const struct bt_limits *store = &cache->store->lower->limits;

	limits->block_size = BT_CACHE_BLOCK;
	if (limits->memory_align < store->memory_align)
		limits->memory_align = store->memory_align;
	limits->max_transfer =
		bt_min_u64(limits->max_transfer, store->max_transfer);
	limits->max_unmap = bt_min_u64(limits->max_unmap, UNMAP_MAX);
	limits->discard_granularity =
		bt_max_u64(limits->discard_granularity, BT_CACHE_BLOCK);
	limits->size = bt_min_u64(limits->size, cache->size);
	limits->native_fua = false;
	limits->keeps = BT_KEEPS_ALL;
	limits->copies = 1;
}

/* Counted when asked: the data path does not need the number. */
static uint64_t count_valid(const struct bt_cache *cache)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; i < cache->slot_count; i++)
		n += (uint64_t)__builtin_popcount(cache->slots[i].valid);
	return n;
}

static bool cache_value(const struct bt_node *node, const char *name,
			char *text, size_t size)
{
	const struct bt_cache *cache = node->data;
	uint64_t blocks;

	if (!strcmp(name, "state")) {
		snprintf(text, size, "%s",
			 cache->lost	       ? "lost"
			 : cache->dirty_blocks ? "dirty"
					       : "clean");
		return true;
	}
	if (!strcmp(name, "dirty"))
		blocks = cache->dirty_blocks;
	else if (!strcmp(name, "used"))
		blocks = count_valid(cache);
	else if (!strcmp(name, "hits"))
		blocks = cache->hits;
	else if (!strcmp(name, "misses"))
		blocks = cache->misses;
	else
		return false;
	snprintf(text, size, "%llu",
		 (unsigned long long)blocks * BT_CACHE_BLOCK);
	return true;
}

/* By the parameter, as the store's size is not known here: what a smaller store
 * takes is less. */
static uint64_t cache_memory(const struct bt_args *args, uint64_t size,
			     uint32_t edges)
{
	uint64_t slots = bt_cache_slots_for(bt_args_number(args, "size"));

	(void)size;
	(void)edges;
	return sizeof(struct bt_cache) + bt_cache_map_memory(slots) +
	       bt_table_memory(slots * BT_CACHE_ENTRY) +
	       bt_header_writer_memory() +
	       bt_buffers_memory(BT_CACHE_BUFFERS + BT_CACHE_JOBS,
				 BT_CACHE_SLOT) +
	       bt_node_pool_memory(BT_CACHE_PIECES,
				   sizeof(struct bt_cache_piece)) +
	       bt_node_pool_memory(2, sizeof(struct bt_request)) +
	       bt_node_pool_memory(BT_CACHE_RUNS, sizeof(struct bt_task_io));
}

const struct blktap_class bt_cache_class = {
	.name = "cache",
	.summary = "a fast store in front of a slow origin",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL,
	.legacy_type = -1,
	.pause = BT_PAUSE_ALL,
	.node_bytes = sizeof(struct bt_cache),
	.frame_bytes = sizeof(struct bt_cache_frame),
	.open = cache_open,
	.close = cache_close,
	.get_limits = cache_limits,
	.submit = bt_cache_submit,
	.complete = bt_cache_complete,
	.get_memory = cache_memory,
	.reconfigure = cache_reconfigure,
	.get_value = cache_value,
	.values = "state,dirty,used,hits,misses",
};
