/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>

#include "libvhd/blocks.h"
#include "libvhd/locator.h"
#include "libvhd/utf.h"
#include "unit.h"
#include "util/bytes.h"
#include "vhd-samples.h"

#define FILE_SIZE (8 * MIB)

static int check_value(const struct bt_vhd_header *h,
		       const struct bt_vhd_footer *f, const char *field)
{
	struct bt_fault fault = { 0 };
	int err = bt_vhd_header_check(h, f, FILE_SIZE, &fault);

	if (err) {
		ck_assert_str_eq(fault.field, field);
		ck_assert_ptr_nonnull(fault.reason);
	}
	return err;
}

START_TEST(header_comes_back_from_its_bytes_field_by_field)
{
	struct bt_vhd_header h = sample_header(BT_VHD_DIFFERENCING, 100 * MIB);
	struct bt_vhd_header g;
	uint8_t buf[1024], again[1024];

	ck_assert_int_eq(bt_vhd_header_set_parent(&h, sample_uuid, 77,
						  "p\xc3\xa4r.vhd", NULL),
			 0);
	h.reserved1 = 0x0a0b0c0d;
	h.reserved2[255] = 0xee;
	h.locator[7].code = 0x61626364;
	h.locator[7].data_offset = 0x0102030405060708;
	bt_vhd_header_encode(&h, buf);
	ck_assert_int_eq(memcmp(buf, "cxsparse", 8), 0);
	ck_assert_uint_eq(bt_load_be64(buf + 8), UINT64_MAX);
	ck_assert_uint_eq(bt_load_be64(buf + 16), 1536);
	ck_assert_uint_eq(bt_load_be32(buf + 24), 0x00010000);
	ck_assert_uint_eq(bt_load_be32(buf + 28), 50);
	ck_assert_uint_eq(bt_load_be32(buf + 32), 2 * MIB);
	ck_assert_int_eq(memcmp(buf + 40, sample_uuid, 16), 0);
	ck_assert_uint_eq(bt_load_be32(buf + 56), 77);
	ck_assert_uint_eq(bt_load_be32(buf + 60), 0x0a0b0c0d);
	ck_assert_int_eq(memcmp(buf + 64, "\0p\0\xe4\0r\0.", 8), 0);
	ck_assert_uint_eq(bt_load_be32(buf + 576), BT_VHD_LOC_W2RU);
	ck_assert_uint_eq(bt_load_be32(buf + 580), 512);
	ck_assert_uint_eq(bt_load_be32(buf + 584), 14);
	ck_assert_uint_eq(bt_load_be64(buf + 592), h.locator[0].data_offset);
	ck_assert_uint_eq(bt_load_be64(buf + 760), 0x0102030405060708);
	ck_assert_uint_eq(buf[1023], 0xee);
	ck_assert_int_eq(bt_vhd_header_decode(buf, 1024, &g, NULL), 0);
	bt_vhd_header_encode(&g, again);
	ck_assert_int_eq(memcmp(buf, again, sizeof(buf)), 0);
}
END_TEST

START_TEST(any_changed_header_byte_breaks_cookie_or_checksum)
{
	struct bt_vhd_header h = sample_header(BT_VHD_DYNAMIC, MIB), g;
	struct bt_fault fault;
	uint8_t buf[1024];
	unsigned int i;

	bt_vhd_header_encode(&h, buf);
	for (i = 0; i < 1024; i++) {
		buf[i] ^= 0x80;
		ck_assert_int_eq(bt_vhd_header_decode(buf, 1024, &g, &fault),
				 -EINVAL);
		ck_assert_str_eq(fault.field,
				 i < 8 ? "header cookie" : "header checksum");
		buf[i] ^= 0x80;
	}
	ck_assert_int_eq(bt_vhd_header_decode(buf, 1023, &g, &fault), -EINVAL);
	ck_assert_str_eq(fault.field, "file size");
}
END_TEST

START_TEST(block_sizes_that_broke_others_are_refused)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DYNAMIC, MIB);
	struct bt_vhd_header h = sample_header(BT_VHD_DYNAMIC, MIB);
	static const uint32_t bad[] = { 0,     1,	   0x80,
					0x100, 0x12345678, 3u << 20,
					513,   0xffffffff, 0x7fffffff };
	uint32_t size;
	unsigned int i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		h.block_size = bad[i];
		ck_assert_int_eq(check_value(&h, &f, "block_size"), -EINVAL);
	}
	for (size = 4u << 20; size; size <<= 1) {
		h.block_size = size;
		ck_assert_int_eq(check_value(&h, &f, "block_size"), -ENOTSUP);
	}
	for (size = 512; size <= 2u << 20; size <<= 1) {
		h.block_size = size;
		h.max_table_entries = (uint32_t)(2 * MIB / size);
		ck_assert_int_eq(check_value(&h, &f, ""), 0);
	}
}
END_TEST

START_TEST(table_must_fit_the_disk_and_the_file)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DYNAMIC, 100 * MIB);
	struct bt_vhd_header good = sample_header(BT_VHD_DYNAMIC, 100 * MIB);
	struct bt_vhd_header h = good;

	ck_assert_int_eq(check_value(&h, &f, ""), 0);
	h.max_table_entries = 49;
	ck_assert_int_eq(check_value(&h, &f, "max_table_entries"), -EINVAL);
	h.max_table_entries = 0;
	ck_assert_int_eq(check_value(&h, &f, "max_table_entries"), -EINVAL);
	h.max_table_entries = BT_VHD_BAT_ENTRIES_MAX + 1;
	ck_assert_int_eq(check_value(&h, &f, "max_table_entries"), -ENOTSUP);
	h.max_table_entries = 0xffffffff;
	ck_assert_int_eq(check_value(&h, &f, "max_table_entries"), -ENOTSUP);
	h.max_table_entries = BT_VHD_BAT_ENTRIES_MAX; /* 16 MiB of table */
	ck_assert_int_eq(check_value(&h, &f, "table_offset"), -EINVAL);
	h = good;
	h.table_offset = FILE_SIZE - 200;
	ck_assert_int_eq(check_value(&h, &f, "table_offset"), -EINVAL);
	h.table_offset = FILE_SIZE;
	ck_assert_int_eq(check_value(&h, &f, "table_offset"), -EINVAL);
	h.table_offset = UINT64_MAX - 511;
	ck_assert_int_eq(check_value(&h, &f, "table_offset"), -EINVAL);
	h.table_offset = 1537;
	ck_assert_int_eq(check_value(&h, &f, "table_offset"), -EINVAL);
	h.table_offset = 0;
	ck_assert_int_eq(check_value(&h, &f, "table_offset"), -EINVAL);
	h.table_offset = 1024;
	ck_assert_int_eq(check_value(&h, &f, "table_offset"), -EINVAL);
	h.table_offset = FILE_SIZE - 512;
	ck_assert_int_eq(check_value(&h, &f, ""), 0);
	h = good;
	h.version = 0x00020000;
	ck_assert_int_eq(check_value(&h, &f, "header_version"), -ENOTSUP);
}
END_TEST

START_TEST(differencing_disk_without_locator_is_refused)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DIFFERENCING, MIB);
	struct bt_vhd_header h = sample_header(BT_VHD_DIFFERENCING, MIB);

	ck_assert_int_eq(check_value(&h, &f, ""), 0);
	h.locator[0].code = BT_VHD_LOC_NONE;
	ck_assert_int_eq(check_value(&h, &f, "parent_locator"), -EINVAL);
	h.locator[0].code = 0x12345678; /* nobody knows where that leads */
	ck_assert_int_eq(check_value(&h, &f, "parent_locator"), -EINVAL);
	f.type = BT_VHD_DYNAMIC;
	ck_assert_int_eq(check_value(&h, &f, ""), 0);
}
END_TEST

START_TEST(each_locator_field_has_good_and_bad_values)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DIFFERENCING, MIB);
	struct bt_vhd_header good = sample_header(BT_VHD_DIFFERENCING, MIB);
	struct bt_vhd_header h = good;

	h.locator[5] = h.locator[0];
	h.locator[5].data_len = 0;
	ck_assert_int_eq(check_value(&h, &f, "parent_locator[5].data_length"),
			 -EINVAL);
	h.locator[5].data_len = BT_VHD_LOCATOR_LEN_MAX + 1;
	ck_assert_int_eq(check_value(&h, &f, "parent_locator[5].data_length"),
			 -EINVAL);
	h.locator[5].data_len = 0xffffffff;
	ck_assert_int_eq(check_value(&h, &f, "parent_locator[5].data_length"),
			 -EINVAL);
	h = good;
	h.locator[0].data_space = 0;
	ck_assert_int_eq(check_value(&h, &f, "parent_locator[0].data_space"),
			 -EINVAL);
	h.locator[0].data_space = 1; /* a sector, as the format means it */
	ck_assert_int_eq(check_value(&h, &f, ""), 0);
	h.locator[0].data_len = 513;
	ck_assert_int_eq(check_value(&h, &f, "parent_locator[0].data_space"),
			 -EINVAL);
	h.locator[0].data_space = 513; /* neither sectors nor bytes */
	ck_assert_int_eq(check_value(&h, &f, "parent_locator[0].data_space"),
			 -EINVAL);
	h.locator[0].data_space = 1024;
	ck_assert_int_eq(check_value(&h, &f, ""), 0);
	h = good;
	h.locator[0].data_offset = FILE_SIZE - 13;
	ck_assert_int_eq(check_value(&h, &f, "parent_locator[0].data_offset"),
			 -EINVAL);
	h.locator[0].data_offset = UINT64_MAX;
	ck_assert_int_eq(check_value(&h, &f, "parent_locator[0].data_offset"),
			 -EINVAL);
	h.locator[0].data_offset = 0;
	ck_assert_int_eq(check_value(&h, &f, "parent_locator[0].data_offset"),
			 -EINVAL);
}
END_TEST

START_TEST(child_with_bad_locators_can_be_given_another_parent)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DIFFERENCING, MIB);
	struct bt_vhd_header h = sample_header(BT_VHD_DIFFERENCING, MIB);
	struct bt_vhd_blocks b;

	h.locator[0].data_offset = UINT64_MAX;
	ck_assert_int_eq(bt_vhd_header_check(&h, &f, FILE_SIZE, NULL), -EINVAL);
	ck_assert_int_eq(bt_vhd_header_check_table(&h, &f, FILE_SIZE, NULL), 0);
	ck_assert_int_eq(bt_vhd_blocks_init(&b, &f, &h, NULL, NULL), 0);
	ck_assert_uint_eq(b.metadata_end, 2048);
}
END_TEST

START_TEST(only_the_parent_it_was_made_over_is_its_parent)
{
	struct bt_vhd_footer parent = sample_footer(BT_VHD_DYNAMIC, MIB);
	struct bt_vhd_header h = sample_header(BT_VHD_DIFFERENCING, MIB);
	struct bt_fault fault;

	ck_assert_int_eq(bt_vhd_header_check_parent(&h, &parent, &fault),
			 -EINVAL);
	ck_assert_ptr_nonnull(strstr(fault.reason, "raw"));
	bt_vhd_header_set_parent(&h, sample_uuid, 99, "p", NULL);
	ck_assert_int_eq(bt_vhd_header_check_parent(&h, &parent, NULL), 0);
	parent.uuid[15] ^= 1;
	ck_assert_int_eq(bt_vhd_header_check_parent(&h, &parent, &fault),
			 -EINVAL);
	ck_assert_str_eq(fault.field, "parent_unique_id");
}
END_TEST

START_TEST(relative_locators_are_tried_first)
{
	struct bt_vhd_header h = sample_header(BT_VHD_DYNAMIC, MIB);
	uint8_t order[8];

	h.locator[0].code = BT_VHD_LOC_MACX;
	h.locator[1].code = BT_VHD_LOC_W2KU;
	h.locator[2].code = BT_VHD_LOC_W2RU;
	h.locator[3].code = 0x4d616320; /* a Mac alias: not for us */
	ck_assert_uint_eq(bt_vhd_locator_order(&h, order), 3);
	ck_assert_uint_eq(order[0], 2);
	ck_assert_uint_eq(order[1], 0);
	ck_assert_uint_eq(order[2], 1);
}
END_TEST

START_TEST(parent_name_keeps_whole_characters)
{
	struct bt_vhd_header h = sample_header(BT_VHD_DYNAMIC, MIB);
	char name[1100], got[2048];
	struct bt_fault fault;
	unsigned int i;

	ck_assert(bt_vhd_header_parent_is_raw(&h));
	ck_assert_int_eq(bt_vhd_header_set_parent(&h, sample_uuid, 1, "", NULL),
			 0);
	ck_assert(!bt_vhd_header_parent_is_raw(&h));
	/* 255 units, then a pair that does not fit */
	for (i = 0; i < 255; i++)
		name[i] = 'a';
	strcpy(name + 255, "\xf0\x9f\x92\xbe.vhd");
	ck_assert_int_eq(
		bt_vhd_header_set_parent(&h, sample_uuid, 1, name, NULL), 0);
	ck_assert_int_eq(bt_vhd_header_parent_name(&h, got, sizeof(got), NULL),
			 0);
	ck_assert_uint_eq(strlen(got), 255);
	ck_assert_int_eq(bt_vhd_header_parent_name(&h, got, 10, NULL),
			 -ENAMETOOLONG);
	ck_assert_int_eq(bt_vhd_header_parent_name(&h, got, 0, NULL),
			 -ENAMETOOLONG);
	ck_assert_int_eq(bt_vhd_header_set_parent(&h, sample_uuid, 1,
						  "caf\xe9.vhd", &fault),
			 -EILSEQ);
	bt_store_be16(h.parent_name, 0xdc00);
	ck_assert_int_eq(
		bt_vhd_header_parent_name(&h, got, sizeof(got), &fault),
		-EILSEQ);
	ck_assert_str_eq(fault.field, "parent_unicode_name");
}
END_TEST

static void round_trip(uint32_t code, const char *path, const char *want)
{
	uint8_t buf[BT_VHD_LOCATOR_LEN_MAX];
	char got[BT_VHD_PATH_MAX];
	size_t len;

	ck_assert_int_eq(
		bt_vhd_locator_encode(code, path, buf, sizeof(buf), &len, NULL),
		0);
	ck_assert_int_eq(
		bt_vhd_locator_decode(code, buf, len, got, sizeof(got), NULL),
		0);
	ck_assert_str_eq(got, want);
}

START_TEST(paths_come_back_from_every_kind_of_locator)
{
	static const uint32_t codes[] = { BT_VHD_LOC_MACX, BT_VHD_LOC_W2RU,
					  BT_VHD_LOC_W2KU };
	static const char *const paths[] = {
		"./b.vhd",
		"/sr/b.vhd",
		"./a b/%20#?.vhd",
		"./\xc3\xa4\xe2\x82\xac/\xf0\x9f\x92\xbe.vhd",
		"./with:colon.vhd",
	};
	unsigned int i, j;

	for (i = 0; i < 3; i++)
		for (j = 0; j < 5; j++)
			round_trip(codes[i], paths[j], paths[j]);
	round_trip(BT_VHD_LOC_MACX, "b.vhd", "./b.vhd");
	round_trip(BT_VHD_LOC_MACX, "localhost/b.vhd", "./localhost/b.vhd");
	round_trip(BT_VHD_LOC_MACX, "../b.vhd", "./../b.vhd");
	round_trip(BT_VHD_LOC_W2RU, "b.vhd", "./b.vhd");
	round_trip(BT_VHD_LOC_W2RU, "../b.vhd", "./../b.vhd");
	/* A name that is not UTF-8 has a place in a URL only. */
	round_trip(BT_VHD_LOC_MACX, "./caf\xe9.vhd", "./caf\xe9.vhd");
}
END_TEST

START_TEST(long_relative_paths_pass_and_too_long_ones_are_named)
{
	uint8_t buf[BT_VHD_LOCATOR_LEN_MAX];
	char path[BT_VHD_PATH_MAX + 8] = "./";
	struct bt_fault fault;
	unsigned int i;
	size_t len;

	for (i = 0; i < 255; i++)
		strcat(path, "../");
	strcat(path, "b.vhd");
	round_trip(BT_VHD_LOC_MACX, path, path);
	memset(path + 2, 'x', 4094);
	path[4095] = '\0';
	round_trip(BT_VHD_LOC_MACX, path, path);
	path[4095] = 'x';
	path[4096] = '\0';
	ck_assert_int_eq(bt_vhd_locator_encode(BT_VHD_LOC_MACX, path, buf,
					       sizeof(buf), &len, &fault),
			 -ENAMETOOLONG);
	ck_assert_uint_eq(fault.value, 4096);
	path[4095] = '\0';
	ck_assert_int_eq(bt_vhd_locator_encode(BT_VHD_LOC_W2KU, path, buf, 512,
					       &len, &fault),
			 -ENAMETOOLONG);
	ck_assert_int_eq(bt_vhd_locator_encode(BT_VHD_LOC_MACX, path, buf, 512,
					       &len, &fault),
			 -ENAMETOOLONG);
	ck_assert_int_eq(bt_vhd_locator_encode(BT_VHD_LOC_MACX, path, buf, 3,
					       &len, &fault),
			 -ENAMETOOLONG);
}
END_TEST

static int decode_text(uint32_t code, const void *text, size_t len, char *got,
		       size_t cap)
{
	struct bt_fault fault;

	return bt_vhd_locator_decode(code, text, len, got, cap, &fault);
}

START_TEST(locators_of_other_makers_are_read)
{
	char got[64];

	/* The older blktap wrote names into URLs as they are. */
	ck_assert_int_eq(
		decode_text(BT_VHD_LOC_MACX, "file://./a b%.vhd", 17, got, 64),
		0);
	ck_assert_str_eq(got, "./a b%.vhd");
	ck_assert_int_eq(decode_text(BT_VHD_LOC_MACX,
				     "file://localhost/x/%41.vhd\0\0", 28, got,
				     64),
			 0);
	ck_assert_str_eq(got, "/x/A.vhd");
	ck_assert_int_eq(decode_text(BT_VHD_LOC_W2KU,
				     "C\0:\0\\\0x\0.\0v\0h\0d\0\0\0", 18, got,
				     64),
			 0);
	ck_assert_str_eq(got, "C:/x.vhd");
	ck_assert_int_eq(bt_vhd_path_kind(got), BT_VHD_PATH_WINDOWS);
	ck_assert_int_eq(bt_vhd_path_kind("//server/x"), BT_VHD_PATH_WINDOWS);
	ck_assert_int_eq(bt_vhd_path_kind("/x"), BT_VHD_PATH_ABSOLUTE);
	ck_assert_int_eq(bt_vhd_path_kind("./x"), BT_VHD_PATH_RELATIVE);
	ck_assert_int_eq(bt_vhd_path_kind(""), BT_VHD_PATH_RELATIVE);
}
END_TEST

START_TEST(bad_locator_texts_are_refused)
{
	char got[64] = "";

	ck_assert_int_eq(decode_text(BT_VHD_LOC_MACX, "", 0, got, 64), -EINVAL);
	ck_assert_int_eq(decode_text(BT_VHD_LOC_MACX, "file://", 7, got, 64),
			 -EINVAL);
	ck_assert_int_eq(decode_text(BT_VHD_LOC_MACX, "http://x", 8, got, 64),
			 -EINVAL);
	ck_assert_int_eq(
		decode_text(BT_VHD_LOC_MACX, "file://a%00b", 12, got, 64),
		-EINVAL);
	ck_assert_int_eq(
		decode_text(BT_VHD_LOC_MACX, "file://a%0Ab", 12, got, 64),
		-EINVAL);
	ck_assert_int_eq(
		decode_text(BT_VHD_LOC_MACX, "file://a\0b", 10, got, 64),
		-EINVAL);
	ck_assert_int_eq(decode_text(BT_VHD_LOC_MACX, "file://abc", 10, got, 3),
			 -ENAMETOOLONG);
	ck_assert_int_eq(decode_text(BT_VHD_LOC_MACX, "file://abc", 10, got, 0),
			 -ENAMETOOLONG);
	ck_assert_int_eq(decode_text(BT_VHD_LOC_W2RU, "\0\0\0\0", 4, got, 64),
			 -EINVAL);
	ck_assert_int_eq(decode_text(BT_VHD_LOC_W2RU, "a\0b", 3, got, 64),
			 -EILSEQ);
	ck_assert_int_eq(decode_text(BT_VHD_LOC_W2RU,
				     "\0\xd8"
				     "a\0",
				     4, got, 64),
			 -EILSEQ);
	ck_assert_int_eq(decode_text(BT_VHD_LOC_W2RU, "a\0b\0c\0", 6, got, 3),
			 -ENAMETOOLONG);
	ck_assert_int_eq(decode_text(0x4d616320, "x", 1, got, 64), -ENOTSUP);
	ck_assert_str_eq(got, "");
}
END_TEST

START_TEST(names_we_could_not_read_back_are_not_written)
{
	struct bt_fault fault;
	uint8_t buf[64];
	size_t len;

	ck_assert_int_eq(bt_vhd_locator_encode(BT_VHD_LOC_MACX, "", buf, 64,
					       &len, &fault),
			 -EINVAL);
	ck_assert_int_eq(bt_vhd_locator_encode(BT_VHD_LOC_MACX, "a\nb", buf, 64,
					       &len, &fault),
			 -EINVAL);
	ck_assert_uint_eq(fault.value, '\n');
	ck_assert_int_eq(bt_vhd_locator_encode(BT_VHD_LOC_W2RU, "caf\xe9", buf,
					       64, &len, &fault),
			 -EILSEQ);
	ck_assert_int_eq(bt_vhd_locator_encode(1, "a", buf, 64, &len, &fault),
			 -ENOTSUP);
}
END_TEST

START_TEST(utf8_and_utf16_are_strict_both_ways)
{
	static const char *const bad[] = {
		"\x80",
		"\xc0\x80",
		"\xc1\xbf",
		"\xe0\x80\x80",
		"\xed\xa0\x80",
		"\xf0\x80\x80\x80",
		"\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80",
		"\xe2\x82",
		"\xc3(",
		"\xff",
	};
	/* the ends of each length */
	static const char edges[] = "\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80"
				    "\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"
				    "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf";
	uint8_t units[64];
	char text[64];
	size_t n, m;
	unsigned int i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_int_eq(bt_vhd_utf16_encode(bad[i], strlen(bad[i]),
						     BT_VHD_UTF16LE, units, 64,
						     &n),
				 -EILSEQ);
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(bt_vhd_utf16_encode(edges, sizeof(edges) - 1,
						     (enum bt_vhd_utf16)i,
						     units, 64, &n),
				 0);
		ck_assert_uint_eq(n, 24);
		ck_assert_int_eq(bt_vhd_utf16_decode(units, n,
						     (enum bt_vhd_utf16)i, text,
						     64, &m),
				 0);
		ck_assert_uint_eq(m, sizeof(edges) - 1);
		ck_assert_int_eq(memcmp(text, edges, m), 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("libvhd header");
	TCase *tc = tcase_create("header");

	tcase_add_test(tc, header_comes_back_from_its_bytes_field_by_field);
	tcase_add_test(tc, any_changed_header_byte_breaks_cookie_or_checksum);
	tcase_add_test(tc, block_sizes_that_broke_others_are_refused);
	tcase_add_test(tc, table_must_fit_the_disk_and_the_file);
	tcase_add_test(tc, differencing_disk_without_locator_is_refused);
	tcase_add_test(tc, each_locator_field_has_good_and_bad_values);
	tcase_add_test(tc, child_with_bad_locators_can_be_given_another_parent);
	tcase_add_test(tc, only_the_parent_it_was_made_over_is_its_parent);
	tcase_add_test(tc, relative_locators_are_tried_first);
	tcase_add_test(tc, parent_name_keeps_whole_characters);
	suite_add_tcase(suite, tc);
	tc = tcase_create("locator");
	tcase_add_test(tc, paths_come_back_from_every_kind_of_locator);
	tcase_add_test(tc,
		       long_relative_paths_pass_and_too_long_ones_are_named);
	tcase_add_test(tc, locators_of_other_makers_are_read);
	tcase_add_test(tc, bad_locator_texts_are_refused);
	tcase_add_test(tc, names_we_could_not_read_back_are_not_written);
	tcase_add_test(tc, utf8_and_utf16_are_strict_both_ways);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
