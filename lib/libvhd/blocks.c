/* SPDX-License-Identifier: BSD-3-Clause */
/* Places of blocks, and what of the file is metadata. Regions are kept in whole
 * sectors, as blocks are; metadata_end is where the last of them ends, so an
 * entry behind it needs one comparison. */
#include <errno.h>
#include <string.h>

#include "libvhd/bits.h"
#include "libvhd/blocks.h"
#include "libvhd/geometry.h"
#include "libvhd/header.h"
#include "util/checked.h"

#define DATA_ALIGN_SEC 8u

/* Offsets and lengths were checked against the file, or are a locator's that
 * were checked against INT64_MAX: no sum here wraps. */
static void add_region(struct bt_vhd_blocks *b, const char *name,
		       uint64_t offset, uint64_t length)
{
	struct bt_vhd_region *r = &b->region[b->regions++];

	r->name = name;
	r->offset = offset;
	r->length = bt_align_down(length + BT_VHD_SECTOR - 1, BT_VHD_SECTOR);
	b->metadata_end = bt_max_u64(b->metadata_end, offset + r->length);
}

/* A locator that no reader would follow is no metadata. The file's end does not
 * matter here: a block over its place would be damage either way. */
static void add_locators(struct bt_vhd_blocks *b, const struct bt_vhd_header *h)
{
	uint8_t order[BT_VHD_LOCATORS];
	unsigned int n = bt_vhd_locator_order(h, order), i;

	for (i = 0; i < n; i++) {
		const struct bt_vhd_locator *loc = &h->locator[order[i]];

		if (bt_vhd_locator_check(h, order[i], INT64_MAX, NULL))
			continue;
		add_region(b, "parent locator", loc->data_offset,
			   loc->data_len);
	}
}

/* Neither range is empty, and neither wraps. */
static bool share_bytes(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* Locators are read only, so two of them may share a text. The first `locators`
 * regions are written in place, and must be clear of each other and of every
 * locator. */
static int check_regions(const struct bt_vhd_blocks *b, unsigned int locators,
			 struct bt_fault *fault)
{
	unsigned int i, j;

	for (i = 0; i < locators; i++)
		for (j = i + 1; j < b->regions; j++)
			if (share_bytes(
				    b->region[i].offset, b->region[i].length,
				    b->region[j].offset, b->region[j].length))
				return bt_fault_set(
					fault, -EINVAL, b->region[j].name,
					b->region[j].offset,
					"lies over another part of the "
					"metadata",
					NULL);
	return 0;
}

/* A bitmap has a bit a sector and is padded to sectors; for blocks of 2 MiB
 * that is one. */
int bt_vhd_blocks_init(struct bt_vhd_blocks *b, const struct bt_vhd_footer *f,
		       const struct bt_vhd_header *h,
		       const struct bt_vhd_batmap *batmap,
		       struct bt_fault *fault)
{
	unsigned int locators;

	memset(b, 0, sizeof(*b));
	b->size = bt_vhd_virtual_size(f, NULL);
	b->table_offset = h->table_offset;
	b->entries = h->max_table_entries;
	b->block_size = h->block_size;
	b->block_sec = h->block_size / BT_VHD_SECTOR;
	b->bitmap_sec =
		(b->block_sec + BT_VHD_SECTOR * 8 - 1) / (BT_VHD_SECTOR * 8);
	b->block_shift = (unsigned int)__builtin_ctz(h->block_size);
	add_region(b, "footer copy", 0, BT_VHD_FOOTER_SIZE);
	add_region(b, "header", f->data_offset, BT_VHD_HEADER_SIZE);
	add_region(b, "table_offset", h->table_offset,
		   (uint64_t)h->max_table_entries * 4);
	if (batmap) {
		add_region(b, "batmap header", bt_vhd_batmap_header_offset(h),
			   BT_VHD_BATMAP_HEADER_SIZE);
		add_region(b, "batmap offset", batmap->offset,
			   (uint64_t)batmap->size_sec * BT_VHD_SECTOR);
	}
	locators = b->regions;
	if (f->type == BT_VHD_DIFFERENCING)
		add_locators(b, h);
	return check_regions(b, locators, fault);
}

/* The sum does not wrap: a disk has at most 2040 GiB. */
uint32_t bt_vhd_blocks_needed(const struct bt_vhd_blocks *b)
{
	return (uint32_t)bt_min_u64(
		(b->size + b->block_size - 1) >> b->block_shift, b->entries);
}

/* 0 for a block past the end of the disk, which a table with room to grow
 * has. */
uint32_t bt_vhd_block_visible_sec(const struct bt_vhd_blocks *b, uint32_t block)
{
	uint64_t start = (uint64_t)block << b->block_shift;

	if (start >= b->size)
		return 0;
	return (uint32_t)(bt_min_u64(b->size - start, b->block_size) /
			  BT_VHD_SECTOR);
}

/* Blocks may lie between parts of the metadata: tables that have moved lie
 * behind those that were there. */
static int entry_in_metadata(const struct bt_vhd_blocks *b, uint32_t entry,
			     struct bt_fault *fault)
{
	uint64_t start = bt_vhd_bitmap_offset(entry);
	unsigned int i;

	for (i = 0; i < b->regions; i++)
		if (share_bytes(start, bt_vhd_block_stride(b),
				b->region[i].offset, b->region[i].length))
			return bt_fault_set(fault, -EINVAL, "BAT entry", entry,
					    "the block lies over metadata",
					    "run vhd-util check");
	return 0;
}

/* The entry is 32 bits of sectors, so its offset is below 2 TiB and the sum
 * cannot wrap. */
int bt_vhd_entry_check(const struct bt_vhd_blocks *b, uint32_t entry,
		       uint64_t data_end, struct bt_fault *fault)
{
	uint64_t start = bt_vhd_bitmap_offset(entry);

	if (entry == BT_VHD_BAT_UNUSED)
		return 0;
	if (!bt_range_within(start, bt_vhd_block_stride(b), data_end))
		return bt_fault_set(fault, -EINVAL, "BAT entry", entry,
				    "the block ends past the data",
				    "run vhd-util check");
	if (bt_likely(start >= b->metadata_end))
		return 0;
	return entry_in_metadata(b, entry, fault);
}

/* Blocks go behind all data and all metadata, with a gap of up to 7 sectors so
 * that their data is aligned for O_DIRECT and for pages. The last value of 32
 * bits says "unused" and is no place. */
int bt_vhd_next_entry(const struct bt_vhd_blocks *b, uint64_t data_end,
		      uint32_t *entry, struct bt_fault *fault)
{
	uint64_t from = bt_max_u64(data_end, b->metadata_end);
	uint64_t data_sec;

	if (from > (uint64_t)BT_VHD_BAT_UNUSED * BT_VHD_SECTOR)
		return bt_fault_set(fault, -EFBIG, "data end", from,
				    "a VHD file holds at most 2 TiB",
				    "coalesce it, or copy it to qcow2");
	data_sec = (from + BT_VHD_SECTOR - 1) / BT_VHD_SECTOR + b->bitmap_sec;
	data_sec = bt_align_down(data_sec + DATA_ALIGN_SEC - 1, DATA_ALIGN_SEC);
	if (data_sec - b->bitmap_sec >= BT_VHD_BAT_UNUSED)
		return bt_fault_set(fault, -EFBIG, "data end", from,
				    "a VHD file holds at most 2 TiB",
				    "coalesce it, or copy it to qcow2");
	*entry = (uint32_t)(data_sec - b->bitmap_sec);
	return 0;
}

/* Goes on past a bad entry, to count all of the piece. */
int bt_vhd_bat_scan(const struct bt_vhd_blocks *b, const void *bat,
		    uint32_t first_block, uint32_t count, uint64_t data_end,
		    struct bt_vhd_bat_summary *summary, struct bt_fault *fault)
{
	uint32_t needed = bt_vhd_blocks_needed(b);
	uint32_t entry, i;
	int err = 0;

	for (i = 0; i < count; i++) {
		entry = bt_vhd_bat_load(bat, i);
		if (entry == BT_VHD_BAT_UNUSED)
			continue;
		summary->allocated++;
		if (first_block + i >= needed)
			summary->beyond++;
		if (bt_vhd_entry_check(b, entry, data_end,
				       err ? NULL : fault)) {
			err = -EINVAL;
			if (!summary->bad++)
				summary->first_bad_block = first_block + i;
			continue;
		}
		summary->data_end = bt_max_u64(summary->data_end,
					       bt_vhd_bitmap_offset(entry) +
						       bt_vhd_block_stride(b));
	}
	return err;
}

void bt_vhd_bat_to_bits(const void *bat, uint32_t count, void *bits,
			uint32_t first)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (bt_vhd_bat_load(bat, i) != BT_VHD_BAT_UNUSED)
			bt_vhd_bit_set(bits, first + i);
		else
			bt_vhd_bit_clear(bits, first + i);
}
