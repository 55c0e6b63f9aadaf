/* SPDX-License-Identifier: BSD-3-Clause */
/* What is looked at before the first write: the BAT, whole.
 *
 * A writer has to be able to trust it: it goes by entries to change data in
 * place, and one entry that leads into the footer or another block would damage
 * what is sound. A reader checks an entry when it is used (walk.c). Memory: a
 * piece of the BAT, and 8 bytes a block that is there. */
#include "driver/vhd/vhd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define PIECE_ENTRIES 16384u /* 64 KiB of the BAT */

/* ---- the BAT -------------------------------------------------------------- */

struct pass {
	struct bt_vhdimg *img;
	uint64_t data_end;
	struct bt_vhd_bat_summary summary;
	uint8_t *bat; /* a piece */
	uint64_t *keys;
	size_t count, room;
	bool batmap_lies; /* says "full" of a block that is not there */
};

/* One key a block, (place, number), to be sorted by place. Their number is
 * bounded: more blocks than the file has room for were refused before
 * (look_at_piece). */
static int keep_keys(struct pass *p, uint32_t first, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		uint32_t entry = bt_vhd_bat_load(p->bat, i);

		if (entry == BT_VHD_BAT_UNUSED) {
			p->batmap_lies |=
				p->img->batmap &&
				bt_vhd_bit_test(p->img->batmap, first + i);
			continue;
		}
		if (p->count == p->room) {
			size_t room = p->room ? p->room * 2 : 1024;
			uint64_t *keys = realloc(p->keys, room * sizeof(*keys));

			if (!keys)
				return -ENOMEM;
			p->keys = keys;
			p->room = room;
		}
		p->keys[p->count++] = bt_vhd_overlap_key(first + i, entry);
	}
	return 0;
}

/* Of the first bad block: the scan ends with the piece that it is in. */
static int bad_entry(const struct pass *p, const struct bt_fault *fault,
		     struct blktap_error **err)
{
	return bt_fail(err, -EINVAL, "open it read-only, and copy what is good",
		       "%s: BAT entry of block %" PRIu32 " is %" PRIu64 ": %s",
		       p->img->f.path, p->summary.first_bad_block, fault->value,
		       fault->reason);
}

/* A piece is read once, scanned, and its keys made of the same bytes. */
static int look_at_piece(struct pass *p, uint32_t first, uint32_t count,
			 struct blktap_error **err)
{
	struct bt_vhd_blocks *b = &p->img->blocks;
	struct bt_fault fault = { 0 };
	int rc = bt_image_file_read(&p->img->f,
				    b->table_offset + (uint64_t)first * 4,
				    p->bat, (size_t)count * 4);

	if (rc < 0)
		return bt_image_file_fail(p->img->f.path, rc, err);
	rc = bt_vhd_bat_scan(b, p->bat, first, count, p->data_end, &p->summary,
			     &fault);
	if (rc < 0)
		return bad_entry(p, &fault, err);
	if (bt_vhd_overlap_certain(b, p->summary.allocated, p->data_end))
		return bt_fail(err, -EINVAL,
			       "open it read-only, and copy what is good",
			       "%s: the BAT names more blocks than fit into "
			       "the file",
			       p->img->f.path);
	rc = keep_keys(p, first, count);
	return rc < 0 ? bt_fail(err, rc, NULL, "%s: out of memory",
				p->img->f.path)
		      : 0;
}

/* Names both blocks, so that a person can look at them. */
static int check_overlaps(struct pass *p, struct blktap_error **err)
{
	struct bt_vhd_overlap o;
	struct bt_fault fault;

	if (!bt_vhd_overlap_check(&p->img->blocks, p->keys, p->count, &o,
				  &fault))
		return 0;
	return bt_fail(
		err, -EINVAL, "open it read-only, and copy what is good",
		"%s: blocks %" PRIu32 " (BAT entry %" PRIu32 ") and %" PRIu32
		" (BAT entry %" PRIu32 ") lie over each other",
		p->img->f.path, o.block[0], o.entry[0], o.block[1], o.entry[1]);
}

/* *end is 0 where no block is there, and not to be used where this fails. */
int bt_vhdimg_check_bat(struct bt_vhdimg *img, uint64_t data_end, bool overlaps,
			uint64_t *end, struct blktap_error **err)
{
	struct pass p = { .img = img, .data_end = data_end };
	uint32_t first = 0;
	int rc = 0;

	p.bat = malloc(PIECE_ENTRIES * 4);
	if (!p.bat)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       img->f.path);
	while (first < img->blocks.entries && !rc) {
		uint32_t count = (uint32_t)bt_min_u64(
			PIECE_ENTRIES, img->blocks.entries - first);

		rc = look_at_piece(&p, first, count, err);
		first += count;
	}
	if (!rc && overlaps)
		rc = check_overlaps(&p, err);
	if (!rc && p.batmap_lies && !img->read_only)
		rc = bt_vhdimg_drop_batmap(img, err);
	*end = p.summary.data_end;
	free(p.keys);
	free(p.bat);
	return rc;
}
