/* SPDX-License-Identifier: BSD-3-Clause */
/* The delta: a header, a map with an entry for each slot, and the slots.
 *
 *	0       header (header.h); payload: chunk (4), flags (4), size (8)
 *	8 KiB   entries of 16 bytes by slot: chunk (8), zero (4), crc32 (4)
 *	..      slots of a chunk each, from a multiple of 4 KiB on
 *
 * The crc is over the store's uuid, the slot and the chunk, so that what an older
 * snapshot left there is no entry. An entry is written once, after its data is
 * durable, and is believed wherever it is found valid: so a slot whose entry is on
 * disk is never filled with anything else, whether or not the write that asked for
 * it ever went on. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/error.h"
#include "core/log.h"
#include "module/snap.h"
#include "port/args.h"
#include "util/bytes.h"
#include "util/checked.h"

#define LAYOUT 1u
#define DROPPED 0x1u
#define READ_STEP (256u << 10)

/* The chunk's number stands in the entry; slot and uuid do not, but are
 * covered. */
static uint32_t entry_crc(const struct bt_snap *snap, uint64_t slot,
			  uint64_t chunk)
{
	unsigned char bytes[16];

	bt_store_le64(bytes, slot);
	bt_store_le64(bytes + 8, chunk);
	return (uint32_t)crc32(crc32(0, snap->header.uuid, 16), bytes,
			       sizeof(bytes));
}

/* From chunks[], in whole blocks: entries of this batch and all earlier ones of
 * the block. What was written before is written again as it was. */
void bt_snap_encode(const struct bt_snap *snap, uint32_t slot, void *block)
{
	uint32_t per_block = BT_SNAP_BLOCK / BT_SNAP_ENTRY, i;
	unsigned char *p = block;

	memset(p, 0, BT_SNAP_BLOCK);
	slot -= slot % per_block;
	for (i = 0; i < per_block && slot + i < snap->slot_count; i++) {
		uint32_t chunk = snap->chunks[slot + i];

		if (!chunk)
			continue;
		bt_store_le64(p + i * BT_SNAP_ENTRY, chunk - 1);
		bt_store_le32(p + i * BT_SNAP_ENTRY + 12,
			      entry_crc(snap, slot + i, chunk - 1));
	}
}

/* The first free one from `next` on, round about; there is one, as `used` is
 * less than all. */
int bt_snap_take_slot(struct bt_snap *snap, uint64_t chunk, uint32_t *slot)
{
	if (snap->used == snap->slot_count)
		return -ENOSPC;
	while (snap->chunks[snap->next])
		snap->next = (snap->next + 1) % snap->slot_count;
	*slot = snap->next;
	snap->chunks[*slot] = (uint32_t)chunk + 1;
	snap->used++;
	return 0;
}

/* Two slots may name a chunk: the map's write failed once, and the copy was made
 * again. Both hold the same, since the chunk was not written between. What is
 * not valid is a free slot: of an older snapshot, never written, or torn. */
static void adopt(struct bt_snap *snap, uint32_t slot, const unsigned char *p)
{
	uint64_t chunk = bt_load_le64(p);

	if (bt_load_le32(p + 8) || chunk >= snap->chunk_count ||
	    bt_load_le32(p + 12) != entry_crc(snap, slot, chunk))
		return;
	snap->chunks[slot] = (uint32_t)chunk + 1;
	snap->used++;
	if (snap->slots[chunk])
		return;
	snap->slots[chunk] = slot + 1;
	snap->copied++;
}

/* By steps of READ_STEP; the last one is rounded up to a block, which the map
 * has. */
static int load(struct bt_snap *snap, struct blktap_error **err)
{
	uint64_t end = (uint64_t)snap->slot_count * BT_SNAP_ENTRY, at, n, i;
	unsigned char *memory = aligned_alloc(BT_SNAP_BLOCK, READ_STEP);
	int rc = memory ? 0 : -ENOMEM;

	for (at = 0; !rc && at < end; at += READ_STEP) {
		n = bt_align_down(bt_min_u64(READ_STEP, end - at) +
					  BT_SNAP_BLOCK - 1,
				  BT_SNAP_BLOCK);
		rc = bt_node_transfer(snap->delta, BLKTAP_OP_READ,
				      BT_HEADER_AREA + at, memory, n);
		n = bt_min_u64(n, end - at);
		for (i = 0; !rc && i < n; i += BT_SNAP_ENTRY)
			adopt(snap, (uint32_t)((at + i) / BT_SNAP_ENTRY),
			      memory + i);
	}
	free(memory);
	if (rc < 0)
		return bt_fail(err, rc, NULL,
			       "%s: the map in '%s' cannot be read",
			       snap->node->name, snap->delta->lower->name);
	return 0;
}

/* How many slots the delta has room for; more than the image has chunks are of
 * no use. The count is bounded by the store's size, so what is allocated by it
 * is as well. */
static int lay_out(struct bt_snap *snap, struct blktap_error **err)
{
	uint64_t room = snap->delta->lower->limits.size, count, map;
	uint64_t chunks = (snap->size + snap->chunk - 1) / snap->chunk;
	int rc;

	rc = bt_header_check_store(snap->node, snap->delta,
				   BT_HEADER_AREA + BT_SNAP_BLOCK + snap->chunk,
				   err);
	if (rc < 0)
		return rc;
	if (chunks >= UINT32_MAX)
		return bt_fail(err, -EFBIG, "use a larger chunk",
			       "%s: '%s' has too many chunks of %u bytes",
			       snap->node->name, snap->origin->lower->name,
			       snap->chunk);
	room -= BT_HEADER_AREA + BT_SNAP_BLOCK;
	count = bt_min_u64(room / (snap->chunk + BT_SNAP_ENTRY), chunks);
	map = bt_align_down(count * BT_SNAP_ENTRY + BT_SNAP_BLOCK - 1,
			    BT_SNAP_BLOCK);
	if (!count)
		return bt_fail(err, -ENOSPC, "make it larger",
			       "%s: '%s' has no room for one chunk of %u bytes",
			       snap->node->name, snap->delta->lower->name,
			       snap->chunk);
	snap->chunk_count = (uint32_t)chunks;
	snap->slot_count = (uint32_t)count;
	snap->data_at = BT_HEADER_AREA + map;
	return 0;
}

/* No map is written: what lies there has another uuid in its crc. So a new
 * snapshot is one write and one flush, whatever its size. */
static int begin(struct bt_snap *snap, struct blktap_error **err)
{
	unsigned char *p = snap->header.payload;
	int rc = bt_header_init(&snap->header, "snap", LAYOUT);

	snap->header.length = 24;
	snap->header.clean = true; /* it is whole at every moment */
	bt_store_le32(p, snap->chunk);
	bt_store_le64(p + 8, snap->size);
	bt_store_le64(p + 16, snap->slot_count);
	if (!rc)
		rc = bt_header_write(snap->delta, &snap->header);
	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: '%s' cannot be written",
			       snap->node->name, snap->delta->lower->name);
	return 0;
}

/* A snapshot that is there goes on; it must be of this origin. */
static int resume(struct bt_snap *snap, struct blktap_error **err)
{
	const unsigned char *p = snap->header.payload;
	const char *name = snap->delta->lower->name;

	if (snap->header.length != 24)
		return bt_fail(err, -EUCLEAN, NULL,
			       "'%s': the header has %u bytes of a snapshot, "
			       "not 24",
			       name, snap->header.length);
	if (bt_load_le32(p) != snap->chunk)
		return bt_fail(err, -EINVAL, "give that chunk",
			       "'%s': holds a snapshot with chunks of %u bytes",
			       name, bt_load_le32(p));
	if (bt_load_le64(p + 8) != snap->size)
		return bt_fail(err, -EINVAL, "name another delta",
			       "'%s': holds a snapshot of a disk of %llu bytes",
			       name, (unsigned long long)bt_load_le64(p + 8));
	/* bounded by what the store has room for now, before it is used */
	if (bt_load_le64(p + 16) > snap->slot_count || !bt_load_le64(p + 16))
		return bt_fail(err, -ENOSPC, "it was larger",
			       "'%s': ends before the slots it should have",
			       name);
	/* the map's place is by the count it began with */
	snap->slot_count = (uint32_t)bt_load_le64(p + 16);
	snap->data_at =
		BT_HEADER_AREA +
		bt_align_down((uint64_t)snap->slot_count * BT_SNAP_ENTRY +
				      BT_SNAP_BLOCK - 1,
			      BT_SNAP_BLOCK);
	if (!(bt_load_le32(p + 4) & DROPPED))
		return load(snap, err);
	snap->state = BT_SNAP_DROPPED;
	bt_log(snap->node->env->log, BLKTAP_LOG_WARNING,
	       "%s: the image in '%s' was dropped earlier; clear its first 8 "
	       "KiB to take a new one",
	       snap->node->name, name);
	return 0;
}

int bt_snap_store_open(struct bt_snap *snap, struct blktap_error **err)
{
	int rc = lay_out(snap, err);

	if (rc < 0)
		return rc;
	snap->slots = calloc(snap->chunk_count, sizeof(*snap->slots));
	snap->chunks = calloc(snap->slot_count, sizeof(*snap->chunks));
	if (!snap->slots || !snap->chunks)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       snap->node->name);
	rc = bt_header_read(snap->delta, "snap", LAYOUT, &snap->header, err);
	if (rc == -ENOENT)
		return begin(snap, err);
	return rc ? rc : resume(snap, err);
}
