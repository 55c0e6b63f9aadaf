/* SPDX-License-Identifier: BSD-3-Clause */
/* A new image is planned from front to back: footer copy, header, BAT, batmap
 * header, batmap, locators, and then the first block or the footer. Only the
 * order of the first two and the batmap's place behind the BAT are asked for by
 * readers; the rest is what other makers do. */
#include <errno.h>
#include <string.h>

#include "libvhd/footer.h"
#include "libvhd/header.h"
#include "libvhd/layout.h"
#include "util/checked.h"

/* Sizes are far from the end of 64 bits by now, see check_spec. */
static uint64_t round_sector(uint64_t v)
{
	return bt_align_down(v + BT_VHD_SECTOR - 1, BT_VHD_SECTOR);
}

/* Rounded up without a sum that could wrap. */
uint64_t bt_vhd_entries_for(uint64_t size, uint32_t block_size)
{
	return size / block_size + (size % block_size != 0);
}

/* Sizes were rounded before (bt_vhd_size_round), which refuses what is too
 * large; a maximum was not. */
static int check_spec(const struct bt_vhd_layout_spec *spec,
		      struct bt_fault *fault)
{
	if (spec->type != BT_VHD_FIXED && !bt_vhd_type_has_blocks(spec->type))
		return bt_fault_set(fault, -EINVAL, "disk_type", spec->type,
				    "neither fixed, dynamic nor differencing",
				    NULL);
	if (spec->size == 0 || spec->size % BT_VHD_SECTOR)
		return bt_fault_set(fault, -EINVAL, "size", spec->size,
				    "not in whole sectors", NULL);
	if (spec->size > BT_VHD_SIZE_MAX || spec->max_size > BT_VHD_SIZE_MAX)
		return bt_fault_set(fault, -EFBIG, "size",
				    bt_max_u64(spec->size, spec->max_size),
				    "a VHD holds at most 2040 GiB",
				    "make the disk smaller, or use qcow2");
	if (spec->max_size && spec->max_size < spec->size)
		return bt_fault_set(fault, -EINVAL, "max size", spec->max_size,
				    "less than the size of the disk",
				    "give a larger -S");
	if (spec->locators > BT_VHD_LOCATORS)
		return bt_fault_set(fault, -EINVAL, "parent_locator",
				    spec->locators, "there is room for 8",
				    NULL);
	if (spec->type == BT_VHD_DIFFERENCING && !spec->locators)
		return bt_fault_set(fault, -EINVAL, "parent_locator", 0,
				    "a differencing disk names no parent",
				    NULL);
	return 0;
}

/* The table is made for max_size, so that the disk can grow without moving
 * it. */
static int plan_table(struct bt_vhd_layout *l,
		      const struct bt_vhd_layout_spec *spec,
		      struct bt_fault *fault)
{
	uint64_t entries;

	l->block_size = spec->block_size ? spec->block_size : BT_VHD_BLOCK_SIZE;
	if (!bt_is_pow2(l->block_size) || l->block_size < BT_VHD_BLOCK_MIN ||
	    l->block_size > BT_VHD_BLOCK_MAX)
		return bt_fault_set(fault, -EINVAL, "block_size", l->block_size,
				    "not a power of two from 512 to 2 MiB",
				    "use 2 MiB, which all readers know");
	entries = bt_vhd_entries_for(bt_max_u64(spec->size, spec->max_size),
				     l->block_size);
	if (entries > BT_VHD_BAT_ENTRIES_MAX)
		return bt_fault_set(fault, -EFBIG, "max_table_entries", entries,
				    "too many blocks",
				    "use a block size of 2 MiB");
	l->entries = (uint32_t)entries;
	return 0;
}

/* Each has whole sectors, one behind the other. */
static int plan_locators(struct bt_vhd_layout *l,
			 const struct bt_vhd_layout_spec *spec, uint64_t at,
			 struct bt_fault *fault)
{
	uint64_t space;
	unsigned int i;

	for (i = 0; i < spec->locators; i++) {
		if (!spec->locator_len[i] ||
		    spec->locator_len[i] > BT_VHD_LOCATOR_LEN_MAX ||
		    spec->locator_space > BT_VHD_LOCATOR_LEN_MAX)
			return bt_fault_set(fault, -EINVAL, "data_length",
					    spec->locator_len[i],
					    "no path has this length", NULL);
		space = round_sector(
			bt_max_u64(spec->locator_len[i], spec->locator_space));
		l->locator[i].code = spec->locator_code[i];
		l->locator[i].data_space = (uint32_t)space;
		l->locator[i].data_len = spec->locator_len[i];
		l->locator[i].data_offset = at;
		at += space;
	}
	l->locators = spec->locators;
	l->metadata_end = at;
	l->footer_offset = at;
	return 0;
}

/* A fixed disk has nothing but its footer. */
int bt_vhd_layout_plan(struct bt_vhd_layout *l,
		       const struct bt_vhd_layout_spec *spec,
		       struct bt_fault *fault)
{
	int err;

	memset(l, 0, sizeof(*l));
	l->type = spec->type;
	l->size = spec->size;
	err = check_spec(spec, fault);
	if (err)
		return err;
	if (spec->type == BT_VHD_FIXED) {
		l->footer_offset = spec->size;
		return 0;
	}
	err = plan_table(l, spec, fault);
	if (err)
		return err;
	l->header_offset = BT_VHD_FOOTER_SIZE;
	l->table_offset = l->header_offset + BT_VHD_HEADER_SIZE;
	l->batmap_header_offset =
		l->table_offset + round_sector((uint64_t)l->entries * 4);
	l->batmap_offset = l->batmap_header_offset + BT_VHD_BATMAP_HEADER_SIZE;
	l->batmap_sec = bt_vhd_batmap_sectors(l->entries);
	return plan_locators(l, spec,
			     l->batmap_offset +
				     (uint64_t)l->batmap_sec * BT_VHD_SECTOR,
			     fault);
}

/* The uuid and name of a parent are the caller's to set: they are of a file,
 * and this knows none. */
void bt_vhd_layout_header(const struct bt_vhd_layout *l,
			  struct bt_vhd_header *h)
{
	bt_vhd_header_init(h, l->table_offset, l->entries, l->block_size);
	memcpy(h->locator, l->locator, sizeof(h->locator));
}

void bt_vhd_layout_batmap(const struct bt_vhd_layout *l,
			  struct bt_vhd_batmap *b)
{
	bt_vhd_batmap_init(b, l->batmap_offset, l->entries);
}

/* What is not written below is zeroes: the batmap's bits, the rest of each
 * locator's room. */
void bt_vhd_layout_encode(const struct bt_vhd_layout *l,
			  const struct bt_vhd_footer *f,
			  const struct bt_vhd_header *h,
			  const struct bt_vhd_batmap *b,
			  const void *const text[], void *buf)
{
	uint8_t *p = buf;
	unsigned int i;

	if (l->type == BT_VHD_FIXED)
		return;
	memset(p, 0, l->metadata_end);
	bt_vhd_footer_encode(f, p);
	bt_vhd_header_encode(h, p + l->header_offset);
	/* The padding too: QEMU and others read the table in sectors. */
	memset(p + l->table_offset, 0xff,
	       l->batmap_header_offset - l->table_offset);
	bt_vhd_batmap_encode(b, p + l->batmap_header_offset);
	for (i = 0; i < l->locators; i++)
		memcpy(p + l->locator[i].data_offset, text[i],
		       l->locator[i].data_len);
}
