/* SPDX-License-Identifier: BSD-3-Clause */
/* The header of a dynamic or differencing disk, 1024 bytes, all numbers
 * big-endian; its place is the footer's data_offset. "Virtual Hard Disk Image
 * Format Specification" of Microsoft has the fields; what makers do beyond that
 * is told where it is met.
 *
 *   0 cookie "cxsparse"   8 data_offset (unused)   16 table_offset   24 version
 *   28 max_table_entries  32 block_size   36 checksum   40 parent_uuid
 *   56 parent_timestamp   64 parent_name, UTF-16 big-endian
 *   576 eight locators of 24 bytes   768 reserved
 *
 * decode moves bytes and checks that they are a header; every number is judged
 * by check, before anything is shifted by it, multiplied or looked up. */
#include <errno.h>
#include <string.h>

#include "libvhd/geometry.h"
#include "libvhd/header.h"
#include "libvhd/utf.h"
#include "util/bytes.h"
#include "util/checked.h"

enum {
	OFF_DATA_OFFSET = 8,
	OFF_TABLE_OFFSET = 16,
	OFF_VERSION = 24,
	OFF_MAX_ENTRIES = 28,
	OFF_BLOCK_SIZE = 32,
	OFF_CHECKSUM = 36,
	OFF_PARENT_UUID = 40,
	OFF_PARENT_TIMESTAMP = 56,
	OFF_RESERVED1 = 60,
	OFF_PARENT_NAME = 64,
	OFF_LOCATORS = 576,
	LOCATOR_SIZE = 24,
	OFF_RESERVED2 = 768,
};

static const char cookie[8] = "cxsparse";

/* code, space, length, reserved, offset: what the space is counted in is
 * bt_vhd_locator_space's to find out. */
static void locator_decode(const uint8_t *p, struct bt_vhd_locator *loc)
{
	loc->code = bt_load_be32(p);
	loc->data_space = bt_load_be32(p + 4);
	loc->data_len = bt_load_be32(p + 8);
	loc->reserved = bt_load_be32(p + 12);
	loc->data_offset = bt_load_be64(p + 16);
}

/* Every field as it was decoded, so a slot whose code nobody here knows is
 * written back as it was. */
static void locator_encode(const struct bt_vhd_locator *loc, uint8_t *p)
{
	bt_store_be32(p, loc->code);
	bt_store_be32(p + 4, loc->data_space);
	bt_store_be32(p + 8, loc->data_len);
	bt_store_be32(p + 12, loc->reserved);
	bt_store_be64(p + 16, loc->data_offset);
}

/* Reserved bytes are kept, to be written back as they were. */
static void decode_fields(const uint8_t *p, struct bt_vhd_header *h)
{
	unsigned int i;

	h->data_offset = bt_load_be64(p + OFF_DATA_OFFSET);
	h->table_offset = bt_load_be64(p + OFF_TABLE_OFFSET);
	h->version = bt_load_be32(p + OFF_VERSION);
	h->max_table_entries = bt_load_be32(p + OFF_MAX_ENTRIES);
	h->block_size = bt_load_be32(p + OFF_BLOCK_SIZE);
	memcpy(h->parent_uuid, p + OFF_PARENT_UUID, sizeof(h->parent_uuid));
	h->parent_timestamp = bt_load_be32(p + OFF_PARENT_TIMESTAMP);
	h->reserved1 = bt_load_be32(p + OFF_RESERVED1);
	memcpy(h->parent_name, p + OFF_PARENT_NAME, sizeof(h->parent_name));
	for (i = 0; i < BT_VHD_LOCATORS; i++)
		locator_decode(p + OFF_LOCATORS + i * LOCATOR_SIZE,
			       &h->locator[i]);
	memcpy(h->reserved2, p + OFF_RESERVED2, sizeof(h->reserved2));
}

/* A header of zeroes, or the tail of a block, has no cookie; one that was half
 * written has a wrong sum. */
int bt_vhd_header_decode(const void *buf, size_t len, struct bt_vhd_header *h,
			 struct bt_fault *fault)
{
	const uint8_t *p = buf;
	uint32_t stored;

	if (len < BT_VHD_HEADER_SIZE)
		return bt_fault_set(fault, -EINVAL, "file size", len,
				    "the header is cut off",
				    "get a complete copy of the file");
	if (memcmp(p, cookie, sizeof(cookie)))
		return bt_fault_set(fault, -EINVAL, "header cookie",
				    bt_load_be64(p),
				    "there is no VHD header here", NULL);
	stored = bt_load_be32(p + OFF_CHECKSUM);
	if (bt_vhd_checksum(p, BT_VHD_HEADER_SIZE, OFF_CHECKSUM) != stored)
		return bt_fault_set(fault, -EINVAL, "header checksum", stored,
				    "the header was damaged", NULL);
	decode_fields(p, h);
	return 0;
}

/* The checksum comes last, as it is over all the others. */
void bt_vhd_header_encode(const struct bt_vhd_header *h, void *buf)
{
	uint8_t *p = buf;
	unsigned int i;

	memcpy(p, cookie, sizeof(cookie));
	bt_store_be64(p + OFF_DATA_OFFSET, h->data_offset);
	bt_store_be64(p + OFF_TABLE_OFFSET, h->table_offset);
	bt_store_be32(p + OFF_VERSION, h->version);
	bt_store_be32(p + OFF_MAX_ENTRIES, h->max_table_entries);
	bt_store_be32(p + OFF_BLOCK_SIZE, h->block_size);
	memcpy(p + OFF_PARENT_UUID, h->parent_uuid, sizeof(h->parent_uuid));
	bt_store_be32(p + OFF_PARENT_TIMESTAMP, h->parent_timestamp);
	bt_store_be32(p + OFF_RESERVED1, h->reserved1);
	memcpy(p + OFF_PARENT_NAME, h->parent_name, sizeof(h->parent_name));
	for (i = 0; i < BT_VHD_LOCATORS; i++)
		locator_encode(&h->locator[i],
			       p + OFF_LOCATORS + i * LOCATOR_SIZE);
	memcpy(p + OFF_RESERVED2, h->reserved2, sizeof(h->reserved2));
	bt_store_be32(p + OFF_CHECKSUM,
		      bt_vhd_checksum(p, BT_VHD_HEADER_SIZE, OFF_CHECKSUM));
}

/* A power of two, so that a block is found by a shift. Blocks of more than 2
 * MiB would have bitmaps of more than a sector. */
static int check_block_size(uint32_t size, struct bt_fault *fault)
{
	if (!bt_is_pow2(size) || size < BT_VHD_BLOCK_MIN)
		return bt_fault_set(fault, -EINVAL, "block_size", size,
				    "not a power of two of at least 512", NULL);
	if (size > BT_VHD_BLOCK_MAX)
		return bt_fault_set(fault, -ENOTSUP, "block_size", size,
				    "blocks are at most 2 MiB", NULL);
	return 0;
}

/* The table may be longer than the disk needs: that is what a disk can grow
 * into. Its length is bounded since memory is taken by it. */
static int check_entries(const struct bt_vhd_header *h,
			 const struct bt_vhd_footer *f, struct bt_fault *fault)
{
	uint64_t holds = (uint64_t)h->max_table_entries * h->block_size;

	if (h->max_table_entries > BT_VHD_BAT_ENTRIES_MAX)
		return bt_fault_set(fault, -ENOTSUP, "max_table_entries",
				    h->max_table_entries,
				    "more than any disk of 2 TiB needs", NULL);
	if (holds < bt_vhd_virtual_size(f, NULL))
		return bt_fault_set(fault, -EINVAL, "max_table_entries",
				    h->max_table_entries,
				    "too few blocks for the size of the disk",
				    NULL);
	return 0;
}

/* The table is written in place, so it must be clear of what else is: footer
 * copy and header. bt_vhd_blocks_init looks at all parts of the metadata
 * against each other. */
static int check_table(const struct bt_vhd_header *h,
		       const struct bt_vhd_footer *f, uint64_t file_size,
		       struct bt_fault *fault)
{
	uint64_t bytes = (uint64_t)h->max_table_entries * 4;

	if (h->table_offset % BT_VHD_SECTOR)
		return bt_fault_set(fault, -EINVAL, "table_offset",
				    h->table_offset, "not on a sector", NULL);
	if (!bt_range_within(h->table_offset, bytes, file_size))
		return bt_fault_set(fault, -EINVAL, "table_offset",
				    h->table_offset,
				    "the block table ends past the file",
				    "get a complete copy of the file");
	if (h->table_offset < BT_VHD_FOOTER_SIZE)
		return bt_fault_set(
			fault, -EINVAL, "table_offset", h->table_offset,
			"the block table lies over the footer copy", NULL);
	if (h->table_offset < f->data_offset + BT_VHD_HEADER_SIZE &&
	    f->data_offset < h->table_offset + bytes)
		return bt_fault_set(
			fault, -EINVAL, "table_offset", h->table_offset,
			"the block table lies over the header", NULL);
	return 0;
}

/* See header.h: by the size of the number alone can sectors and bytes be told
 * apart. */
uint64_t bt_vhd_locator_space(const struct bt_vhd_locator *loc)
{
	if (loc->data_space < BT_VHD_SECTOR)
		return (uint64_t)loc->data_space * BT_VHD_SECTOR;
	return loc->data_space % BT_VHD_SECTOR ? 0 : loc->data_space;
}

/* A fault holds literals only, so each locator has names of its own. */
#define LOCATOR_NAMES(field)                                            \
	{                                                               \
		"parent_locator[0]." field, "parent_locator[1]." field, \
			"parent_locator[2]." field,                     \
			"parent_locator[3]." field,                     \
			"parent_locator[4]." field,                     \
			"parent_locator[5]." field,                     \
			"parent_locator[6]." field,                     \
			"parent_locator[7]." field,                     \
	}

/* A length of at most BT_VHD_LOCATOR_LEN_MAX, since that much is read and
 * allocated. */
int bt_vhd_locator_check(const struct bt_vhd_header *h, unsigned int i,
			 uint64_t file_size, struct bt_fault *fault)
{
	static const char *const len_name[] = LOCATOR_NAMES("data_length");
	static const char *const space_name[] = LOCATOR_NAMES("data_space");
	static const char *const off_name[] = LOCATOR_NAMES("data_offset");
	const struct bt_vhd_locator *loc = &h->locator[i];
	uint64_t space = bt_vhd_locator_space(loc);

	if (loc->data_len == 0 || loc->data_len > BT_VHD_LOCATOR_LEN_MAX)
		return bt_fault_set(fault, -EINVAL, len_name[i], loc->data_len,
				    "no path has this length",
				    "set its parent: vhd-util modify -p");
	if (space < loc->data_len)
		return bt_fault_set(fault, -EINVAL, space_name[i],
				    loc->data_space,
				    "too small for the path, or no sectors",
				    "set its parent: vhd-util modify -p");
	if (loc->data_offset < BT_VHD_FOOTER_SIZE ||
	    !bt_range_within(loc->data_offset, loc->data_len, file_size))
		return bt_fault_set(fault, -EINVAL, off_name[i],
				    loc->data_offset,
				    "the path lies outside the file",
				    "set its parent: vhd-util modify -p");
	return 0;
}

/* Slots with another code, or none, are passed over: nobody can read those. */
unsigned int bt_vhd_locator_order(const struct bt_vhd_header *h,
				  uint8_t order[BT_VHD_LOCATORS])
{
	static const uint32_t codes[] = {
		BT_VHD_LOC_W2RU,
		BT_VHD_LOC_MACX,
		BT_VHD_LOC_W2KU,
	};
	unsigned int n = 0, c, i;

	for (c = 0; c < BT_ARRAY_SIZE(codes); c++)
		for (i = 0; i < BT_VHD_LOCATORS; i++)
			if (h->locator[i].code == codes[c])
				order[n++] = (uint8_t)i;
	return n;
}

/* All that can be read must be sound: a bad one is damage, and a guess would be
 * a wrong parent. */
static int check_locators(const struct bt_vhd_header *h, uint64_t file_size,
			  struct bt_fault *fault)
{
	uint8_t order[BT_VHD_LOCATORS];
	unsigned int n = bt_vhd_locator_order(h, order), i;
	int err;

	if (n == 0)
		return bt_fault_set(fault, -EINVAL, "parent_locator", 0,
				    "a differencing disk names no parent",
				    "set its parent: vhd-util modify -p");
	for (i = 0; i < n; i++) {
		err = bt_vhd_locator_check(h, order[i], file_size, fault);
		if (err)
			return err;
	}
	return 0;
}

/* Order: block size and length first, as the table's place depends on both. */
int bt_vhd_header_check_table(const struct bt_vhd_header *h,
			      const struct bt_vhd_footer *f, uint64_t file_size,
			      struct bt_fault *fault)
{
	int err;

	if (h->version >> 16 != 1)
		return bt_fault_set(fault, -ENOTSUP, "header_version",
				    h->version, "only version 1 is known",
				    NULL);
	err = check_block_size(h->block_size, fault);
	if (!err)
		err = check_entries(h, f, fault);
	if (!err)
		err = check_table(h, f, file_size, fault);
	return err;
}

/* Locators come last: whether the table is sound does not depend on them, and
 * only a child has them followed. */
int bt_vhd_header_check(const struct bt_vhd_header *h,
			const struct bt_vhd_footer *f, uint64_t file_size,
			struct bt_fault *fault)
{
	int err = bt_vhd_header_check_table(h, f, file_size, fault);

	/* Locators of a disk without parent are leftovers nobody follows. */
	if (!err && f->type == BT_VHD_DIFFERENCING)
		err = check_locators(h, file_size, fault);
	return err;
}

/* By the uuid alone. The parent's time is recorded too, but a copy of the file
 * has another one, and is as good a parent. */
int bt_vhd_header_check_parent(const struct bt_vhd_header *h,
			       const struct bt_vhd_footer *parent,
			       struct bt_fault *fault)
{
	if (!memcmp(h->parent_uuid, parent->uuid, sizeof(parent->uuid)))
		return 0;
	return bt_fault_set(fault, -EINVAL, "parent_unique_id",
			    bt_load_be64(h->parent_uuid),
			    bt_vhd_header_parent_is_raw(h)
				    ? "the parent should be a raw image"
				    : "this is not the parent it was made over",
			    "set its parent: vhd-util modify -p");
}

/* A disk of its own; set_parent and the locators make a child of it.
 * data_offset is used by nobody, and all ones are what says so. */
void bt_vhd_header_init(struct bt_vhd_header *h, uint64_t table_offset,
			uint32_t max_table_entries, uint32_t block_size)
{
	memset(h, 0, sizeof(*h));
	h->data_offset = BT_VHD_NO_OFFSET;
	h->table_offset = table_offset;
	h->version = BT_VHD_VERSION(1, 0);
	h->max_table_entries = max_table_entries;
	h->block_size = block_size;
}

/* An -ENAMETOOLONG of the encoder is no error: whole characters up to the end
 * of the field are in text, the rest is zeroes. */
int bt_vhd_header_set_parent(struct bt_vhd_header *h,
			     const uint8_t uuid[BT_VHD_UUID_SIZE],
			     uint32_t timestamp, const char *name,
			     struct bt_fault *fault)
{
	uint8_t text[sizeof(h->parent_name)] = { 0 };
	size_t len;
	int err;

	err = bt_vhd_utf16_encode(name, strlen(name), BT_VHD_UTF16BE, text,
				  sizeof(text), &len);
	if (err == -EILSEQ)
		return bt_fault_set(fault, err, "parent name", 0,
				    "the name is not UTF-8",
				    "rename the parent");
	memcpy(h->parent_uuid, uuid, sizeof(h->parent_uuid));
	memcpy(h->parent_name, text, sizeof(text));
	h->parent_timestamp = timestamp;
	return 0;
}

/* No VHD has a uuid of zeroes. */
bool bt_vhd_header_parent_is_raw(const struct bt_vhd_header *h)
{
	static const uint8_t nil[BT_VHD_UUID_SIZE];

	return !memcmp(h->parent_uuid, nil, sizeof(nil));
}

/* Ends at the first unit of zeroes, or with the field. */
int bt_vhd_header_parent_name(const struct bt_vhd_header *h, char *out,
			      size_t cap, struct bt_fault *fault)
{
	size_t len = 0, got;
	int err;

	while (len < sizeof(h->parent_name) &&
	       (h->parent_name[len] || h->parent_name[len + 1]))
		len += 2;
	if (cap == 0)
		return -ENAMETOOLONG;
	err = bt_vhd_utf16_decode(h->parent_name, len, BT_VHD_UTF16BE, out,
				  cap - 1, &got);
	if (err)
		return bt_fault_set(fault, err, "parent_unicode_name", len,
				    "not a name in UTF-16",
				    "set its parent: vhd-util modify -p");
	out[got] = '\0';
	return 0;
}
