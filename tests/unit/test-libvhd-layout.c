/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>

#include "libvhd/blocks.h"
#include "libvhd/journal.h"
#include "libvhd/locator.h"
#include "unit.h"
#include "util/bytes.h"
#include "vhd-samples.h"

START_TEST(empty_dynamic_image_of_100_mib_has_3584_bytes)
{
	struct bt_vhd_layout_spec spec = { .type = BT_VHD_DYNAMIC,
					   .size = 100 * MIB };
	struct bt_vhd_layout l;

	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, NULL), 0);
	ck_assert_uint_eq(l.header_offset, 512);
	ck_assert_uint_eq(l.table_offset, 1536);
	ck_assert_uint_eq(l.entries, 50);
	ck_assert_uint_eq(l.batmap_header_offset, 2048);
	ck_assert_uint_eq(l.batmap_offset, 2560);
	ck_assert_uint_eq(l.batmap_sec, 1);
	ck_assert_uint_eq(l.footer_offset + 512, 3584);
}
END_TEST

START_TEST(max_size_makes_room_in_the_table)
{
	struct bt_vhd_layout_spec spec = { .type = BT_VHD_DYNAMIC,
					   .size = 100 * MIB,
					   .max_size = 5 * 1024 * MIB };
	struct bt_vhd_layout l;

	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, NULL), 0);
	ck_assert_uint_eq(l.entries, 2560);
	ck_assert_uint_eq(l.batmap_header_offset, 1536 + 10240);
	spec.max_size = 50 * MIB;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, NULL), -EINVAL);
	spec.max_size = 2041 * GIB;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, NULL), -EFBIG);
	spec.size = spec.max_size = 2040 * GIB;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, NULL), 0);
	ck_assert_uint_eq(l.entries, 2040 * 512);
}
END_TEST

START_TEST(fixed_image_is_its_data_and_a_footer)
{
	struct bt_vhd_layout_spec spec = { .type = BT_VHD_FIXED,
					   .size = 100 * MIB };
	struct bt_vhd_layout l;

	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, NULL), 0);
	ck_assert_uint_eq(l.metadata_end, 0);
	ck_assert_uint_eq(l.footer_offset, 100 * MIB);
}
END_TEST

START_TEST(bad_wishes_are_named)
{
	struct bt_vhd_layout_spec good = { .type = BT_VHD_DYNAMIC,
					   .size = 100 * MIB };
	struct bt_vhd_layout_spec spec = good;
	struct bt_vhd_layout l;
	struct bt_fault fault;

	spec.size = 0;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EINVAL);
	spec.size = 1000;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EINVAL);
	spec.size = 3000000 * MIB; /* what an older vhd-util made */
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EFBIG);
	ck_assert_str_eq(fault.field, "size");
	ck_assert_ptr_nonnull(fault.hint);
	spec.size = (uint64_t)-1 * MIB; /* and -s -1 */
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EFBIG);
	spec = good;
	spec.block_size = 3 << 20;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EINVAL);
	spec.block_size = 4 << 20;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EINVAL);
	spec.block_size = 512;
	spec.size = 100 * GIB;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EFBIG);
	ck_assert_str_eq(fault.field, "max_table_entries");
	spec = good;
	spec.type = 5;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EINVAL);
	spec.type = BT_VHD_DIFFERENCING;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EINVAL);
	ck_assert_str_eq(fault.field, "parent_locator");
	spec.locators = 9;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EINVAL);
	spec.locators = 1;
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, &fault), -EINVAL);
	ck_assert_str_eq(fault.field, "data_length");
}
END_TEST

/* The whole of a new child, read back as an open would read it. */
START_TEST(new_differencing_image_reads_back)
{
	static const uint32_t codes[] = { BT_VHD_LOC_MACX, BT_VHD_LOC_W2KU,
					  BT_VHD_LOC_W2RU };
	struct bt_vhd_layout_spec spec = { .type = BT_VHD_DIFFERENCING,
					   .size = 100 * MIB,
					   .locators = 3 };
	struct bt_vhd_footer f = sample_footer(spec.type, spec.size), g;
	struct bt_vhd_header h, k;
	struct bt_vhd_batmap m, n;
	struct bt_vhd_layout l;
	struct bt_vhd_blocks b;
	struct bt_vhd_bat_summary s = { 0 };
	struct bt_vhd_footer_choice choice;
	uint8_t text[3][512], *image;
	const void *texts[] = { text[0], text[1], text[2] };
	char path[64];
	unsigned int i;
	size_t len;

	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(bt_vhd_locator_encode(codes[i], "./b.vhd",
						       text[i], 512, &len,
						       NULL),
				 0);
		spec.locator_code[i] = codes[i];
		spec.locator_len[i] = (uint32_t)len;
	}
	ck_assert_int_eq(bt_vhd_layout_plan(&l, &spec, NULL), 0);
	bt_vhd_layout_header(&l, &h);
	bt_vhd_layout_batmap(&l, &m);
	bt_vhd_header_set_parent(&h, sample_uuid, 5, "b.vhd", NULL);
	image = malloc(l.footer_offset + 512);
	bt_vhd_layout_encode(&l, &f, &h, &m, texts, image);
	bt_vhd_footer_encode(&f, image + l.footer_offset);
	len = l.footer_offset + 512;

	ck_assert_int_eq(bt_vhd_footer_pick(image, 512, image + len - 1024,
					    1024, len, &g, &choice, NULL),
			 0);
	ck_assert(!choice.differ);
	ck_assert_int_eq(bt_vhd_footer_check(&g, NULL), 0);
	ck_assert_int_eq(
		bt_vhd_header_decode(image + g.data_offset, 1024, &k, NULL), 0);
	ck_assert_int_eq(bt_vhd_header_check(&k, &g, len, NULL), 0);
	ck_assert_int_eq(
		bt_vhd_batmap_decode(image + bt_vhd_batmap_header_offset(&k),
				     512, &n, NULL),
		0);
	ck_assert_int_eq(bt_vhd_batmap_check(&n, &k, len, NULL), 0);
	ck_assert_int_eq(bt_vhd_batmap_check_map(&n, image + n.offset,
						 n.size_sec * 512, NULL),
			 0);
	ck_assert_int_eq(bt_vhd_blocks_init(&b, &g, &k, &n, NULL), 0);
	ck_assert_uint_eq(b.metadata_end, l.metadata_end);
	ck_assert_int_eq(bt_vhd_bat_scan(&b, image + k.table_offset, 0,
					 b.entries, len, &s, NULL),
			 0);
	ck_assert_uint_eq(s.allocated, 0);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(
			bt_vhd_locator_decode(k.locator[i].code,
					      image + k.locator[i].data_offset,
					      k.locator[i].data_len, path,
					      sizeof(path), NULL),
			0);
		ck_assert_str_eq(path, "./b.vhd");
	}
	free(image);
}
END_TEST

START_TEST(journal_header_comes_back_and_each_field_is_checked)
{
	struct bt_vhd_journal j, k;
	struct bt_fault fault;
	uint8_t buf[512], again[512], other[16] = { 1 };

	bt_vhd_journal_init(&j, sample_uuid, 3072);
	ck_assert_uint_eq(j.eof, 512);
	j.data_entries = 2;
	j.metadata_entries = 1;
	j.data_offset = 512 + 32 + 512;
	j.metadata_offset = 512;
	j.eof = 512 + 3 * (32 + 512);
	bt_vhd_journal_encode(&j, buf);
	ck_assert_int_eq(memcmp(buf, "vjournal", 8), 0);
	ck_assert_int_eq(memcmp(buf + 8, sample_uuid, 16), 0);
	ck_assert_uint_eq(bt_load_be64(buf + 24), 3072);
	ck_assert_uint_eq(bt_load_be32(buf + 32), 2);
	ck_assert_uint_eq(bt_load_be32(buf + 36), 1);
	ck_assert_uint_eq(bt_load_be64(buf + 40), j.data_offset);
	ck_assert_uint_eq(bt_load_be64(buf + 48), 512);
	ck_assert_uint_eq(bt_load_be64(buf + 56), j.eof);
	ck_assert_int_eq(bt_vhd_journal_decode(buf, 512, &k, NULL), 0);
	bt_vhd_journal_encode(&k, again);
	ck_assert_int_eq(memcmp(buf, again, sizeof(buf)), 0);
	ck_assert_int_eq(bt_vhd_journal_check(&k, sample_uuid, j.eof, NULL), 0);
	ck_assert_int_eq(bt_vhd_journal_check(&k, NULL, j.eof, NULL), 0);
	ck_assert_int_eq(bt_vhd_journal_check(&k, other, j.eof, &fault),
			 -EINVAL);
	ck_assert_str_eq(fault.field, "journal uuid");
	ck_assert_int_eq(bt_vhd_journal_check(&k, NULL, j.eof - 1, &fault),
			 -EINVAL);
	ck_assert_str_eq(fault.field, "journal_eof");
	k.data_offset = 0;
	ck_assert_int_eq(bt_vhd_journal_check(&k, NULL, j.eof, &fault),
			 -EINVAL);
	ck_assert_str_eq(fault.field, "journal_data_offset");
	k = j;
	k.metadata_entries = 0xffffffff;
	ck_assert_int_eq(bt_vhd_journal_check(&k, NULL, j.eof, &fault),
			 -EINVAL);
	ck_assert_str_eq(fault.field, "journal_metadata_offset");
	k = j;
	k.footer_offset = UINT64_MAX;
	ck_assert_int_eq(bt_vhd_journal_check(&k, NULL, j.eof, &fault),
			 -EINVAL);
	ck_assert_int_eq(bt_vhd_journal_decode(buf, 511, &k, NULL), -EINVAL);
	buf[7] = 0;
	ck_assert_int_eq(bt_vhd_journal_decode(buf, 512, &k, NULL), -EINVAL);
}
END_TEST

START_TEST(journal_entries_come_back_and_each_field_is_checked)
{
	struct bt_vhd_journal j;
	struct bt_vhd_journal_entry e = { .type = BT_VHD_JOURNAL_BAT,
					  .size = 512,
					  .offset = 1536 },
				    g;
	uint8_t data[512], buf[32];
	struct bt_fault fault;
	unsigned int i;

	memset(data, 0x5a, sizeof(data));
	bt_vhd_journal_init(&j, sample_uuid, 3072);
	bt_vhd_journal_entry_encode(&e, data, buf);
	bt_vhd_journal_added(&j, &e);
	ck_assert_uint_eq(j.metadata_entries, 1);
	ck_assert_uint_eq(j.metadata_offset, 512);
	ck_assert_uint_eq(j.eof, 512 + 32 + 512);
	ck_assert_uint_eq(bt_load_be64(buf), 0xaaaa12344321aaaa);
	ck_assert_uint_eq(bt_load_be32(buf + 8), 5);
	ck_assert_int_eq(
		bt_vhd_journal_entry_decode(&j, 512, buf, 32, &g, NULL), 0);
	ck_assert_uint_eq(g.offset, 1536);
	ck_assert_int_eq(bt_vhd_journal_entry_check(&g, buf, data, NULL), 0);
	data[3] ^= 1;
	ck_assert_int_eq(bt_vhd_journal_entry_check(&g, buf, data, &fault),
			 -EINVAL);
	ck_assert_str_eq(fault.field, "journal entry checksum");
	data[3] ^= 1;
	for (i = 8; i < 32; i++) {
		buf[i] ^= 0x40;
		ck_assert(bt_vhd_journal_entry_decode(&j, 512, buf, 32, &g,
						      NULL) ||
			  bt_vhd_journal_entry_check(&g, buf, data, NULL));
		buf[i] ^= 0x40;
	}
	ck_assert_int_eq(
		bt_vhd_journal_entry_decode(&j, 513, buf, 32, &g, &fault),
		-EINVAL);
	ck_assert_int_eq(
		bt_vhd_journal_entry_decode(&j, 512, buf, 31, &g, &fault),
		-EINVAL);
	bt_store_be32(buf + 8, 0);
	ck_assert_int_eq(
		bt_vhd_journal_entry_decode(&j, 512, buf, 32, &g, &fault),
		-EINVAL);
	ck_assert_str_eq(fault.field, "journal entry type");
	bt_store_be32(buf + 8, 9);
	ck_assert_int_eq(
		bt_vhd_journal_entry_decode(&j, 512, buf, 32, &g, &fault),
		-EINVAL);
	bt_store_be32(buf + 8, 8);
	bt_store_be32(buf + 12, 0);
	ck_assert_int_eq(
		bt_vhd_journal_entry_decode(&j, 512, buf, 32, &g, &fault),
		-EINVAL);
	bt_store_be32(buf + 12, 0xfffffe00);
	ck_assert_int_eq(
		bt_vhd_journal_entry_decode(&j, 512, buf, 32, &g, &fault),
		-EINVAL);
	bt_store_be32(buf + 12, 512);
	bt_store_be64(buf + 16, UINT64_MAX - 511);
	ck_assert_int_eq(
		bt_vhd_journal_entry_decode(&j, 512, buf, 32, &g, &fault),
		-EINVAL);
	ck_assert_str_eq(fault.field, "journal entry offset");
	buf[0] ^= 1;
	ck_assert_int_eq(
		bt_vhd_journal_entry_decode(&j, 512, buf, 32, &g, &fault),
		-EINVAL);
	ck_assert_str_eq(fault.field, "journal entry cookie");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("libvhd layout");
	TCase *tc = tcase_create("layout");

	tcase_add_test(tc, empty_dynamic_image_of_100_mib_has_3584_bytes);
	tcase_add_test(tc, max_size_makes_room_in_the_table);
	tcase_add_test(tc, fixed_image_is_its_data_and_a_footer);
	tcase_add_test(tc, bad_wishes_are_named);
	tcase_add_test(tc, new_differencing_image_reads_back);
	suite_add_tcase(suite, tc);
	tc = tcase_create("journal");
	tcase_add_test(tc, journal_header_comes_back_and_each_field_is_checked);
	tcase_add_test(tc, journal_entries_come_back_and_each_field_is_checked);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
