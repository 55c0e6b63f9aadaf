/* SPDX-License-Identifier: BSD-3-Clause */
/* The batmap's header, 512 bytes, all numbers big-endian:
 *
 *   0 cookie "tdbatmap"   8 offset of the map, bytes   16 size of the map, sectors
 *   20 version   24 checksum of the map   28 marker   29 key hash: cookie, nonce, hash
 *   94 reserved
 *
 * The format is the older blktap's. No checksum covers the header itself. */
#include <errno.h>
#include <string.h>

#include "libvhd/batmap.h"
#include "util/bytes.h"
#include "util/checked.h"

enum {
	OFF_OFFSET = 8,
	OFF_SIZE = 16,
	OFF_VERSION = 20,
	OFF_CHECKSUM = 24,
	OFF_MARKER = 28,
	OFF_KEY_COOKIE = 29,
	OFF_KEY_NONCE = 30,
	OFF_KEY_HASH = 62,
	OFF_RESERVED = 94,
};

static const char cookie[8] = "tdbatmap";

/* Other makers have something else behind their BAT, so nobody's bytes there
 * are taken for a batmap unless the footer says that blktap made the image. */
enum bt_vhd_batmap_presence bt_vhd_batmap_presence(
	const struct bt_vhd_footer *f)
{
	if (!bt_vhd_type_has_blocks(f->type) ||
	    memcmp(f->creator_app, "tap", 3) ||
	    f->creator_version <= BT_VHD_VERSION(0, 1))
		return BT_VHD_BATMAP_NONE;
	return f->creator_version >= BT_VHD_VERSION(1, 1)
		       ? BT_VHD_BATMAP_EXPECTED
		       : BT_VHD_BATMAP_MAYBE;
}

/* Headers that were checked have at most BT_VHD_BAT_ENTRIES_MAX entries and a
 * table inside the file, so nothing here can overflow. */
uint64_t bt_vhd_batmap_header_offset(const struct bt_vhd_header *h)
{
	uint64_t table = (uint64_t)h->max_table_entries * 4;

	return h->table_offset +
	       bt_align_down(table + BT_VHD_SECTOR - 1, BT_VHD_SECTOR);
}

uint32_t bt_vhd_batmap_sectors(uint32_t entries)
{
	return (uint32_t)(((uint64_t)entries + BT_VHD_SECTOR * 8 - 1) /
			  (BT_VHD_SECTOR * 8));
}

/* Fields are judged by bt_vhd_batmap_check. */
int bt_vhd_batmap_decode(const void *buf, size_t len, struct bt_vhd_batmap *b,
			 struct bt_fault *fault)
{
	const uint8_t *p = buf;

	if (len < BT_VHD_BATMAP_HEADER_SIZE || memcmp(p, cookie, 8))
		return bt_fault_set(fault, -EINVAL, "batmap cookie",
				    len < 8 ? 0 : bt_load_be64(p),
				    "there is no batmap here", NULL);
	b->offset = bt_load_be64(p + OFF_OFFSET);
	b->size_sec = bt_load_be32(p + OFF_SIZE);
	b->version = bt_load_be32(p + OFF_VERSION);
	b->checksum = bt_load_be32(p + OFF_CHECKSUM);
	b->marker = p[OFF_MARKER];
	b->keyhash.cookie = p[OFF_KEY_COOKIE];
	memcpy(b->keyhash.nonce, p + OFF_KEY_NONCE, sizeof(b->keyhash.nonce));
	memcpy(b->keyhash.hash, p + OFF_KEY_HASH, sizeof(b->keyhash.hash));
	memcpy(b->reserved, p + OFF_RESERVED, sizeof(b->reserved));
	return 0;
}

/* All 512 bytes, so the buffer need not be set before. */
void bt_vhd_batmap_encode(const struct bt_vhd_batmap *b, void *buf)
{
	uint8_t *p = buf;

	memcpy(p, cookie, sizeof(cookie));
	bt_store_be64(p + OFF_OFFSET, b->offset);
	bt_store_be32(p + OFF_SIZE, b->size_sec);
	bt_store_be32(p + OFF_VERSION, b->version);
	bt_store_be32(p + OFF_CHECKSUM, b->checksum);
	p[OFF_MARKER] = b->marker;
	p[OFF_KEY_COOKIE] = b->keyhash.cookie;
	memcpy(p + OFF_KEY_NONCE, b->keyhash.nonce, sizeof(b->keyhash.nonce));
	memcpy(p + OFF_KEY_HASH, b->keyhash.hash, sizeof(b->keyhash.hash));
	memcpy(p + OFF_RESERVED, b->reserved, sizeof(b->reserved));
}

/* A map may be longer than the table needs, never shorter: it is looked up by
 * block without a further check. */
int bt_vhd_batmap_check(const struct bt_vhd_batmap *b,
			const struct bt_vhd_header *h, uint64_t file_size,
			struct bt_fault *fault)
{
	uint64_t behind =
		bt_vhd_batmap_header_offset(h) + BT_VHD_BATMAP_HEADER_SIZE;

	if (b->version > BT_VHD_VERSION(1, 2))
		return bt_fault_set(fault, -ENOTSUP, "batmap version",
				    b->version, "newer than 1.2", NULL);
	if (b->size_sec < bt_vhd_batmap_sectors(h->max_table_entries) ||
	    b->size_sec > bt_vhd_batmap_sectors(BT_VHD_BAT_ENTRIES_MAX))
		return bt_fault_set(fault, -EINVAL, "batmap size", b->size_sec,
				    "does not fit the block table", NULL);
	if (b->offset < behind || b->offset % BT_VHD_SECTOR)
		return bt_fault_set(fault, -EINVAL, "batmap offset", b->offset,
				    "not on a sector behind its header", NULL);
	if (!bt_range_within(b->offset, (uint64_t)b->size_sec * BT_VHD_SECTOR,
			     file_size))
		return bt_fault_set(fault, -EINVAL, "batmap offset", b->offset,
				    "the batmap ends past the file", NULL);
	return 0;
}

/* skip = len: the sum leaves nothing out. */
int bt_vhd_batmap_check_map(const struct bt_vhd_batmap *b, const void *map,
			    size_t len, struct bt_fault *fault)
{
	if (bt_vhd_checksum(map, len, len) != b->checksum)
		return bt_fault_set(fault, -EINVAL, "batmap checksum",
				    b->checksum, "the batmap was damaged",
				    NULL);
	return 0;
}

void bt_vhd_batmap_init(struct bt_vhd_batmap *b, uint64_t offset,
			uint32_t entries)
{
	memset(b, 0, sizeof(*b));
	b->offset = offset;
	b->size_sec = bt_vhd_batmap_sectors(entries);
	b->version = BT_VHD_VERSION(1, 2);
	b->checksum = UINT32_MAX; /* of zeroes */
}
