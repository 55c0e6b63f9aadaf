/* SPDX-License-Identifier: BSD-3-Clause */
/* The structures of a VHD in host form. All numbers on disk are big endian.
 *
 *   fixed                 dynamic, differencing
 *   0      guest data     0      footer copy
 *   size   footer         512    header
 *                         1536   BAT, padded to 512
 *                         ..     batmap header, batmap (older blktap and we)
 *                         ..     parent locators (differencing)
 *                         ..     blocks: bitmap, data; in order of allocation
 *                         end    footer
 *
 * Only the two footers have a fixed place; everything else is where the footer
 * and header say. Decoders keep reserved bytes and unknown flags, so that an
 * image of another maker is written back as it was. */
#ifndef BT_VHD_VHD_H
#define BT_VHD_VHD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/fault.h"

#define BT_VHD_SECTOR 512u
#define BT_VHD_SECTOR_SHIFT 9
#define BT_VHD_FOOTER_SIZE 512u
#define BT_VHD_FOOTER_LEGACY_SIZE 511u
#define BT_VHD_HEADER_SIZE 1024u
#define BT_VHD_BATMAP_HEADER_SIZE 512u
#define BT_VHD_LOCATORS 8u
#define BT_VHD_UUID_SIZE 16u

/* What others read as the largest disk: Hyper-V and QEMU stop here too. */
#define BT_VHD_SIZE_MAX (UINT64_C(0xff000000) * BT_VHD_SECTOR)

#define BT_VHD_BLOCK_SIZE (UINT32_C(2) << 20) /* what everyone writes */
#define BT_VHD_BLOCK_MIN 512u
#define BT_VHD_BLOCK_MAX (UINT32_C(2) << 20)

/* 2 TiB in blocks of 512 KiB; bounds what a header can make us allocate. */
#define BT_VHD_BAT_ENTRIES_MAX (UINT32_C(1) << 22)
#define BT_VHD_BAT_UNUSED UINT32_C(0xffffffff)

#define BT_VHD_NO_OFFSET UINT64_MAX

#define BT_VHD_VERSION(major, minor) (((uint32_t)(major) << 16) | (minor))

enum bt_vhd_type {
	BT_VHD_FIXED = 2,
	BT_VHD_DYNAMIC = 3,
	BT_VHD_DIFFERENCING = 4,
};

enum {
	BT_VHD_FEATURE_TEMPORARY = 1,
	BT_VHD_FEATURE_RESERVED = 2, /* always set by all makers */
};

struct bt_vhd_geometry {
	uint16_t cylinders;
	uint8_t heads;
	uint8_t sectors; /* a track */
};

struct bt_vhd_footer {
	bool poisoned; /* its cookie says that a resize is under way */
	uint32_t features;
	uint32_t version;
	uint64_t data_offset; /* of the header; NO_OFFSET for a fixed disk */
	uint32_t timestamp; /* seconds since 2000-01-01 UTC */
	uint8_t creator_app[4];
	uint32_t creator_version;
	uint32_t creator_os;
	uint64_t original_size;
	uint64_t current_size;
	struct bt_vhd_geometry geometry;
	uint32_t type; /* enum bt_vhd_type once checked */
	uint8_t uuid[BT_VHD_UUID_SIZE];
	uint8_t saved_state;
	uint8_t hidden;
	uint8_t reserved[426];
};

enum bt_vhd_locator_code {
	BT_VHD_LOC_NONE = 0,
	BT_VHD_LOC_W2RU = 0x57327275, /* relative Windows path, UTF-16LE */
	BT_VHD_LOC_W2KU = 0x57326b75, /* absolute Windows path, UTF-16LE */
	BT_VHD_LOC_MACX = 0x4d616358, /* file URL */
};

struct bt_vhd_locator {
	uint32_t code;
	uint32_t data_space; /* as stored: sectors or bytes, see header.h */
	uint32_t data_len; /* bytes */
	uint32_t reserved;
	uint64_t data_offset;
};

struct bt_vhd_header {
	uint64_t data_offset; /* unused by all makers: NO_OFFSET */
	uint64_t table_offset;
	uint32_t version;
	uint32_t max_table_entries;
	uint32_t block_size;
	uint8_t parent_uuid[BT_VHD_UUID_SIZE]; /* nil: the parent is raw */
	uint32_t parent_timestamp;
	uint32_t reserved1;
	uint8_t parent_name[512]; /* UTF-16BE, padded with zeroes */
	struct bt_vhd_locator locator[BT_VHD_LOCATORS];
	uint8_t reserved2[256];
};

static inline bool bt_vhd_type_has_blocks(uint32_t type)
{
	return type == BT_VHD_DYNAMIC || type == BT_VHD_DIFFERENCING;
}

/* Ones' complement of the sum of all bytes; the checksum's own four bytes at
 * skip count as zero. skip >= len: nothing is left out. */
uint32_t bt_vhd_checksum(const void *buf, size_t len, size_t skip);

/* Seconds since 2000-01-01 UTC, held at the ends of what 32 bits can say. */
uint32_t bt_vhd_time_from_unix(int64_t unix_time);
int64_t bt_vhd_time_to_unix(uint32_t timestamp);

#endif
