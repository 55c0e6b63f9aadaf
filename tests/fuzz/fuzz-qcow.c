/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole small image: header, extensions, tables, streams and the check, all
 * taken from the input and used as a driver would. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "libqcow/check.h"
#include "libqcow/compress.h"
#include "libqcow/create.h"
#include "libqcow/crypt.h"
#include "libqcow/extension.h"
#include "util/bytes.h"
#include "util/checked.h"

#define WINDOW 64
/* Where a hostile header claims more, reading on shows nothing new. */
#define TABLES_MAX 64
#define CLUSTER_MAX 65536

struct input {
	const uint8_t *data;
	size_t size;
	struct bt_qcow_geometry geo;
	struct bt_qcow_inflater *inflater;
	uint8_t *cluster;
	uint64_t inflated;
};

/* The promise of every decode: what it lets through lies in the file, and not
 * in the fixed tables. */
static void must_be_inside(const struct input *in, uint64_t offset,
			   uint64_t bytes)
{
	if (!bt_range_within(offset, bytes, in->size) ||
	    bt_qcow_region_hit(&in->geo, offset, bytes))
		abort();
}

static void try_header(const uint8_t *data, size_t size,
		       const struct bt_qcow_header *h)
{
	char name[BT_QCOW_NAME_MAX + 1];
	char feature[BT_QCOW_FEATURE_NAME_MAX + 1];
	struct bt_qcow_ext_info info;
	uint8_t copy[BT_QCOW_HEADER_PROBE];
	struct bt_qcow_header again;

	if (!bt_qcow_backing_name(h, data, size, name, NULL) &&
	    strlen(name) != (h->backing_offset ? h->backing_bytes : 0))
		abort();
	if (!bt_qcow_ext_read(h, data, size, &info, NULL))
		bt_qcow_feature_name(&info, BT_QCOW_FEATURE_INCOMPATIBLE,
				     data[size - 1], feature);
	if (h->header_bytes > sizeof(copy))
		return;
	memset(copy, 0, sizeof(copy));
	if (bt_qcow_header_encode(h, copy, sizeof(copy)) < 0 ||
	    bt_qcow_header_decode(&again, copy, sizeof(copy), NULL) ||
	    again.size != h->size || again.l1_offset != h->l1_offset)
		abort();
}

static void try_l2(struct input *in, const uint8_t *table)
{
	struct bt_qcow_mapping m;

	for (uint32_t i = 0; i < in->geo.l2_entries; i++) {
		if (bt_qcow_l2_decode(&in->geo, bt_load_be64(table + i * 8),
				      in->size, &m, NULL) ||
		    !m.offset)
			continue;
		must_be_inside(in, m.offset,
			       m.kind == BT_QCOW_COMPRESSED ? m.bytes : 1);
		if (m.kind != BT_QCOW_COMPRESSED || in->inflated++ > 8 ||
		    in->geo.cluster_bytes > CLUSTER_MAX)
			continue;
		bt_qcow_inflate(in->inflater, in->data + m.offset, m.bytes,
				in->cluster, in->geo.cluster_bytes);
	}
}

static void try_tables(struct input *in, struct bt_qcow_check *c)
{
	const struct bt_qcow_geometry *geo = &in->geo;
	const uint8_t *table = in->data + geo->l1_offset;
	uint32_t n = (uint32_t)bt_min_u64(geo->l1_entries, TABLES_MAX);

	bt_qcow_check_l1(c, table, 0, n);
	for (uint32_t i = 0; i < n; i++) {
		struct bt_qcow_l1 l1;

		if (bt_qcow_l1_decode(geo, bt_load_be64(table + i * 8),
				      in->size, &l1, NULL) ||
		    !l1.offset)
			continue;
		must_be_inside(in, l1.offset, geo->l2_bytes);
		try_l2(in, in->data + l1.offset);
		bt_qcow_check_l2(c, in->data + l1.offset, i);
	}
	if (geo->version == 1)
		return;
	table = in->data + geo->reftable_offset;
	n = (uint32_t)bt_min_u64(geo->reftable_entries, TABLES_MAX);
	bt_qcow_check_reftable(c, table, 0, n);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at;

		if (bt_qcow_reftable_decode(geo, bt_load_be64(table + i * 8),
					    in->size, &at, NULL))
			continue;
		if (at)
			must_be_inside(in, at, geo->cluster_bytes);
		bt_qcow_check_refblock(c, i, at ? in->data + at : NULL);
	}
}

static void try_image(struct input *in)
{
	uint32_t counts[WINDOW];
	struct bt_qcow_check c;
	unsigned int windows = 0;

	if (bt_qcow_inflater_create(in->geo.compression, &in->inflater))
		return;
	in->cluster = malloc(CLUSTER_MAX);
	if (in->cluster) {
		bt_qcow_check_init(&c, &in->geo, in->size, counts, WINDOW, NULL,
				   NULL);
		do
			try_tables(in, &c);
		while (bt_qcow_check_next(&c) && ++windows < 4);
	}
	free(in->cluster);
	bt_qcow_inflater_destroy(in->inflater);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .size = size };
	struct bt_qcow_header h;

	if (bt_qcow_header_decode(&h, data, size, NULL) ||
	    bt_qcow_header_validate(&h, size, BT_QCOW_FOR_INFO, NULL))
		return 0;
	/* Tables of one image, not memory. */
	if (bt_qcow_header_span(&h) >
	    bt_max_u64(65536, UINT64_C(1) << h.cluster_bits))
		abort();
	try_header(data, size, &h);
	bt_qcow_geometry_init(&in.geo, &h);
	if (bt_qcow_resident_bytes(&in.geo) >
	    BT_QCOW_L1_BYTES_MAX + BT_QCOW_REFTABLE_BYTES_MAX)
		abort();
	try_image(&in);
	return 0;
}

/* Puts one L2 table, a cluster and a stream behind an empty image. */
static size_t furnish(const struct bt_qcow_layout *l, uint8_t *buf, size_t cap)
{
	const struct bt_qcow_geometry *geo = &l->geo;
	uint64_t cluster = geo->cluster_bytes;
	uint64_t table = bt_align_down(l->file_bytes + cluster - 1, cluster);
	uint64_t data =
		bt_align_down(table + geo->l2_bytes + cluster - 1, cluster);
	uint64_t end = data + 2 * cluster, entry;
	struct bt_qcow_deflater *deflater;
	size_t n = 0;

	if (end > cap)
		return 0;
	memset(buf, 0, end);
	bt_qcow_layout_fill(l, 0, buf, l->file_bytes);
	bt_store_be64(buf + geo->l1_offset,
		      bt_qcow_l1_encode(geo, table, true));
	bt_store_be64(buf + table, bt_qcow_l2_encode_data(geo, data, true));
	if (!bt_qcow_deflater_create(geo->compression, &deflater)) {
		bt_qcow_deflate(deflater, buf, cluster, buf + data + cluster,
				cluster, &n);
		bt_qcow_deflater_destroy(deflater);
	}
	if (n && !bt_qcow_l2_encode_compressed(geo, data + cluster, (uint32_t)n,
					       &entry))
		bt_store_be64(buf + table + 16, entry);
	if (!bt_qcow_l2_encode_zero(geo, 0, false, &entry))
		bt_store_be64(buf + table + 8, entry);
	return end;
}

size_t fuzz_seed(unsigned int n, uint8_t *buf, size_t cap)
{
	static const struct bt_qcow_create seeds[] = {
		{ .version = 1, .size = 1 << 20 },
		{ .version = 1, .size = 1 << 20, .backing = "base.img" },
		{ .version = 1, .size = 4 << 20, .xen = true },
		{ .version = 1, .size = 1 << 20, .xen = true, .backing = "b" },
		{ .version = 2, .size = 1 << 20, .cluster_bits = 9 },
		{ .version = 2,
		  .size = 1 << 20,
		  .cluster_bits = 12,
		  .backing = "base.vhd",
		  .backing_format = "vpc" },
		{ .version = 3,
		  .size = 1 << 20,
		  .cluster_bits = 9,
		  .refcount_bits = 1 },
		{ .version = 3,
		  .size = 1 << 20,
		  .cluster_bits = 12,
		  .refcount_bits = 64,
		  .backing = "x",
		  .backing_format = "raw",
		  .lazy_refcounts = true },
#ifdef HAVE_ZSTD
		{ .version = 3,
		  .size = 1 << 20,
		  .cluster_bits = 12,
		  .compression = BT_QCOW_ZSTD },
#endif
	};
	struct bt_qcow_layout layout;

	if (n >= BT_ARRAY_SIZE(seeds) ||
	    bt_qcow_layout_plan(&seeds[n], &layout, NULL))
		return 0;
	return furnish(&layout, buf, cap);
}
