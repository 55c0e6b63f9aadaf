/* SPDX-License-Identifier: BSD-3-Clause */
/* Which chunk of the disk is in which slot of the store.
 *
 * A block of a slot is one of
 *
 *	absent	the origin is asked
 *	clean	valid: the same as the origin's
 *	dirty	valid, and newer than the origin's: the only copy
 *
 * A hand goes round (CLOCK) and takes slots that were not used since it passed and
 * in which nothing is dirty. It passes those that the table on disk calls dirty,
 * though they are not any more ("marked"): filled with another chunk, they would be
 * taken for the old one's data after a crash. And it passes those that were written
 * back since the origin's last flush, since an origin may lose that and go on. The
 * next flush frees both. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "module/cache.h"
#include "util/checked.h"

#define STEPS 128u /* of the hand for one request */

/* At least as many heads as slots, a power of two for the mask. */
static uint32_t hash_size(uint64_t slots)
{
	uint32_t n = 1;

	while (n < slots)
		n *= 2;
	return n;
}

static uint64_t map_words(uint64_t slots)
{
	return slots / 64 + 1;
}

uint64_t bt_cache_map_memory(uint64_t slots)
{
	return slots * sizeof(struct bt_cache_slot) +
	       hash_size(slots) * sizeof(uint32_t) +
	       map_words(slots) * sizeof(uint64_t) +
	       slots / BT_CACHE_PER_BLOCK + 1;
}

int bt_cache_map_init(struct bt_cache *cache)
{
	uint32_t heads = hash_size(cache->slot_count);

	cache->slots = calloc(cache->slot_count, sizeof(*cache->slots));
	cache->heads = calloc(heads, sizeof(*cache->heads));
	cache->dirty_map =
		calloc(map_words(cache->slot_count), sizeof(uint64_t));
	cache->changed = calloc(cache->slot_count / BT_CACHE_PER_BLOCK + 1, 1);
	cache->head_mask = heads - 1;
	return cache->slots && cache->heads && cache->dirty_map &&
			       cache->changed
		       ? 0
		       : -ENOMEM;
}

void bt_cache_map_fini(struct bt_cache *cache)
{
	free(cache->slots);
	free(cache->heads);
	free(cache->dirty_map);
	free(cache->changed);
}

/* ---- where a chunk is ------------------------------------------------------- */

/* The upper half of the product (Fibonacci hashing): neighbours, which come
 * together, go to different heads. */
static uint32_t *head_of(const struct bt_cache *cache, uint64_t chunk)
{
	uint64_t h = chunk * 0x9e3779b97f4a7c15ull;

	return &cache->heads[(h >> 32) & cache->head_mask];
}

uint32_t bt_cache_find(const struct bt_cache *cache, uint64_t chunk)
{
	uint32_t at = *head_of(cache, chunk);

	while (at && cache->slots[at - 1].chunk != chunk + 1)
		at = cache->slots[at - 1].next;
	return at ? at - 1 : BT_CACHE_NONE;
}

/* The chunk is in no slot, and the slot in no chain. */
void bt_cache_insert(struct bt_cache *cache, uint32_t slot, uint64_t chunk)
{
	uint32_t *head = head_of(cache, chunk);

	cache->slots[slot].chunk = chunk + 1;
	cache->slots[slot].next = *head;
	*head = slot + 1;
}

/* Zeroes all of it: whatever was valid, used or cleaned was the former chunk's.
 * Nothing in it is dirty, and no transfer counts on it. */
static void remove_slot(struct bt_cache *cache, uint32_t slot)
{
	struct bt_cache_slot *s = &cache->slots[slot];
	uint32_t *at;

	if (!s->chunk)
		return;
	at = head_of(cache, s->chunk - 1);
	while (*at != slot + 1)
		at = &cache->slots[*at - 1].next;
	*at = s->next;
	memset(s, 0, sizeof(*s));
}

static bool needs_flush(const struct bt_cache_slot *s)
{
	return s->marked || s->cleaned || s->covered;
}

uint32_t bt_cache_take(struct bt_cache *cache, uint64_t chunk)
{
	bool wanted = false;
	uint32_t i, at;

	for (i = 0; i < STEPS; i++) {
		struct bt_cache_slot *s = &cache->slots[at = cache->hand];

		cache->hand = (cache->hand + 1) % cache->slot_count;
		if (s->busy || s->dirty || needs_flush(s)) {
			wanted |= !s->dirty && needs_flush(s);
			continue;
		}
		if (s->chunk && s->used) {
			s->used = false;
			continue;
		}
		remove_slot(cache, at);
		bt_cache_insert(cache, at, chunk);
		return at;
	}
	if (wanted)
		bt_cache_tidy(cache);
	return BT_CACHE_NONE;
}

/* ---- what is in it ---------------------------------------------------------- */

static uint64_t count_of(uint16_t bits)
{
	return (uint64_t)__builtin_popcount(bits);
}

/* The table, and where the cleaner looks, follow from what is dirty. A bit a
 * slot finds dirty ones by words of 64; a byte a block of the table tells the
 * next stage where to look. */
static void note_dirty(struct bt_cache *cache, uint32_t slot)
{
	uint64_t bit = 1ull << (slot % 64);

	cache->changed[slot / BT_CACHE_PER_BLOCK] |= BT_TABLE_CHANGED;
	if (cache->slots[slot].dirty)
		cache->dirty_map[slot / 64] |= bit;
	else
		cache->dirty_map[slot / 64] &= ~bit;
}

/* A block that is written again is neither cleaned nor covered: what was
 * written back is not what it holds now. */
void bt_cache_set_dirty(struct bt_cache *cache, uint32_t slot, uint16_t bits)
{
	struct bt_cache_slot *s = &cache->slots[slot];

	cache->dirty_blocks += count_of(bits & (uint16_t)~s->dirty);
	s->dirty |= bits;
	s->valid |= bits;
	s->cleaned &= (uint16_t)~bits;
	s->covered &= (uint16_t)~bits;
	note_dirty(cache, slot);
}

void bt_cache_set_clean(struct bt_cache *cache, uint32_t slot, uint16_t bits)
{
	struct bt_cache_slot *s = &cache->slots[slot];

	cache->dirty_blocks -= count_of(s->dirty & bits);
	s->cleaned |= s->dirty & bits;
	s->dirty &= (uint16_t)~bits;
	note_dirty(cache, slot);
}

/* By way of clean, for the counts. The table on disk may call the block dirty
 * still, until the next flush: `marked` keeps the slot until then. */
void bt_cache_drop(struct bt_cache *cache, uint32_t slot, uint16_t bits)
{
	struct bt_cache_slot *s = &cache->slots[slot];

	bt_cache_set_clean(cache, slot, bits);
	s->valid &= (uint16_t)~bits;
	s->cleaned &= (uint16_t)~bits;
	s->covered &= (uint16_t)~bits;
}

/* The epoch makes what is being read now, from the origin or to the store, not
 * valid when it arrives. */
void bt_cache_drop_clean(struct bt_cache *cache)
{
	uint32_t i;

	cache->epoch++;
	for (i = 0; i < cache->slot_count; i++)
		cache->slots[i].valid = cache->slots[i].dirty;
}

/* What was written back since the last flush may not be there. */
static void doubt_written(struct bt_cache *cache)
{
	uint32_t i;

	cache->doubts++;
	for (i = 0; i < cache->slot_count; i++) {
		struct bt_cache_slot *s = &cache->slots[i];
		uint16_t written = s->cleaned | s->covered;
		uint16_t back = written & s->valid;

		/* of a store that failed; with it this cannot be mended */
		cache->gone |= written != back;
		if (back)
			bt_cache_set_dirty(cache, i, back);
	}
	bt_cache_clean_kick(cache);
}

static void forget_origin(struct bt_cache *cache)
{
	doubt_written(cache);
	bt_cache_drop_clean(cache);
	bt_log(cache->node->env->log, BLKTAP_LOG_INFO,
	       "%s: the origin is another one now; what was read from it is "
	       "dropped",
	       cache->node->name);
}

/* Called where env->links has changed, which may be any edge of the context;
 * bt_port_below tells whether this origin has. */
void bt_cache_look_below(struct bt_cache *cache)
{
	uint64_t below = bt_port_below(cache->origin);
	bool changed = cache->below && below != cache->below;

	cache->links = cache->node->env->links;
	cache->below = below;
	if (changed)
		forget_origin(cache);
}

void bt_cache_look_lost(struct bt_cache *cache)
{
	const struct bt_env *env = cache->node->env;
	uint64_t losses;

	if (bt_likely(cache->lost_all == env->losses))
		return;
	cache->lost_all = env->losses;
	losses = bt_port_losses(cache->origin);
	if (losses == cache->losses)
		return;
	cache->losses = losses;
	doubt_written(cache);
	bt_log(env->log, BLKTAP_LOG_WARNING,
	       "%s: '%s' may have lost what it had not flushed: %llu bytes are "
	       "dirty now and will be written back again",
	       cache->node->name, cache->origin->lower->name,
	       (unsigned long long)cache->dirty_blocks * BT_CACHE_BLOCK);
}

void bt_cache_lose(struct bt_cache *cache, int error, bool spoiled)
{
	const struct bt_log *log = cache->node->env->log;
	const char *store = cache->store->lower->name;
	char reason[BT_STRERROR_MAX];

	cache->spoiled |= spoiled && (cache->dirty_blocks || cache->marked);
	if (cache->lost)
		return;
	cache->lost = true;
	bt_cache_drop_clean(cache);
	bt_strerror(error, reason);
	if (cache->dirty_blocks || cache->marked)
		bt_log(log, BLKTAP_LOG_ERROR,
		       "%s: '%s' fails (%s), and %llu bytes in it are not in "
		       "'%s': reading them may fail with EIO, and so will "
		       "flushes",
		       cache->node->name, store, reason,
		       (unsigned long long)cache->dirty_blocks * BT_CACHE_BLOCK,
		       cache->origin->lower->name);
	else
		bt_log(log, BLKTAP_LOG_WARNING,
		       "%s: '%s' fails (%s): '%s' goes on without a cache",
		       cache->node->name, store, reason,
		       cache->origin->lower->name);
}

/* ---- runs of requests -------------------------------------------------------- */

/* By where a request goes on, not by who sent it: eight runs at once are told
 * apart. A run that is over is forgotten when its place is needed. */
bool bt_cache_is_sequential(struct bt_cache *cache,
			    const struct bt_request *req)
{
	struct bt_cache_stream *s = cache->streams;
	uint32_t i;

	for (i = 0; i < BT_CACHE_STREAMS; i++, s++)
		if (s->bytes && s->next == req->offset)
			break;
	if (i == BT_CACHE_STREAMS) {
		s = &cache->streams[cache->stream_next++ % BT_CACHE_STREAMS];
		s->bytes = 0;
	}
	s->next = req->offset + req->length;
	s->bytes += req->length;
	return cache->bypass && s->bytes > cache->bypass;
}
