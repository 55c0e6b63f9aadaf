/* SPDX-License-Identifier: BSD-3-Clause */
/* What follows from a validated header: sizes, shifts, masks, and the places
 * no table entry may point at. A few hundred bytes, no pointers: a driver
 * keeps one beside its image and passes it to every call of this codec. */
#ifndef BT_LIBQCOW_GEOMETRY_H
#define BT_LIBQCOW_GEOMETRY_H

#include "libqcow/header.h"

/* A part of the file that holds fixed metadata. */
struct bt_qcow_region {
	const char *name;
	uint64_t offset;
	uint64_t bytes;
};

#define BT_QCOW_REGIONS 4

struct bt_qcow_geometry {
	uint32_t version;
	uint32_t cluster_bits;
	uint32_t l2_bits;
	uint32_t refcount_order;
	uint32_t cluster_bytes;
	uint32_t l2_entries;
	uint32_t l2_bytes; /* version 1: may be more or less than a cluster */
	uint32_t l1_entries; /* in the table; at least what size needs */
	uint64_t size;
	uint64_t l1_offset;
	uint64_t l1_span; /* guest bytes below one L1 entry */
	uint64_t entry_align; /* what tables and data must be aligned to */
	uint64_t offset_max; /* what an entry can express, rounded down */

	/* A compressed descriptor is {flags, sectors or bytes, offset}. */
	uint32_t csize_shift;
	uint64_t csize_mask;
	uint64_t coffset_mask;
	uint8_t compression;
	bool encrypted;

	/* version 2 and 3 */
	uint64_t reftable_offset;
	uint32_t reftable_entries;
	uint32_t refblock_bits; /* log2 of the entries in a refcount block */

	uint32_t regions;
	struct bt_qcow_region region[BT_QCOW_REGIONS];
};

/* h must have passed bt_qcow_header_validate. */
void bt_qcow_geometry_init(struct bt_qcow_geometry *geo,
			   const struct bt_qcow_header *h);

/* Versions 2 and 3: the refcount table has moved. */
void bt_qcow_geometry_set_reftable(struct bt_qcow_geometry *geo,
				   uint64_t offset, uint32_t clusters);

/* The fixed metadata that [offset, offset + bytes) touches; NULL for none. */
const struct bt_qcow_region *bt_qcow_region_hit(
	const struct bt_qcow_geometry *geo, uint64_t offset, uint64_t bytes);

/* Where a guest offset is looked up. */
struct bt_qcow_place {
	uint32_t l1_index;
	uint32_t l2_index;
	uint32_t in_cluster;
};

/* offset must be below geo->size. */
static inline struct bt_qcow_place bt_qcow_locate(
	const struct bt_qcow_geometry *geo, uint64_t offset)
{
	struct bt_qcow_place at = {
		.l1_index = (uint32_t)(offset >>
				       (geo->cluster_bits + geo->l2_bits)),
		.l2_index = (uint32_t)(offset >> geo->cluster_bits) &
			    (geo->l2_entries - 1),
		.in_cluster = (uint32_t)offset & (geo->cluster_bytes - 1),
	};

	return at;
}

/* The first guest byte that an entry maps. */
static inline uint64_t bt_qcow_guest_offset(const struct bt_qcow_geometry *geo,
					    uint32_t l1_index,
					    uint32_t l2_index)
{
	return ((uint64_t)l1_index << (geo->cluster_bits + geo->l2_bits)) |
	       ((uint64_t)l2_index << geo->cluster_bits);
}

/* The longest file whose clusters all have a place in the refcount table, were
 * the table grown to its limit; also what an entry can express. */
uint64_t bt_qcow_file_max(const struct bt_qcow_geometry *geo);

/* The most memory that the tables which must be resident take: L1 and refcount
 * table. */
uint64_t bt_qcow_resident_bytes(const struct bt_qcow_geometry *geo);

#endif
