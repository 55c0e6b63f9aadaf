/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>

#include "libvhd/geometry.h"
#include "unit.h"
#include "util/bytes.h"
#include "vhd-samples.h"

static int check_value(struct bt_vhd_footer f, const char *field)
{
	struct bt_fault fault = { 0 };
	int err = bt_vhd_footer_check(&f, &fault);

	if (err) {
		ck_assert_str_eq(fault.field, field);
		ck_assert_ptr_nonnull(fault.reason);
	}
	return err;
}

START_TEST(footer_comes_back_from_its_bytes_field_by_field)
{
	struct bt_vhd_footer f, g;
	uint8_t buf[512], again[512];
	unsigned int i;

	f = sample_footer(BT_VHD_DYNAMIC, 100 * MIB);
	f.features = 0x01020304;
	f.version = 0x00010002;
	f.data_offset = 0x0102030405060708;
	f.creator_os = 0x5769326b;
	f.original_size = 0x1112131415161718;
	f.saved_state = 1;
	f.hidden = 7;
	for (i = 0; i < sizeof(f.reserved); i++)
		f.reserved[i] = (uint8_t)i;
	bt_vhd_footer_encode(&f, buf);
	ck_assert_int_eq(memcmp(buf, "conectix", 8), 0);
	ck_assert_uint_eq(bt_load_be32(buf + 8), 0x01020304);
	ck_assert_uint_eq(bt_load_be32(buf + 12), 0x00010002);
	ck_assert_uint_eq(bt_load_be64(buf + 16), 0x0102030405060708);
	ck_assert_uint_eq(bt_load_be32(buf + 24), 0x12345678);
	ck_assert_int_eq(memcmp(buf + 28, "tap", 4), 0);
	ck_assert_uint_eq(bt_load_be32(buf + 32), 0x00010003);
	ck_assert_uint_eq(bt_load_be32(buf + 36), 0x5769326b);
	ck_assert_uint_eq(bt_load_be64(buf + 40), 0x1112131415161718);
	ck_assert_uint_eq(bt_load_be64(buf + 48), 100 * MIB);
	ck_assert_uint_eq(bt_load_be16(buf + 56), f.geometry.cylinders);
	ck_assert_uint_eq(buf[58], f.geometry.heads);
	ck_assert_uint_eq(buf[59], f.geometry.sectors);
	ck_assert_uint_eq(bt_load_be32(buf + 60), 3);
	ck_assert_int_eq(memcmp(buf + 68, sample_uuid, 16), 0);
	ck_assert_uint_eq(buf[84], 1);
	ck_assert_uint_eq(buf[85], 7);
	ck_assert_int_eq(bt_vhd_footer_decode(buf, 512, &g, NULL), 0);
	bt_vhd_footer_encode(&g, again);
	ck_assert_int_eq(memcmp(buf, again, sizeof(buf)), 0);
}
END_TEST

START_TEST(footer_of_511_bytes_is_read)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_FIXED, MIB), g;
	struct bt_fault fault;
	uint8_t buf[512];

	bt_vhd_footer_encode(&f, buf);
	ck_assert_int_eq(bt_vhd_footer_decode(buf, 511, &g, NULL), 0);
	ck_assert_uint_eq(g.current_size, MIB);
	ck_assert_int_eq(bt_vhd_footer_decode(buf, 510, &g, &fault), -EINVAL);
	ck_assert_str_eq(fault.field, "file size");
	ck_assert_uint_eq(fault.value, 510);
}
END_TEST

START_TEST(any_changed_byte_breaks_cookie_or_checksum)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DYNAMIC, MIB), g;
	struct bt_fault fault;
	uint8_t buf[512];
	unsigned int i;

	bt_vhd_footer_encode(&f, buf);
	for (i = 0; i < 512; i++) {
		buf[i] ^= 0x10;
		ck_assert_int_eq(bt_vhd_footer_decode(buf, 512, &g, &fault),
				 -EINVAL);
		ck_assert_str_eq(fault.field, i < 8 ? "cookie" : "checksum");
		buf[i] ^= 0x10;
	}
}
END_TEST

START_TEST(hidden_set_without_checksum_by_the_first_tdutil_is_read)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DYNAMIC, MIB), g;
	uint8_t buf[512];

	f.creator_version = BT_VHD_VERSION(1, 1);
	bt_vhd_footer_encode(&f, buf);
	buf[85] = 1;
	ck_assert_int_eq(bt_vhd_footer_decode(buf, 512, &g, NULL), 0);
	ck_assert_uint_eq(g.hidden, 1);
	f.creator_version = BT_VHD_VERSION(1, 3);
	bt_vhd_footer_encode(&f, buf);
	buf[85] = 1;
	ck_assert_int_eq(bt_vhd_footer_decode(buf, 512, &g, NULL), -EINVAL);
}
END_TEST

START_TEST(poisoned_footer_is_for_revert_alone)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DYNAMIC, MIB), g;
	struct bt_fault fault;
	uint8_t buf[512];

	f.poisoned = true;
	bt_vhd_footer_encode(&f, buf);
	ck_assert_int_eq(memcmp(buf, "v_poison", 8), 0);
	ck_assert_int_eq(bt_vhd_footer_decode(buf, 512, &g, NULL), 0);
	ck_assert(g.poisoned);
	ck_assert_int_eq(bt_vhd_footer_check(&g, &fault), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(fault.hint, "revert"));
	ck_assert_int_eq(bt_vhd_footer_check_poisoned(&g, NULL), 0);
}
END_TEST

START_TEST(each_footer_field_has_good_and_bad_values)
{
	struct bt_vhd_footer good = sample_footer(BT_VHD_DYNAMIC, MIB), f;
	static const uint32_t bad_types[] = { 0, 1, 5, 6, 0xffffffff };
	static const uint64_t bad_offsets[] = {
		0, 1, 511, 513, UINT64_MAX, INT64_MAX, UINT64_C(1) << 63
	};
	unsigned int i;

	ck_assert_int_eq(check_value(good, ""), 0);
	f = good;
	f.version = 0x00020000;
	ck_assert_int_eq(check_value(f, "file_format_version"), -ENOTSUP);
	f.version = 0;
	ck_assert_int_eq(check_value(f, "file_format_version"), -ENOTSUP);
	f.version = 0x00010005;
	ck_assert_int_eq(check_value(f, ""), 0);
	for (i = 0; i < 5; i++) {
		f = good;
		f.type = bad_types[i];
		ck_assert_int_eq(check_value(f, "disk_type"), -ENOTSUP);
	}
	for (i = 0; i < 7; i++) {
		f = good;
		f.data_offset = bad_offsets[i];
		ck_assert_int_eq(check_value(f, "data_offset"), -EINVAL);
		f.type = BT_VHD_FIXED;
		ck_assert_int_eq(check_value(f, ""), 0);
	}
	f = good;
	f.current_size = 0;
	ck_assert_int_eq(check_value(f, "current_size"), -EINVAL);
	f.current_size = MIB + 1;
	ck_assert_int_eq(check_value(f, "current_size"), -EINVAL);
	f.current_size = 2040 * GIB;
	ck_assert_int_eq(check_value(f, ""), 0);
	f.current_size = 2040 * GIB + 512;
	ck_assert_int_eq(check_value(f, "current_size"), -EFBIG);
}
END_TEST

START_TEST(fixed_disk_must_end_before_its_footer)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_FIXED, MIB);

	ck_assert_int_eq(bt_vhd_fixed_check(&f, MIB, NULL), 0);
	ck_assert_int_eq(bt_vhd_fixed_check(&f, MIB + 4096, NULL), 0);
	ck_assert_int_eq(bt_vhd_fixed_check(&f, MIB - 512, NULL), -EINVAL);
}
END_TEST

/* A file of a head, something between, and a tail. */
struct ends {
	uint8_t head[512];
	uint8_t tail[1024];
	uint64_t file_size;
};

static struct ends ends_of(const struct bt_vhd_footer *copy,
			   const struct bt_vhd_footer *tail, uint64_t file_size,
			   size_t from_end)
{
	struct ends e = { .file_size = file_size };

	if (copy)
		bt_vhd_footer_encode(copy, e.head);
	if (tail) {
		uint8_t buf[512];

		bt_vhd_footer_encode(tail, buf);
		memcpy(e.tail + 1024 - from_end, buf,
		       from_end < 512 ? from_end : 512);
	}
	return e;
}

static int pick(const struct ends *e, struct bt_vhd_footer *f,
		struct bt_vhd_footer_choice *c, struct bt_fault *fault)
{
	return bt_vhd_footer_pick(e->head, 512, e->tail, 1024, e->file_size, f,
				  c, fault);
}

START_TEST(trailing_footer_is_found_at_each_of_its_places)
{
	struct bt_vhd_footer fixed = sample_footer(BT_VHD_FIXED, MIB), f;
	struct bt_vhd_footer_choice c;
	struct ends e;

	e = ends_of(NULL, &fixed, MIB + 512, 512);
	ck_assert_int_eq(pick(&e, &f, &c, NULL), 0);
	ck_assert_int_eq(c.place, BT_VHD_FOOTER_TAIL);
	ck_assert_uint_eq(c.offset, MIB);
	ck_assert(!c.differ && !c.killed);
	e = ends_of(NULL, &fixed, MIB + 511, 511);
	ck_assert_int_eq(pick(&e, &f, &c, NULL), 0);
	ck_assert_int_eq(c.place, BT_VHD_FOOTER_TAIL_LEGACY);
	ck_assert_uint_eq(c.offset, MIB);
	e = ends_of(NULL, &fixed, MIB + 512 + 100, 612);
	ck_assert_int_eq(pick(&e, &f, &c, NULL), 0);
	ck_assert_int_eq(c.place, BT_VHD_FOOTER_TAIL_RAGGED);
	ck_assert_uint_eq(c.offset, MIB);
}
END_TEST

START_TEST(killed_footer_makes_the_copy_serve)
{
	struct bt_vhd_footer dyn = sample_footer(BT_VHD_DYNAMIC, MIB), f;
	struct bt_vhd_footer_choice c;
	struct ends e = ends_of(&dyn, NULL, 4 * MIB, 512);

	memset(e.tail + 512, 0xc7, 512);
	ck_assert_int_eq(pick(&e, &f, &c, NULL), 0);
	ck_assert_int_eq(c.place, BT_VHD_FOOTER_COPY);
	ck_assert(c.killed && c.differ);
	memset(e.tail, 0x55, 1024);
	ck_assert_int_eq(pick(&e, &f, &c, NULL), 0);
	ck_assert(!c.killed && c.differ);
}
END_TEST

START_TEST(trailing_footer_wins_over_a_stale_copy)
{
	struct bt_vhd_footer dyn = sample_footer(BT_VHD_DYNAMIC, MIB), f;
	struct bt_vhd_footer newer = dyn;
	struct bt_vhd_footer_choice c;
	struct ends e;

	newer.hidden = 1;
	e = ends_of(&dyn, &newer, 4 * MIB, 512);
	ck_assert_int_eq(pick(&e, &f, &c, NULL), 0);
	ck_assert_uint_eq(f.hidden, 1);
	ck_assert(c.differ);
	e = ends_of(&dyn, &dyn, 4 * MIB, 512);
	ck_assert_int_eq(pick(&e, &f, &c, NULL), 0);
	ck_assert(!c.differ);
	e = ends_of(NULL, &dyn, 4 * MIB, 512);
	ck_assert_int_eq(pick(&e, &f, &c, NULL), 0);
	ck_assert_int_eq(c.place, BT_VHD_FOOTER_TAIL);
	ck_assert(c.differ);
}
END_TEST

START_TEST(guest_cannot_turn_a_fixed_disk_into_another)
{
	struct bt_vhd_footer fixed = sample_footer(BT_VHD_FIXED, MIB), f;
	struct bt_vhd_footer forged = sample_footer(BT_VHD_DIFFERENCING, MIB);
	struct bt_vhd_footer_choice c;
	struct bt_fault fault;
	struct ends e = ends_of(&forged, &fixed, MIB + 512, 512);

	ck_assert_int_eq(pick(&e, &f, &c, NULL), 0);
	ck_assert_uint_eq(f.type, BT_VHD_FIXED);
	/* A device larger than the disk: nobody can tell, so it is refused. */
	e.file_size = 2 * MIB;
	ck_assert_int_eq(pick(&e, &f, &c, &fault), -EINVAL);
	ck_assert_str_eq(fault.field, "footer");
}
END_TEST

START_TEST(guest_cannot_forge_the_tail_of_a_crashed_dynamic_disk)
{
	struct bt_vhd_footer dyn = sample_footer(BT_VHD_DYNAMIC, MIB), f;
	struct bt_vhd_footer forged = dyn;
	struct bt_vhd_footer_choice c;
	struct ends e;

	forged.uuid[3] ^= 1;
	forged.type = BT_VHD_DIFFERENCING;
	e = ends_of(&dyn, &forged, 4 * MIB, 512);
	ck_assert_int_eq(pick(&e, &f, &c, NULL), 0);
	ck_assert_uint_eq(f.type, BT_VHD_DYNAMIC);
	ck_assert_int_eq(c.place, BT_VHD_FOOTER_COPY);
}
END_TEST

START_TEST(file_without_footer_is_named_as_such)
{
	struct bt_vhd_footer_choice c;
	struct bt_vhd_footer f;
	struct bt_fault fault;
	struct ends e = { .file_size = MIB };

	ck_assert_int_eq(pick(&e, &f, &c, &fault), -EINVAL);
	ck_assert_str_eq(fault.field, "cookie");
	ck_assert_int_eq(
		bt_vhd_footer_pick(e.head, 0, e.tail, 0, 0, &f, &c, &fault),
		-EINVAL);
	ck_assert_str_eq(fault.field, "file size");
	ck_assert_uint_eq(fault.value, 0);
	ck_assert_int_eq(bt_vhd_footer_pick(e.head, 300, e.tail, 300, 300, &f,
					    &c, &fault),
			 -EINVAL);
}
END_TEST

START_TEST(geometry_is_the_one_the_format_computes)
{
	static const struct {
		uint64_t sec;
		uint16_t c;
		uint8_t h, s;
	} want[] = {
		/* worked out by hand from the format's text */
		{ 0, 0, 4, 17 },
		{ 68, 1, 4, 17 },
		{ 204800, 1003, 12, 17 }, /* 100 MiB */
		{ 1024 * 16 * 17, 561, 16, 31 },
		{ 1024 * 16 * 17 - 17, 1023, 16, 17 },
		{ 1024 * 16 * 31, 503, 16, 63 },
		{ 65535ull * 16 * 63 - 1, 65534, 16, 63 },
		{ 65535ull * 16 * 63, 16191, 16, 255 },
		{ 65535ull * 16 * 255, 65535, 16, 255 },
		{ 0xff000000, 65535, 16, 255 },
	};
	unsigned int i;

	for (i = 0; i < sizeof(want) / sizeof(*want); i++) {
		struct bt_vhd_geometry g = bt_vhd_geometry_for(want[i].sec);

		ck_assert_uint_eq(g.cylinders, want[i].c);
		ck_assert_uint_eq(g.heads, want[i].h);
		ck_assert_uint_eq(g.sectors, want[i].s);
	}
}
END_TEST

START_TEST(sizes_round_up_and_never_past_the_limit)
{
	struct bt_fault fault;
	uint64_t v, at;

	ck_assert_int_eq(bt_vhd_size_round(1, BT_VHD_ROUND_SECTOR, &v, NULL),
			 0);
	ck_assert_uint_eq(v, 512);
	ck_assert_int_eq(bt_vhd_size_round(MIB + 1, BT_VHD_ROUND_MIB, &v, NULL),
			 0);
	ck_assert_uint_eq(v, 2 * MIB);
	ck_assert_int_eq(
		bt_vhd_size_round(101 * MIB, BT_VHD_ROUND_BLOCK, &v, NULL), 0);
	ck_assert_uint_eq(v, 102 * MIB);
	for (at = 1; at < 3 * GIB; at = at * 3 + 511) {
		ck_assert_int_eq(
			bt_vhd_size_round(at, BT_VHD_ROUND_GEOMETRY, &v, NULL),
			0);
		ck_assert_uint_ge(v, at);
		ck_assert_uint_eq(
			bt_vhd_geometry_sectors(bt_vhd_geometry_for(v / 512)),
			v / 512);
	}
	for (at = 0; at < 4; at++) {
		ck_assert_int_eq(bt_vhd_size_round(2040 * GIB - 1,
						   (enum bt_vhd_rounding)at, &v,
						   NULL),
				 0);
		ck_assert_uint_eq(v, 2040 * GIB);
		ck_assert_int_eq(bt_vhd_size_round(2040 * GIB + 1,
						   (enum bt_vhd_rounding)at, &v,
						   &fault),
				 -EFBIG);
		ck_assert_ptr_nonnull(strstr(fault.hint, "qcow2"));
	}
	ck_assert_int_eq(bt_vhd_size_round(0, BT_VHD_ROUND_MIB, &v, NULL),
			 -EINVAL);
	ck_assert_int_eq(
		bt_vhd_size_round(UINT64_MAX, BT_VHD_ROUND_MIB, &v, NULL),
		-EFBIG);
}
END_TEST

START_TEST(guest_size_depends_on_the_creator)
{
	static const struct {
		char app[5];
		enum bt_vhd_size_source source;
	} rule[] = {
		{ "vpc ", BT_VHD_SIZE_CHS },
		{ "qemu", BT_VHD_SIZE_CHS },
		{ "qem2", BT_VHD_SIZE_CURRENT },
		{ "win ", BT_VHD_SIZE_CURRENT },
		{ "d2v ", BT_VHD_SIZE_CURRENT },
		{ "tap\0", BT_VHD_SIZE_CURRENT },
		{ "CTXS", BT_VHD_SIZE_CURRENT },
		{ "vbox", BT_VHD_SIZE_CURRENT },
		{ "wa\0\0", BT_VHD_SIZE_CURRENT },
	};
	struct bt_vhd_footer f = sample_footer(BT_VHD_DYNAMIC, 100 * MIB);
	enum bt_vhd_size_source source;
	uint64_t chs = UINT64_C(1003) * 12 * 17 * 512;
	unsigned int i;

	for (i = 0; i < sizeof(rule) / sizeof(*rule); i++) {
		memcpy(f.creator_app, rule[i].app, 4);
		ck_assert_uint_eq(
			bt_vhd_virtual_size(&f, &source),
			rule[i].source == BT_VHD_SIZE_CHS ? chs : 100 * MIB);
		ck_assert_int_eq(source, rule[i].source);
	}
	memcpy(f.creator_app, "vpc ", 4);
	bt_vhd_footer_set_size(&f, 2040 * GIB);
	ck_assert_uint_eq(bt_vhd_virtual_size(&f, NULL), 2040 * GIB);
	bt_vhd_footer_set_size(&f, MIB);
	f.geometry.cylinders = 0xffff; /* more than the disk has */
	ck_assert_uint_eq(bt_vhd_virtual_size(&f, NULL), MIB);
	f.geometry.heads = 0;
	ck_assert_uint_eq(bt_vhd_virtual_size(&f, NULL), MIB);
}
END_TEST

START_TEST(time_counts_from_2000_and_stays_in_32_bits)
{
	ck_assert_uint_eq(bt_vhd_time_from_unix(946684800), 0);
	ck_assert_uint_eq(bt_vhd_time_from_unix(946684801), 1);
	ck_assert_uint_eq(bt_vhd_time_from_unix(0), 0);
	ck_assert_uint_eq(bt_vhd_time_from_unix(INT64_MIN), 0);
	ck_assert_uint_eq(bt_vhd_time_from_unix(INT64_MAX), UINT32_MAX);
	ck_assert_int_eq(bt_vhd_time_to_unix(1), 946684801);
	ck_assert_int_eq(bt_vhd_time_to_unix(UINT32_MAX), 5241652095);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("libvhd footer");
	TCase *tc = tcase_create("footer");

	tcase_add_test(tc, footer_comes_back_from_its_bytes_field_by_field);
	tcase_add_test(tc, footer_of_511_bytes_is_read);
	tcase_add_test(tc, any_changed_byte_breaks_cookie_or_checksum);
	tcase_add_test(tc,
		       hidden_set_without_checksum_by_the_first_tdutil_is_read);
	tcase_add_test(tc, poisoned_footer_is_for_revert_alone);
	tcase_add_test(tc, each_footer_field_has_good_and_bad_values);
	tcase_add_test(tc, fixed_disk_must_end_before_its_footer);
	suite_add_tcase(suite, tc);
	tc = tcase_create("pick");
	tcase_add_test(tc, trailing_footer_is_found_at_each_of_its_places);
	tcase_add_test(tc, killed_footer_makes_the_copy_serve);
	tcase_add_test(tc, trailing_footer_wins_over_a_stale_copy);
	tcase_add_test(tc, guest_cannot_turn_a_fixed_disk_into_another);
	tcase_add_test(tc,
		       guest_cannot_forge_the_tail_of_a_crashed_dynamic_disk);
	tcase_add_test(tc, file_without_footer_is_named_as_such);
	suite_add_tcase(suite, tc);
	tc = tcase_create("sizes");
	tcase_add_test(tc, geometry_is_the_one_the_format_computes);
	tcase_add_test(tc, sizes_round_up_and_never_past_the_limit);
	tcase_add_test(tc, guest_size_depends_on_the_creator);
	tcase_add_test(tc, time_counts_from_2000_and_stays_in_32_bits);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
