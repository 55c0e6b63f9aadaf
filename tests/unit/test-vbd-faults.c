/* SPDX-License-Identifier: BSD-3-Clause */
/* What a disk does when the file under it fails, or is full. */
#include "vbd-rig.h"

/* ---- errors at every call ------------------------------------------------- */

/* The same small workload, with the nth operation of the file failing: the error
 * comes out of exactly one request, as it is, and the rest is right. */
static void fail_nth(int error, uint32_t nth, enum bt_io_op what)
{
	static const size_t sizes[] = { 4096, 700, 3 << 19, 512 };
	unsigned char *data = calloc(2, SIZE), *back = malloc(SIZE * 2);
	int failed = 0;
	unsigned int i;

	ck_assert(data && back);
	open_disk(NULL);
	faulty_add(
		(struct faulty_rule){ .op = what, .error = error, .nth = nth });
	for (i = 0; i < 4; i++) {
		size_t size = sizes[i] > SIZE ? SIZE : sizes[i];
		uint64_t offset = size == SIZE ? 0 : 1000 * i * (i & 1);
		int rc = run(BLKTAP_OP_WRITE, offset, data, size, 0);

		ck_assert(rc == 0 || rc == error);
		failed += rc != 0;
		rc = run(BLKTAP_OP_READ, offset, back, size, 0);
		ck_assert(rc == 0 || rc == error);
		failed += rc != 0;
	}
	ck_assert_int_le(failed, 1);
	faulty_reset();
	memset(data, 7, SIZE);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, data, SIZE, 0), 0);
	ck_assert_int_eq(run(BLKTAP_OP_READ, 0, back, SIZE, 0), 0);
	ck_assert_mem_eq(data, back, SIZE);
	close_disk(0);
	free(data);
	free(back);
}

START_TEST(error_at_any_call_comes_out_of_one_request)
{
	uint32_t nth;

	for (nth = 1; nth <= 12; nth++) {
		fail_nth(-EIO, nth, BT_IO_READ);
		fail_nth(-EIO, nth, BT_IO_WRITE);
		fail_nth(-ENOSPC, nth, BT_IO_WRITE);
	}
}
END_TEST

START_TEST(short_transfers_are_continued)
{
	unsigned char data[65536], back[65536];
	unsigned int i;

	open_disk(NULL);
	for (i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)(i * 7);
	faulty_add((struct faulty_rule){
		.op = FAULTY_ANY, .shorten = true, .max_length = 4096 });
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 8192, data, sizeof(data), 0), 0);
	ck_assert_int_eq(run(BLKTAP_OP_READ, 8192, back, sizeof(back), 0), 0);
	ck_assert_mem_eq(data, back, sizeof(data));
	close_disk(0);
}
END_TEST

START_TEST(read_error_does_not_hand_out_old_bytes_as_data)
{
	unsigned char back[512];

	open_disk(NULL);
	faulty_add((struct faulty_rule){ .op = BT_IO_READ, .error = -EIO });
	memset(back, 0xaa, sizeof(back));
	ck_assert_int_eq(run(BLKTAP_OP_READ, 0, back, 512, 0), -EIO);
	ck_assert_uint_eq(events[BLKTAP_EVENT_ERROR], 1);
	ck_assert_msg(strstr(event_node, "raw:") != NULL, "%s", event_node);
	close_disk(0);
}
END_TEST

/* ---- flush ---------------------------------------------------------------- */

START_TEST(after_a_failed_flush_every_flush_fails_until_reopened)
{
	unsigned char data[512] = { 1 };

	open_disk(NULL);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, data, 512, 0), 0);
	faulty_add((struct faulty_rule){
		.op = BT_IO_SYNC, .error = -EIO, .nth = 1 });
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, NULL, 0, 0), -EIO);
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, NULL, 0, 0), -EIO);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, data, 512, 0), 0);
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, NULL, 0, 0), -EIO);
	close_disk(-EIO);
	faulty_reset();
	open_disk(NULL);
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, NULL, 0, 0), 0);
	close_disk(0);
}
END_TEST

/* The kernel tells of a page that it could not write once: to the write with FUA,
 * which need not be the one that page is of. */
START_TEST(flush_fails_after_a_cached_write_with_fua_has_failed)
{
	struct blktap_disk_options o = options();
	unsigned char data[512] = { 1 };

	o.flags = BLKTAP_OPEN_BUFFERED;
	open_disk(&o);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, data, 512, 0), 0);
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .error = -EIO, .nth = 1 });
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 4096, data, 512, BLKTAP_FUA),
			 -EIO);
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, NULL, 0, 0), -EIO);
	close_disk(-EIO);
}
END_TEST

/* A server without space says so when pages are written to it. Of the write itself
 * it says it again. */
START_TEST(flush_fails_after_a_write_with_fua_that_has_no_space_once)
{
	static const int errors[] = { -ENOSPC, -EDQUOT };
	struct blktap_disk_options o = options();
	unsigned char data[512] = { 1 };
	bool once = _i & 1;
	int error = errors[_i / 2];

	o.flags = BLKTAP_OPEN_BUFFERED;
	open_disk(&o);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, data, 512, 0), 0);
	faulty_add((struct faulty_rule){ .op = BT_IO_WRITE,
					 .error = error,
					 .nth = 1,
					 .times = once ? 1 : 2 });
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 4096, data, 512, BLKTAP_FUA),
			 error);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 4096, data, 512, BLKTAP_FUA), 0);
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, NULL, 0, 0), once ? error : 0);
	close_disk(once ? error : 0);
}
END_TEST

/* Each alone they succeed, and nobody was told. */
START_TEST(flush_fails_after_writes_with_fua_that_failed_together)
{
	struct blktap_disk_options o = options();
	unsigned char data[1024] = { 1 };
	struct op ops[2];
	struct iovec iov = { data, 512 };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE,
		.flags = BLKTAP_FUA,
		.length = 512,
		.iov = &iov,
		.iov_count = 1,
		.callback = op_done,
	};
	int i;

	o.flags = BLKTAP_OPEN_BUFFERED;
	open_disk(&o);
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .error = -EIO, .nth = 1 });
	memset(ops, 0, sizeof(ops));
	for (i = 0; i < 2; i++) {
		io.opaque = &ops[i];
		io.offset = 512u * (unsigned int)i;
		ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	}
	turns();
	ck_assert(ops[0].calls && !ops[0].error);
	ck_assert(ops[1].calls && !ops[1].error);
	ck_assert_int_eq(run(BLKTAP_OP_FLUSH, 0, NULL, 0, 0), -EIO);
	close_disk(-EIO);
}
END_TEST

START_TEST(zeroes_with_fua_fail_where_their_flush_fails)
{
	open_disk(NULL);
	faulty_add((struct faulty_rule){ .op = BT_IO_SYNC, .error = -EIO });
	ck_assert_int_eq(run(BLKTAP_OP_WRITE_ZEROES, 0, NULL, 4096, BLKTAP_FUA),
			 -EIO);
	close_disk(-EIO);
}
END_TEST

/* ---- zeroes --------------------------------------------------------------- */

START_TEST(zeroes_are_written_as_data_where_the_file_cannot)
{
	unsigned char data[70000], back[70000];
	uint32_t before;

	open_disk(NULL);
	memset(data, 5, sizeof(data));
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 1000, data, sizeof(data), 0), 0);
	faulty_add(
		(struct faulty_rule){ .op = BT_IO_ZERO, .error = -EOPNOTSUPP });
	before = faulty.calls_of[BT_IO_WRITE];
	ck_assert_int_eq(run(BLKTAP_OP_WRITE_ZEROES, 2000, NULL, 60000, 0), 0);
	ck_assert_uint_gt(faulty.calls_of[BT_IO_WRITE], before);
	memset(data + 1000, 0, 60000);
	ck_assert_int_eq(run(BLKTAP_OP_READ, 1000, back, sizeof(back), 0), 0);
	ck_assert_mem_eq(data, back, sizeof(data));
	ck_assert_int_eq(
		run(BLKTAP_OP_WRITE_ZEROES, 4096, NULL, 4096, BLKTAP_FAST_ONLY),
		-ENOTSUP);
	close_disk(0);
}
END_TEST

/* ---- retry ---------------------------------------------------------------- */

START_TEST(full_disk_fails_the_write_by_default)
{
	unsigned char data[512] = { 1 };

	open_disk(NULL);
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .error = -ENOSPC, .nth = 1 });
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, data, 512, 0), -ENOSPC);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, data, 512, 0), 0);
	close_disk(0);
}
END_TEST

START_TEST(full_disk_parks_the_write_until_space_returns)
{
	struct blktap_disk_options o = options();
	unsigned char data[512] = { 1 }, back[512];
	struct op op;

	o.on_no_space = BLKTAP_POLICY_RETRY;
	open_disk(&o);
	faulty_add((struct faulty_rule){ .op = BT_IO_WRITE, .error = -ENOSPC });
	start(&op, BLKTAP_OP_WRITE, 0, data, 512, 0);
	ck_assert_uint_eq(op.calls, 0);
	ck_assert_uint_eq(events[BLKTAP_EVENT_PARKED], 1);
	ck_assert_int_eq(run(BLKTAP_OP_READ, 4096, back, 512, 0), 0);
	pass(2000 * MS);
	ck_assert_uint_eq(op.calls, 0);
	faulty_reset();
	pass(2000 * MS);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, 0);
	ck_assert_uint_ge(events[BLKTAP_EVENT_UNPARKED], 1);
	ck_assert_int_eq(run(BLKTAP_OP_READ, 0, back, 512, 0), 0);
	ck_assert_mem_eq(data, back, 512);
	close_disk(0);
}
END_TEST

START_TEST(retries_end_at_the_deadline_with_the_last_error)
{
	struct blktap_disk_options o = options();
	unsigned char data[100] = { 1 };
	struct op op;
	unsigned int i;

	o.on_io_error = BLKTAP_POLICY_RETRY;
	o.deadline_ms = 3000;
	open_disk(&o);
	faulty_add((struct faulty_rule){ .op = BT_IO_READ, .error = -EIO });
	start(&op, BLKTAP_OP_READ, 0, data, 100, 0); /* a padded part */
	for (i = 0; i < 40 && !op.calls; i++)
		pass(100 * MS);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, -EIO);
	close_disk(0);
}
END_TEST

START_TEST(busy_is_retried_without_being_asked)
{
	unsigned char data[512] = { 1 };
	struct op op;

	open_disk(NULL);
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .error = -EBUSY, .nth = 1 });
	start(&op, BLKTAP_OP_WRITE, 0, data, 512, 0);
	pass(100 * MS);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, 0);
	close_disk(0);
}
END_TEST

START_TEST(closing_does_not_wait_for_parked_requests)
{
	struct blktap_disk_options o = options();
	unsigned char data[512] = { 1 };
	struct op op;

	o.on_no_space = BLKTAP_POLICY_RETRY;
	open_disk(&o);
	faulty_add((struct faulty_rule){ .op = BT_IO_WRITE, .error = -ENOSPC });
	start(&op, BLKTAP_OP_WRITE, 0, data, 512, 0);
	close_disk(0);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, -ENOSPC);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vbd faults");
	TCase *tc = tcase_create("vbd faults");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, error_at_any_call_comes_out_of_one_request);
	tcase_add_test(tc, short_transfers_are_continued);
	tcase_add_test(tc, read_error_does_not_hand_out_old_bytes_as_data);
	tcase_add_test(tc,
		       after_a_failed_flush_every_flush_fails_until_reopened);
	tcase_add_test(tc,
		       flush_fails_after_a_cached_write_with_fua_has_failed);
	tcase_add_loop_test(
		tc, flush_fails_after_a_write_with_fua_that_has_no_space_once,
		0, 4);
	tcase_add_test(tc,
		       flush_fails_after_writes_with_fua_that_failed_together);
	tcase_add_test(tc, zeroes_with_fua_fail_where_their_flush_fails);
	tcase_add_test(tc, zeroes_are_written_as_data_where_the_file_cannot);
	tcase_add_test(tc, full_disk_fails_the_write_by_default);
	tcase_add_test(tc, full_disk_parks_the_write_until_space_returns);
	tcase_add_test(tc, retries_end_at_the_deadline_with_the_last_error);
	tcase_add_test(tc, busy_is_retried_without_being_asked);
	tcase_add_test(tc, closing_does_not_wait_for_parked_requests);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
