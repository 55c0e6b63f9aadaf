/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>

#include "libvhd/batmap.h"
#include "libvhd/bits.h"
#include "libvhd/blocks.h"
#include "libvhd/geometry.h"
#include "unit.h"
#include "vhd-samples.h"

static struct bt_vhd_blocks sample_blocks(uint64_t size)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DYNAMIC, size);
	struct bt_vhd_header h = sample_header(BT_VHD_DYNAMIC, size);
	struct bt_vhd_blocks b;

	ck_assert_int_eq(bt_vhd_blocks_init(&b, &f, &h, NULL, NULL), 0);
	return b;
}

START_TEST(offsets_map_to_blocks_also_at_the_end_of_2040_gib)
{
	struct bt_vhd_blocks b = sample_blocks(2040 * GIB);
	uint64_t last = 2040 * GIB - 512;

	ck_assert_uint_eq(b.entries, 2040 * 512);
	ck_assert_uint_eq(bt_vhd_block_of(&b, last), 2040 * 512 - 1);
	ck_assert_uint_eq(bt_vhd_offset_in_block(&b, last), 2 * MIB - 512);
	ck_assert_uint_eq(bt_vhd_data_offset(&b, 0xfffff000),
			  UINT64_C(0xfffff001) * 512);
	ck_assert_int_eq(bt_vhd_entry_check(&b, 0xffffefff - 4096,
					    UINT64_C(0xfffff000) * 512, NULL),
			 0);
}
END_TEST

START_TEST(last_block_shows_only_what_the_disk_has)
{
	struct bt_vhd_blocks b = sample_blocks(3 * MIB + 512);

	ck_assert_uint_eq(bt_vhd_blocks_needed(&b), 2);
	ck_assert_uint_eq(bt_vhd_block_visible_sec(&b, 0), 4096);
	ck_assert_uint_eq(bt_vhd_block_visible_sec(&b, 1), 2049);
	ck_assert_uint_eq(bt_vhd_block_visible_sec(&b, 2), 0);
}
END_TEST

START_TEST(bitmap_is_padded_to_sectors_for_every_block_size)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DYNAMIC, MIB);
	struct bt_vhd_header h = sample_header(BT_VHD_DYNAMIC, MIB);
	struct bt_vhd_blocks b;

	for (h.block_size = 512; h.block_size <= 2 * MIB; h.block_size *= 2) {
		h.max_table_entries = (uint32_t)(2 * MIB / h.block_size);
		ck_assert_int_eq(bt_vhd_blocks_init(&b, &f, &h, NULL, NULL), 0);
		ck_assert_uint_eq(b.bitmap_sec, 1);
		ck_assert_uint_eq(b.block_sec, h.block_size / 512);
		ck_assert_uint_eq(UINT64_C(1) << b.block_shift, h.block_size);
		ck_assert_uint_eq(bt_vhd_block_stride(&b), h.block_size + 512);
	}
}
END_TEST

START_TEST(next_block_has_its_data_on_4_kib)
{
	struct bt_vhd_blocks b = sample_blocks(100 * MIB);
	uint64_t end = b.metadata_end;
	struct bt_fault fault;
	uint32_t entry, i;

	for (i = 0; i < 50; i++) {
		ck_assert_int_eq(bt_vhd_next_entry(&b, end, &entry, NULL), 0);
		ck_assert_uint_ge(bt_vhd_bitmap_offset(entry), end);
		ck_assert_uint_lt(bt_vhd_bitmap_offset(entry), end + 4096);
		ck_assert_uint_eq(bt_vhd_data_offset(&b, entry) % 4096, 0);
		end = bt_vhd_bitmap_offset(entry) + bt_vhd_block_stride(&b);
	}
	ck_assert_int_eq(bt_vhd_next_entry(&b, 0, &entry, NULL), 0);
	ck_assert_uint_ge(bt_vhd_bitmap_offset(entry), b.metadata_end);
	ck_assert_int_eq(
		bt_vhd_next_entry(&b, UINT64_C(0xfffffff7) * 512, &entry, NULL),
		0);
	ck_assert_uint_eq(entry, 0xfffffff7);
	ck_assert_int_eq(bt_vhd_next_entry(&b, UINT64_C(0xfffffff8) * 512,
					   &entry, &fault),
			 -EFBIG);
	ck_assert_int_eq(bt_vhd_next_entry(&b, UINT64_MAX, &entry, &fault),
			 -EFBIG);
}
END_TEST

START_TEST(entries_outside_data_are_refused)
{
	struct bt_vhd_blocks b = sample_blocks(100 * MIB);
	uint64_t end = 2048 + bt_vhd_block_stride(&b);
	struct bt_fault fault;
	uint32_t i;

	ck_assert_uint_eq(b.metadata_end, 2048);
	ck_assert_int_eq(bt_vhd_entry_check(&b, 4, end, NULL), 0);
	ck_assert_int_eq(bt_vhd_entry_check(&b, 4, end - 1, &fault), -EINVAL);
	ck_assert_uint_eq(fault.value, 4);
	ck_assert_int_eq(bt_vhd_entry_check(&b, 5, end, NULL), -EINVAL);
	ck_assert_int_eq(bt_vhd_entry_check(&b, 0xfffffffe, end, NULL),
			 -EINVAL);
	ck_assert_int_eq(bt_vhd_entry_check(&b, BT_VHD_BAT_UNUSED, end, NULL),
			 0);
	for (i = 0; i < 4; i++) {
		ck_assert_int_eq(bt_vhd_entry_check(&b, i, end, &fault),
				 -EINVAL);
		ck_assert_ptr_nonnull(strstr(fault.reason, "metadata"));
	}
}
END_TEST

START_TEST(blocks_may_lie_before_metadata_that_moved_back)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DYNAMIC, 100 * MIB);
	struct bt_vhd_header h = sample_header(BT_VHD_DYNAMIC, 100 * MIB);
	struct bt_vhd_blocks b;

	h.table_offset = 16 * MIB;
	ck_assert_int_eq(bt_vhd_blocks_init(&b, &f, &h, NULL, NULL), 0);
	ck_assert_int_eq(bt_vhd_entry_check(&b, 7, 20 * MIB, NULL), 0);
	ck_assert_int_eq(
		bt_vhd_entry_check(&b, 16 * 2048 - 4097, 20 * MIB, NULL), 0);
	ck_assert_int_eq(
		bt_vhd_entry_check(&b, 16 * 2048 - 4096, 20 * MIB, NULL),
		-EINVAL);
	ck_assert_int_eq(bt_vhd_entry_check(&b, 16 * 2048 + 1, 20 * MIB, NULL),
			 0);
}
END_TEST

START_TEST(metadata_over_metadata_is_refused)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DIFFERENCING, 100 * MIB);
	struct bt_vhd_header h = sample_header(BT_VHD_DIFFERENCING, 100 * MIB);
	struct bt_vhd_batmap m;
	struct bt_vhd_blocks b;
	struct bt_fault fault;

	bt_vhd_batmap_init(&m, bt_vhd_batmap_header_offset(&h) + 512, 50);
	ck_assert_int_eq(bt_vhd_blocks_init(&b, &f, &h, &m, NULL), 0);
	h.locator[1] = h.locator[0]; /* two may share one text */
	ck_assert_int_eq(bt_vhd_blocks_init(&b, &f, &h, &m, NULL), 0);
	h.locator[1].data_offset = h.table_offset;
	ck_assert_int_eq(bt_vhd_blocks_init(&b, &f, &h, &m, &fault), -EINVAL);
	ck_assert_str_eq(fault.field, "parent locator");
	h.locator[1] = h.locator[0];
	m.offset = h.locator[0].data_offset;
	ck_assert_int_eq(bt_vhd_blocks_init(&b, &f, &h, &m, &fault), -EINVAL);
	h.table_offset = 1024;
	ck_assert_int_eq(bt_vhd_blocks_init(&b, &f, &h, NULL, &fault), -EINVAL);
	ck_assert_str_eq(fault.field, "table_offset");
}
END_TEST

START_TEST(scan_counts_what_is_there_and_names_the_first_bad_entry)
{
	struct bt_vhd_blocks b = sample_blocks(4 * MIB);
	struct bt_vhd_bat_summary s = { 0 };
	struct bt_fault fault;
	uint8_t bat[16], bits[1];

	bt_vhd_bat_store(bat, 0, 7);
	bt_vhd_bat_store(bat, 1, BT_VHD_BAT_UNUSED);
	bt_vhd_bat_store(bat, 2, 7 + 4104);
	bt_vhd_bat_store(bat, 3, 1);
	ck_assert_int_eq(bt_vhd_bat_scan(&b, bat, 0, 2, 5 * MIB, &s, NULL), 0);
	ck_assert_int_eq(
		bt_vhd_bat_scan(&b, bat + 8, 2, 2, 5 * MIB, &s, &fault),
		-EINVAL);
	ck_assert_uint_eq(fault.value, 1);
	ck_assert_uint_eq(s.allocated, 3);
	ck_assert_uint_eq(s.bad, 1);
	ck_assert_uint_eq(s.first_bad_block, 3);
	ck_assert_uint_eq(s.beyond, 2);
	ck_assert_uint_eq(s.data_end, (7 + 4104 + 4097) * 512);
	memset(bat, 0xff, 4);
	bits[0] = 0xff;
	bt_vhd_bat_to_bits(bat, 4, bits, 1);
	ck_assert_uint_eq(bits[0], 0x9f);
}
END_TEST

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

START_TEST(overlaps_are_found_among_a_million_shuffled_blocks)
{
	struct bt_vhd_blocks b = sample_blocks(2040 * GIB);
	struct bt_vhd_overlap o;
	struct bt_fault fault;
	uint32_t n = 1u << 20, i, j, state = 1;
	uint64_t *keys = malloc(n * sizeof(*keys)), t;

	ck_assert_ptr_nonnull(keys);
	n = 0xffffffff / 4097 - 1;
	for (i = 0; i < n; i++)
		keys[i] = bt_vhd_overlap_key(i, 7 + i * 4097);
	for (i = n - 1; i > 0; i--) {
		j = next_random(&state) % (i + 1);
		t = keys[i];
		keys[i] = keys[j];
		keys[j] = t;
	}
	ck_assert_int_eq(bt_vhd_overlap_check(&b, keys, n, &o, NULL), 0);
	for (i = 0, j = 0; i < n; i++)
		j += (uint32_t)keys[i] != i;
	ck_assert_uint_eq(j, 0);
	keys[5] = bt_vhd_overlap_key(77, 7 + 1000 * 4097 + 4096);
	ck_assert_int_eq(bt_vhd_overlap_check(&b, keys, n, &o, &fault),
			 -EINVAL);
	ck_assert_uint_eq(o.block[0], 1000);
	ck_assert_uint_eq(o.block[1], 77);
	ck_assert_uint_eq(fault.value, o.entry[1]);
	ck_assert_uint_eq(o.entry[1], 7 + 1000 * 4097 + 4096);
	/* all the same: the worst for many sorts */
	for (i = 0; i < n; i++)
		keys[i] = bt_vhd_overlap_key(i, 7);
	ck_assert_int_eq(bt_vhd_overlap_check(&b, keys, n, NULL, NULL),
			 -EINVAL);
	ck_assert_int_eq(bt_vhd_overlap_check(&b, keys, 1, NULL, NULL), 0);
	ck_assert_int_eq(bt_vhd_overlap_check(&b, keys, 0, NULL, NULL), 0);
	free(keys);
	ck_assert(bt_vhd_overlap_certain(&b, 3, 3 * 4097 * 512 - 1));
	ck_assert(!bt_vhd_overlap_certain(&b, 3, 3 * 4097 * 512));
}
END_TEST

START_TEST(bits_are_highest_first)
{
	uint8_t map[8] = { 0 };

	bt_vhd_bit_set(map, 0);
	bt_vhd_bit_set(map, 9);
	ck_assert_uint_eq(map[0], 0x80);
	ck_assert_uint_eq(map[1], 0x40);
	ck_assert(bt_vhd_bit_test(map, 9));
	bt_vhd_bit_clear(map, 9);
	ck_assert(!bt_vhd_bit_test(map, 9));
	/* the first blktap had them lowest first */
	map[1] = 0x12;
	bt_vhd_bits_mirror(map, 2);
	ck_assert_uint_eq(map[0], 0x01);
	ck_assert_uint_eq(map[1], 0x48);
}
END_TEST

/* Every range of 200 bits against one bit at a time. */
START_TEST(bit_ranges_do_what_single_bits_do)
{
	uint8_t map[25], want[25];
	uint32_t first, count, i, n, run, state = 7;
	uint32_t step = getenv("BLKTAP_VALGRIND") ? 11 : 1;
	bool value;

	for (first = 0; first < 200; first += step) {
		for (count = 0; first + count <= 200; count++) {
			for (i = 0; i < 25; i++)
				map[i] = want[i] = (uint8_t)next_random(&state);
			for (i = 0; i < count; i++)
				bt_vhd_bit_set(want, first + i);
			bt_vhd_bits_set(map, first, count);
			ck_assert(!memcmp(map, want, 25));
			ck_assert(bt_vhd_bits_all(map, first, count));
			for (i = 0; i < count; i++)
				bt_vhd_bit_clear(want, first + i);
			bt_vhd_bits_clear(map, first, count);
			ck_assert(!memcmp(map, want, 25));
			ck_assert(!count ||
				  !bt_vhd_bits_all(map, first, count));
			for (i = first, n = 0; i < 200; i++)
				n += bt_vhd_bit_test(map, i);
			ck_assert_uint_eq(
				n, bt_vhd_bits_count(map, first, 200 - first));
			run = bt_vhd_bits_run(map, first, 200, &value);
			ck_assert_uint_ge(run, count);
			for (i = first; i < first + run; i++)
				ck_assert(bt_vhd_bit_test(map, i) == value);
			ck_assert(i == 200 || bt_vhd_bit_test(map, i) != value);
		}
	}
}
END_TEST

START_TEST(batmap_comes_back_and_each_field_is_checked)
{
	struct bt_vhd_header h = sample_header(BT_VHD_DYNAMIC, 100 * MIB);
	struct bt_vhd_batmap b, good, c;
	struct bt_fault fault;
	uint8_t buf[512], again[512], map[512] = { 0 };
	unsigned int i;

	ck_assert_uint_eq(bt_vhd_batmap_header_offset(&h), 2048);
	bt_vhd_batmap_init(&good, 2560, h.max_table_entries);
	ck_assert_int_eq(bt_vhd_batmap_check_map(&good, map, 512, NULL), 0);
	map[511] = 1;
	ck_assert_int_eq(bt_vhd_batmap_check_map(&good, map, 512, &fault),
			 -EINVAL);
	b = good;
	b.checksum = bt_vhd_checksum(map, 512, 512);
	b.marker = 0xa5;
	b.keyhash.cookie = 1;
	for (i = 0; i < 32; i++) {
		b.keyhash.nonce[i] = (uint8_t)i;
		b.keyhash.hash[i] = (uint8_t)(0xff - i);
	}
	b.reserved[417] = 9;
	bt_vhd_batmap_encode(&b, buf);
	ck_assert_int_eq(memcmp(buf, "tdbatmap", 8), 0);
	ck_assert_uint_eq(bt_load_be64(buf + 8), 2560);
	ck_assert_uint_eq(bt_load_be32(buf + 16), 1);
	ck_assert_uint_eq(bt_load_be32(buf + 20), 0x00010002);
	ck_assert_uint_eq(buf[28], 0xa5);
	ck_assert_uint_eq(buf[29], 1);
	ck_assert_uint_eq(buf[31], 1);
	ck_assert_uint_eq(buf[62], 0xff);
	ck_assert_uint_eq(buf[511], 9);
	ck_assert_int_eq(bt_vhd_batmap_decode(buf, 512, &c, NULL), 0);
	bt_vhd_batmap_encode(&c, again);
	ck_assert_int_eq(memcmp(buf, again, sizeof(buf)), 0);
	ck_assert_int_eq(bt_vhd_batmap_check(&c, &h, 3072, NULL), 0);
	ck_assert_int_eq(bt_vhd_batmap_check_map(&c, map, 512, NULL), 0);
	ck_assert_int_eq(bt_vhd_batmap_decode(buf, 511, &c, NULL), -EINVAL);
	buf[0] ^= 1;
	ck_assert_int_eq(bt_vhd_batmap_decode(buf, 512, &c, NULL), -EINVAL);

	ck_assert_int_eq(bt_vhd_batmap_check(&b, &h, 3071, &fault), -EINVAL);
	ck_assert_str_eq(fault.field, "batmap offset");
	b = good;
	b.offset = 2048;
	ck_assert_int_eq(bt_vhd_batmap_check(&b, &h, MIB, &fault), -EINVAL);
	b.offset = 2561;
	ck_assert_int_eq(bt_vhd_batmap_check(&b, &h, MIB, &fault), -EINVAL);
	b.offset = UINT64_MAX - 511;
	ck_assert_int_eq(bt_vhd_batmap_check(&b, &h, MIB, &fault), -EINVAL);
	b = good;
	b.size_sec = 0;
	ck_assert_int_eq(bt_vhd_batmap_check(&b, &h, MIB, &fault), -EINVAL);
	ck_assert_str_eq(fault.field, "batmap size");
	b.size_sec = 0xffffffff;
	ck_assert_int_eq(bt_vhd_batmap_check(&b, &h, MIB, &fault), -EINVAL);
	b = good;
	b.version = 0x00010003;
	ck_assert_int_eq(bt_vhd_batmap_check(&b, &h, MIB, &fault), -ENOTSUP);
}
END_TEST

START_TEST(creator_says_whether_there_is_a_batmap)
{
	struct bt_vhd_footer f = sample_footer(BT_VHD_DYNAMIC, MIB);

	ck_assert_int_eq(bt_vhd_batmap_presence(&f), BT_VHD_BATMAP_EXPECTED);
	ck_assert(!bt_vhd_footer_old_bits(&f));
	f.creator_version = BT_VHD_VERSION(1, 0);
	ck_assert_int_eq(bt_vhd_batmap_presence(&f), BT_VHD_BATMAP_MAYBE);
	f.creator_version = BT_VHD_VERSION(0, 1);
	ck_assert_int_eq(bt_vhd_batmap_presence(&f), BT_VHD_BATMAP_NONE);
	ck_assert(bt_vhd_footer_old_bits(&f));
	memcpy(f.creator_app, "qemu", 4);
	ck_assert(!bt_vhd_footer_old_bits(&f));
	f = sample_footer(BT_VHD_FIXED, MIB);
	ck_assert_int_eq(bt_vhd_batmap_presence(&f), BT_VHD_BATMAP_NONE);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("libvhd blocks");
	TCase *tc = tcase_create("blocks");

	tcase_add_test(tc, offsets_map_to_blocks_also_at_the_end_of_2040_gib);
	tcase_add_test(tc, last_block_shows_only_what_the_disk_has);
	tcase_add_test(tc, bitmap_is_padded_to_sectors_for_every_block_size);
	tcase_add_test(tc, next_block_has_its_data_on_4_kib);
	tcase_add_test(tc, entries_outside_data_are_refused);
	tcase_add_test(tc, blocks_may_lie_before_metadata_that_moved_back);
	tcase_add_test(tc, metadata_over_metadata_is_refused);
	tcase_add_test(tc,
		       scan_counts_what_is_there_and_names_the_first_bad_entry);
	tcase_add_test(tc, overlaps_are_found_among_a_million_shuffled_blocks);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	tc = tcase_create("bits");
	tcase_add_test(tc, bits_are_highest_first);
	tcase_add_test(tc, bit_ranges_do_what_single_bits_do);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	tc = tcase_create("batmap");
	tcase_add_test(tc, batmap_comes_back_and_each_field_is_checked);
	tcase_add_test(tc, creator_says_whether_there_is_a_batmap);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
