/* SPDX-License-Identifier: BSD-3-Clause */
/* Where everything goes in a new image, and its first bytes. */
#ifndef BT_VHD_LAYOUT_H
#define BT_VHD_LAYOUT_H

#include "libvhd/batmap.h"
#include "libvhd/vhd.h"

struct bt_vhd_layout_spec {
	enum bt_vhd_type type;
	uint64_t size; /* from bt_vhd_size_round */
	uint64_t max_size; /* metadata for growing to this; 0: for size */
	uint32_t block_size; /* 0: 2 MiB */
	unsigned int locators;
	uint32_t locator_code[BT_VHD_LOCATORS];
	uint32_t locator_len[BT_VHD_LOCATORS]; /* bytes of text */
	uint32_t locator_space; /* least room of each; 0: a sector */
};

struct bt_vhd_layout {
	enum bt_vhd_type type;
	uint64_t size;
	uint32_t block_size;
	uint64_t header_offset;
	uint64_t table_offset;
	uint32_t entries;
	uint64_t batmap_header_offset; /* end of the padded table */
	uint64_t batmap_offset;
	uint32_t batmap_sec;
	unsigned int locators;
	struct bt_vhd_locator locator[BT_VHD_LOCATORS];
	uint64_t metadata_end; /* 0 for a fixed disk */
	uint64_t footer_offset; /* of the empty image */
};

/* -EINVAL: block size, no locator for a differencing disk; -EFBIG: beyond
 * 2040 GiB, or more blocks than a table may have. */
int bt_vhd_layout_plan(struct bt_vhd_layout *l,
		       const struct bt_vhd_layout_spec *spec,
		       struct bt_fault *fault);

/* The header of a new image; set its parent afterwards. */
void bt_vhd_layout_header(const struct bt_vhd_layout *l,
			  struct bt_vhd_header *h);
void bt_vhd_layout_batmap(const struct bt_vhd_layout *l,
			  struct bt_vhd_batmap *b);

/* Writes all metadata but the trailing footer: l->metadata_end bytes, with an
 * empty BAT and batmap. text[i] is the text of locator i. Nothing for a fixed
 * disk. */
void bt_vhd_layout_encode(const struct bt_vhd_layout *l,
			  const struct bt_vhd_footer *f,
			  const struct bt_vhd_header *h,
			  const struct bt_vhd_batmap *b,
			  const void *const text[], void *buf);

/* Entries a disk of size bytes needs. */
uint64_t bt_vhd_entries_for(uint64_t size, uint32_t block_size);

#endif
