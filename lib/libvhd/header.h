/* SPDX-License-Identifier: BSD-3-Clause */
/* The header of a dynamic or differencing disk. */
#ifndef BT_VHD_HEADER_H
#define BT_VHD_HEADER_H

#include "libvhd/vhd.h"

/* Reads 1024 bytes; cookie and checksum are checked here. */
int bt_vhd_header_decode(const void *buf, size_t len, struct bt_vhd_header *h,
			 struct bt_fault *fault);

/* Writes 1024 bytes with a fresh checksum. */
void bt_vhd_header_encode(const struct bt_vhd_header *h, void *buf);

/* Whether block size, table and locators can be what they say in a file of
 * file_size bytes, and cover the disk of the (checked) footer f. */
int bt_vhd_header_check(const struct bt_vhd_header *h,
			const struct bt_vhd_footer *f, uint64_t file_size,
			struct bt_fault *fault);

/* As above without the locators: enough to read the child's own blocks, and to
 * give it another parent. */
int bt_vhd_header_check_table(const struct bt_vhd_header *h,
			      const struct bt_vhd_footer *f, uint64_t file_size,
			      struct bt_fault *fault);

/* Whether the VHD of footer parent is the one that h was made over: -EINVAL
 * where the uuids differ or h wants a raw parent. Timestamps are not looked
 * at: they change when a parent is copied or coalesced. */
int bt_vhd_header_check_parent(const struct bt_vhd_header *h,
			       const struct bt_vhd_footer *parent,
			       struct bt_fault *fault);

/* A new header without parent. */
void bt_vhd_header_init(struct bt_vhd_header *h, uint64_t table_offset,
			uint32_t max_table_entries, uint32_t block_size);

/* Names the parent; a nil uuid says that it is raw. name is UTF-8; of a name
 * too long for its field the start is stored, as it is for people only.
 * -EILSEQ where it is not UTF-8. */
int bt_vhd_header_set_parent(struct bt_vhd_header *h,
			     const uint8_t uuid[BT_VHD_UUID_SIZE],
			     uint32_t timestamp, const char *name,
			     struct bt_fault *fault);

/* As bt_vhd_header_set_parent says it; of a differencing disk alone. */
bool bt_vhd_header_parent_is_raw(const struct bt_vhd_header *h);

/* parent_name as UTF-8. For display; locators say where the parent is. */
int bt_vhd_header_parent_name(const struct bt_vhd_header *h, char *out,
			      size_t cap, struct bt_fault *fault);

/* The longest locator text read: 4095 characters, each as %XX. */
#define BT_VHD_LOCATOR_LEN_MAX (16u << 10)

/* Room of a locator in bytes. The format means sectors, most makers write
 * bytes; a value below 512 can only be sectors. 0: neither. */
uint64_t bt_vhd_locator_space(const struct bt_vhd_locator *loc);

/* Whether locator number i lies inside a file of file_size bytes and has a
 * length we read. */
int bt_vhd_locator_check(const struct bt_vhd_header *h, unsigned int i,
			 uint64_t file_size, struct bt_fault *fault);

/* Puts the numbers of the locators we can read into order, the one to try
 * first in front, and returns how many there are. Relative paths come first:
 * a chain that was moved as a whole must not find its old parent. */
unsigned int bt_vhd_locator_order(const struct bt_vhd_header *h,
				  uint8_t order[BT_VHD_LOCATORS]);

#endif
