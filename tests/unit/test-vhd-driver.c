/* SPDX-License-Identifier: BSD-3-Clause */
/* The VHD driver against an array of bytes, on images of each type and on
 * chains; and what it does when the file under it fails. BLKTAP_SEED repeats a
 * run. */
#include <blktap/vhd.h>

#include "driver/vhd/vhd.h"
#include "vbd/private.h"
#include "vhd-bench.h"

START_TEST(a_dynamic_disk_is_what_was_written_to_it)
{
	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	steps("a.vhd", false);
}
END_TEST

START_TEST(a_fixed_disk_is_what_was_written_to_it)
{
	struct stat st;

	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, "type=fixed");
	steps("a.vhd", false);
	ck_assert_int_eq(stat(in_dir("a.vhd"), &st), 0);
	ck_assert_int_eq(st.st_size, SIZE + 512);
}
END_TEST

START_TEST(a_child_of_a_smaller_raw_disk_is_what_was_written_to_it)
{
	static unsigned char before[BASE_SIZE], after[BASE_SIZE];
	int fd;

	make_base();
	memcpy(before, model, BASE_SIZE);
	make("a.vhd", SIZE, "base.raw", "raw", NULL);
	steps("a.vhd", true);
	fd = open(in_dir("base.raw"), O_RDONLY);
	ck_assert_int_eq(read(fd, after, BASE_SIZE), BASE_SIZE);
	close(fd);
	ck_assert(!memcmp(before, after, BASE_SIZE));
}
END_TEST

START_TEST(a_chain_is_what_was_written_to_its_top)
{
	static unsigned char middle[SIZE];

	make_base();
	make("a.vhd", SIZE, "base.raw", "raw", NULL);
	open_image("a.vhd", 0);
	write_random(3 * BLOCK + 512, 9 * BLOCK);
	write_random(SIZE - 1024, 1024);
	close_image();
	memcpy(middle, model, SIZE);
	make("b.vhd", 0, in_dir("a.vhd"), "vhd", NULL);
	open_image("b.vhd", 0);
	ck_assert_uint_eq(check_status(0, SIZE), 2);
	close_image();
	steps("b.vhd", true);
	memcpy(model, middle, SIZE);
	open_image("a.vhd", BLKTAP_OPEN_READ_ONLY);
	compare(0, SIZE);
}
END_TEST

START_TEST(an_encrypted_disk_is_what_was_written_to_it)
{
	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	if (encrypt("a.vhd"))
		steps("a.vhd", true);
}
END_TEST

START_TEST(an_encrypted_child_is_what_was_written_to_it)
{
	make_base();
	make("a.vhd", SIZE, "base.raw", "raw", NULL);
	if (!encrypt("a.vhd"))
		return;
	open_image("a.vhd", 0);
	write_random(3 * BLOCK + 512, 9 * BLOCK);
	close_image();
	make("b.vhd", 0, in_dir("a.vhd"), "vhd", NULL);
	steps("b.vhd", true);
}
END_TEST

START_TEST(two_writes_into_one_new_block_share_it)
{
	struct op ops[64];
	struct stat st;
	unsigned int i;

	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	for (i = 0; i < 64; i++) {
		struct blktap_io io = { .op = BLKTAP_OP_WRITE,
					.offset = (uint64_t)i * 512,
					.length = 512 };

		memset(model + i * 512, (int)i + 1, 512);
		submit(&ops[i], &io, model + i * 512);
	}
	for (i = 0; i < 64; i++) {
		settle(&ops[i]);
		ck_assert_int_eq(ops[i].error, 0);
	}
	compare(0, SIZE);
	close_image();
	check_footers("a.vhd");
	/* 8 blocks of data and their padded bitmaps, and little before */
	ck_assert_int_eq(stat(in_dir("a.vhd"), &st), 0);
	ck_assert_int_le(st.st_size, 8 * 2 * BLOCK + 8192);
	open_image("a.vhd", 0);
	compare(0, SIZE);
}
END_TEST

START_TEST(a_new_block_of_2_mib_is_not_filled_with_zeroes)
{
	struct blktap_image_options options;
	struct stat st;

	memset(model, 0, sizeof(model));
	blktap_image_options_init(&options);
	options.length = UINT64_C(2040) << 30;
	ck_assert_int_eq(
		blktap_image_create("vhd", in_dir("a.vhd"), &options, NULL), 0);
	open_image("a.vhd", 0);
	memset(buffer, 7, 512);
	ck_assert_int_eq(
		run(BLKTAP_OP_WRITE, options.length - 512, 512, buffer, 0), 0);
	ck_assert_int_eq(
		run(BLKTAP_OP_READ, options.length - 1024, 1024, buffer, 0), 0);
	ck_assert_uint_eq(buffer[0], 0);
	ck_assert_uint_eq(buffer[512], 7);
	close_image();
	ck_assert_int_eq(stat(in_dir("a.vhd"), &st), 0);
	/* the table alone is 4 MiB */
	ck_assert_int_gt(st.st_size, 6 << 20);
	ck_assert_int_lt(st.st_blocks * 512, 5 << 20);
}
END_TEST

/* ---- refusals ------------------------------------------------------------- */

static void poke(const char *name, off_t offset, const void *data, size_t len)
{
	int fd = open(in_dir(name), O_RDWR);

	ck_assert_int_eq(pwrite(fd, data, len, offset), (ssize_t)len);
	close(fd);
}

static void make_with_blocks(const char *name)
{
	memset(model, 0, sizeof(model));
	make(name, SIZE, NULL, NULL, NULL);
	open_image(name, 0);
	write_random(0, 4 * BLOCK);
	close_image();
}

START_TEST(a_bad_table_is_refused_before_anything_is_written)
{
	static const unsigned char metadata[] = { 0, 0, 0, 1 },
				   beyond[] = { 0, 1, 0, 0 };
	unsigned char entry[4];
	int fd;

	make_with_blocks("a.vhd");
	fd = open(in_dir("a.vhd"), O_RDONLY);
	ck_assert_int_eq(pread(fd, entry, 4, 1536), 4);
	close(fd);
	poke("a.vhd", 1540, metadata, 4);
	refuse("a.vhd", -EINVAL, "BAT entry of block 1 is 1");
	poke("a.vhd", 1540, beyond, 4);
	refuse("a.vhd", -EINVAL, "BAT entry of block 1 is 65536");
	poke("a.vhd", 1540, entry, 4);
	refuse("a.vhd", -EINVAL, "lie over each other");
	/* who only reads gets what is good */
	poke("a.vhd", 1540, beyond, 4);
	open_image("a.vhd", BLKTAP_OPEN_READ_ONLY);
	compare(0, BLOCK);
	ck_assert_int_eq(run(BLKTAP_OP_READ, BLOCK, BLOCK, buffer, 0), -EIO);
	compare(2 * BLOCK, BLOCK);
}
END_TEST

START_TEST(a_footer_that_is_lost_is_written_anew)
{
	unsigned char garbage[512];
	struct stat st;

	memset(garbage, 0xc7, sizeof(garbage));
	make_with_blocks("a.vhd");
	ck_assert_int_eq(stat(in_dir("a.vhd"), &st), 0);
	poke("a.vhd", st.st_size - 512, garbage, 512);
	open_image("a.vhd", BLKTAP_OPEN_READ_ONLY);
	compare(0, SIZE);
	close_image();
	open_image("a.vhd", 0);
	write_random(9 * BLOCK, BLOCK);
	compare(0, SIZE);
	close_image();
	check_footers("a.vhd");
	/* the same for the copy in front */
	poke("a.vhd", 0, garbage, 512);
	open_image("a.vhd", 0);
	compare(0, SIZE);
	close_image();
	check_footers("a.vhd");
}
END_TEST

START_TEST(a_read_only_opening_writes_nothing)
{
	struct stat before, after;

	make_with_blocks("a.vhd");
	ck_assert_int_eq(truncate(in_dir("a.vhd"), 20 * BLOCK), 0);
	ck_assert_int_eq(stat(in_dir("a.vhd"), &before), 0);
	open_image("a.vhd", BLKTAP_OPEN_READ_ONLY);
	compare(0, SIZE);
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, 0, NULL, 0), 0);
	close_image();
	ck_assert_int_eq(stat(in_dir("a.vhd"), &after), 0);
	ck_assert_int_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	ck_assert_int_eq(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
}
END_TEST

START_TEST(a_parent_that_is_missing_or_another_is_named)
{
	make_with_blocks("a.vhd");
	make("b.vhd", 0, "a.vhd", "vhd", NULL);
	make("other.vhd", SIZE, NULL, NULL, NULL);
	ck_assert_int_eq(rename(in_dir("a.vhd"), in_dir("moved.vhd")), 0);
	refuse("b.vhd", -ENOENT, "a.vhd");
	ck_assert_int_eq(rename(in_dir("other.vhd"), in_dir("a.vhd")), 0);
	refuse("b.vhd", -EINVAL, "but it was made over");
}
END_TEST

START_TEST(a_chain_that_moved_finds_its_new_parent_first)
{
	char command[160];

	make_with_blocks("a.vhd");
	make("b.vhd", 0, "a.vhd", "vhd", NULL);
	snprintf(command, sizeof(command), "mkdir %s/new && cp %s/*.vhd %s/new",
		 dir, dir, dir);
	ck_assert_int_eq(system(command), 0);
	open_image("a.vhd", 0);
	memset(buffer, 1, BLOCK);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, BLOCK, buffer, 0), 0);
	close_image();
	open_image("new/b.vhd", 0);
	compare(0, SIZE);
}
END_TEST

START_TEST(a_raw_parent_is_never_taken_for_an_image)
{
	unsigned char *image = calloc(1, SIZE);
	int fd;

	/* the guest of the raw disk writes a VHD into it */
	make_with_blocks("inner.vhd");
	fd = open(in_dir("inner.vhd"), O_RDONLY);
	ck_assert_int_gt(read(fd, image, SIZE), 0);
	close(fd);
	memcpy(model, image, SIZE);
	make_raw("base.raw", image, SIZE);
	make("a.vhd", 0, "base.raw", "raw", NULL);
	open_image("a.vhd", 0);
	compare(0, SIZE);
	free(image);
}
END_TEST

/* The footer goes behind each new block, and is believed. */
START_TEST(what_is_allocated_behind_a_resize_leaves_the_new_size)
{
	struct blktap_vhd_info info = { .struct_size = sizeof(info) };
	struct blktap_vhd *vhd;

	make("a.vhd", SIZE, NULL, NULL, "max_size=2M");
	ck_assert_int_eq(
		blktap_vhd_open(in_dir("a.vhd"), BLKTAP_VHD_WRITE, &vhd, NULL),
		0);
	ck_assert_int_eq(
		blktap_vhd_resize(vhd, SIZE + 4 * BLOCK, NULL, 0, NULL), 0);
	ck_assert_int_eq(blktap_vhd_allocate(vhd, 1, 1, NULL, NULL, NULL), 0);
	blktap_vhd_close(vhd);
	ck_assert_int_eq(blktap_vhd_get_info(in_dir("a.vhd"), &info, NULL), 0);
	ck_assert_uint_eq(info.length, SIZE + 4 * BLOCK);
	check_footers("a.vhd");
}
END_TEST

/* The file stands for a device, which may write what it is to zero. */
START_TEST(a_fixed_disk_on_a_device_has_no_fast_zeroes)
{
	struct bt_vhdimg *img;

	make("a.vhd", SIZE, NULL, NULL, "type=fixed");
	open_image("a.vhd", 0);
	img = disk->root->data;
	ck_assert_int_eq(
		run(BLKTAP_OP_WRITE_ZEROES, 0, 4096, NULL, BLKTAP_FAST_ONLY),
		0);
	img->f.is_device = true;
	ck_assert_int_eq(
		run(BLKTAP_OP_WRITE_ZEROES, 0, 4096, NULL, BLKTAP_FAST_ONLY),
		-ENOTSUP);
	img->f.is_device = false;
	close_image();
}
END_TEST

/* ---- zeroes over a parent --------------------------------------------------- */

static void count(void *opaque, int error)
{
	ck_assert_int_eq(error, 0);
	++*(uint32_t *)opaque;
}

static void count_pause(void *opaque, int error, const char *message)
{
	(void)message;
	count(opaque, error);
}

static void wait_for(const uint32_t *calls, uint32_t n)
{
	while (*calls < n)
		blktap_context_run(context, 1000);
}

/* An image that had zeroing was swapped for one that has not, while a request
 * waited. What the child lacks it must not take for zero. */
START_TEST(zeroes_that_wait_for_a_child_cover_what_its_parent_has)
{
	uint32_t calls = 0;
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE_ZEROES,
		.offset = BLOCK,
		.length = 4 * BLOCK,
		.callback = count,
		.opaque = &calls,
	};
	char spec[128];

	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	memset(model, 0x5a, SIZE);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, SIZE, model, 0), 0);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, count_pause, &calls), 0);
	wait_for(&calls, 1);
	make("b.vhd", 0, "a.vhd", "vhd", NULL);
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	snprintf(spec, sizeof(spec), "vhd:%s", in_dir("b.vhd"));
	ck_assert_int_eq(blktap_disk_resume(disk, spec, NULL), 0);
	wait_for(&calls, 2);
	memset(model + BLOCK, 0, 4 * BLOCK);
	compare(0, SIZE);
	close_image();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vhd-driver");
	TCase *tc = tcase_create("files");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, a_dynamic_disk_is_what_was_written_to_it);
	tcase_add_test(tc, a_fixed_disk_is_what_was_written_to_it);
	tcase_add_test(tc,
		       a_child_of_a_smaller_raw_disk_is_what_was_written_to_it);
	tcase_add_test(tc, a_chain_is_what_was_written_to_its_top);
	tcase_add_test(tc, an_encrypted_disk_is_what_was_written_to_it);
	tcase_add_test(tc, an_encrypted_child_is_what_was_written_to_it);
	tcase_add_test(tc, two_writes_into_one_new_block_share_it);
	tcase_add_test(tc, a_new_block_of_2_mib_is_not_filled_with_zeroes);
	tcase_add_test(tc, a_bad_table_is_refused_before_anything_is_written);
	tcase_add_test(tc, a_footer_that_is_lost_is_written_anew);
	tcase_add_test(tc, a_read_only_opening_writes_nothing);
	tcase_add_test(tc, a_parent_that_is_missing_or_another_is_named);
	tcase_add_test(tc, a_chain_that_moved_finds_its_new_parent_first);
	tcase_add_test(tc, a_raw_parent_is_never_taken_for_an_image);
	tcase_add_test(tc,
		       what_is_allocated_behind_a_resize_leaves_the_new_size);
	tcase_add_test(tc, a_fixed_disk_on_a_device_has_no_fast_zeroes);
	tcase_add_test(tc,
		       zeroes_that_wait_for_a_child_cover_what_its_parent_has);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
