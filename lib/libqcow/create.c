/* SPDX-License-Identifier: BSD-3-Clause */
/* Version 1, QEMU:  header, record, name, L1 table on the next multiple of 8, with
 *                   a name of 512.
 * Version 1, Xen:   header, extension, record, name, L1 table on the next 4 KiB;
 *                   and where reserved, an L2 table and its extent for each entry.
 * Versions 2, 3:    header cluster, refcount table, refcount blocks, L1 table,
 *                   each cluster of them counted once.
 *
 * Every initial table is an arithmetic series, so any part of the file can be
 * computed from the plan alone, in any order. What follows from a request is
 * decided in plan and encoded once in head; fill and next only look. */
#include "libqcow/create.h"

#include <errno.h>
#include <string.h>

#include "libqcow/crypt.h"
#include "libqcow/extension.h"
#include "util/bytes.h"
#include "util/checked.h"

/* align is a power of two, and v far from the end of 64 bits (check_request,
 * plan). */
static uint64_t align_up(uint64_t v, uint64_t align)
{
	return bt_align_down(v + align - 1, align);
}

/* What can be told of the request alone. Whether it makes a sound header is for
 * validate, which the plan ends with. */
static int check_request(const struct bt_qcow_create *c, struct bt_fault *fault)
{
	if (c->version < 1 || c->version > 3)
		return bt_fault_set(fault, -ENOTSUP, "version", c->version,
				    "only versions 1, 2 and 3 are known", NULL);
	if (c->backing &&
	    (!*c->backing || strlen(c->backing) > BT_QCOW_NAME_MAX))
		return bt_fault_set(fault, -ENAMETOOLONG, "backing file name",
				    strlen(c->backing),
				    "must have 1 to 1023 bytes",
				    "use a path relative to the new image");
	if (c->backing_format && !c->backing)
		return bt_fault_set(fault, -EINVAL, "backing format",
				    c->version, "there is no backing file",
				    "leave it out");
	if (c->backing_format &&
	    strlen(c->backing_format) > (c->version == 1
						 ? BT_QCOW_RECORD_NAME_MAX
						 : BT_QCOW_FORMAT_MAX))
		return bt_fault_set(fault, -EINVAL, "backing format",
				    strlen(c->backing_format),
				    "not the name of a format", NULL);
	if (c->version < 3 &&
	    (c->lazy_refcounts || c->compression != BT_QCOW_ZLIB ||
	     (c->refcount_bits && c->refcount_bits != 16)))
		return bt_fault_set(fault, -EINVAL, "version", c->version,
				    "has no such feature",
				    "make a version 3 image");
	if (c->refcount_bits &&
	    (!bt_is_pow2(c->refcount_bits) || c->refcount_bits > 64))
		return bt_fault_set(fault, -EINVAL, "refcount_bits",
				    c->refcount_bits,
				    "must be a power of two, 1 to 64", NULL);
	if (c->reserve && (!c->xen || c->backing))
		return bt_fault_set(fault, -EINVAL, "reserve", 1,
				    c->backing ? "would hide the backing file"
					       : "only Xen's layout has it",
				    "leave it out");
	if (c->xen && c->version != 1)
		return bt_fault_set(fault, -EINVAL, "version", c->version,
				    "Xen's layout is of version 1", NULL);
	return 0;
}

/* Sizes that the old writers chose are kept: their readers have only ever
 * met those. */
static void start_header(const struct bt_qcow_create *c,
			 struct bt_qcow_header *h)
{
	h->version = c->version;
	h->size = c->size;
	h->mtime = c->version == 1 ? c->backing_mtime : 0;
	h->cluster_bits = c->cluster_bits;
	/* A child in version 1 copies 512 bytes a write, not 4 KiB. */
	if (!h->cluster_bits)
		h->cluster_bits = c->version > 1 ? 16 : c->backing ? 9 : 12;
	h->l2_bits = h->cluster_bits - 3;
	if (c->version == 1)
		h->l2_bits = c->backing ? 12 : 9;
	h->backing_bytes = c->backing ? (uint32_t)strlen(c->backing) : 0;
}

/* The name goes behind all else of the head. In versions 2 and 3 it must be in
 * the first cluster. */
static int append_name(const struct bt_qcow_create *c, struct bt_qcow_layout *l,
		       size_t cap, size_t at, struct bt_fault *fault)
{
	size_t len = l->header.backing_bytes;

	if (c->backing) {
		if (!bt_range_within(at, len, cap))
			return bt_fault_set(fault, -ENAMETOOLONG,
					    "backing file name", len,
					    "does not fit in the first "
					    "cluster",
					    "use larger clusters");
		l->header.backing_offset = at;
		memcpy(l->head + at, c->backing, len);
	}
	l->head_bytes = (uint32_t)(at + len);
	return 0;
}

/* Each L2 table is followed by the extent it maps, where programs with the
 * shortcut of min_cluster_alloc look for it without reading the table. */
static void place_reserved(struct bt_qcow_layout *l)
{
	const struct bt_qcow_header *h = &l->header;
	uint64_t l2_bytes = UINT64_C(8) << h->l2_bits;
	uint64_t extent = UINT64_C(1) << (h->l2_bits + h->cluster_bits);

	l->l2_first = l->file_bytes;
	l->l2_stride =
		align_up(l2_bytes, UINT64_C(1) << h->cluster_bits) + extent;
	l->file_bytes += h->l1_entries * l->l2_stride;
}

/* Without the digest there is no way to make an extension that old programs
 * believe; the image is as good without one, they then treat it as QEMU's. */
static int sum_l1(struct bt_qcow_layout *l)
{
	uint64_t bytes = l->header.l1_entries * 8;
	struct bt_qcow_l1_sum *sum;
	uint8_t buf[512];
	int rc;

	rc = bt_qcow_l1_sum_create(&sum);
	if (rc)
		return rc;
	for (uint64_t at = 0; at < bytes && !rc; at += sizeof(buf)) {
		bt_qcow_layout_fill(l, l->header.l1_offset + at, buf,
				    sizeof(buf));
		rc = bt_qcow_l1_sum_add(sum, buf,
					bt_min_u64(sizeof(buf), bytes - at));
	}
	l->header.xen.cksum = bt_qcow_l1_sum_finish(sum);
	return rc;
}

/* The L1 table follows the name. Xen's begins at a multiple of 4 KiB, which is
 * how its readers tell the extension from a table that begins at 48. */
static int plan_v1(const struct bt_qcow_create *c, struct bt_qcow_layout *l,
		   struct bt_fault *fault)
{
	struct bt_qcow_header *h = &l->header;
	size_t at = BT_QCOW_V1_BYTES + (c->xen ? BT_QCOW_XEN_BYTES : 0);
	uint32_t bits = h->cluster_bits + h->l2_bits;
	int rc;

	if (c->backing_format) {
		bt_qcow_record_put(l->head + at, c->backing_format);
		at += BT_QCOW_RECORD_BYTES;
	}
	rc = append_name(c, l, sizeof(l->head), at, fault);
	if (rc)
		return rc;
	h->l1_entries = (h->size >> bits) +
			((h->size & ((UINT64_C(1) << bits) - 1)) != 0);
	/* room for the name of another backing file */
	h->l1_offset = align_up(l->head_bytes, c->xen	    ? 4096
					       : c->backing ? 512
							    : 8);
	l->file_bytes =
		align_up(h->l1_offset + h->l1_entries * 8, c->xen ? 4096 : 512);
	if (!c->xen)
		return 0;
	if (c->reserve)
		place_reserved(l);
	h->xen.flags = BT_QCOW_XEN_L1_BIG_ENDIAN |
		       (c->reserve ? 0 : BT_QCOW_XEN_SPARSE);
	h->xen.min_cluster_alloc = c->backing ? 1 : UINT32_C(1) << h->l2_bits;
	rc = sum_l1(l);
	h->has_xen = !rc;
	return rc == -ENOMEM ? bt_fault_set(fault, rc, "cksum", 0,
					    "out of memory", NULL)
			     : 0;
}

/* Extensions in the order: backing format, names of features, end; then the
 * name. */
static int build_head_v2(const struct bt_qcow_create *c,
			 struct bt_qcow_layout *l, struct bt_fault *fault)
{
	struct bt_qcow_header *h = &l->header;
	size_t cap =
		bt_min_u64(sizeof(l->head), UINT64_C(1) << h->cluster_bits);
	size_t at = h->header_bytes, marked;
	int rc = 0;

	if (c->backing_format)
		rc = bt_qcow_ext_put(
			l->head, cap, &at, BT_QCOW_EXT_BACKING_FORMAT,
			c->backing_format, (uint32_t)strlen(c->backing_format));
	/* The names are a courtesy: they go where the rest leaves room. */
	marked = at;
	if (!rc && h->version == 3 &&
	    !bt_qcow_ext_put_features(l->head, cap, &marked) &&
	    bt_range_within(marked, 8 + h->backing_bytes, cap))
		at = marked;
	else
		memset(l->head + at, 0, cap - at);
	if (!rc)
		rc = bt_qcow_ext_put(l->head, cap, &at, BT_QCOW_EXT_END, NULL,
				     0);
	if (rc)
		return bt_fault_set(fault, rc, "header extensions", at,
				    "do not fit in the first cluster",
				    "use larger clusters");
	return append_name(c, l, cap, at, fault);
}

/* The file ends with the L1 table; the first write goes behind it. One count
 * for each cluster of the file, so blocks and table are sized together
 * (bt_qcow_refcount_size). */
static int plan_v2(const struct bt_qcow_create *c, struct bt_qcow_layout *l,
		   struct bt_fault *fault)
{
	struct bt_qcow_header *h = &l->header;
	uint32_t bits = h->cluster_bits + h->l2_bits;
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;
	uint64_t l1_clusters;

	h->refcount_order = c->refcount_bits
				    ? (uint32_t)__builtin_ctz(c->refcount_bits)
				    : 4;
	h->header_bytes =
		h->version == 3 ? BT_QCOW_V3_FULL_BYTES : BT_QCOW_V2_BYTES;
	h->compression = c->compression;
	if (c->compression != BT_QCOW_ZLIB)
		h->incompatible |= BT_QCOW_INCOMPAT_COMPRESSION;
	if (c->lazy_refcounts)
		h->compatible |= BT_QCOW_COMPAT_LAZY_REFCOUNTS;
	/* One entry even for an empty disk: readers expect a table. */
	h->l1_entries = bt_max_u64(
		1, (h->size >> bits) +
			   ((h->size & ((UINT64_C(1) << bits) - 1)) != 0));
	l1_clusters = align_up(h->l1_entries * 8, cluster) >> h->cluster_bits;
	if (!bt_qcow_refcount_size(h->cluster_bits, h->refcount_order,
				   1 + l1_clusters, &l->ref))
		return bt_fault_set(fault, -EFBIG, "size", h->size,
				    "needs a refcount table over 8 MiB",
				    "use larger clusters");
	h->refcount_offset = cluster;
	h->refcount_clusters = (uint32_t)l->ref.table_clusters;
	h->l1_offset = cluster * (1 + l->ref.table_clusters + l->ref.blocks);
	l->file_bytes = l->ref.clusters << h->cluster_bits;
	return build_head_v2(c, l, fault);
}

/* The checks before validate are those that shifts and sums of the plan
 * need. */
int bt_qcow_layout_plan(const struct bt_qcow_create *create,
			struct bt_qcow_layout *layout, struct bt_fault *fault)
{
	struct bt_qcow_header *h = &layout->header;
	uint32_t bits;
	int rc;

	memset(layout, 0, sizeof(*layout));
	rc = check_request(create, fault);
	if (rc)
		return rc;
	start_header(create, h);
	/* Before any shift: validate below sees the rest. */
	if (h->cluster_bits < 9 || h->cluster_bits > 21)
		return bt_fault_set(fault, -EINVAL, "cluster_bits",
				    h->cluster_bits, "must be 9 to 21",
				    "clusters are 512 bytes to 2 MiB");
	bits = h->cluster_bits + h->l2_bits;
	if (h->size > INT64_MAX || h->size >> bits >= BT_QCOW_L1_BYTES_MAX / 8)
		return bt_fault_set(fault, -EFBIG, "size", h->size,
				    "needs an L1 table over 32 MiB",
				    "use qcow2 with larger clusters");
	rc = create->version == 1 ? plan_v1(create, layout, fault)
				  : plan_v2(create, layout, fault);
	if (rc)
		return rc;
	/* What we make must pass what we demand of others. */
	rc = bt_qcow_header_validate(h, layout->file_bytes, BT_QCOW_FOR_WRITE,
				     fault);
	if (rc)
		return rc;
	bt_qcow_geometry_init(&layout->geo, h);
	rc = bt_qcow_header_encode(h, layout->head, sizeof(layout->head));
	if (rc < 0)
		return bt_fault_set(fault, rc, "header_length", h->header_bytes,
				    "too long", NULL);
	layout->head_bytes =
		(uint32_t)bt_max_u64(layout->head_bytes, (uint64_t)rc);
	return 0;
}

/* Where [at, at + len) of the file meets an array of 8-byte entries that
 * starts at base: the first entry and the one past the last. */
static bool entries_in(uint64_t at, size_t len, uint64_t base, uint64_t count,
		       uint64_t *first, uint64_t *end)
{
	if (at + len <= base || at >= base + count * 8)
		return false;
	*first = at > base ? (at - base) / 8 : 0;
	*end = bt_min_u64(count, (at + len - base + 7) / 8);
	return true;
}

/* Version 1 puts its table on a multiple of 8 that is none of 512's, so an
 * entry may lie partly outside of the piece asked for. */
static void store_entry(uint8_t *buf, uint64_t offset, size_t len, uint64_t pos,
			uint64_t value)
{
	uint8_t bytes[8];

	bt_store_be64(bytes, value);
	for (unsigned int i = 0; i < 8; i++)
		if (pos + i >= offset && pos + i < offset + len)
			buf[pos + i - offset] = bytes[i];
}

/* An arithmetic series of entries, which every initial table is. */
static void fill_series(uint8_t *buf, uint64_t offset, size_t len,
			uint64_t base, uint64_t count, uint64_t value,
			uint64_t step)
{
	uint64_t first, end;

	if (!entries_in(offset, len, base, count, &first, &end))
		return;
	for (uint64_t i = first; i < end; i++)
		store_entry(buf, offset, len, base + i * 8, value + i * step);
}

/* Counts each cluster of the image once; the blocks lie one behind the other,
 * so cluster n's number is the n-th of them all. Counts of a byte and more are
 * big-endian, so a 1 is in the last byte; narrower ones are packed from the low
 * bits up. */
static void fill_refcounts(const struct bt_qcow_layout *l, uint8_t *buf,
			   uint64_t offset, size_t len)
{
	uint32_t order = l->header.refcount_order;
	uint64_t base = l->header.refcount_offset +
			(l->ref.table_clusters << l->header.cluster_bits);
	uint64_t bytes = l->ref.blocks << l->header.cluster_bits;
	uint64_t skip, first, end;

	if (offset + len <= base || offset >= base + bytes)
		return;
	skip = offset > base ? offset - base : 0;
	first = (skip << 3) >> order;
	end = bt_min_u64(l->ref.clusters,
			 ((offset + len - base) << 3) >> order);
	for (uint64_t n = first; n < end; n++) {
		uint64_t low = ((n << order) >> 3) + base - offset;

		if (order < 3)
			buf[low] |= (uint8_t)(1u << ((n << order) & 7));
		else
			buf[low + (1u << (order - 3)) - 1] = 1;
	}
}

/* The L1 entry i is l2_first + i * l2_stride, and entry j of that table the
 * j-th cluster behind it. */
static void fill_reserved(const struct bt_qcow_layout *l, uint8_t *buf,
			  uint64_t offset, size_t len)
{
	const struct bt_qcow_header *h = &l->header;
	uint64_t entries = UINT64_C(1) << h->l2_bits;
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;
	uint64_t data = align_up(entries * 8, cluster);
	uint64_t i, table;

	fill_series(buf, offset, len, h->l1_offset, h->l1_entries, l->l2_first,
		    l->l2_stride);
	i = offset > l->l2_first ? (offset - l->l2_first) / l->l2_stride : 0;
	for (; i < h->l1_entries; i++) {
		table = l->l2_first + i * l->l2_stride;
		if (table >= offset + len)
			return;
		fill_series(buf, offset, len, table, entries, table + data,
			    cluster);
	}
}

/* Zeroes first: every part that is not named below is. */
void bt_qcow_layout_fill(const struct bt_qcow_layout *l, uint64_t offset,
			 void *buf, size_t len)
{
	const struct bt_qcow_header *h = &l->header;
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;

	memset(buf, 0, len);
	if (offset < l->head_bytes)
		memcpy(buf, l->head + offset,
		       bt_min_u64(len, l->head_bytes - offset));
	if (l->l2_stride)
		fill_reserved(l, buf, offset, len);
	if (h->version == 1)
		return;
	fill_series(buf, offset, len, h->refcount_offset, l->ref.blocks,
		    h->refcount_offset + l->ref.table_clusters * cluster,
		    cluster);
	fill_refcounts(l, buf, offset, len);
}

/* Head and tables of versions 2 and 3 lie in front in one piece; the L1 table
 * there is zeroes and is left to the hole. A reserved image has an L2 table for
 * each L1 entry as well. */
uint64_t bt_qcow_layout_next(const struct bt_qcow_layout *l, uint64_t from,
			     uint64_t *bytes)
{
	const struct bt_qcow_header *h = &l->header;
	uint64_t end = h->version == 1 ? h->l1_offset + h->l1_entries * 8
				       : h->l1_offset;
	uint64_t table_bytes = UINT64_C(8) << h->l2_bits, i, table;

	*bytes = 0;
	end = bt_min_u64(align_up(end, 512), l->file_bytes);
	if (from < end) {
		*bytes = end - from;
		return from;
	}
	if (!l->l2_stride)
		return l->file_bytes;
	i = from > l->l2_first ? (from - l->l2_first) / l->l2_stride : 0;
	table = l->l2_first + i * l->l2_stride;
	if (from >= table + table_bytes)
		table += l->l2_stride;
	if (table >= l->file_bytes)
		return l->file_bytes;
	from = bt_max_u64(from, table);
	*bytes = table + table_bytes - from;
	return from;
}
