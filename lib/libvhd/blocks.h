/* SPDX-License-Identifier: BSD-3-Clause */
/* The mathematics of blocks: guest offset -> block -> BAT entry -> file, and
 * the checks that an entry passes before anything is read or written through
 * it.
 *
 * A BAT entry is the sector at which a block begins: first its bitmap, padded
 * to sectors, then its data. A bit of the bitmap says that the sector is in
 * this file (differencing) or was ever written (dynamic). */
#ifndef BT_VHD_BLOCKS_H
#define BT_VHD_BLOCKS_H

#include "libvhd/batmap.h"
#include "libvhd/vhd.h"
#include "util/bytes.h"

struct bt_vhd_region {
	uint64_t offset;
	uint64_t length;
	const char *name;
};

/* Footer copy, header, BAT, batmap header, batmap, locators. */
#define BT_VHD_REGIONS_MAX (5 + BT_VHD_LOCATORS)

struct bt_vhd_blocks {
	uint64_t size; /* what the guest sees */
	uint64_t table_offset;
	uint32_t entries; /* of the BAT; may be more than the disk needs */
	uint32_t block_size; /* bytes of data */
	uint32_t block_sec;
	uint32_t bitmap_sec;
	unsigned int block_shift;
	uint64_t metadata_end;
	unsigned int regions;
	struct bt_vhd_region region[BT_VHD_REGIONS_MAX];
};

/* From a footer and header that were checked; batmap may be NULL. -EINVAL
 * where two parts of the metadata lie over each other. Locators that
 * bt_vhd_locator_check would refuse are not counted as metadata. */
int bt_vhd_blocks_init(struct bt_vhd_blocks *b, const struct bt_vhd_footer *f,
		       const struct bt_vhd_header *h,
		       const struct bt_vhd_batmap *batmap,
		       struct bt_fault *fault);

static inline uint32_t bt_vhd_block_of(const struct bt_vhd_blocks *b,
				       uint64_t offset)
{
	return (uint32_t)(offset >> b->block_shift);
}

static inline uint32_t bt_vhd_offset_in_block(const struct bt_vhd_blocks *b,
					      uint64_t offset)
{
	return (uint32_t)(offset & (b->block_size - 1));
}

static inline uint64_t bt_vhd_bitmap_bytes(const struct bt_vhd_blocks *b)
{
	return (uint64_t)b->bitmap_sec * BT_VHD_SECTOR;
}

/* Bytes of the file that a block takes. */
static inline uint64_t bt_vhd_block_stride(const struct bt_vhd_blocks *b)
{
	return bt_vhd_bitmap_bytes(b) + b->block_size;
}

static inline uint64_t bt_vhd_bitmap_offset(uint32_t entry)
{
	return (uint64_t)entry * BT_VHD_SECTOR;
}

static inline uint64_t bt_vhd_data_offset(const struct bt_vhd_blocks *b,
					  uint32_t entry)
{
	return bt_vhd_bitmap_offset(entry) + bt_vhd_bitmap_bytes(b);
}

static inline uint32_t bt_vhd_bat_load(const void *bat, uint32_t block)
{
	return bt_load_be32((const uint8_t *)bat + (size_t)block * 4);
}

static inline void bt_vhd_bat_store(void *bat, uint32_t block, uint32_t entry)
{
	bt_store_be32((uint8_t *)bat + (size_t)block * 4, entry);
}

/* Blocks that the size of the disk needs, at most b->entries. */
uint32_t bt_vhd_blocks_needed(const struct bt_vhd_blocks *b);

/* Sectors of a block that the guest can see: fewer in the last one. */
uint32_t bt_vhd_block_visible_sec(const struct bt_vhd_blocks *b,
				  uint32_t block);

/* Whether a block at entry lies before data_end (the footer, or the end of the
 * file where it has lost it) and clear of all metadata. An unused entry
 * passes. */
int bt_vhd_entry_check(const struct bt_vhd_blocks *b, uint32_t entry,
		       uint64_t data_end, struct bt_fault *fault);

/* The entry for the next block of a file whose data ends at data_end, such
 * that its data is 4 KiB aligned. -EFBIG: past what 32 bits of sectors say. */
int bt_vhd_next_entry(const struct bt_vhd_blocks *b, uint64_t data_end,
		      uint32_t *entry, struct bt_fault *fault);

/* What a pass over the BAT finds; starts as zeroes, may go in pieces. */
struct bt_vhd_bat_summary {
	uint32_t allocated;
	uint32_t bad; /* entries that fail bt_vhd_entry_check */
	uint32_t first_bad_block;
	uint32_t beyond; /* allocated past the size of the disk */
	uint64_t data_end; /* of the last good block; 0 where there is none */
};

/* Looks at count entries from first_block on. The error and the fault are of
 * the first bad entry of this piece. */
int bt_vhd_bat_scan(const struct bt_vhd_blocks *b, const void *bat,
		    uint32_t first_block, uint32_t count, uint64_t data_end,
		    struct bt_vhd_bat_summary *summary, struct bt_fault *fault);

/* A bit for each of count entries, from bit first on: set where the block is
 * allocated. What `vhd-util read -B` prints. */
void bt_vhd_bat_to_bits(const void *bat, uint32_t count, void *bits,
			uint32_t first);

/* Overlaps, in time linear in the blocks: the caller makes a key of each
 * allocated entry, in any order. */
static inline uint64_t bt_vhd_overlap_key(uint32_t block, uint32_t entry)
{
	return (uint64_t)entry << 32 | block;
}

struct bt_vhd_overlap {
	uint32_t block[2];
	uint32_t entry[2];
};

/* Whether that many blocks cannot all have their place before data_end: look
 * no further, and allocate no keys. */
bool bt_vhd_overlap_certain(const struct bt_vhd_blocks *b, uint32_t allocated,
			    uint64_t data_end);

/* Sorts the keys by place and reports the first two blocks that share bytes:
 * -EINVAL, overlap (may be NULL) names them. */
int bt_vhd_overlap_check(const struct bt_vhd_blocks *b, uint64_t *keys,
			 size_t n, struct bt_vhd_overlap *overlap,
			 struct bt_fault *fault);

#endif
