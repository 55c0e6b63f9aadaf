/* SPDX-License-Identifier: BSD-3-Clause */
/* Refcounts of versions 2 and 3: a table of offsets of blocks, each a cluster
 * of numbers that are 1 << order bits wide, one for each cluster of the
 * file. */
#ifndef BT_LIBQCOW_REFCOUNT_H
#define BT_LIBQCOW_REFCOUNT_H

#include "libqcow/geometry.h"

struct bt_qcow_refplace {
	uint64_t table_index; /* may be past the table: it has to grow */
	uint32_t block_index;
};

static inline struct bt_qcow_refplace bt_qcow_refcount_locate(
	const struct bt_qcow_geometry *geo, uint64_t offset)
{
	uint64_t cluster = offset >> geo->cluster_bits;
	struct bt_qcow_refplace at = {
		.table_index = cluster >> geo->refblock_bits,
		.block_index = (uint32_t)cluster &
			       ((UINT32_C(1) << geo->refblock_bits) - 1),
	};

	return at;
}

/* The largest number an image of this order can hold. */
uint64_t bt_qcow_refcount_max(uint32_t order);

/* index counts from the block's beginning and lies in it: the caller has seen to that.
 * order is 0 to 6, a number of 2^order bits. */
uint64_t bt_qcow_refcount_get(const void *block, uint32_t order,
			      uint32_t index);

/* -ERANGE where value is over bt_qcow_refcount_max: the block is unchanged. */
int bt_qcow_refcount_set(void *block, uint32_t order, uint32_t index,
			 uint64_t value);

/* An entry of the refcount table. *offset is 0 where there is no block: all
 * of its clusters are free. */
int bt_qcow_reftable_decode(const struct bt_qcow_geometry *geo, uint64_t entry,
			    uint64_t file_bytes, uint64_t *offset,
			    struct bt_fault *fault);

/* How many blocks and table clusters count a file of `clusters` clusters that
 * does not yet include them, and the clusters with them. False where the
 * table would be over its limit. */
struct bt_qcow_refsize {
	uint64_t blocks;
	uint64_t table_clusters;
	uint64_t clusters;
};

bool bt_qcow_refcount_size(uint32_t cluster_bits, uint32_t order,
			   uint64_t clusters, struct bt_qcow_refsize *out);

/* A larger table for a file whose end the present one does not reach: new
 * clusters there hold blocks that count all of them, and then the table. */
struct bt_qcow_growth {
	uint64_t offset; /* in the file, a multiple of clusters */
	uint64_t first; /* the entry of the first new block */
	uint64_t blocks;
	uint64_t table_clusters;
};

/* False where the table would be over its limit. */
bool bt_qcow_growth_plan(const struct bt_qcow_geometry *geo, uint64_t file_end,
			 struct bt_qcow_growth *out);

static inline uint64_t bt_qcow_growth_bytes(const struct bt_qcow_geometry *geo,
					    const struct bt_qcow_growth *growth)
{
	return (growth->blocks + growth->table_clusters) << geo->cluster_bits;
}

/* area: as many bytes, zeroes but for the present table, which is where the new
 * one begins. */
void bt_qcow_growth_fill(const struct bt_qcow_geometry *geo,
			 const struct bt_qcow_growth *growth, void *area);

#endif
