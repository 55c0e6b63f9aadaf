/* SPDX-License-Identifier: BSD-3-Clause */
/* The store: a header, a table with an entry for each slot, and the slots.
 *
 *	0       header; payload: size of a slot (4), of a block (4), of the disk
 *		(8), slots (8), what the origin is called (8), what its
 *		file was when this was marked clean (8)
 *	8 KiB   entries of 12 bytes: chunk + 1 (8), valid (2), dirty (2)
 *	..      slots of 64 KiB, from a multiple of 64 KiB on
 *
 * While the cache runs the header is not clean, and then the table counts for
 * what is dirty alone; what is valid is written, and believed, with the clean mark.
 * So a clean block costs no metadata, and after a crash all of them are gone.
 *
 * The table is staged at a flush (cache-flush.c), from writes that have completed:
 * so it never calls dirty what is not in its slot. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "module/cache.h"
#include "util/bytes.h"
#include "util/checked.h"

#define LAYOUT 1u
#define PAYLOAD 40u
#define OLD_PAYLOAD 32u /* of former versions: without the last */

/* Where slot 0 lies: at a multiple of a slot's size. */
static uint64_t table_end(uint64_t slots)
{
	uint64_t end = BT_HEADER_AREA + bt_table_space(slots * BT_CACHE_ENTRY);

	return bt_align_down(end + BT_CACHE_SLOT - 1, BT_CACHE_SLOT);
}

/* As many as room holds with their table. Guesses too high and comes down: by
 * 1/10000 while that is more than a slot, since the table takes about 12 bytes
 * for each 64 KiB. */
uint64_t bt_cache_slots_for(uint64_t room)
{
	uint64_t n = room / BT_CACHE_SLOT;

	while (n && table_end(n) + n * BT_CACHE_SLOT > room)
		n -= n > 10000 ? n / 10000 : 1;
	return bt_min_u64(n, BT_CACHE_NONE - 1);
}

/* FNV-1a, 64 bit. It tells names apart; it is no protection against somebody
 * who wants two to be alike. */
static uint64_t mix(uint64_t hash, const char *text)
{
	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3ull;
	return hash;
}

static uint64_t name_origin(const struct bt_cache *cache)
{
	const struct bt_node *node = cache->origin->lower;
	uint64_t hash = 0xcbf29ce484222325ull;

	while (node->port_count && node->ports[0].lower)
		node = node->ports[0].lower;
	return mix(mix(hash, node->cls->name), bt_node_path(node));
}

static void fill_header(struct bt_cache *cache)
{
	unsigned char *p = cache->header.payload;

	cache->header.length = PAYLOAD;
	bt_store_le32(p, BT_CACHE_SLOT);
	bt_store_le32(p + 4, BT_CACHE_BLOCK);
	bt_store_le64(p + 8, cache->size);
	bt_store_le64(p + 16, cache->slot_count);
	bt_cache_note_origin(cache);
}

void bt_cache_note_origin(struct bt_cache *cache)
{
	unsigned char *p = cache->header.payload;

	bt_store_le64(p + 24, name_origin(cache));
	bt_store_le64(p + 32,
		      cache->header.clean ? bt_port_stamp(cache->origin) : 0);
}

static bool has_length(const struct bt_cache *cache)
{
	return cache->header.length == PAYLOAD ||
	       cache->header.length == OLD_PAYLOAD;
}

/* ---- the table ---------------------------------------------------------------- */

/* Without `all`, an entry is there for what is dirty alone: valid on disk is
 * then the same as dirty. An entry of zeroes is a free slot. */
static void encode(const struct bt_cache_slot *slot, bool all,
		   unsigned char *out)
{
	uint16_t valid = all ? slot->valid : slot->dirty;

	bt_store_le64(out, valid ? slot->chunk : 0);
	bt_store_le16(out + 8, valid);
	bt_store_le16(out + 10, slot->dirty);
}

/* What was written back so far is covered by the flush of the origin that
 * begins now; what is written back from here on is not. */
static void stage_slot(struct bt_cache *cache, uint32_t i, bool all)
{
	struct bt_cache_slot *slot = &cache->slots[i];
	uint64_t at = (uint64_t)i * BT_CACHE_ENTRY;
	unsigned char entry[BT_CACHE_ENTRY];

	slot->covered |= slot->cleaned;
	slot->cleaned = 0;
	encode(slot, all, entry);
	/* from the moment that it may get to the disk, not when it has */
	if (slot->dirty && !slot->marked) {
		slot->marked = true;
		cache->marked++;
	}
	if (!memcmp(cache->table.bytes + at, entry, BT_CACHE_ENTRY))
		return;
	memcpy(cache->table.bytes + at, entry, BT_CACHE_ENTRY);
	bt_table_touch(&cache->table, at);
}

static uint32_t block_count(const struct bt_cache *cache)
{
	return cache->slot_count / BT_CACHE_PER_BLOCK + 1;
}

/* The slots that are in a block of the table. PER_BLOCK entries are whole in a
 * block of the table: 336 of 12 bytes are its 4032. */
static void span(const struct bt_cache *cache, uint32_t block, uint32_t *first,
		 uint32_t *end)
{
	*first = block * BT_CACHE_PER_BLOCK;
	*end = (uint32_t)bt_min_u64(*first + BT_CACHE_PER_BLOCK,
				    cache->slot_count);
}

/* Blocks whose slots did not change are passed by, so that a flush costs what
 * was written since the last one and not the size of the cache. */
void bt_cache_stage(struct bt_cache *cache, bool all)
{
	uint32_t block, i, end;

	for (block = 0; block < block_count(cache); block++) {
		if (!all && !(cache->changed[block] & BT_TABLE_CHANGED))
			continue;
		cache->changed[block] = BT_TABLE_SENT;
		for (span(cache, block, &i, &end); i < end; i++)
			stage_slot(cache, i, all);
	}
}

static bool durably_dirty(const struct bt_cache *cache, uint32_t slot)
{
	const unsigned char *entry =
		cache->table.bytes + (uint64_t)slot * BT_CACHE_ENTRY;

	return bt_load_le16(entry + 10) != 0;
}

/* A slot is free for another chunk only now, with an entry on disk that does
 * not call it dirty. */
void bt_cache_staged(struct bt_cache *cache)
{
	uint32_t block, i, end;

	for (block = 0; block < block_count(cache); block++) {
		if (!(cache->changed[block] & BT_TABLE_SENT))
			continue;
		cache->changed[block] &= (unsigned char)~BT_TABLE_SENT;
		for (span(cache, block, &i, &end); i < end; i++) {
			struct bt_cache_slot *slot = &cache->slots[i];

			slot->covered = 0;
			if (!slot->marked || durably_dirty(cache, i))
				continue;
			slot->marked = false;
			cache->marked--;
		}
	}
}

/* With `again`, what was written back is not sure to be there: it is dirty again.
 * The slots have it still, as far as the table on disk calls them dirty. That is
 * so of blocks which were not staged as well: what was written back while the flush
 * ran may be among what it has lost. */
void bt_cache_unstage(struct bt_cache *cache, bool again)
{
	unsigned char blocks =
		again ? BT_TABLE_SENT | BT_TABLE_CHANGED : BT_TABLE_SENT;
	uint32_t block, i, end;

	for (block = 0; block < block_count(cache); block++) {
		if (!(cache->changed[block] & blocks))
			continue;
		cache->changed[block] = BT_TABLE_CHANGED;
		for (span(cache, block, &i, &end); i < end; i++) {
			struct bt_cache_slot *slot = &cache->slots[i];
			uint16_t bits =
				(slot->covered | slot->cleaned) & slot->valid;

			slot->covered = 0;
			if (!again)
				continue;
			slot->cleaned = 0;
			if (bits)
				bt_cache_set_dirty(cache, i, bits);
		}
	}
}

/* ---- opening ------------------------------------------------------------------- */

static int bad_entry(const struct bt_cache *cache, uint32_t slot,
		     const char *what, uint64_t chunk,
		     struct blktap_error **err)
{
	return bt_fail(err, -EUCLEAN,
		       "clear its first 8 KiB to start it anew; what it kept "
		       "for the origin is lost",
		       "'%s': entry %u of the cache %s: chunk %" PRIu64,
		       cache->store->lower->name, slot, what, chunk);
}

/* The blocks of the chunk that the disk has. */
static uint16_t whole(const struct bt_cache *cache, uint64_t chunk)
{
	uint64_t left = cache->size - chunk * BT_CACHE_SLOT;

	return bt_cache_bits(0, (uint32_t)(bt_min_u64(left, BT_CACHE_SLOT) /
					   BT_CACHE_BLOCK));
}

/* Everything is checked: the chunk is of this disk, its blocks are, and no two
 * slots have one. The entry is read from memory, where the table's load has put
 * it. */
static int take_entry(struct bt_cache *cache, uint32_t i, bool clean,
		      struct blktap_error **err)
{
	const unsigned char *entry =
		cache->table.bytes + (uint64_t)i * BT_CACHE_ENTRY;
	uint64_t chunk = bt_load_le64(entry);
	uint16_t dirty = bt_load_le16(entry + 10);
	uint16_t valid = clean ? bt_load_le16(entry + 8) | dirty : dirty;

	if (!chunk || !valid)
		return 0;
	chunk--;
	if (chunk >= cache->size / BT_CACHE_SLOT +
			     (cache->size % BT_CACHE_SLOT != 0) ||
	    valid & ~whole(cache, chunk))
		return bad_entry(cache, i, "is behind the disk's end", chunk,
				 err);
	if (bt_cache_find(cache, chunk) != BT_CACHE_NONE)
		return bad_entry(cache, i, "names what another has", chunk,
				 err);
	bt_cache_insert(cache, i, chunk);
	cache->slots[i].valid = valid;
	if (dirty) {
		bt_cache_set_dirty(cache, i, dirty);
		cache->slots[i].marked = true;
		cache->marked++;
	}
	return 0;
}

/* Sizes are those of this build; slots bounds what is allocated next, together
 * with lay_out, which compares it with the store's size. */
static int check_payload(const struct bt_cache *cache,
			 struct blktap_error **err)
{
	const unsigned char *p = cache->header.payload;
	const char *name = cache->store->lower->name;
	uint64_t slots = bt_load_le64(p + 16);

	if (!has_length(cache) || bt_load_le32(p) != BT_CACHE_SLOT ||
	    bt_load_le32(p + 4) != BT_CACHE_BLOCK || !slots ||
	    slots >= BT_CACHE_NONE)
		return bt_fail(err, -EUCLEAN, NULL,
			       "'%s': the header of a cache makes no sense",
			       name);
	if (bt_load_le64(p + 8) != cache->size)
		return bt_fail(err, -EINVAL, "name another store",
			       "'%s': is the cache of a disk of %" PRIu64
			       " bytes, '%s' has %" PRIu64,
			       name, bt_load_le64(p + 8),
			       cache->origin->lower->name, cache->size);
	return 0;
}

static int lay_out(struct bt_cache *cache, uint64_t slots,
		   struct blktap_error **err)
{
	int rc;

	cache->slot_count = (uint32_t)slots;
	cache->data_at = table_end(slots);
	/* before memory is taken for as many slots as a header claims */
	rc = bt_header_check_store(cache->node, cache->store,
				   cache->data_at + slots * BT_CACHE_SLOT, err);
	if (rc < 0)
		return rc;
	rc = bt_cache_map_init(cache);
	if (!rc)
		rc = bt_table_init(&cache->table, cache->node, cache->store,
				   BT_HEADER_AREA, slots * BT_CACHE_ENTRY);
	return rc ? bt_fail(err, rc, NULL, "%s: out of memory",
			    cache->node->name)
		  : 0;
}

/* An empty table before the header, so that none stands before an old one. */
static int begin(struct bt_cache *cache, uint64_t slots,
		 struct blktap_error **err)
{
	uint64_t generation = cache->header.generation;
	int rc = lay_out(cache, slots, err);

	if (rc < 0)
		return rc;
	/* one of another size: its table ends before this one is written */
	cache->header.clean = false;
	if (generation)
		rc = bt_header_write(cache->store, &cache->header);
	generation = cache->header.generation;
	if (!rc)
		rc = bt_header_init(&cache->header, "cache", LAYOUT);
	cache->header.generation = generation;
	if (!rc)
		rc = bt_table_store(&cache->table);
	if (!rc)
		rc = bt_node_transfer(cache->store, BLKTAP_OP_FLUSH, 0, NULL,
				      0);
	return rc ? bt_fail(err, rc, NULL, "%s: '%s' cannot be prepared",
			    cache->node->name, cache->store->lower->name)
		  : 0;
}

/* What is clean is the origin's of then; it is dropped where the origin has
 * another name now. What is dirty is the guest's and stays. */
static void doubt_name(struct bt_cache *cache)
{
	const char *origin = cache->origin->lower->name;

	if (bt_load_le64(cache->header.payload + 24) == name_origin(cache))
		return;
	bt_cache_drop_clean(cache);
	bt_log(cache->node->env->log, BLKTAP_LOG_WARNING,
	       "%s: '%s' was the cache of another origin than '%s': what is "
	       "not "
	       "dirty is dropped, %" PRIu64 " bytes are dirty",
	       cache->node->name, cache->store->lower->name, origin,
	       cache->dirty_blocks * BT_CACHE_BLOCK);
}

/* Somebody wrote to the origin while the cache was not there: what is clean may be
 * older. */
static void doubt_origin(struct bt_cache *cache)
{
	uint64_t was = bt_load_le64(cache->header.payload + 32);
	uint64_t is = bt_port_stamp(cache->origin);

	if (!was || !is || was == is)
		return;
	bt_cache_drop_clean(cache);
	bt_log(cache->node->env->log, BLKTAP_LOG_WARNING,
	       "%s: '%s' was written to without its cache: what was read from "
	       "it is dropped",
	       cache->node->name, cache->origin->lower->name);
}

static int resume(struct bt_cache *cache, struct blktap_error **err)
{
	bool clean = cache->header.clean;
	uint32_t i;
	int rc = check_payload(cache, err);

	if (!rc)
		rc = lay_out(cache, bt_load_le64(cache->header.payload + 16),
			     err);
	if (!rc)
		rc = bt_table_load(&cache->table, cache->node->name, err);
	for (i = 0; !rc && i < cache->slot_count; i++)
		rc = take_entry(cache, i, clean, err);
	if (rc < 0)
		return rc;
	if (!clean)
		bt_log(cache->node->env->log, BLKTAP_LOG_INFO,
		       "%s: '%s' was not closed: %" PRIu64
		       " bytes in it are dirty, the rest is dropped",
		       cache->node->name, cache->store->lower->name,
		       cache->dirty_blocks * BT_CACHE_BLOCK);
	doubt_name(cache);
	doubt_origin(cache);
	return 0;
}

/* Of another size than is asked for now, with nothing in it that would be lost.
 * Only after a clean close: else dirty blocks may be there, which go to the
 * origin first, with the size that it has. */
static bool is_outgrown(const struct bt_cache *cache, uint64_t slots)
{
	return cache->header.clean && has_length(cache) &&
	       bt_load_le64(cache->header.payload + 16) != slots &&
	       bt_load_le64(cache->header.payload + 8) == cache->size;
}

int bt_cache_store_open(struct bt_cache *cache, uint64_t room,
			struct blktap_error **err)
{
	uint64_t slots = bt_cache_slots_for(
		bt_min_u64(room, cache->store->lower->limits.size));
	int rc;

	rc = bt_header_check_store(cache->node, cache->store,
				   table_end(1) + BT_CACHE_SLOT, err);
	if (rc < 0)
		return rc;
	rc = bt_header_read(cache->store, "cache", LAYOUT, &cache->header, err);
	if (rc == -ENOENT || (!rc && is_outgrown(cache, slots)))
		rc = begin(cache, slots, err);
	else if (!rc)
		rc = resume(cache, err);
	if (rc < 0)
		return rc;
	cache->header.clean = false;
	fill_header(cache);
	rc = bt_header_write(cache->store, &cache->header);
	return rc ? bt_fail(err, rc, NULL, "%s: '%s' cannot be written",
			    cache->node->name, cache->store->lower->name)
		  : 0;
}
