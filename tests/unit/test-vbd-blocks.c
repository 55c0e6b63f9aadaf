/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk that is resumed onto an image of other blocks, while requests wait that were
 * cut for those of before. */
#include "vbd-rig.h"

static uint32_t pause_calls;

static void paused(void *opaque, int error, const char *message)
{
	ck_assert_int_eq(error, 0);
	pause_calls++;
}

/* One file as two images: with blocks of one byte, and with those of O_DIRECT. */
static char cached[128], direct[96];

static void name_images(void)
{
	snprintf(cached, sizeof(cached), "raw(\"%s\", cache=writeback)", path);
	snprintf(direct, sizeof(direct), "raw:%s", path);
}

/* A paused disk, and a write of 100 bytes from 10 on that waits for another try. */
static void park(struct op *op, const char *spec, unsigned char *data)
{
	struct blktap_disk_options o = options();

	pause_calls = 0;
	o.on_no_space = BLKTAP_POLICY_RETRY;
	ck_assert_int_eq(blktap_disk_open(context, spec, &o, &disk, NULL), 0);
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .error = -ENOSPC, .nth = 1 });
	start(op, BLKTAP_OP_WRITE, 10, data, 100, 0);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, NULL), 0);
	turns();
	ck_assert_uint_eq(pause_calls, 1);
	ck_assert_uint_eq(op->calls, 0);
}

/* What waits to be tried again was cut for the image that was there. */
START_TEST(parked_request_meets_no_image_it_does_not_fit)
{
	struct blktap_error *err = NULL;
	unsigned char data[100] = { 1 };
	struct op op;
	int rc;

	name_images();
	park(&op, cached, data);
	rc = blktap_disk_resume(disk, direct, &err);
	ck_assert_int_eq(rc, -EBUSY);
	blktap_error_destroy(err);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	pass(10 * MS);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, 0);
	close_disk(0);
}
END_TEST

/* A block of the old size is whole blocks of a smaller one: a pause that is resumed as
 * it was must not fail because something waits. */
START_TEST(part_of_a_larger_block_goes_on_over_smaller_ones)
{
	struct blktap_error *err = NULL;
	unsigned char data[100], back[120];
	struct op op, read;
	int rc;

	memset(data, 7, sizeof(data));
	name_images();
	park(&op, direct, data);
	rc = blktap_disk_resume(disk, cached, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	pass(10 * MS);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, 0);
	start(&read, BLKTAP_OP_READ, 0, back, sizeof(back), 0);
	turns();
	ck_assert_int_eq(read.error, 0);
	ck_assert_int_eq(back[9], 0);
	ck_assert_mem_eq(back + 10, data, sizeof(data));
	ck_assert_int_eq(back[110], 0);
	close_disk(0);
}
END_TEST

/* A part that is whole blocks of the larger size as well is no reason to keep the
 * disk paused: zeroes are written in parts wherever a file system has none. */
START_TEST(part_of_whole_blocks_goes_on_over_larger_ones)
{
	struct blktap_disk_options o = options();
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct blktap_error *err = NULL;
	unsigned char back[8192];
	struct op op, read;
	int rc;

	pause_calls = 0;
	o.on_no_space = BLKTAP_POLICY_RETRY;
	name_images();
	ck_assert_int_eq(blktap_disk_open(context, cached, &o, &disk, NULL), 0);
	memset(back, 7, sizeof(back));
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 4096, back, 8192, 0), 0);
	faulty_add((struct faulty_rule){
		.op = BT_IO_ZERO, .error = -EOPNOTSUPP, .nth = 1 });
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .error = -ENOSPC, .nth = 1 });
	start(&op, BLKTAP_OP_WRITE_ZEROES, 4096, NULL, 8192, 0);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, NULL), 0);
	turns();
	ck_assert_uint_eq(pause_calls, 1);
	ck_assert_uint_eq(op.calls, 0);
	rc = blktap_disk_resume(disk, direct, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	blktap_disk_get_info(disk, &info);
	ck_assert_uint_gt(info.block_size, 1);
	pass(10 * MS);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, 0);
	start(&read, BLKTAP_OP_READ, 4096, back, 8192, 0);
	turns();
	ck_assert_int_eq(read.error, 0);
	ck_assert_int_eq(back[0] | memcmp(back, back + 1, 8191), 0);
	close_disk(0);
}
END_TEST

/* Nor may what its flush stands for: where that fails, it is written once more. */
START_TEST(zeroes_whose_flush_waits_meet_no_image_they_do_not_fit)
{
	struct op op;

	pause_calls = 0;
	name_images();
	ck_assert_int_eq(blktap_disk_open(context, cached, NULL, &disk, NULL),
			 0);
	faulty.hold = true;
	start(&op, BLKTAP_OP_WRITE_ZEROES, 10, NULL, 100, BLKTAP_FUA);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, NULL), 0);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	turns();
	ck_assert_uint_eq(pause_calls, 1);
	ck_assert_uint_eq(op.calls, 0);
	ck_assert_int_eq(blktap_disk_resume(disk, direct, NULL), -EBUSY);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	turns();
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, 0);
	close_disk(0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vbd blocks");
	TCase *tc = tcase_create("vbd blocks");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, parked_request_meets_no_image_it_does_not_fit);
	tcase_add_test(tc, part_of_a_larger_block_goes_on_over_smaller_ones);
	tcase_add_test(tc, part_of_whole_blocks_goes_on_over_larger_ones);
	tcase_add_test(tc,
		       zeroes_whose_flush_waits_meet_no_image_they_do_not_fit);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
