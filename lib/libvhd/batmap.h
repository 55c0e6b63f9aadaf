/* SPDX-License-Identifier: BSD-3-Clause */
/* The batmap of the older blktap and of ours: behind the BAT, a header and a
 * bit for each block that says "every sector of this block is in this file",
 * so that a reader need not look at its bitmap. It also keeps the marker and
 * the hash of the encryption key. It is a cache: where it does not check, use
 * the bitmaps. */
#ifndef BT_VHD_BATMAP_H
#define BT_VHD_BATMAP_H

#include "libvhd/vhd.h"

struct bt_vhd_keyhash {
	uint8_t cookie; /* 1: nonce and hash are set */
	uint8_t nonce[32];
	uint8_t hash[32];
};

struct bt_vhd_batmap {
	uint64_t offset; /* of the map */
	uint32_t size_sec;
	uint32_t version;
	uint32_t checksum; /* of the map, not of this header */
	uint8_t marker;
	struct bt_vhd_keyhash keyhash;
	uint8_t reserved[418];
};

enum bt_vhd_batmap_presence {
	BT_VHD_BATMAP_NONE,
	BT_VHD_BATMAP_MAYBE, /* look for the cookie */
	BT_VHD_BATMAP_EXPECTED,
};

/* What the footer's creator makes one expect. */
enum bt_vhd_batmap_presence bt_vhd_batmap_presence(
	const struct bt_vhd_footer *f);

/* Where the batmap header is: after the BAT, padded to a sector. */
uint64_t bt_vhd_batmap_header_offset(const struct bt_vhd_header *h);

/* Sectors of the map of a BAT of that many entries. */
uint32_t bt_vhd_batmap_sectors(uint32_t entries);

/* Reads 512 bytes; the cookie is checked here. */
int bt_vhd_batmap_decode(const void *buf, size_t len, struct bt_vhd_batmap *b,
			 struct bt_fault *fault);
void bt_vhd_batmap_encode(const struct bt_vhd_batmap *b, void *buf);

/* Whether the map is of a version we know, has a bit for each entry of h and
 * lies behind its header inside a file of file_size bytes. */
int bt_vhd_batmap_check(const struct bt_vhd_batmap *b,
			const struct bt_vhd_header *h, uint64_t file_size,
			struct bt_fault *fault);

/* Whether the map read (len = size_sec sectors) has the header's checksum. */
int bt_vhd_batmap_check_map(const struct bt_vhd_batmap *b, const void *map,
			    size_t len, struct bt_fault *fault);

/* A new batmap, all bits zero, for a BAT of that many entries. */
void bt_vhd_batmap_init(struct bt_vhd_batmap *b, uint64_t offset,
			uint32_t entries);

#endif
