/* SPDX-License-Identifier: BSD-3-Clause */
/* The store: a header, whose payload names the checkpoints, and their bits.
 *
 *	0      header; payload: shift (4), count (4), size of the disk (8), then
 *	       for each: name[64], crc32 of its bits (4), zero (4);
 *	       and what the disk's file was (8), 0 where it is not clean
 *	8 KiB  the bits of the first, padded to 4 KiB; of the second; ..
 *
 * It counts only while the header is clean. The bits are written while it is not,
 * so nothing here has to be written in parts that go together. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/error.h"
#include "core/log.h"
#include "module/bitmap.h"
#include "util/bytes.h"
#include "util/checked.h"

#define LAYOUT 1u
#define ENTRIES_AT 16u
#define ENTRY 72u
#define STAMP 8u /* headers of former versions end before it */

/* By index, not by name: the header tells which name is where, and both are
 * written in one save. */
uint64_t bt_bitmap_slot_at(const struct bt_bitmap *bm, uint32_t index)
{
	return BT_HEADER_AREA + index * bm->bits_len;
}

/* By pieces, as zlib's length is 32 bits wide. */
static uint32_t crc_of(const struct bt_bitmap *bm, const unsigned char *bits)
{
	uLong crc = crc32(0, NULL, 0);
	uint64_t at, n;

	for (at = 0; at < bm->bits_len; at += n) {
		n = bt_min_u64(bm->bits_len - at, 1u << 30);
		crc = crc32(crc, bits + at, (uInt)n);
	}
	return (uint32_t)crc;
}

/* What has everything dirty is not written down: a name that is not found in a
 * clean header would begin with nothing dirty, so it is given a crc that no bits
 * have, by not having any. */
#define NO_BITS 1u

/* The crc is left out of a header that is not clean, since nobody will look at
 * it. */
void bt_bitmap_fill_header(struct bt_bitmap *bm)
{
	unsigned char *p = bm->header.payload;
	uint32_t i;

	memset(p, 0, BT_HEADER_PAYLOAD);
	bt_store_le32(p, bm->shift);
	bt_store_le32(p + 4, bm->count);
	bt_store_le64(p + 8, bm->size);
	for (i = 0, p += ENTRIES_AT; i < bm->count; i++, p += ENTRY) {
		const struct bt_mark *mark = &bm->marks[i];

		memcpy(p, mark->name, BT_BITMAP_NAME);
		if (!mark->bits)
			bt_store_le32(p + 68, NO_BITS);
		else if (bm->header.clean)
			bt_store_le32(p + 64, crc_of(bm, mark->bits));
	}
	if (bm->header.clean)
		bt_store_le64(p, bt_port_stamp(bm->lower));
	bm->header.length = ENTRIES_AT + bm->count * ENTRY + STAMP;
}

/* Whether somebody wrote to the disk without us, as far as can be told. */
static bool is_changed(const struct bt_bitmap *bm, uint32_t count)
{
	uint64_t is = bt_port_stamp(bm->lower), was;

	was = bt_load_le64(bm->header.payload + ENTRIES_AT + count * ENTRY);
	return is && was && is != was;
}

static void all_dirty(struct bt_mark *mark)
{
	free(mark->bits);
	mark->bits = NULL;
}

static void all_marks_dirty(struct bt_bitmap *bm, const char *why)
{
	uint32_t i;

	for (i = 0; i < bm->count; i++)
		all_dirty(&bm->marks[i]);
	if (bm->count)
		bt_log(bm->node->env->log, BLKTAP_LOG_WARNING,
		       "%s: %s: everything counts as changed since every "
		       "checkpoint",
		       bm->node->name, why);
}

/* A name fills its 64 bytes, so strncmp does not run over; the header's own
 * count bounds the walk, and was checked. */
static int find(const struct bt_header *header, uint32_t count,
		const char *name)
{
	const unsigned char *p = header->payload + ENTRIES_AT;
	uint32_t i;

	for (i = 0; i < count; i++)
		if (!strncmp((const char *)p + i * ENTRY, name, BT_BITMAP_NAME))
			return (int)i;
	return -1;
}

/* Damaged bits are no error: everything dirty is a true answer, only a dear
 * one. */
static int load_mark(struct bt_bitmap *bm, struct bt_mark *mark, uint32_t index,
		     struct blktap_error **err)
{
	const unsigned char *p =
		bm->header.payload + ENTRIES_AT + index * ENTRY;
	char reason[BT_STRERROR_MAX];
	int rc;

	if (bt_load_le32(p + 68) || !mark->bits) {
		all_dirty(mark);
		return 0;
	}
	rc = bt_node_transfer(bm->store, BLKTAP_OP_READ,
			      bt_bitmap_slot_at(bm, index), mark->bits,
			      bm->bits_len);
	if (rc < 0)
		return bt_fail(err, rc, NULL,
			       "%s: '%s' cannot be read from '%s': %s",
			       bm->node->name, mark->name,
			       bm->store->lower->name, bt_strerror(rc, reason));
	if (crc_of(bm, mark->bits) == bt_load_le32(p + 64))
		return 0;
	bt_log(bm->node->env->log, BLKTAP_LOG_WARNING,
	       "%s: the bits of '%s' are damaged: everything counts as changed",
	       bm->node->name, mark->name);
	all_dirty(mark);
	return 0;
}

/* A header that is clean, but not of this layout or disk. A header of other
 * granularity is refused, not dropped: a typing error must not cost the bits.
 */
static int check(struct bt_bitmap *bm, uint32_t *count,
		 struct blktap_error **err)
{
	const unsigned char *p = bm->header.payload;

	*count = bt_load_le32(p + 4);
	if (bm->header.length < ENTRIES_AT || *count > BT_BITMAP_MAX ||
	    (bm->header.length != ENTRIES_AT + *count * ENTRY &&
	     bm->header.length != ENTRIES_AT + *count * ENTRY + STAMP))
		return bt_fail(err, -EUCLEAN, NULL,
			       "'%s': %u checkpoints do not fit a header of %u "
			       "bytes",
			       bm->store->lower->name, *count,
			       bm->header.length);
	if (bt_load_le32(p) != bm->shift)
		return bt_fail(err, -EINVAL, "give that granularity",
			       "'%s': was kept with another granularity, 2^%u",
			       bm->store->lower->name, bt_load_le32(p));
	return 0;
}

int bt_bitmap_load(struct bt_bitmap *bm, struct blktap_error **err)
{
	uint32_t i, count = 0;
	int rc, at;

	rc = bt_header_read(bm->store, "bitmap", LAYOUT, &bm->header, err);
	if (rc == -ENOENT) {
		rc = bt_header_init(&bm->header, "bitmap", LAYOUT);
		return rc ? bt_fail(err, rc, NULL, "%s: no random bytes",
				    bm->node->name)
			  : 0;
	}
	if (!rc)
		rc = check(bm, &count, err);
	if (rc < 0)
		return rc;
	if (!bm->header.clean) {
		all_marks_dirty(bm, "it was not closed");
		bm->state = BT_BITMAP_DIRTY; /* as the store says already */
		return 0;
	}
	/* no error: a disk that was made larger goes on with everything dirty
	 */
	if (bt_load_le64(bm->header.payload + 8) != bm->size) {
		all_marks_dirty(bm, "the disk had another size");
		return 0;
	}
	if (is_changed(bm, count)) {
		all_marks_dirty(bm, "the disk was written to without it");
		bm->unsaved = true;
		return 0;
	}
	for (i = 0; !rc && i < bm->count; i++) {
		at = find(&bm->header, count, bm->marks[i].name);
		if (at >= 0)
			rc = load_mark(bm, &bm->marks[i], (uint32_t)at, err);
	}
	return rc;
}
