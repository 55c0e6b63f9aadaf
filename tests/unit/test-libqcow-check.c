/* SPDX-License-Identifier: BSD-3-Clause */
/* What is made, and what a check finds. */
#include "libqcow-bench.h"
#include "libqcow/extension.h"

START_TEST(what_cannot_be_made_is_refused_by_name)
{
	static const struct {
		struct bt_qcow_create c;
		int error;
		const char *field;
	} bad[] = {
		{ { .version = 4 }, -ENOTSUP, "version" },
		{ { .version = 1, .size = 0 }, -EINVAL, "size" },
		{ { .version = 3, .size = UINT64_MAX }, -EFBIG, "size" },
		{ { .version = 2, .size = INT64_MAX }, -EFBIG, "size" },
		{ { .version = 1, .size = 4096, .cluster_bits = 17 },
		  -EINVAL,
		  "cluster_bits" },
		{ { .version = 3, .cluster_bits = 8 },
		  -EINVAL,
		  "cluster_bits" },
		{ { .version = 3, .cluster_bits = 22 },
		  -EINVAL,
		  "cluster_bits" },
		{ { .version = 3, .refcount_bits = 3 },
		  -EINVAL,
		  "refcount_bits" },
		{ { .version = 3, .refcount_bits = 128 },
		  -EINVAL,
		  "refcount_bits" },
		{ { .version = 2, .refcount_bits = 8 }, -EINVAL, "version" },
		{ { .version = 2, .lazy_refcounts = true },
		  -EINVAL,
		  "version" },
		{ { .version = 3, .xen = true }, -EINVAL, "version" },
		{ { .version = 1, .size = 1 << 20, .reserve = true },
		  -EINVAL,
		  "reserve" },
		{ { .version = 1,
		    .size = 1 << 20,
		    .backing = "b",
		    .xen = true,
		    .reserve = true },
		  -EINVAL,
		  "reserve" },
		{ { .version = 1,
		    .size = 1 << 20,
		    .backing = "b",
		    .backing_format = "thirteenbytes" },
		  -EINVAL,
		  "backing format" },
		{ { .version = 3, .backing_format = "raw" },
		  -EINVAL,
		  "backing format" },
		{ { .version = 3, .backing = "" },
		  -ENAMETOOLONG,
		  "backing file name" },
	};
	char name[BT_QCOW_NAME_MAX + 2];
	struct bt_qcow_create c = { .version = 3, .backing = name };
	struct bt_qcow_layout l;
	struct bt_fault fault;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		ck_assert_msg(bt_qcow_layout_plan(&bad[i].c, &l, &fault) ==
				      bad[i].error,
			      "case %zu", i);
		ck_assert_str_eq(fault.field, bad[i].field);
	}
	memset(name, 'n', sizeof(name));
	name[BT_QCOW_NAME_MAX + 1] = '\0';
	ck_assert_int_eq(bt_qcow_layout_plan(&c, &l, NULL), -ENAMETOOLONG);
	name[BT_QCOW_NAME_MAX] = '\0';
	ck_assert_int_eq(bt_qcow_layout_plan(&c, &l, NULL), 0);
	c.cluster_bits = 9;
	ck_assert_int_eq(bt_qcow_layout_plan(&c, &l, &fault), -ENAMETOOLONG);
	ck_assert_str_eq(fault.hint, "use larger clusters");
}
END_TEST

/* The whole file of a layout. */
static uint8_t *build(const struct bt_qcow_layout *l, size_t step)
{
	uint8_t *file = calloc(1, l->file_bytes);
	uint64_t at = 0, bytes;

	ck_assert_ptr_nonnull(file);
	while (at = bt_qcow_layout_next(l, at, &bytes), bytes) {
		size_t len = bytes < step ? bytes : step;

		ck_assert_uint_eq(at % 512, 0);
		bt_qcow_layout_fill(l, at, file + at, len);
		at += len;
	}
	return file;
}

START_TEST(a_layout_is_the_same_in_pieces_of_any_size)
{
	struct bt_qcow_create c[] = {
		{ .version = 1, .size = 5000000, .backing = "base" },
		{ .version = 1, .size = 5000000, .xen = true, .reserve = true },
		{ .version = 2, .size = 5000000, .cluster_bits = 9 },
		{ .version = 3,
		  .size = 5000000,
		  .cluster_bits = 9,
		  .refcount_bits = 1 },
		{ .version = 3,
		  .size = 5000000,
		  .cluster_bits = 9,
		  .refcount_bits = 64,
		  .backing = "b",
		  .backing_format = "vpc" },
	};

	for (size_t i = 0; i < sizeof(c) / sizeof(*c); i++) {
		struct bt_qcow_layout l;
		uint8_t *one, *two, *all;

		ck_assert_int_eq(bt_qcow_layout_plan(&c[i], &l, NULL), 0);
		one = build(&l, 512);
		two = build(&l, 1 << 20);
		all = malloc(l.file_bytes);
		ck_assert_ptr_nonnull(all);
		bt_qcow_layout_fill(&l, 0, all, l.file_bytes);
		ck_assert_int_eq(memcmp(one, two, l.file_bytes), 0);
		/* And next leaves nothing out. */
		ck_assert_int_eq(memcmp(one, all, l.file_bytes), 0);
		free(one);
		free(two);
		free(all);
	}
}
END_TEST

struct seen {
	unsigned int kinds[5];
	uint64_t file_offset;
	uint64_t guest_offset;
	const char *field;
};

static void note(void *opaque, const struct bt_qcow_finding *f)
{
	struct seen *seen = opaque;

	seen->kinds[f->kind]++;
	seen->file_offset = f->file_offset;
	seen->guest_offset = f->guest_offset;
	seen->field = f->fault.field;
}

static struct bt_qcow_check_stats check_file(const struct bt_qcow_geometry *geo,
					     const uint8_t *file,
					     uint64_t bytes, size_t window,
					     struct seen *seen)
{
	uint32_t counts[512];
	struct bt_qcow_check c;
	struct bt_qcow_l1 l1;
	uint64_t block;

	memset(seen, 0, sizeof(*seen));
	ck_assert_uint_le(window, 512);
	bt_qcow_check_init(&c, geo, bytes, counts, window, note, seen);
	do {
		bt_qcow_check_l1(&c, file + geo->l1_offset, 0, geo->l1_entries);
		for (uint32_t i = 0; i < geo->l1_entries; i++)
			if (!bt_qcow_l1_decode(
				    geo,
				    bt_load_be64(file + geo->l1_offset + i * 8),
				    bytes, &l1, NULL) &&
			    l1.offset)
				bt_qcow_check_l2(&c, file + l1.offset, i);
		bt_qcow_check_reftable(&c, file + geo->reftable_offset, 0,
				       geo->reftable_entries);
		for (uint32_t i = 0; i < geo->reftable_entries; i++)
			if (!bt_qcow_reftable_decode(
				    geo,
				    bt_load_be64(file + geo->reftable_offset +
						 i * 8),
				    bytes, &block, NULL))
				bt_qcow_check_refblock(
					&c, i, block ? file + block : NULL);
	} while (bt_qcow_check_next(&c));
	return c.stats;
}

START_TEST(check_finds_each_kind_of_damage)
{
	struct bt_qcow_layout l = make(3, 12);
	const struct bt_qcow_geometry *geo = &l.geo;
	uint64_t l2_at = l.file_bytes, data = l2_at + 4096;
	uint64_t bytes = data + 3 * 4096, cluster = l2_at >> 12;
	uint8_t *file = calloc(1, bytes), *empty = build(&l, 4096);
	uint8_t *block = file + 2 * 4096;
	struct bt_qcow_check_stats stats;
	struct seen seen;

	ck_assert_ptr_nonnull(file);
	memcpy(file, empty, l.file_bytes);
	bt_store_be64(file + geo->l1_offset,
		      bt_qcow_l1_encode(geo, l2_at, true));
	bt_store_be64(file + l2_at, bt_qcow_l2_encode_data(geo, data, true));
	for (uint32_t i = 0; i < 2; i++)
		bt_qcow_refcount_set(block, 4, (uint32_t)cluster + i, 1);

	/* The same in one window and in many. */
	for (size_t window = 1; window <= 512; window = window * 3 + 1) {
		stats = check_file(geo, file, bytes, window, &seen);
		ck_assert_uint_eq(stats.corruptions + stats.leaks, 0);
		ck_assert_uint_eq(stats.data_clusters, 1);
		ck_assert_uint_eq(stats.l2_tables, 1);
		ck_assert_uint_eq(stats.file_end, data + 4096);
	}

	bt_qcow_refcount_set(block, 4, (uint32_t)cluster + 2, 1);
	stats = check_file(geo, file, bytes, 2, &seen);
	ck_assert_uint_eq(stats.leaks, 1);
	ck_assert_uint_eq(stats.corruptions, 0);
	ck_assert_uint_eq(seen.file_offset, data + 4096);

	bt_store_be64(file + l2_at + 8,
		      bt_qcow_l2_encode_data(geo, data + 2 * 4096, true));
	stats = check_file(geo, file, bytes, 2, &seen);
	ck_assert_uint_eq(seen.kinds[BT_QCOW_REFCOUNT_LOW], 1);
	ck_assert_uint_eq(seen.kinds[BT_QCOW_WRONG_COPIED], 1);

	/* Two guest clusters in one, counted once. */
	bt_store_be64(file + l2_at + 8,
		      bt_qcow_l2_encode_data(geo, data, true));
	stats = check_file(geo, file, bytes, 512, &seen);
	ck_assert_uint_eq(seen.kinds[BT_QCOW_REFCOUNT_LOW], 1);

	/* Data in a table. */
	bt_store_be64(file + l2_at + 8,
		      bt_qcow_l2_encode_data(geo, l2_at, true));
	stats = check_file(geo, file, bytes, 3, &seen);
	ck_assert_uint_eq(seen.kinds[BT_QCOW_OVERLAP], 1);

	/* An entry that breaks a rule, reported once in many windows. */
	bt_store_be64(file + l2_at + 8, data + 1024);
	stats = check_file(geo, file, bytes, 1, &seen);
	ck_assert_uint_eq(seen.kinds[BT_QCOW_BAD_ENTRY], 1);
	ck_assert_uint_eq(stats.corruptions, 1);
	check_file(geo, file, bytes, 512, &seen);
	ck_assert_uint_eq(seen.kinds[BT_QCOW_BAD_ENTRY], 1);

	/* A used cluster that says it may be shared, and is not. */
	bt_store_be64(file + l2_at + 8, 0);
	bt_store_be64(file + l2_at, bt_qcow_l2_encode_data(geo, data, false));
	stats = check_file(geo, file, bytes, 512, &seen);
	ck_assert_uint_eq(seen.kinds[BT_QCOW_WRONG_COPIED], 1);
	free(file);
	free(empty);
}
END_TEST

START_TEST(check_finds_overlaps_in_version_1)
{
	struct bt_qcow_layout l = make(1, 12);
	const struct bt_qcow_geometry *geo = &l.geo;
	uint8_t *empty = build(&l, 512), *table = calloc(1, 4096);
	uint32_t counts[7];
	struct bt_qcow_check c;
	uint64_t entry;

	ck_assert_ptr_nonnull(table);
	bt_store_be64(empty + geo->l1_offset, 4096);
	bt_store_be64(table, 8192);
	bt_store_be64(table + 8, 12288);
	/* Two streams in one sector are as it should be. */
	bt_qcow_l2_encode_compressed(geo, 16384, 300, &entry);
	bt_store_be64(table + 16, entry);
	bt_qcow_l2_encode_compressed(geo, 16684, 300, &entry);
	bt_store_be64(table + 24, entry);
	for (unsigned int damage = 0; damage < 4; damage++) {
		const unsigned int sectors[] = { 0, 7, 8, 2 };
		const uint64_t second[] = { 12288, 8704, 4096, 16384 };

		bt_store_be64(table + 8, second[damage]);
		bt_qcow_check_init(&c, geo, 20480, counts, 7, NULL, NULL);
		do {
			bt_qcow_check_l1(&c, empty + geo->l1_offset, 0,
					 geo->l1_entries);
			bt_qcow_check_l2(&c, table, 0);
		} while (bt_qcow_check_next(&c));
		/* In sectors: seven, eight, and the two with streams. */
		ck_assert_uint_eq(c.stats.corruptions, sectors[damage]);
	}
	free(empty);
	free(table);
}
END_TEST

START_TEST(a_reserved_layout_maps_every_cluster_in_order)
{
	struct bt_qcow_create c = {
		.version = 1, .size = 5 << 20, .xen = true, .reserve = true
	};
	uint64_t next = 0, data;
	struct bt_qcow_layout l;
	uint8_t *file;

	ck_assert_int_eq(bt_qcow_layout_plan(&c, &l, NULL), 0);
	ck_assert_uint_eq(l.file_bytes, 8192 + 3 * (4096 + (2 << 20)));
	file = build(&l, 4096);
	for (uint32_t i = 0; i < 3; i++) {
		data = bt_load_be64(file + l.header.l1_offset + i * 8);
		ck_assert_uint_eq(data,
				  8192 + i * (UINT64_C(4096) + (2 << 20)));
		/* The old programs compute this, so it must be so. */
		for (uint32_t j = 0; j < 512; j++) {
			next = bt_load_be64(file + data + j * 8);
			ck_assert_uint_eq(next, data + 4096 + j * 4096);
		}
	}
	ck_assert_uint_eq(next + 4096, l.file_bytes);
	free(file);
}
END_TEST

/* What the record before the name says; "" where it is none. */
static const char *recorded(const uint8_t *head, uint64_t l1_offset,
			    uint64_t backing_offset)
{
	static struct bt_qcow_ext_info info;
	struct bt_qcow_header h;

	ck_assert_int_eq(bt_qcow_header_decode(&h, head, 512, NULL), 0);
	h.l1_offset = l1_offset;
	h.backing_offset = backing_offset;
	ck_assert_int_eq(bt_qcow_header_validate(&h, 8192, 0, NULL), 0);
	ck_assert_int_eq(
		bt_qcow_ext_read(&h, head, BT_QCOW_HEAD_MAX, &info, NULL), 0);
	return info.backing_format;
}

START_TEST(format_of_a_backing_file_is_recorded_in_version_1)
{
	struct bt_qcow_create c = { .version = 1,
				    .size = 4 << 20,
				    .backing = "base.im",
				    .backing_format = "raw" };
	struct bt_qcow_layout l;

	ck_assert_int_eq(bt_qcow_layout_plan(&c, &l, NULL), 0);
	ck_assert_uint_eq(l.header.backing_offset, 64);
	ck_assert_str_eq(recorded(l.head, 512, 64), "raw");
	c.backing_format = "twelve bytes";
	ck_assert_int_eq(bt_qcow_layout_plan(&c, &l, NULL), 0);
	ck_assert_str_eq(recorded(l.head, 512, 64), "twelve bytes");
	/* it is none that the header or the table covers */
	bt_qcow_record_put(l.head + 47, "raw");
	ck_assert_str_eq(recorded(l.head, 512, 63), "");
	bt_qcow_record_put(l.head + 1024, "raw");
	ck_assert_str_eq(recorded(l.head, 1032 - l.header.l1_entries * 8, 1040),
			 "");
	ck_assert_str_eq(recorded(l.head, 1024 - l.header.l1_entries * 8, 1040),
			 "raw");
	/* beside Xen's extension; and as others make it */
	c.backing_format = "vpc";
	c.xen = true;
	ck_assert_int_eq(bt_qcow_layout_plan(&c, &l, NULL), 0);
	ck_assert_uint_eq(l.header.backing_offset, l.header.has_xen ? 80 : 64);
	ck_assert_str_eq(recorded(l.head, 4096, l.header.backing_offset),
			 "vpc");
	c.backing_format = NULL;
	ck_assert_int_eq(bt_qcow_layout_plan(&c, &l, NULL), 0);
	ck_assert_str_eq(recorded(l.head, 4096, l.header.backing_offset), "");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("libqcow check");
	TCase *tc = tcase_create("tables");

	tcase_add_test(tc, what_cannot_be_made_is_refused_by_name);
	tcase_add_test(tc, format_of_a_backing_file_is_recorded_in_version_1);
	tcase_add_test(tc, a_layout_is_the_same_in_pieces_of_any_size);
	tcase_add_test(tc, check_finds_each_kind_of_damage);
	tcase_add_test(tc, check_finds_overlaps_in_version_1);
	tcase_add_test(tc, a_reserved_layout_maps_every_cluster_in_order);
	suite_add_tcase(s, tc);
	return unit_run(s);
}
