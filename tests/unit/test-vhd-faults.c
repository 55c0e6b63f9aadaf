/* SPDX-License-Identifier: BSD-3-Clause */
/* The VHD driver on files that fail. */
#include "vhd-bench.h"

#include <sys/syscall.h>

/* ---- faults --------------------------------------------------------------- */

START_TEST(space_that_is_short_fails_only_who_needs_it)
{
	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	write_random(0, BLOCK);
	/* the bitmap of the next new block */
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .nth = 1, .error = -ENOSPC });
	memset(buffer, 9, BLOCK);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 8 * BLOCK, BLOCK, buffer, 0),
			 -ENOSPC);
	faulty_reset();
	compare(0, SIZE);
	/* its data */
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .nth = 3, .error = -ENOSPC });
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 8 * BLOCK, BLOCK, buffer, 0),
			 -ENOSPC);
	faulty_reset();
	compare(0, SIZE);
	write_random(8 * BLOCK, BLOCK);
	close_image();
	check_footers("a.vhd");
	open_image("a.vhd", 0);
	compare(0, SIZE);
}
END_TEST

START_TEST(a_footer_that_could_not_be_written_comes_with_the_flush)
{
	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .nth = 2, .error = -EIO });
	write_random(0, BLOCK);
	faulty_reset();
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, 0, NULL, 0), 0);
	close_image();
	check_footers("a.vhd");
}
END_TEST

START_TEST(without_space_for_the_footer_the_image_ends_where_it_did)
{
	static const int errors[] = { -ENOSPC, -EFBIG, -EDQUOT };
	struct stat before, after;
	size_t i;

	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	for (i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		open_image("a.vhd", 0);
		ck_assert_int_eq(stat(in_dir("a.vhd"), &before), 0);
		faulty_add((struct faulty_rule){
			.op = BT_IO_WRITE, .nth = 2, .error = errors[i] });
		memset(buffer, 1, BLOCK);
		ck_assert_int_eq(
			run(BLKTAP_OP_WRITE, i * BLOCK, BLOCK, buffer, 0),
			errors[i]);
		faulty_reset();
		compare(0, SIZE);
		close_image();
		check_footers("a.vhd");
		ck_assert_int_eq(stat(in_dir("a.vhd"), &after), 0);
		ck_assert_int_eq(after.st_size, before.st_size);
		/* and it goes on there */
		open_image("a.vhd", 0);
		write_random(i * BLOCK, BLOCK);
		close_image();
		check_footers("a.vhd");
	}
	open_image("a.vhd", 0);
	compare(0, SIZE);
}
END_TEST

START_TEST(a_failed_flush_stays_failed)
{
	unsigned char data[512] = { 1 };

	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	/* no FUA: its flush would leave the next one nothing to do */
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, 512, data, 0), 0);
	faulty_add((struct faulty_rule){
		.op = BT_IO_SYNC, .nth = 1, .error = -EIO });
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, 0, NULL, 0), -EIO);
	faulty_reset();
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, 0, NULL, 0), -EIO);
	ck_assert_int_eq(blktap_disk_close(disk), -EIO);
	disk = NULL;
	make("b.vhd", SIZE, NULL, NULL, NULL);
}
END_TEST

/* Every operation of a long run may fail; what failed is unknown, the rest is
 * as it was written, and the image stays sound. */
START_TEST(random_faults_lose_nothing_else)
{
	static bool unknown[SIZE / 512];
	unsigned int i, failed = 0;

	memset(model, 0, sizeof(model));
	memset(unknown, 0, sizeof(unknown));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	for (i = 0; i < 600; i++) {
		uint64_t sector = next_random() % (SIZE / 512 - 24);
		uint64_t count = next_random() % 24 + 1, s;
		int rc;

		faulty_reset();
		if (next_random() % 3 == 0)
			faulty_add((struct faulty_rule){
				.op = next_random() % 2 ? BT_IO_WRITE
							: BT_IO_READ,
				.nth = (uint32_t)(next_random() % 4 + 1),
				.error = next_random() % 2 ? -ENOSPC : -EIO });
		memset(buffer, (int)i, count * 512);
		rc = run(BLKTAP_OP_WRITE, sector * 512, count * 512, buffer, 0);
		failed += rc != 0;
		if (!rc)
			memset(model + sector * 512, (int)i, count * 512);
		for (s = sector; s < sector + count; s++)
			unknown[s] = rc != 0;
		faulty_reset();
		if (i % 50 == 49) {
			close_image();
			open_image("a.vhd", 0);
		}
	}
	ck_assert_uint_gt(failed, 20);
	close_image();
	check_footers("a.vhd");
	open_image("a.vhd", 0);
	for (i = 0; i < SIZE / 512; i++)
		if (!unknown[i])
			compare((uint64_t)i * 512, 512);
}
END_TEST

/* ---- another parent -------------------------------------------------------- */

#define FAULTS 8 /* calls of a new parent, and none */

static int spoil; /* the call after so many that fails; 0: none */

static bool is_spoilt(void)
{
	errno = EIO;
	return spoil && !--spoil;
}

/* Before the C library's: the driver's calls that block. */
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	return is_spoilt() ? -1
			   : syscall(SYS_pwrite64, fd, data, length, offset);
}

int fdatasync(int fd)
{
	return is_spoilt() ? -1 : (int)syscall(SYS_fdatasync, fd);
}

static void run_on(const char *program, const char *a, const char *b)
{
	char command[256];

	snprintf(command, sizeof(command), "%s %s %s", program, in_dir(a),
		 in_dir(b));
	ck_assert_int_eq(system(command), 0);
}

/* Nobody knows which of the two headers the file names: both have to stay. */
START_TEST(a_new_parent_that_fails_anywhere_leaves_an_image_that_goes_on)
{
	struct blktap_vhd *vhd;
	int rc;

	memset(model, 0, sizeof(model));
	make("one.vhd", SIZE, NULL, NULL, NULL);
	run_on("cp", "one.vhd", "two.vhd");
	make("a.vhd", SIZE, in_dir("one.vhd"), "vhd", NULL);
	ck_assert_int_eq(
		blktap_vhd_open(in_dir("a.vhd"), BLKTAP_VHD_WRITE, &vhd, NULL),
		0);
	/* behind it the next header and the next block have one place */
	ck_assert_int_eq(
		blktap_vhd_set_parent(vhd, in_dir("two.vhd"), false, NULL), 0);
	spoil = _i + 1;
	rc = blktap_vhd_set_parent(vhd, in_dir("one.vhd"), false, NULL);
	ck_assert_int_eq(rc, spoil ? 0 : -EIO);
	ck_assert_int_eq(spoil != 0, _i == FAULTS - 1);
	spoil = 0;
	ck_assert_int_eq(blktap_vhd_allocate(vhd, 4, 8, NULL, NULL, NULL), 0);
	blktap_vhd_close(vhd);
	open_image("a.vhd", BLKTAP_OPEN_READ_ONLY);
	compare(0, SIZE);
	close_image();
	open_image("a.vhd", 0);
	write_random(4 * BLOCK, BLOCK);
	write_random(12 * BLOCK, BLOCK);
	compare(0, SIZE);
	close_image();
	check_footers("a.vhd");
}
END_TEST

/* ---- encryption ------------------------------------------------------------ */

/* Behind both headers and a table of 1 MiB in blocks of 4 KiB. */
#define BATMAP_AT (512 + 1024 + SIZE / BLOCK * 4)

static int spoil_read; /* the pread after so many that fails; 0: none */

ssize_t pread(int fd, void *data, size_t length, off_t offset)
{
	errno = EIO;
	return spoil_read && !--spoil_read
		       ? -1
		       : syscall(SYS_pread64, fd, data, length, offset);
}

static bool make_encrypted(void)
{
	memset(model, 0, sizeof(model));
	make("a.vhd", SIZE, NULL, NULL, NULL);
	if (!encrypt("a.vhd"))
		return false;
	open_image("a.vhd", 0);
	write_random(0, 4 * BLOCK);
	close_image();
	return true;
}

/* Its ciphertext would be data, and what is written would lie there in the clear. */
START_TEST(a_read_that_fails_makes_no_encrypted_image_a_plain_one)
{
	char spec[128];
	int n, rc;

	if (!make_encrypted())
		return;
	snprintf(spec, sizeof(spec), "vhd:%s", in_dir("a.vhd"));
	for (n = 1; !spoil_read; n++) {
		spoil_read = n;
		rc = blktap_disk_open(context, spec, NULL, &disk, NULL);
		ck_assert_int_lt(rc, 0);
		ck_assert(!spoil_read || rc == -ENOKEY);
	}
	ck_assert_int_gt(n, 4);
}
END_TEST

START_TEST(a_read_that_fails_makes_no_plain_child_of_an_encrypted_image)
{
	struct blktap_vhd_key_hash hash;
	struct blktap_vhd *vhd;
	int n, rc, left = 0;

	if (!make_encrypted())
		return;
	for (n = 1; !left; n++) {
		spoil_read = n;
		rc = try_make("b.vhd", 0, in_dir("a.vhd"), "vhd", NULL, NULL);
		if (rc) {
			ck_assert_int_eq(access(in_dir("b.vhd"), F_OK), -1);
			continue;
		}
		left = spoil_read;
		spoil_read = 0;
		ck_assert_int_eq(
			blktap_vhd_open(in_dir("b.vhd"), 0, &vhd, NULL), 0);
		blktap_vhd_get_key_hash(vhd, &hash);
		ck_assert(hash.is_set);
		blktap_vhd_close(vhd);
		unlink(in_dir("b.vhd"));
	}
	ck_assert_int_gt(n, 4);
}
END_TEST

/* What writes could lose it: new tables have a batmap where there was a good one, and
 * on a device blocks go where nothing is known to be. */
START_TEST(the_hash_of_a_key_in_a_batmap_that_is_broken_is_not_lost)
{
	static const char newer[] = { 0, 9 };
	struct blktap_error *err = NULL;
	struct blktap_vhd *vhd;
	int fd;

	if (!make_encrypted())
		return;
	fd = open(in_dir("a.vhd"), O_RDWR);
	ck_assert_int_eq(pwrite(fd, newer, 2, BATMAP_AT + 20), 2);
	close(fd);
	run_on("cp", "a.vhd", "before.vhd");
	ck_assert_int_eq(
		blktap_vhd_open(in_dir("a.vhd"), BLKTAP_VHD_WRITE, &vhd, &err),
		-ENOTSUP);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), "hash of its key"));
	blktap_error_destroy(err);
	refuse("a.vhd", -ENOTSUP, "hash of its key");
	open_image("a.vhd", BLKTAP_OPEN_READ_ONLY);
	compare(0, SIZE);
	run_on("cmp", "a.vhd", "before.vhd");
}
END_TEST

static bool has_key(const char *name)
{
	struct blktap_vhd_key_hash hash;
	struct blktap_vhd *vhd;

	ck_assert_int_eq(blktap_vhd_open(in_dir(name), 0, &vhd, NULL), 0);
	blktap_vhd_get_key_hash(vhd, &hash);
	blktap_vhd_close(vhd);
	return hash.is_set;
}

/* A copy of a.vhd, of which the n-th read from now on fails. */
static struct blktap_vhd *open_spoiled(int n)
{
	struct blktap_vhd *vhd;

	run_on("cp", "a.vhd", "b.vhd");
	ck_assert_int_eq(
		blktap_vhd_open(in_dir("b.vhd"), BLKTAP_VHD_WRITE, &vhd, NULL),
		0);
	spoil_read = n;
	return vhd;
}

/* The image grows beyond its tables. */
START_TEST(tables_that_move_while_reads_fail_take_the_hash_with_them)
{
	struct blktap_vhd *vhd;
	int n, rc, left = 0;

	if (!make_encrypted())
		return;
	for (n = 1; !left; n++) {
		vhd = open_spoiled(n);
		rc = blktap_vhd_resize(vhd, 2 * SIZE, NULL, 0, NULL);
		left = spoil_read;
		spoil_read = 0;
		blktap_vhd_close(vhd);
		ck_assert(has_key("b.vhd"));
		ck_assert_int_eq(rc, left ? 0 : -EIO);
	}
	ck_assert_int_gt(n, 2);
}
END_TEST

/* A bit that stayed would make a block of the next sector that is written. */
START_TEST(no_block_that_was_dropped_is_left_in_the_batmap)
{
	struct blktap_vhd *vhd;
	int n, rc, left = 0;
	size_t size, i;
	uint8_t *map;

	make("a.vhd", SIZE, NULL, NULL, NULL);
	open_image("a.vhd", 0);
	write_random(0, 4 * BLOCK);
	close_image();
	for (n = 1; !left; n++) {
		vhd = open_spoiled(n);
		rc = blktap_vhd_drop_data(vhd, NULL);
		left = spoil_read;
		spoil_read = 0;
		blktap_vhd_close(vhd);
		ck_assert_int_eq(rc, left ? 0 : -EIO);
		ck_assert_int_eq(
			blktap_vhd_open(in_dir("b.vhd"), 0, &vhd, NULL), 0);
		ck_assert_int_eq(blktap_vhd_get_map(vhd, true, (void **)&map,
						    &size, NULL),
				 0);
		ck_assert_uint_eq(map[0], rc ? 0xf0 : 0);
		for (i = 1; i < size; i++)
			ck_assert_uint_eq(map[i], 0);
		free(map);
		blktap_vhd_close(vhd);
	}
	ck_assert_int_gt(n, 2);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vhd-faults");
	TCase *tc = tcase_create("faults");

	tcase_add_checked_fixture(tc, setup_faulty, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, space_that_is_short_fails_only_who_needs_it);
	tcase_add_test(tc,
		       a_footer_that_could_not_be_written_comes_with_the_flush);
	tcase_add_test(
		tc, without_space_for_the_footer_the_image_ends_where_it_did);
	tcase_add_test(tc, a_failed_flush_stays_failed);
	tcase_add_test(tc, random_faults_lose_nothing_else);
	tcase_add_loop_test(
		tc,
		a_new_parent_that_fails_anywhere_leaves_an_image_that_goes_on,
		0, FAULTS);
	tcase_add_test(tc,
		       a_read_that_fails_makes_no_encrypted_image_a_plain_one);
	tcase_add_test(
		tc,
		a_read_that_fails_makes_no_plain_child_of_an_encrypted_image);
	tcase_add_test(
		tc, the_hash_of_a_key_in_a_batmap_that_is_broken_is_not_lost);
	tcase_add_test(
		tc, tables_that_move_while_reads_fail_take_the_hash_with_them);
	tcase_add_test(tc, no_block_that_was_dropped_is_left_in_the_batmap);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
