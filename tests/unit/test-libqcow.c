/* SPDX-License-Identifier: BSD-3-Clause */
/* The header: every field with a good value and with the bad ones that broke
 * others (CVE-2014-0142 to 0147, 0222, 0223 and their kin). */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "libqcow/extension.h"
#include "libqcow/geometry.h"
#include "util/bytes.h"

#define FILE_BYTES (UINT64_C(8) << 20)

/* A bad value at an offset of the header, and what is said of it. */
struct bad {
	unsigned int offset;
	unsigned int width;
	uint64_t value;
	int error;
	const char *field;
};

static void put(uint8_t *buf, unsigned int offset, unsigned int width,
		uint64_t value)
{
	uint8_t bytes[8];

	bt_store_be64(bytes, value);
	memcpy(buf + offset, bytes + 8 - width, width);
}

/* As QEMU makes it: 1 GiB, 4 KiB clusters, the L1 table behind the name. */
static void good_v1(uint8_t *buf)
{
	memset(buf, 0, 4096);
	put(buf, 0, 4, BT_QCOW_MAGIC);
	put(buf, 4, 4, 1);
	put(buf, 8, 8, 48);
	put(buf, 16, 4, 7);
	put(buf, 20, 4, 0x4a5b6c7d);
	put(buf, 24, 8, UINT64_C(1) << 30);
	buf[32] = 12;
	buf[33] = 9;
	put(buf, 40, 8, 56);
	memcpy(buf + 48, "base.im", 7);
}

static void good_xen(uint8_t *buf)
{
	good_v1(buf);
	put(buf, 8, 8, 64);
	memcpy(buf + 64, "base.im", 7);
	put(buf, 40, 8, 4096);
	put(buf, 48, 4, BT_QCOW_XEN_MAGIC);
	put(buf, 52, 4, 0x11223344);
	put(buf, 56, 4, 512);
	put(buf, 60, 4, 3);
}

/* 1 GiB, 64 KiB clusters: header, refcount table, one block, L1 table. */
static void good_v2(uint8_t *buf)
{
	memset(buf, 0, 4096);
	put(buf, 0, 4, BT_QCOW_MAGIC);
	put(buf, 4, 4, 2);
	put(buf, 20, 4, 16);
	put(buf, 24, 8, UINT64_C(1) << 30);
	put(buf, 36, 4, 2);
	put(buf, 40, 8, 0x30000);
	put(buf, 48, 8, 0x10000);
	put(buf, 56, 4, 1);
}

static void good_v3(uint8_t *buf)
{
	good_v2(buf);
	put(buf, 4, 4, 3);
	put(buf, 96, 4, 4);
	put(buf, 100, 4, 112);
}

static int open_header(const uint8_t *buf, struct bt_qcow_header *h,
		       unsigned int flags, struct bt_fault *fault)
{
	int rc = bt_qcow_header_decode(h, buf, 512, fault);

	return rc ? rc : bt_qcow_header_validate(h, FILE_BYTES, flags, fault);
}

static void refuses(void (*good)(uint8_t *), const struct bad *bad, size_t n)
{
	struct bt_qcow_header h;
	struct bt_fault fault;
	uint8_t buf[4096];

	for (size_t i = 0; i < n; i++) {
		good(buf);
		ck_assert_int_eq(open_header(buf, &h, BT_QCOW_FOR_WRITE, NULL),
				 0);
		put(buf, bad[i].offset, bad[i].width, bad[i].value);
		memset(&fault, 0, sizeof(fault));
		ck_assert_msg(open_header(buf, &h, BT_QCOW_FOR_WRITE, &fault) ==
				      bad[i].error,
			      "offset %u value 0x%llx", bad[i].offset,
			      (unsigned long long)bad[i].value);
		ck_assert_str_eq(fault.field, bad[i].field);
		ck_assert_ptr_nonnull(fault.reason);
		ck_assert_ptr_nonnull(fault.hint);
	}
}

#define REFUSES(good, bad) refuses(good, bad, sizeof(bad) / sizeof(*(bad)))

START_TEST(every_field_of_version_1_is_read)
{
	struct bt_qcow_header h;
	uint8_t buf[4096];
	char name[BT_QCOW_NAME_MAX + 1];

	good_v1(buf);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	ck_assert_uint_eq(h.version, 1);
	ck_assert_uint_eq(h.backing_offset, 48);
	ck_assert_uint_eq(h.backing_bytes, 7);
	ck_assert_uint_eq(h.mtime, 0x4a5b6c7d);
	ck_assert_uint_eq(h.size, UINT64_C(1) << 30);
	ck_assert_uint_eq(h.cluster_bits, 12);
	ck_assert_uint_eq(h.l2_bits, 9);
	ck_assert_uint_eq(h.crypt, BT_QCOW_CRYPT_NONE);
	ck_assert_uint_eq(h.l1_offset, 56);
	ck_assert_uint_eq(h.l1_entries, 512);
	ck_assert(!h.has_xen);
	ck_assert_int_eq(bt_qcow_backing_name(&h, buf, sizeof(buf), name, NULL),
			 0);
	ck_assert_str_eq(name, "base.im");
}
END_TEST

START_TEST(bad_fields_of_version_1_are_named)
{
	static const struct bad bad[] = {
		{ 0, 4, 0x514649fa, -EINVAL, "magic" },
		{ 4, 4, 0, -ENOTSUP, "version" },
		{ 4, 4, 4, -ENOTSUP, "version" },
		{ 8, 8, 47, -EINVAL, "backing_file_offset" },
		{ 8, 8, 1, -EINVAL, "backing_file_offset" },
		{ 8, 8, UINT64_MAX, -EINVAL, "backing_file_offset" },
		{ 8, 8, 65536, -EINVAL, "backing_file_offset" },
		{ 8, 8, 60, -EINVAL, "backing_file_offset" },
		{ 16, 4, 0, -EINVAL, "backing_file_size" },
		{ 16, 4, 1024, -EINVAL, "backing_file_size" },
		{ 16, 4, 0x7fffffff, -EINVAL, "backing_file_size" },
		{ 16, 4, 0xffffffff, -EINVAL, "backing_file_size" },
		{ 24, 8, 0, -EINVAL, "size" },
		{ 24, 8, 1, -EINVAL, "size" },
		{ 24, 8, UINT64_C(0xeeeeeeeeeeeeeeee), -EFBIG, "size" },
		{ 24, 8, UINT64_C(0x7fffffffffffffff), -EFBIG, "size" },
		{ 24, 8, UINT64_MAX, -EFBIG, "size" },
		{ 32, 1, 0, -EINVAL, "cluster_bits" },
		{ 32, 1, 8, -EINVAL, "cluster_bits" },
		{ 32, 1, 0x11, -EINVAL, "cluster_bits" },
		{ 32, 1, 0x1f, -EINVAL, "cluster_bits" },
		{ 32, 1, 0xff, -EINVAL, "cluster_bits" },
		{ 33, 1, 5, -EINVAL, "l2_bits" },
		{ 33, 1, 0x0e, -EINVAL, "l2_bits" },
		{ 33, 1, 0x1b, -EINVAL, "l2_bits" },
		{ 33, 1, 0xff, -EINVAL, "l2_bits" },
		{ 36, 4, 1, -ENOKEY, "crypt_method" },
		{ 36, 4, 2, -EINVAL, "crypt_method" },
		{ 36, 4, 0xffffffff, -EINVAL, "crypt_method" },
		{ 40, 8, 0, -EINVAL, "l1_table_offset" },
		{ 40, 8, 40, -EINVAL, "l1_table_offset" },
		{ 40, 8, 57, -EINVAL, "l1_table_offset" },
		{ 40, 8, FILE_BYTES - 8, -EINVAL, "l1_table_offset" },
		{ 40, 8, UINT64_MAX - 7, -EINVAL, "l1_table_offset" },
		{ 40, 8, 48, -EINVAL, "backing_file_offset" },
	};

#ifdef HAVE_GNUTLS
	REFUSES(good_v1, bad);
#else
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (bad[i].error != -ENOKEY)
			refuses(good_v1, &bad[i], 1);
#endif
}
END_TEST

START_TEST(xen_extension_is_believed_only_with_an_aligned_l1)
{
	static const struct bad bad[] = {
		{ 56, 4, 0, -EINVAL, "min_cluster_alloc" },
		{ 56, 4, 3, -EINVAL, "min_cluster_alloc" },
		{ 56, 4, 1024, -EINVAL, "min_cluster_alloc" },
		{ 56, 4, 0xffffffff, -EINVAL, "min_cluster_alloc" },
		{ 8, 8, 48, -EINVAL, "backing_file_offset" },
	};
	struct bt_qcow_header h;
	uint8_t buf[4096];

	good_xen(buf);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	ck_assert(h.has_xen);
	ck_assert_uint_eq(h.xen.cksum, 0x11223344);
	ck_assert_uint_eq(h.xen.min_cluster_alloc, 512);
	ck_assert_uint_eq(h.xen.flags, 3);
	ck_assert(!bt_qcow_l1_is_native(&h));
	put(buf, 60, 4, BT_QCOW_XEN_SPARSE);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	ck_assert(bt_qcow_l1_is_native(&h));
	put(buf, 40, 8, 4096 + 512);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	ck_assert(!h.has_xen);
	ck_assert(!bt_qcow_l1_is_native(&h));
	put(buf, 40, 8, 4096);
	put(buf, 48, 4, BT_QCOW_XEN_MAGIC + 1);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	ck_assert(!h.has_xen);
	REFUSES(good_xen, bad);
}
END_TEST

START_TEST(bad_fields_of_version_2_are_named)
{
	static const struct bad bad[] = {
		{ 8, 8, 8, -EINVAL, "backing_file_size" },
		{ 20, 4, 8, -EINVAL, "cluster_bits" },
		{ 20, 4, 22, -EINVAL, "cluster_bits" },
		{ 20, 4, 64, -EINVAL, "cluster_bits" },
		{ 20, 4, 0xffffffff, -EINVAL, "cluster_bits" },
		{ 24, 8, UINT64_MAX, -EFBIG, "size" },
		{ 24, 8, UINT64_C(1) << 62, -EFBIG, "size" },
		{ 24, 8, UINT64_C(2) << 30, -EINVAL, "l1_size" },
		{ 32, 4, 2, -ENOTSUP, "crypt_method" },
		{ 32, 4, 3, -EINVAL, "crypt_method" },
		{ 36, 4, 1, -EINVAL, "l1_size" },
		{ 36, 4, 0, -EINVAL, "l1_size" },
		{ 36, 4, 0xffffffff, -EFBIG, "l1_size" },
		{ 36, 4, 0x00400001, -EFBIG, "l1_size" },
		{ 36, 4, 0x00400000, -EINVAL, "l1_table_offset" },
		{ 40, 8, 0, -EINVAL, "l1_table_offset" },
		{ 40, 8, 0x30200, -EINVAL, "l1_table_offset" },
		{ 40, 8, UINT64_C(0x7fffffffffff0000), -EINVAL,
		  "l1_table_offset" },
		{ 40, 8, 0x10000, -EINVAL, "l1_table_offset" },
		{ 48, 8, 0, -EINVAL, "refcount_table_offset" },
		{ 48, 8, 0x10200, -EINVAL, "refcount_table_offset" },
		{ 48, 8, UINT64_C(0xffffffffffff0000), -EINVAL,
		  "refcount_table_offset" },
		{ 56, 4, 0, -EINVAL, "refcount_table_clusters" },
		{ 56, 4, 129, -EINVAL, "refcount_table_clusters" },
		{ 56, 4, 0xffffffff, -EINVAL, "refcount_table_clusters" },
		{ 56, 4, 3, -EINVAL, "l1_table_offset" },
		{ 60, 4, 1, -ENOTSUP, "nb_snapshots" },
		{ 60, 4, 65537, -EINVAL, "nb_snapshots" },
		{ 60, 4, 0xffffffff, -EINVAL, "nb_snapshots" },
	};

	REFUSES(good_v2, bad);
}
END_TEST

START_TEST(bad_fields_of_version_3_are_named)
{
	static const struct bad bad[] = {
		{ 72, 8, 2, -EROFS, "incompatible_features" },
		{ 72, 8, 4, -ENOTSUP, "incompatible_features" },
		{ 72, 8, 8, -EINVAL, "compression_type" },
		{ 72, 8, 16, -ENOTSUP, "incompatible_features" },
		{ 72, 8, 32, -ENOTSUP, "incompatible_features" },
		{ 72, 8, UINT64_C(1) << 63, -ENOTSUP, "incompatible_features" },
		{ 96, 4, 7, -EINVAL, "refcount_order" },
		{ 96, 4, 0xffffffff, -EINVAL, "refcount_order" },
		{ 100, 4, 0, -EINVAL, "header_length" },
		{ 100, 4, 103, -EINVAL, "header_length" },
		{ 100, 4, 106, -EINVAL, "header_length" },
		{ 100, 4, 0x10008, -EINVAL, "header_length" },
		{ 100, 4, 0xfffffff8, -EINVAL, "header_length" },
		{ 104, 1, 1, -EINVAL, "compression_type" },
	};
	struct bt_qcow_header h;
	uint8_t buf[4096];

	REFUSES(good_v3, bad);
	good_v3(buf);
	put(buf, 72, 8, 1);
	put(buf, 80, 8, UINT64_MAX);
	put(buf, 88, 8, UINT64_MAX);
	ck_assert_int_eq(open_header(buf, &h, BT_QCOW_FOR_WRITE, NULL), 0);
	ck_assert_uint_eq(h.incompatible, BT_QCOW_INCOMPAT_DIRTY);
	ck_assert(h.compatible & BT_QCOW_COMPAT_LAZY_REFCOUNTS);
	ck_assert_uint_eq(h.autoclear, UINT64_MAX);
	put(buf, 72, 8, 8);
	put(buf, 104, 1, 2);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), -ENOTSUP);
}
END_TEST

START_TEST(what_cannot_be_written_can_still_be_read)
{
	struct bt_qcow_header h;
	uint8_t buf[4096];

	good_v3(buf);
	put(buf, 72, 8, BT_QCOW_INCOMPAT_CORRUPT);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	good_v3(buf);
	put(buf, 60, 4, 1);
	put(buf, 64, 8, 0x40000);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	put(buf, 64, 8, FILE_BYTES);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), -EINVAL);
	put(buf, 64, 8, 0x40001);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), -EINVAL);
}
END_TEST

START_TEST(an_encrypted_image_needs_its_key_for_data_only)
{
	struct bt_qcow_geometry geo;
	struct bt_qcow_header h;
	uint8_t buf[4096];

	good_v1(buf);
	put(buf, 36, 4, 1);
	ck_assert_int_eq(open_header(buf, &h, BT_QCOW_FOR_INFO, NULL), 0);
	bt_qcow_geometry_init(&geo, &h);
	ck_assert(geo.encrypted);
#ifdef HAVE_GNUTLS
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), -ENOKEY);
	ck_assert_int_eq(open_header(buf, &h, BT_QCOW_WITH_KEY, NULL), 0);
#else
	ck_assert_int_eq(open_header(buf, &h, BT_QCOW_WITH_KEY, NULL),
			 -ENOTSUP);
#endif
}
END_TEST

START_TEST(a_header_cut_short_is_refused_at_every_length)
{
	void (*const good[])(uint8_t *) = { good_v1, good_v2, good_v3 };
	const size_t need[] = { 48, 72, 104 };
	struct bt_qcow_header h;
	struct bt_fault fault;
	uint8_t buf[4096];

	for (size_t v = 0; v < 3; v++) {
		good[v](buf);
		for (size_t len = 0; len < need[v]; len++) {
			ck_assert_int_eq(
				bt_qcow_header_decode(&h, buf, len, &fault),
				-EINVAL);
			ck_assert_str_eq(fault.field, "file length");
		}
		ck_assert_int_eq(bt_qcow_header_decode(&h, buf, need[v], NULL),
				 0);
	}
}
END_TEST

START_TEST(a_file_that_ends_inside_a_table_is_refused)
{
	struct bt_qcow_header h;
	struct bt_fault fault;
	uint8_t buf[4096];

	good_v1(buf);
	ck_assert_int_eq(bt_qcow_header_decode(&h, buf, 512, NULL), 0);
	ck_assert_int_eq(bt_qcow_header_validate(&h, 56 + 512 * 8, 0, NULL), 0);
	ck_assert_int_eq(
		bt_qcow_header_validate(&h, 56 + 512 * 8 - 1, 0, &fault),
		-EINVAL);
	ck_assert_str_eq(fault.field, "l1_table_offset");
	good_v2(buf);
	ck_assert_int_eq(bt_qcow_header_decode(&h, buf, 512, NULL), 0);
	ck_assert_int_eq(bt_qcow_header_validate(&h, 0x30010, 0, NULL), 0);
	ck_assert_int_eq(bt_qcow_header_validate(&h, 0x3000f, 0, NULL),
			 -EINVAL);
	ck_assert_int_eq(bt_qcow_header_validate(&h, 0x1ffff, 0, &fault),
			 -EINVAL);
	ck_assert_str_eq(fault.field, "refcount_table_offset");
}
END_TEST

START_TEST(encode_gives_back_the_bytes_it_was_decoded_from)
{
	void (*const good[])(uint8_t *) = { good_v1, good_xen, good_v2,
					    good_v3 };
	const int len[] = { 48, 64, 72, 112 };
	struct bt_qcow_header h;
	uint8_t buf[4096], out[4096];

	for (size_t i = 0; i < 4; i++) {
		good[i](buf);
		ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
		memset(out, 0xee, sizeof(out));
		ck_assert_int_eq(
			bt_qcow_header_encode(&h, out, (size_t)len[i] - 1),
			-ENOSPC);
		/* Bytes between the known fields stay as they were. */
		if (i == 3)
			memset(out + 105, 0, 7);
		ck_assert_int_eq(bt_qcow_header_encode(&h, out, sizeof(out)),
				 len[i]);
		ck_assert_int_eq(memcmp(out, buf, (size_t)len[i]), 0);
		ck_assert_uint_eq(out[len[i]], 0xee);
	}
}
END_TEST

START_TEST(sizes_over_2_tib_are_mapped)
{
	struct bt_qcow_geometry geo;
	struct bt_qcow_header h;
	struct bt_qcow_place at;
	uint8_t buf[4096];

	good_v2(buf);
	put(buf, 24, 8, UINT64_C(16) << 40);
	put(buf, 36, 4, 32768);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	bt_qcow_geometry_init(&geo, &h);
	at = bt_qcow_locate(&geo, (UINT64_C(16) << 40) - 1);
	ck_assert_uint_eq(at.l1_index, 32767);
	ck_assert_uint_eq(at.l2_index, 8191);
	ck_assert_uint_eq(at.in_cluster, 65535);
	ck_assert_uint_eq(bt_qcow_guest_offset(&geo, 32767, 8191),
			  (UINT64_C(16) << 40) - 65536);
	ck_assert_uint_eq(bt_qcow_resident_bytes(&geo), 32768 * 8 + 65536);
	ck_assert_uint_ge(bt_qcow_file_max(&geo), UINT64_C(16) << 40);
	good_v1(buf);
	put(buf, 24, 8, UINT64_C(3) << 40);
	ck_assert_int_eq(bt_qcow_header_decode(&h, buf, 512, NULL), 0);
	ck_assert_int_eq(
		bt_qcow_header_validate(&h, UINT64_C(1) << 40, 0, NULL), 0);
	bt_qcow_geometry_init(&geo, &h);
	ck_assert_uint_eq(geo.l1_entries, 3 << 19);
	at = bt_qcow_locate(&geo, (UINT64_C(3) << 40) - 4096);
	ck_assert_uint_eq(at.l1_index, (3 << 19) - 1);
	ck_assert_uint_eq(at.l2_index, 511);
	ck_assert_uint_eq(at.in_cluster, 0);
}
END_TEST

START_TEST(fixed_metadata_is_hit_from_either_side)
{
	struct bt_qcow_geometry geo;
	struct bt_qcow_header h;
	uint8_t buf[4096];

	good_v2(buf);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	bt_qcow_geometry_init(&geo, &h);
	ck_assert_str_eq(bt_qcow_region_hit(&geo, 0xffff, 1)->name, "header");
	ck_assert_str_eq(bt_qcow_region_hit(&geo, 0x1ffff, 1)->name,
			 "refcount table");
	ck_assert_ptr_null(bt_qcow_region_hit(&geo, 0x20000, 0x10000));
	ck_assert_str_eq(bt_qcow_region_hit(&geo, 0x20000, 0x10001)->name,
			 "L1 table");
	ck_assert_ptr_nonnull(bt_qcow_region_hit(&geo, 0x20000, UINT64_MAX));
	ck_assert_ptr_null(bt_qcow_region_hit(&geo, UINT64_MAX - 1, 2));
}
END_TEST

START_TEST(a_backing_name_with_a_nul_is_refused)
{
	char name[BT_QCOW_NAME_MAX + 1];
	struct bt_qcow_header h;
	struct bt_fault fault;
	uint8_t buf[4096];

	good_v1(buf);
	buf[50] = '\0';
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	ck_assert_int_eq(
		bt_qcow_backing_name(&h, buf, sizeof(buf), name, &fault),
		-EINVAL);
	ck_assert_str_eq(fault.field, "backing_file_name");
	ck_assert_int_eq(bt_qcow_backing_name(&h, buf, 54, name, &fault),
			 -EINVAL);
	ck_assert_str_eq(fault.field, "backing_file_offset");
}
END_TEST

START_TEST(a_name_length_without_a_name_means_nothing)
{
	char name[BT_QCOW_NAME_MAX + 1];
	struct bt_qcow_header h;
	uint8_t buf[4096];

	good_v1(buf);
	put(buf, 8, 8, 0);
	put(buf, 16, 4, 0xffffffff);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	ck_assert_uint_eq(bt_qcow_header_span(&h), 48);
	ck_assert_int_eq(bt_qcow_backing_name(&h, buf, 48, name, NULL), 0);
	ck_assert_str_eq(name, "");
}
END_TEST

START_TEST(extensions_are_read_and_unknown_ones_counted)
{
	struct bt_qcow_ext_info info;
	char name[BT_QCOW_FEATURE_NAME_MAX + 1];
	struct bt_qcow_header h;
	uint8_t buf[4096];
	size_t at = 112;

	good_v3(buf);
	ck_assert_int_eq(bt_qcow_ext_put(buf, 4096, &at,
					 BT_QCOW_EXT_BACKING_FORMAT, "vpc", 3),
			 0);
	ck_assert_uint_eq(at, 128);
	ck_assert_int_eq(bt_qcow_ext_put(buf, 4096, &at, 0x12345678, "x", 1),
			 0);
	ck_assert_int_eq(bt_qcow_ext_put_features(buf, 4096, &at), 0);
	ck_assert_int_eq(
		bt_qcow_ext_put(buf, at + 7, &at, BT_QCOW_EXT_END, NULL, 0),
		-ENOSPC);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	ck_assert_int_eq(bt_qcow_ext_read(&h, buf, 4096, &info, NULL), 0);
	ck_assert_str_eq(info.backing_format, "vpc");
	ck_assert_uint_eq(info.unknown, 1);
	ck_assert(bt_qcow_feature_name(&info, BT_QCOW_FEATURE_INCOMPATIBLE, 4,
				       name));
	ck_assert_str_eq(name, "extended L2 entries");
	ck_assert(!bt_qcow_feature_name(&info, BT_QCOW_FEATURE_INCOMPATIBLE, 17,
					name));
}
END_TEST

START_TEST(bad_extensions_are_named)
{
	struct bt_qcow_ext_info info;
	struct bt_qcow_header h;
	struct bt_fault fault;
	uint8_t buf[4096];

	good_v3(buf);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	put(buf, 112, 4, 0x12345678);
	put(buf, 116, 4, 4096 - 119);
	ck_assert_int_eq(bt_qcow_ext_read(&h, buf, 4096, &info, &fault),
			 -EINVAL);
	ck_assert_str_eq(fault.field, "header extension length");
	put(buf, 116, 4, 0xffffffff);
	ck_assert_int_eq(bt_qcow_ext_read(&h, buf, 4096, &info, NULL), -EINVAL);
	put(buf, 116, 4, 4096 - 120);
	ck_assert_int_eq(bt_qcow_ext_read(&h, buf, 4096, &info, NULL), 0);
	put(buf, 112, 4, (uint32_t)BT_QCOW_EXT_BACKING_FORMAT);
	ck_assert_int_eq(bt_qcow_ext_read(&h, buf, 4096, &info, &fault),
			 -EINVAL);
	ck_assert_str_eq(fault.field, "backing format length");
	put(buf, 116, 4, 4);
	memcpy(buf + 120, "ra\0w", 4);
	ck_assert_int_eq(bt_qcow_ext_read(&h, buf, 4096, &info, NULL), -EINVAL);
	put(buf, 112, 4, BT_QCOW_EXT_DATA_FILE);
	ck_assert_int_eq(bt_qcow_ext_read(&h, buf, 4096, &info, NULL),
			 -ENOTSUP);
	put(buf, 112, 4, BT_QCOW_EXT_CRYPTO);
	ck_assert_int_eq(bt_qcow_ext_read(&h, buf, 4096, &info, &fault),
			 -ENOTSUP);
	ck_assert_uint_eq(fault.value, BT_QCOW_EXT_CRYPTO);
	/* The name of the backing file ends the room. */
	put(buf, 112, 4, 0x12345678);
	put(buf, 116, 4, 8);
	put(buf, 8, 8, 127);
	put(buf, 16, 4, 4);
	ck_assert_int_eq(open_header(buf, &h, 0, NULL), 0);
	ck_assert_int_eq(bt_qcow_ext_read(&h, buf, 4096, &info, NULL), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("libqcow");
	TCase *tc = tcase_create("header");

	tcase_add_test(tc, every_field_of_version_1_is_read);
	tcase_add_test(tc, bad_fields_of_version_1_are_named);
	tcase_add_test(tc, xen_extension_is_believed_only_with_an_aligned_l1);
	tcase_add_test(tc, bad_fields_of_version_2_are_named);
	tcase_add_test(tc, bad_fields_of_version_3_are_named);
	tcase_add_test(tc, what_cannot_be_written_can_still_be_read);
	tcase_add_test(tc, an_encrypted_image_needs_its_key_for_data_only);
	tcase_add_test(tc, a_header_cut_short_is_refused_at_every_length);
	tcase_add_test(tc, a_file_that_ends_inside_a_table_is_refused);
	tcase_add_test(tc, encode_gives_back_the_bytes_it_was_decoded_from);
	tcase_add_test(tc, sizes_over_2_tib_are_mapped);
	tcase_add_test(tc, fixed_metadata_is_hit_from_either_side);
	tcase_add_test(tc, a_backing_name_with_a_nul_is_refused);
	tcase_add_test(tc, a_name_length_without_a_name_means_nothing);
	tcase_add_test(tc, extensions_are_read_and_unknown_ones_counted);
	tcase_add_test(tc, bad_extensions_are_named);
	suite_add_tcase(s, tc);
	return unit_run(s);
}
