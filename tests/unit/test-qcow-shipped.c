/* SPDX-License-Identifier: BSD-3-Clause */
/* Bugs that other qcow drivers and tools shipped, each with its test. QEMU makes
 * what we do not; without it those tests are empty. */
#include "qcow-images.h"

/* ---- clusters ------------------------------------------------------------- */

/* Shipped: what took the place of a compressed cluster did not move the end of
 * the file, so the next cluster went over it; and an unaligned stream could not
 * be read with O_DIRECT. */
START_TEST(what_replaces_a_compressed_cluster_is_not_overlapped)
{
	struct blktap_disk *disk;
	int i;

	if (!have_qemu() || sh("qemu-img create -q -f qcow c.img 1M"))
		return;
	ck_assert_int_eq(sh("qemu-io -f qcow -c 'write -c -P 1 0 4k' "
			    "-c 'write -c -P 2 4k 4k' -c 'write -c -P 3 8k 4k' "
			    "c.img >/dev/null"),
			 0);
	disk = open_disk("qcow:@/c.img", 0);
	expect(disk, 0, 1, 4096);
	put(disk, 512, 9, 512);
	for (i = 4; i < 40; i++)
		put(disk, (uint64_t)i * 4096, i, 4096);
	put(disk, 4096, 8, 4096);
	for (i = 40; i < 80; i++)
		put(disk, (uint64_t)i * 4096, i, 4096);
	for (i = 4; i < 80; i++)
		expect(disk, (uint64_t)i * 4096, i, 4096);
	expect(disk, 0, 1, 512);
	expect(disk, 512, 9, 512);
	expect(disk, 1024, 1, 3072);
	expect(disk, 4096, 8, 4096);
	expect(disk, 8192, 3, 4096);
	close_disk(disk);
}
END_TEST

/* Shipped: a lookup that failed was used as an offset. */
START_TEST(entry_past_the_end_of_the_file_is_an_error_and_no_place)
{
	unsigned char data[4096];
	struct blktap_disk *disk;
	uint64_t table, size;

	make("qcow", "e.img", MIB, 4096, NULL, NULL, NULL, 0);
	disk = open_disk("qcow:@/e.img", 0);
	put(disk, 0, 1, 8192);
	close_disk(disk);
	table = get64("e.img", (off_t)get64("e.img", 40));
	set64("e.img", (off_t)table, UINT64_C(1) << 40);
	size = file_size("e.img");
	disk = open_disk("qcow:@/e.img", 0);
	ck_assert_int_eq(transfer(disk, BLKTAP_OP_READ, 0, data, 4096), -EIO);
	ck_assert_int_eq(transfer(disk, BLKTAP_OP_WRITE, 0, data, 4096), -EIO);
	expect(disk, 4096, 1, 4096);
	close_disk(disk);
	ck_assert_uint_eq(file_size("e.img"), size);
}
END_TEST

/* Shipped: sector numbers in an int. */
START_TEST(places_past_2_and_4_tib_are_not_cut)
{
	static const uint64_t at[] = { (UINT64_C(1) << 31) - 512,
				       (UINT64_C(1) << 32) - 512,
				       (UINT64_C(1) << 40) - 512,
				       (UINT64_C(1) << 41) - 512,
				       (UINT64_C(5) << 40) - 1024 };
	const char *spec = _i ? "qcow2:@/b.img" : "qcow:@/b.img";
	struct blktap_disk *disk;
	unsigned int i;

	make(_i ? "qcow2" : "qcow", "b.img", UINT64_C(5) << 40,
	     _i ? 65536 : 16384, NULL, NULL, NULL, 0);
	disk = open_disk(spec, 0);
	for (i = 0; i < 5; i++)
		put(disk, at[i], (int)i + 1, 1024);
	close_disk(disk);
	disk = open_disk(spec, 0);
	for (i = 0; i < 5; i++)
		expect(disk, at[i], (int)i + 1, 1024);
	expect(disk, 0, 0, 4096);
	close_disk(disk);
}
END_TEST

/* Shipped: a file that ends within a sector or a cluster gave the next cluster a
 * place over the last. */
START_TEST(file_that_ends_anywhere_is_gone_on_with_behind_its_end)
{
	static const int tails[] = { 1, 511, 513, 2048 };
	struct blktap_disk *disk;
	char name[16], spec[32];
	int i;

	make("qcow", "u.img", MIB, 4096, NULL, NULL, NULL, 0);
	disk = open_disk("qcow:@/u.img", 0);
	put(disk, 0, 1, 4096);
	close_disk(disk);
	snprintf(name, sizeof(name), "u%d.img", _i);
	snprintf(spec, sizeof(spec), "qcow:@/%s", name);
	sh("cp u.img %s && truncate -s +%d %s", name, tails[_i], name);
	disk = open_disk(spec, 0);
	for (i = 1; i < 8; i++)
		put(disk, (uint64_t)i * 4096, i + 1, 4096);
	for (i = 0; i < 8; i++)
		expect(disk, (uint64_t)i * 4096, i + 1, 4096);
	close_disk(disk);
	/* or earlier than its last cluster does */
	ck_assert_int_eq(sh("truncate -s -%d %s", 1000, name), 0);
	disk = open_disk(spec, 0);
	expect(disk, 7 * 4096, 8, 2048);
	put(disk, 8 * 4096, 9, 4096);
	expect(disk, 7 * 4096, 8, 2048);
	expect(disk, 6 * 4096, 7, 4096);
	close_disk(disk);
}
END_TEST

/* Shipped: a pool of requests too small for one of many clusters. */
START_TEST(request_of_thousands_of_clusters_is_served)
{
	struct blktap_disk *disk;

	make("qcow", "m.img", 8 * MIB, 512, NULL, NULL, NULL, 0);
	disk = open_disk("qcow:@/m.img", 0);
	put(disk, 512, 1, 512);
	put(disk, 4 * MIB + 1024, 2, 512);
	put(disk, 2048, 3, 7 * MIB);
	expect(disk, 512, 1, 512);
	expect(disk, 1024, 0, 1024);
	expect(disk, 2048, 3, 7 * MIB);
	close_disk(disk);
}
END_TEST

/* ---- parents -------------------------------------------------------------- */

/* Shipped: the L1 table at byte 48 was written in 4 KiB, over header and name. */
START_TEST(table_beside_the_header_is_written_without_the_header)
{
	unsigned char before[48], after[48];
	struct blktap_disk *disk;

	if (!have_qemu())
		return;
	sh("truncate -s 4M base; qemu-img create -q -f qcow -b base -F raw "
	   "h.img >/dev/null");
	file_io("h.img", 0, before, 48, false);
	disk = open_disk("qcow(\"@/h.img\", backing_format=raw)", 0);
	put(disk, 0, 1, 512);
	put(disk, 3 * MIB, 2, 512);
	close_disk(disk);
	file_io("h.img", 0, after, 48, false);
	ck_assert_mem_eq(before, after, 48);
	ck_assert_int_eq(sh("qemu-img info h.img | grep -q 'file: base'"), 0);
}
END_TEST

/* Shipped: parents were opened for writing, looked for in the wrong directory, and
 * had to have the size of the child. */
START_TEST(parent_is_read_only_beside_its_child_and_of_any_size)
{
	struct blktap_disk *child, *parent;

	make("qcow2", "p.img", 2 * MIB, 0, NULL, NULL, NULL, 0);
	parent = open_disk("qcow2:@/p.img", 0);
	put(parent, 0, 5, 4096);
	close_disk(parent);
	sh("mkdir sub; cp p.img p.before");
	make("qcow2", "sub/c.img", 3 * MIB + 512, 0, NULL, "../p.img", "qcow2",
	     0);
	child = open_disk("qcow2:@/sub/c.img", 0);
	/* who writes would keep this reader out */
	parent = open_disk("qcow2:@/p.img", BLKTAP_OPEN_READ_ONLY);
	expect(child, 0, 5, 4096);
	put(child, 0, 6, 512);
	put(child, 3 * MIB, 7, 512);
	expect(child, 512, 5, 3584);
	expect(parent, 0, 5, 4096);
	close_disk(parent);
	close_disk(child);
	ck_assert_int_eq(sh("cmp p.img p.before"), 0);
}
END_TEST

/* Shipped: one byte past the buffer for the name. */
START_TEST(name_of_a_parent_may_be_as_long_as_the_format_takes)
{
	char name[1024] = "", spec[64];
	struct blktap_disk *disk;

	while (strlen(name) < 1018)
		strcat(name, "./");
	strcat(name, "/base");
	sh("truncate -s 1M base");
	make("qcow2", "l.img", MIB, 65536, "version=2", name, "raw", 0);
	ck_assert_uint_eq(get32("l.img", 16), 1023);
	snprintf(spec, sizeof(spec), "qcow2:@/l.img");
	disk = open_disk(spec, 0);
	expect(disk, 0, 0, 4096);
	close_disk(disk);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("qcow-shipped");
	TCase *tc = tcase_create("shipped");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc,
		       what_replaces_a_compressed_cluster_is_not_overlapped);
	tcase_add_test(tc,
		       entry_past_the_end_of_the_file_is_an_error_and_no_place);
	tcase_add_loop_test(tc, places_past_2_and_4_tib_are_not_cut, 0, 2);
	tcase_add_loop_test(
		tc, file_that_ends_anywhere_is_gone_on_with_behind_its_end, 0,
		4);
	tcase_add_test(tc, request_of_thousands_of_clusters_is_served);
	tcase_add_test(tc,
		       table_beside_the_header_is_written_without_the_header);
	tcase_add_test(tc,
		       parent_is_read_only_beside_its_child_and_of_any_size);
	tcase_add_test(tc, name_of_a_parent_may_be_as_long_as_the_format_takes);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
