/* SPDX-License-Identifier: BSD-3-Clause */
/* Derives sizes and masks once, so that a lookup is shifts and no branch.
 *
 * The regions are fixed for the life of an open image but for the refcount
 * table, which moves when it grows; they are few, so they are looked through
 * one by one. */
#include "libqcow/geometry.h"

#include <string.h>

#include "util/checked.h"

/* Bits 9 to 55 of an entry are an offset in versions 2 and 3. */
#define V2_OFFSET_BITS 56

/* An empty one is left out: of a name that is not there, or a table without
 * entries. */
static void add_region(struct bt_qcow_geometry *geo, const char *name,
		       uint64_t offset, uint64_t bytes)
{
	struct bt_qcow_region *r = &geo->region[geo->regions];

	if (!bytes)
		return;
	r->name = name;
	r->offset = offset;
	r->bytes = bytes;
	geo->regions++;
}

static const char reftable_name[] = "refcount table";

/* What is fixed here is the header, the table and the name; anything else an
 * entry may point at. A compressed entry has bit 63, then cluster_bits of size
 * in bytes, then the offset; so no offset has more than 63 - cluster_bits
 * bits. */
static void init_v1(struct bt_qcow_geometry *geo,
		    const struct bt_qcow_header *h)
{
	/* QEMU and Xen align to clusters, but the first Xen releases could end
	 * a file at any sector and went on from there. */
	geo->entry_align = 512;
	geo->csize_shift = 63 - geo->cluster_bits;
	geo->csize_mask = geo->cluster_bytes - 1;
	geo->coffset_mask = (UINT64_C(1) << geo->csize_shift) - 1;
	geo->offset_max = INT64_MAX - 511;
	add_region(geo, "header", 0,
		   BT_QCOW_V1_BYTES + (h->has_xen ? BT_QCOW_XEN_BYTES : 0));
	add_region(geo, "L1 table", h->l1_offset, h->l1_entries * 8);
	if (h->backing_offset)
		add_region(geo, "backing file name", h->backing_offset,
			   h->backing_bytes);
}

/* A compressed entry has the bits 63 and 62, then cluster_bits - 8 of sectors
 * less one, then the offset. Tables are whole clusters of their own, so the
 * region of the L1 table is rounded up to where the next thing can begin. */
static void init_v2(struct bt_qcow_geometry *geo,
		    const struct bt_qcow_header *h)
{
	uint64_t l1_bytes = bt_align_down(
		h->l1_entries * 8 + geo->cluster_bytes - 1, geo->cluster_bytes);

	geo->entry_align = geo->cluster_bytes;
	geo->csize_shift = 62 - (geo->cluster_bits - 8);
	geo->csize_mask = (UINT64_C(1) << (geo->cluster_bits - 8)) - 1;
	geo->coffset_mask = (UINT64_C(1) << geo->csize_shift) - 1;
	geo->offset_max = (UINT64_C(1) << V2_OFFSET_BITS) - geo->cluster_bytes;
	geo->refcount_order = h->refcount_order;
	geo->refblock_bits = geo->cluster_bits + 3 - geo->refcount_order;
	add_region(geo, "header", 0, geo->cluster_bytes);
	add_region(geo, "L1 table", h->l1_offset, l1_bytes);
	add_region(geo, reftable_name, h->refcount_offset, geo->cluster_bytes);
	bt_qcow_geometry_set_reftable(geo, h->refcount_offset,
				      h->refcount_clusters);
}

/* The region has been added with a length that is not 0, so it is there to be
 * changed. */
void bt_qcow_geometry_set_reftable(struct bt_qcow_geometry *geo,
				   uint64_t offset, uint32_t clusters)
{
	uint64_t bytes = (uint64_t)clusters << geo->cluster_bits;

	geo->reftable_offset = offset;
	geo->reftable_entries = (uint32_t)(bytes / 8);
	for (uint32_t i = 0; i < geo->regions; i++) {
		if (geo->region[i].name != reftable_name)
			continue;
		geo->region[i].offset = offset;
		geo->region[i].bytes = bytes;
	}
}

/* l1_entries is at most 2^22 and cluster_bits + l2_bits at most 39 in a header
 * that was validated, so nothing here is cut or shifted too far. */
void bt_qcow_geometry_init(struct bt_qcow_geometry *geo,
			   const struct bt_qcow_header *h)
{
	memset(geo, 0, sizeof(*geo));
	geo->version = h->version;
	geo->cluster_bits = h->cluster_bits;
	geo->l2_bits = h->l2_bits;
	geo->cluster_bytes = UINT32_C(1) << h->cluster_bits;
	geo->l2_entries = UINT32_C(1) << h->l2_bits;
	geo->l2_bytes = geo->l2_entries * 8;
	geo->l1_entries = (uint32_t)h->l1_entries;
	geo->size = h->size;
	geo->l1_offset = h->l1_offset;
	geo->l1_span = UINT64_C(1) << (h->cluster_bits + h->l2_bits);
	geo->compression = h->compression;
	geo->encrypted = h->crypt != BT_QCOW_CRYPT_NONE;
	if (h->version == 1)
		init_v1(geo, h);
	else
		init_v2(geo, h);
}

const struct bt_qcow_region *bt_qcow_region_hit(
	const struct bt_qcow_geometry *geo, uint64_t offset, uint64_t bytes)
{
	for (uint32_t i = 0; i < geo->regions; i++) {
		const struct bt_qcow_region *r = &geo->region[i];

		/* The subtractions cannot wrap where the comparison before
		 * them holds; offset + bytes could. */
		if (offset >= r->offset ? offset - r->offset < r->bytes
					: r->offset - offset < bytes)
			return r;
	}
	return NULL;
}

/* One refcount block counts 2^refblock_bits clusters. */
uint64_t bt_qcow_file_max(const struct bt_qcow_geometry *geo)
{
	uint64_t blocks = BT_QCOW_REFTABLE_BYTES_MAX / 8;
	uint32_t shift = geo->refblock_bits + geo->cluster_bits;
	uint64_t entry_max = geo->offset_max + geo->entry_align;

	if (geo->version == 1)
		return entry_max;
	return bt_min_u64(blocks << shift, entry_max);
}

uint64_t bt_qcow_resident_bytes(const struct bt_qcow_geometry *geo)
{
	return ((uint64_t)geo->l1_entries + geo->reftable_entries) * 8;
}
