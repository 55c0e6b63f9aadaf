/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers narrower than a byte are packed from the low bits up; wider ones are
 * big-endian.
 *
 * order is log2 of the bits of a count, 0 to 6 (refcount_order of the header; 4
 * in version 2), and checked by validate, so no shift here is too far. A block
 * is one cluster of counts. */
#include "libqcow/refcount.h"

#include <errno.h>

#include "util/bytes.h"
#include "util/checked.h"

#define RESERVED UINT64_C(0x1ff)

uint64_t bt_qcow_refcount_max(uint32_t order)
{
	return order == 6 ? UINT64_MAX
			  : (UINT64_C(1) << (UINT32_C(1) << order)) - 1;
}

/* 8 >> order numbers share a byte; index is split into byte and bit. */
static uint64_t get_packed(const uint8_t *block, uint32_t order, uint32_t index)
{
	uint32_t bit = (index & ((8u >> order) - 1)) << order;

	return (block[index >> (3 - order)] >> bit) &
	       bt_qcow_refcount_max(order);
}

/* Only the count's own bits change: its neighbours in the byte are other
 * clusters'. */
static void set_packed(uint8_t *block, uint32_t order, uint32_t index,
		       uint64_t value)
{
	uint32_t bit = (index & ((8u >> order) - 1)) << order;
	uint8_t *byte = &block[index >> (3 - order)];
	uint8_t mask = (uint8_t)(bt_qcow_refcount_max(order) << bit);

	*byte = (uint8_t)((*byte & ~mask) | (value << bit));
}

/* index is within the block: the caller has it from bt_qcow_refcount_locate. */
uint64_t bt_qcow_refcount_get(const void *block, uint32_t order, uint32_t index)
{
	const uint8_t *p = block;

	switch (order) {
	case 3:
		return p[index];
	case 4:
		return bt_load_be16(p + (size_t)index * 2);
	case 5:
		return bt_load_be32(p + (size_t)index * 4);
	case 6:
		return bt_load_be64(p + (size_t)index * 8);
	default:
		return get_packed(p, order, index);
	}
}

/* A value that does not fit is refused and not cut, since a count that is too
 * low gives a cluster out twice. */
int bt_qcow_refcount_set(void *block, uint32_t order, uint32_t index,
			 uint64_t value)
{
	uint8_t *p = block;

	if (value > bt_qcow_refcount_max(order))
		return -ERANGE;
	switch (order) {
	case 3:
		p[index] = (uint8_t)value;
		break;
	case 4:
		bt_store_be16(p + (size_t)index * 2, (uint16_t)value);
		break;
	case 5:
		bt_store_be32(p + (size_t)index * 4, (uint32_t)value);
		break;
	case 6:
		bt_store_be64(p + (size_t)index * 8, value);
		break;
	default:
		set_packed(p, order, index, value);
		break;
	}
	return 0;
}

/* Bits 0 to 8 are reserved (docs/interop/qcow2.txt); the block is read whole,
 * so all of it must be in the file. */
int bt_qcow_reftable_decode(const struct bt_qcow_geometry *geo, uint64_t entry,
			    uint64_t file_bytes, uint64_t *offset,
			    struct bt_fault *fault)
{
	const char *reason = NULL;

	*offset = entry;
	if (!entry)
		return 0;
	if (entry & RESERVED)
		reason = "reserved bits are set";
	else if (entry & (geo->cluster_bytes - 1))
		reason = "not aligned";
	else if (!bt_range_within(entry, geo->cluster_bytes, file_bytes))
		reason = "past the end of the file";
	else if (bt_qcow_region_hit(geo, entry, geo->cluster_bytes))
		reason = "points into the header or a fixed table";
	if (!reason)
		return 0;
	return bt_fault_set(fault, -EIO, "refcount table entry", entry, reason,
			    "repair it with qemu-img check -r all");
}

/* n / 2^bits, rounded up, without the sum that could wrap. */
static uint64_t div_up(uint64_t n, uint32_t bits)
{
	return (n >> bits) + ((n & ((UINT64_C(1) << bits) - 1)) != 0);
}

/* The blocks count themselves and the table, so the numbers feed each other.
 * They only grow, and each round adds less than the one before. The limit
 * bounds the loop, also for a number of clusters that no file has. */
bool bt_qcow_refcount_size(uint32_t cluster_bits, uint32_t order,
			   uint64_t clusters, struct bt_qcow_refsize *out)
{
	uint32_t block_bits = cluster_bits + 3 - order;
	uint64_t limit = BT_QCOW_REFTABLE_BYTES_MAX / 8;
	uint64_t before;

	out->blocks = 1;
	out->table_clusters = 1;
	do {
		before = out->clusters =
			clusters + out->blocks + out->table_clusters;
		out->blocks = div_up(out->clusters, block_bits);
		if (out->blocks > limit)
			return false;
		out->table_clusters = div_up(out->blocks * 8, cluster_bits);
	} while (clusters + out->blocks + out->table_clusters != before);
	return true;
}

/* Twice the table, which makes growing rare; the new clusters decide how many
 * blocks they need, and these are among them. first is the span in which the
 * file ends: it has no block yet, or the table would reach there. Where double
 * is beyond the limit the table gets as long as may be. */
bool bt_qcow_growth_plan(const struct bt_qcow_geometry *geo, uint64_t file_end,
			 struct bt_qcow_growth *out)
{
	uint64_t cluster = file_end >> geo->cluster_bits;
	uint64_t limit = BT_QCOW_REFTABLE_BYTES_MAX / 8;
	uint64_t entries, last, before;

	out->offset = file_end;
	out->first = cluster >> geo->refblock_bits;
	out->blocks = 1;
	out->table_clusters = 1;
	do {
		before = out->blocks + out->table_clusters;
		last = (cluster + before - 1) >> geo->refblock_bits;
		entries = bt_max_u64(last + 1,
				     (uint64_t)geo->reftable_entries * 2);
		if (last >= limit)
			return false;
		entries = bt_min_u64(entries, limit);
		out->blocks = last - out->first + 1;
		out->table_clusters = div_up(entries * 8, geo->cluster_bits);
	} while (out->blocks + out->table_clusters != before);
	return out->table_clusters << geo->cluster_bits <=
	       bt_max_u64(BT_QCOW_REFTABLE_BYTES_MAX, geo->cluster_bytes);
}

/* The new blocks begin with the span that has the first new cluster, so block -
 * first is never negative, and each new cluster has its block among them. */
void bt_qcow_growth_fill(const struct bt_qcow_geometry *geo,
			 const struct bt_qcow_growth *growth, void *area)
{
	uint64_t cluster = growth->offset >> geo->cluster_bits;
	uint64_t n = growth->blocks + growth->table_clusters, i;
	uint8_t *table =
		(uint8_t *)area + (growth->blocks << geo->cluster_bits);

	for (i = 0; i < growth->blocks; i++)
		bt_store_be64(table + (growth->first + i) * 8,
			      growth->offset + (i << geo->cluster_bits));
	for (i = cluster; i < cluster + n; i++) {
		uint64_t block = (i >> geo->refblock_bits) - growth->first;

		bt_qcow_refcount_set(
			(uint8_t *)area + (block << geo->cluster_bits),
			geo->refcount_order,
			(uint32_t)i & ((UINT32_C(1) << geo->refblock_bits) - 1),
			1);
	}
}
