/* SPDX-License-Identifier: BSD-3-Clause */
/* Entries, refcounts, streams, sectors; and whole images laid out, damaged and
 * checked. */
#include "libqcow-bench.h"

START_TEST(entries_of_version_1_are_checked)
{
	struct bt_qcow_layout l = make(1, 12);
	struct bt_qcow_mapping m;
	struct bt_qcow_l1 l1;
	uint64_t entry;

	ck_assert_int_eq(l2(&l.geo, 0, &m), 0);
	ck_assert_int_eq(m.kind, BT_QCOW_UNALLOCATED);
	ck_assert_int_eq(l2(&l.geo, 0x4000, &m), 0);
	ck_assert_int_eq(m.kind, BT_QCOW_DATA);
	ck_assert_uint_eq(m.offset, 0x4000);
	ck_assert_uint_eq(m.bytes, 4096);
	ck_assert(m.copied);
	ck_assert_int_eq(l2(&l.geo, 0x4001, &m), -EIO);
	ck_assert_int_eq(l2(&l.geo, FILE_BYTES, &m), -EIO);
	ck_assert_int_eq(l2(&l.geo, FILE_BYTES - 512, &m), 0);
	ck_assert_int_eq(l2(&l.geo, INT64_MAX - 511, &m), -EIO);

	entry = UINT64_C(1) << 63 | UINT64_C(700) << 51 | 0x12345;
	ck_assert_int_eq(l2(&l.geo, entry, &m), 0);
	ck_assert_int_eq(m.kind, BT_QCOW_COMPRESSED);
	ck_assert_uint_eq(m.offset, 0x12345);
	ck_assert_uint_eq(m.bytes, 700);
	ck_assert_int_eq(l2(&l.geo, UINT64_C(1) << 63 | 0x12345, &m), -EIO);
	ck_assert_int_eq(l2(&l.geo, entry & ~UINT64_C(0xfffff), &m), -EIO);
	entry = UINT64_C(1) << 63 | UINT64_C(700) << 51 | (FILE_BYTES - 699);
	ck_assert_int_eq(l2(&l.geo, entry, &m), -EIO);
	ck_assert_int_eq(l2(&l.geo, entry - 1, &m), 0);

	ck_assert_int_eq(
		bt_qcow_l1_decode(&l.geo, 0x1000, FILE_BYTES, &l1, NULL), 0);
	ck_assert_uint_eq(l1.offset, 0x1000);
	ck_assert_int_eq(bt_qcow_l1_decode(&l.geo, COPIED | 0x1000, FILE_BYTES,
					   &l1, NULL),
			 -EIO);
	ck_assert_int_eq(bt_qcow_l1_decode(&l.geo, 8, FILE_BYTES, &l1, NULL),
			 -EIO);
	ck_assert_int_eq(bt_qcow_l1_decode(&l.geo, FILE_BYTES - 512, FILE_BYTES,
					   &l1, NULL),
			 -EIO);
}
END_TEST

START_TEST(entries_of_versions_2_and_3_are_checked)
{
	struct bt_qcow_layout two = make(2, 16), three = make(3, 16);
	struct bt_qcow_mapping m;
	struct bt_qcow_l1 l1;

	ck_assert_int_eq(l2(&two.geo, COPIED | 0x80000, &m), 0);
	ck_assert_int_eq(m.kind, BT_QCOW_DATA);
	ck_assert(m.copied);
	ck_assert_int_eq(l2(&two.geo, 0x80000, &m), 0);
	ck_assert(!m.copied);
	ck_assert_int_eq(l2(&two.geo, COPIED, &m), -EIO);
	ck_assert_int_eq(l2(&two.geo, 0x80200, &m), -EIO);
	ck_assert_int_eq(l2(&two.geo, FILE_BYTES, &m), -EIO);
	ck_assert_int_eq(l2(&two.geo, 0x80000 | UINT64_C(1) << 56, &m), -EIO);
	ck_assert_int_eq(l2(&two.geo, 0x80000 | UINT64_C(1) << 61, &m), -EIO);
	/* The zero flag came with version 3. */
	ck_assert_int_eq(l2(&two.geo, 1, &m), -EIO);
	ck_assert_int_eq(l2(&three.geo, 1, &m), 0);
	ck_assert_int_eq(m.kind, BT_QCOW_ZERO);
	ck_assert_uint_eq(m.offset, 0);
	ck_assert_int_eq(l2(&three.geo, COPIED | 0x80001, &m), 0);
	ck_assert_int_eq(m.kind, BT_QCOW_ZERO);
	ck_assert_uint_eq(m.offset, 0x80000);
	ck_assert_int_eq(l2(&three.geo, 0x80002, &m), -EIO);

	/* Into the header, the refcount table and the L1 table. */
	ck_assert_int_eq(l2(&three.geo, COPIED | 0x10000, &m), -EIO);
	ck_assert_int_eq(l2(&three.geo, COPIED | 0x30000, &m), -EIO);
	ck_assert_int_eq(l2(&three.geo, COPIED | 0x30001, &m), -EIO);
	ck_assert_int_eq(bt_qcow_l1_decode(&two.geo, COPIED | 0x10000,
					   FILE_BYTES, &l1, NULL),
			 -EIO);
	ck_assert_int_eq(bt_qcow_l1_decode(&two.geo, COPIED | 0x40000,
					   FILE_BYTES, &l1, NULL),
			 0);
	ck_assert(l1.copied);
	ck_assert_int_eq(
		bt_qcow_l1_decode(&two.geo, 0x40001, FILE_BYTES, &l1, NULL),
		-EIO);
	ck_assert_int_eq(bt_qcow_l1_decode(&two.geo,
					   0x40000 | UINT64_C(1) << 62,
					   FILE_BYTES, &l1, NULL),
			 -EIO);
}
END_TEST

START_TEST(compressed_descriptors_go_both_ways_at_every_cluster_size)
{
	for (uint32_t bits = 9; bits <= 21; bits++) {
		struct bt_qcow_layout l = make(3, bits);
		uint64_t offset = l.file_bytes + 3 * 512 + 17;
		uint32_t bytes = l.geo.cluster_bytes - 100;
		struct bt_qcow_mapping m;
		uint64_t entry;

		ck_assert_int_eq(bt_qcow_l2_encode_compressed(&l.geo, offset,
							      bytes, &entry),
				 0);
		ck_assert_int_eq(l2(&l.geo, entry, &m), 0);
		ck_assert_int_eq(m.kind, BT_QCOW_COMPRESSED);
		ck_assert_uint_eq(m.offset, offset);
		ck_assert_uint_ge(m.bytes, bytes);
		ck_assert_uint_lt(m.bytes, bytes + 512);
		ck_assert_int_eq(l2(&l.geo, entry | COPIED, &m), -EIO);
		/* Cut at the end of the file, never past it. */
		ck_assert_int_eq(
			bt_qcow_l2_decode(&l.geo, entry, offset + 1, &m, NULL),
			0);
		ck_assert_uint_eq(m.bytes, 1);
		ck_assert_int_eq(
			bt_qcow_l2_decode(&l.geo, entry, offset, &m, NULL),
			-EIO);
		ck_assert_int_eq(bt_qcow_l2_encode_compressed(
					 &l.geo, offset,
					 2 * l.geo.cluster_bytes, &entry),
				 -ERANGE);
		ck_assert_int_eq(
			bt_qcow_l2_encode_compressed(
				&l.geo, l.geo.coffset_mask + 1, 1, &entry),
			-ERANGE);
	}
}
END_TEST

START_TEST(entries_encode_to_what_decodes_the_same)
{
	struct bt_qcow_layout two = make(2, 16), three = make(3, 16),
			      one = make(1, 12);
	struct bt_qcow_mapping m;
	uint64_t e;

	ck_assert_uint_eq(bt_qcow_l1_encode(&two.geo, 0x40000, true),
			  COPIED | 0x40000);
	ck_assert_uint_eq(bt_qcow_l1_encode(&one.geo, 0x40000, true), 0x40000);
	ck_assert_uint_eq(bt_qcow_l1_encode(&two.geo, 0, true), 0);
	ck_assert_uint_eq(bt_qcow_l2_encode_data(&two.geo, 0x50000, false),
			  0x50000);
	ck_assert_int_eq(bt_qcow_l2_encode_zero(&two.geo, 0, true, &e),
			 -ENOTSUP);
	ck_assert_int_eq(bt_qcow_l2_encode_zero(&three.geo, 0, true, &e), 0);
	ck_assert_uint_eq(e, 1);
	ck_assert_int_eq(bt_qcow_l2_encode_zero(&three.geo, 0x50000, true, &e),
			 0);
	ck_assert_uint_eq(e, COPIED | 0x50001);
	ck_assert_int_eq(bt_qcow_l2_encode_compressed(&one.geo, 5000, 4095, &e),
			 0);
	ck_assert_int_eq(l2(&one.geo, e, &m), 0);
	ck_assert_uint_eq(m.bytes, 4095);
	ck_assert_int_eq(bt_qcow_l2_encode_compressed(&one.geo, 5000, 4096, &e),
			 -ERANGE);
	ck_assert_int_eq(bt_qcow_l2_encode_compressed(&one.geo, 5000, 0, &e),
			 -ERANGE);
}
END_TEST

START_TEST(refcounts_of_every_width_keep_to_themselves)
{
	uint8_t block[512];

	for (uint32_t order = 0; order <= 6; order++) {
		uint32_t n = 4096 >> order;
		uint64_t max = bt_qcow_refcount_max(order);

		memset(block, 0, sizeof(block));
		for (uint32_t i = 0; i < n; i++)
			ck_assert_int_eq(bt_qcow_refcount_set(block, order, i,
							      (i * 7) & max),
					 0);
		for (uint32_t i = 0; i < n; i++)
			ck_assert_uint_eq(bt_qcow_refcount_get(block, order, i),
					  (i * 7) & max);
		ck_assert_int_eq(bt_qcow_refcount_set(block, order, 1, max), 0);
		ck_assert_uint_eq(bt_qcow_refcount_get(block, order, 1), max);
		ck_assert_uint_eq(bt_qcow_refcount_get(block, order, 0), 0);
		ck_assert_uint_eq(bt_qcow_refcount_get(block, order, 2),
				  14 & max);
		if (order < 6)
			ck_assert_int_eq(
				bt_qcow_refcount_set(block, order, 1, max + 1),
				-ERANGE);
	}
	memset(block, 0, sizeof(block));
	bt_qcow_refcount_set(block, 0, 9, 1);
	ck_assert_uint_eq(block[1], 2);
	bt_qcow_refcount_set(block, 4, 1, 0x0102);
	ck_assert_uint_eq(block[2], 1);
	ck_assert_uint_eq(block[3], 2);
}
END_TEST

START_TEST(refcount_table_entries_are_checked)
{
	struct bt_qcow_layout l = make(3, 16);
	struct bt_qcow_refplace at;
	struct bt_fault fault;
	uint64_t offset;

	ck_assert_int_eq(
		bt_qcow_reftable_decode(&l.geo, 0, FILE_BYTES, &offset, NULL),
		0);
	ck_assert_uint_eq(offset, 0);
	ck_assert_int_eq(bt_qcow_reftable_decode(&l.geo, 0x20000, FILE_BYTES,
						 &offset, NULL),
			 0);
	ck_assert_uint_eq(offset, 0x20000);
	for (size_t i = 0; i < 5; i++) {
		const uint64_t bad[] = { 0x20001, 0x20200, FILE_BYTES, 0x10000,
					 COPIED | 0x20000 };

		ck_assert_int_eq(bt_qcow_reftable_decode(&l.geo, bad[i],
							 FILE_BYTES, &offset,
							 &fault),
				 -EIO);
		ck_assert_uint_eq(fault.value, bad[i]);
	}
	at = bt_qcow_refcount_locate(&l.geo, UINT64_C(0x12345) << 16);
	ck_assert_uint_eq(at.table_index, 0x12345 / 32768);
	ck_assert_uint_eq(at.block_index, 0x12345 % 32768);
}
END_TEST

START_TEST(refcount_tables_count_themselves)
{
	struct bt_qcow_refsize s;

	for (uint32_t order = 0; order <= 6; order++)
		for (uint64_t n = 1; n < 5000; n += 61) {
			ck_assert(bt_qcow_refcount_size(9, order, n, &s));
			ck_assert_uint_eq(s.clusters,
					  n + s.blocks + s.table_clusters);
			ck_assert_uint_ge(s.blocks << (12 - order), s.clusters);
			ck_assert_uint_lt((s.blocks - 1) << (12 - order),
					  s.clusters);
			ck_assert_uint_ge(s.table_clusters * 64, s.blocks);
		}
	ck_assert(!bt_qcow_refcount_size(9, 6, UINT64_C(1) << 40, &s));
}
END_TEST

static void try_method(enum bt_qcow_compression method)
{
	struct bt_qcow_inflater *in;
	struct bt_qcow_deflater *de;
	uint8_t data[4096], packed[4096], out[4096 + 1];
	size_t n;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)((i % 97) ^ (i / 64));
	ck_assert_int_eq(bt_qcow_inflater_create(method, &in), 0);
	ck_assert_int_eq(bt_qcow_deflater_create(method, &de), 0);
	ck_assert_int_eq(bt_qcow_deflate(de, data, sizeof(data), packed,
					 sizeof(packed), &n),
			 0);
	ck_assert_uint_lt(n, sizeof(packed));
	ck_assert_int_eq(
		bt_qcow_deflate(de, data, sizeof(data), packed, n / 2, &n),
		-ENOSPC);
	for (int again = 0; again < 2; again++) {
		ck_assert_int_eq(bt_qcow_deflate(de, data, sizeof(data), packed,
						 sizeof(packed), &n),
				 0);
		out[4096] = 0xee;
		ck_assert_int_eq(bt_qcow_inflate(in, packed, n, out, 4096), 0);
		ck_assert_int_eq(memcmp(out, data, 4096), 0);
		/* What follows the stream is not part of it. */
		ck_assert_int_eq(bt_qcow_inflate(in, packed, 4096, out, 4096),
				 0);
		/* Cut, or shorter than the cluster; then a good one again. */
		ck_assert_int_eq(bt_qcow_inflate(in, packed, n / 2, out, 4096),
				 -EIO);
		ck_assert_int_eq(bt_qcow_inflate(in, packed, n, out, 4097),
				 -EIO);
		memset(packed, 0xff, n);
		ck_assert_int_eq(bt_qcow_inflate(in, packed, n, out, 4096),
				 -EIO);
		ck_assert_int_eq(bt_qcow_inflate(in, packed, 0, out, 4096),
				 -EIO);
	}
	bt_qcow_inflater_destroy(in);
	bt_qcow_deflater_destroy(de);
}

START_TEST(streams_fill_a_cluster_exactly_or_fail)
{
	try_method(BT_QCOW_ZLIB);
#ifdef HAVE_ZSTD
	try_method(BT_QCOW_ZSTD);
#else
	{
		struct bt_qcow_inflater *in;

		ck_assert_int_eq(bt_qcow_inflater_create(BT_QCOW_ZSTD, &in),
				 -ENOTSUP);
	}
#endif
	bt_qcow_inflater_destroy(NULL);
	bt_qcow_deflater_destroy(NULL);
}
END_TEST

#ifdef HAVE_GNUTLS
START_TEST(sectors_are_ciphered_as_the_format_has_it)
{
	static const uint8_t known[] = { 0xc4, 0x21, 0xfe, 0xcf,
					 0x4a, 0x24, 0x98, 0x43 };
	struct bt_qcow_cipher *cipher;
	uint8_t data[1024];

	ck_assert_int_eq(bt_qcow_cipher_create("", 0, &cipher), -EINVAL);
	ck_assert_int_eq(
		bt_qcow_cipher_create("12345678901234567", 17, &cipher),
		-EINVAL);
	ck_assert_int_eq(bt_qcow_cipher_create("geheim", 6, &cipher), 0);
	memset(data, 'a', sizeof(data));
	ck_assert_int_eq(bt_qcow_encrypt(cipher, 3 * 512, data, 1024), 0);
	ck_assert_int_eq(memcmp(data, known, 8), 0);
	/* Each sector has a vector of its own. */
	ck_assert_int_ne(memcmp(data, data + 512, 16), 0);
	ck_assert_int_eq(bt_qcow_decrypt(cipher, 4 * 512, data + 512, 512), 0);
	ck_assert_int_eq(bt_qcow_decrypt(cipher, 3 * 512, data, 512), 0);
	for (size_t i = 0; i < sizeof(data); i++)
		ck_assert_uint_eq(data[i], 'a');
	ck_assert_int_eq(bt_qcow_decrypt(cipher, 100, data, 512), -EINVAL);
	ck_assert_int_eq(bt_qcow_decrypt(cipher, 512, data, 100), -EINVAL);
	bt_qcow_cipher_destroy(cipher);
	bt_qcow_cipher_destroy(NULL);
}
END_TEST

START_TEST(xen_checksum_is_the_first_word_of_md5)
{
	struct bt_qcow_create c = { .version = 1,
				    .size = 10 << 20,
				    .xen = true };
	struct bt_qcow_layout l;

	/* MD5 of 40 zero bytes begins fd 4b 38 e9. */
	ck_assert_int_eq(bt_qcow_layout_plan(&c, &l, NULL), 0);
	ck_assert(l.header.has_xen);
	ck_assert_uint_eq(l.header.xen.cksum, 0xe9384bfd);
	ck_assert_uint_eq(bt_load_be32(l.head + 52), 0xe9384bfd);
	ck_assert_uint_eq(l.header.xen.flags, 3);
	ck_assert_uint_eq(l.header.xen.min_cluster_alloc, 512);
	ck_assert_uint_eq(l.header.l1_offset, 4096);
	ck_assert_uint_eq(l.file_bytes, 8192);
	ck_assert_uint_eq(bt_qcow_l1_sum_finish(NULL), 0);
}
END_TEST
#endif

int main(void)
{
	Suite *s = suite_create("libqcow tables");
	TCase *tc = tcase_create("tables");

	tcase_add_test(tc, entries_of_version_1_are_checked);
	tcase_add_test(tc, entries_of_versions_2_and_3_are_checked);
	tcase_add_test(
		tc, compressed_descriptors_go_both_ways_at_every_cluster_size);
	tcase_add_test(tc, entries_encode_to_what_decodes_the_same);
	tcase_add_test(tc, refcounts_of_every_width_keep_to_themselves);
	tcase_add_test(tc, refcount_table_entries_are_checked);
	tcase_add_test(tc, refcount_tables_count_themselves);
	tcase_add_test(tc, streams_fill_a_cluster_exactly_or_fail);
#ifdef HAVE_GNUTLS
	tcase_add_test(tc, sectors_are_ciphered_as_the_format_has_it);
	tcase_add_test(tc, xen_checksum_is_the_first_word_of_md5);
#endif
	suite_add_tcase(s, tc);
	return unit_run(s);
}
