/* SPDX-License-Identifier: BSD-3-Clause */
/* The queue above a backend that fails, shortens, delays and refuses, at every
 * call index and in every place of a merged transfer. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "engine/private.h"
#include "faulty.h"

#define BLOCK 512u
#define BLOCKS 64u
#define MS 1000000ull

static struct bt_loop *loop;
static struct bt_engine *engine;
static struct bt_file file;
static int fd = -1;
static unsigned char model[BLOCKS * BLOCK];

struct op {
	struct bt_io io;
	struct iovec iov;
	int calls;
	int error;
};

static struct op ops[BLOCKS];
static unsigned char memory[BLOCKS * BLOCK] __attribute__((aligned(4096)));

static void make_engine(uint32_t depth)
{
	ck_assert_int_eq(bt_engine_create_backend(loop, NULL, &faulty_backend,
						  depth, &engine, NULL),
			 0);
	ck_assert_int_eq(bt_file_init(&file, engine, fd, false, "file"), 0);
}

static void setup(void)
{
	char path[] = "/var/tmp/blktap-faults-XXXXXX";
	uint32_t i;

	faulty_reset();
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_VIRTUAL, NULL, &loop), 0);
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	unlink(path);
	for (i = 0; i < sizeof(model); i++)
		model[i] = (unsigned char)(i / BLOCK * 3 + i + 1);
	ck_assert_int_eq(pwrite(fd, model, sizeof(model), 0), sizeof(model));
	make_engine(16);
}

static void teardown(void)
{
	ck_assert_uint_eq(file.in_flight, 0);
	bt_file_fini(&file);
	bt_engine_destroy(engine);
	bt_loop_destroy(loop);
	close(fd);
}

static void on_done(struct bt_io *io, int error)
{
	struct op *op = bt_list_entry(io, struct op, io);

	op->calls++;
	op->error = error;
}

/* ops[i] moves the ith block of the file to or from the ith of memory. */
static void submit(uint32_t i, enum bt_io_op kind)
{
	struct op *op = &ops[i];

	memset(op, 0, sizeof(*op));
	op->iov.iov_base = memory + i * BLOCK;
	op->iov.iov_len = BLOCK;
	op->io.file = &file;
	op->io.op = kind;
	op->io.offset = i * BLOCK;
	op->io.length = BLOCK;
	op->io.data.iov = &op->iov;
	op->io.data.count = 1;
	op->io.done = on_done;
	bt_engine_submit(&op->io);
}

/* Turns, and time where nothing else helps, until nothing is in flight. */
static void settle(void)
{
	int i;

	for (i = 0; i < 2000 && file.in_flight; i++) {
		bt_loop_turn(loop, 0);
		bt_loop_advance(loop, MS);
	}
	ck_assert_uint_eq(file.in_flight, 0);
}

static void check_file(uint32_t first, uint32_t count, bool is_new)
{
	unsigned char got[BLOCKS * BLOCK];
	const unsigned char *want = is_new ? memory : model;

	ck_assert_int_eq(pread(fd, got, sizeof(got), 0), sizeof(got));
	ck_assert(!memcmp(got + first * BLOCK, want + first * BLOCK,
			  (size_t)count * BLOCK));
}

/* count blocks, adjacent ones merged, or every second one. */
static void run(enum bt_io_op kind, uint32_t count, uint32_t step)
{
	uint32_t i;

	memset(memory, kind == BT_IO_WRITE ? 0xd7 : 0, sizeof(memory));
	for (i = 0; i < count; i++)
		submit(i * step, kind);
	settle();
	for (i = 0; i < count; i++)
		ck_assert_int_eq(ops[i * step].calls, 1);
}

static const int hard_errors[] = { -EIO, -ENOSPC, -EOPNOTSUPP, -EFBIG };

START_TEST(error_at_any_call_fails_that_io_and_no_other)
{
	enum bt_io_op kind = _i & 1 ? BT_IO_WRITE : BT_IO_READ;
	uint32_t nth, i;

	for (nth = 1; nth <= 24; nth++) {
		int error = hard_errors[nth % 4];

		faulty_reset();
		faulty_add((struct faulty_rule){
			.op = FAULTY_ANY, .nth = nth, .error = error });
		run(kind, 24, 2);
		ck_assert_uint_eq(faulty.calls, 24);
		for (i = 0; i < 24; i++)
			ck_assert_int_eq(ops[i * 2].error,
					 i + 1 == nth ? error : 0);
	}
}
END_TEST

START_TEST(error_in_a_merged_transfer_fails_only_whom_it_concerns)
{
	enum bt_io_op kind = _i & 1 ? BT_IO_WRITE : BT_IO_READ;
	uint32_t bad, i;

	for (bad = 0; bad < 12; bad++) {
		faulty_reset();
		ck_assert_int_eq(pwrite(fd, model, sizeof(model), 0),
				 sizeof(model));
		faulty_add((struct faulty_rule){ .op = FAULTY_ANY,
						 .offset = bad * BLOCK,
						 .length = BLOCK,
						 .error = -EIO });
		run(kind, 12, 1);
		for (i = 0; i < 12; i++) {
			ck_assert_int_eq(ops[i].error, i == bad ? -EIO : 0);
			if (kind == BT_IO_WRITE)
				check_file(i, 1, i != bad);
			else if (i != bad)
				check_file(i, 1, true);
		}
	}
	ck_assert_uint_eq(bt_engine_get_stats(engine)->merged, 12 * 11);
}
END_TEST

START_TEST(error_after_a_short_transfer_keeps_what_was_moved)
{
	uint32_t i;

	faulty_add((struct faulty_rule){ .op = BT_IO_READ,
					 .nth = 1,
					 .shorten = true,
					 .max_length = 5 * BLOCK + 100 });
	faulty_add((struct faulty_rule){ .op = BT_IO_READ,
					 .offset = 5 * BLOCK,
					 .length = BLOCK,
					 .nth = 2,
					 .times = UINT32_MAX,
					 .error = -EIO });
	run(BT_IO_READ, 12, 1);
	for (i = 0; i < 12; i++)
		ck_assert_int_eq(ops[i].error, i == 5 ? -EIO : 0);
	check_file(0, 5, true);
	check_file(6, 6, true);
}
END_TEST

START_TEST(interruption_at_any_call_is_repeated)
{
	int error = _i ? -EAGAIN : -EINTR;
	uint32_t nth, i;

	for (nth = 1; nth <= 24; nth++) {
		faulty_reset();
		faulty_add((struct faulty_rule){ .op = FAULTY_ANY,
						 .nth = nth,
						 .times = 3,
						 .error = error });
		run(BT_IO_READ, 24, 2);
		for (i = 0; i < 24; i++)
			ck_assert_int_eq(ops[i * 2].error, 0);
		for (i = 0; i < 24; i++)
			check_file(i * 2, 1, true);
	}
	ck_assert_uint_eq(bt_engine_get_stats(engine)->retries, 24 * 3);
}
END_TEST

START_TEST(interruption_without_end_becomes_an_error)
{
	faulty_add((struct faulty_rule){ .op = BT_IO_READ,
					 .offset = 0,
					 .length = BLOCK,
					 .error = -EAGAIN });
	run(BT_IO_READ, 2, 2);
	ck_assert_int_eq(ops[0].error, -EAGAIN);
	ck_assert_int_eq(ops[2].error, 0);
	/* It did not spin: it waited on the clock. */
	ck_assert(bt_loop_now(loop) > 100 * MS);
}
END_TEST

START_TEST(short_transfer_of_any_length_at_any_call_goes_on)
{
	static const uint64_t lengths[] = { 1, 100, 511, 512, 513, 1500, 2048 };
	enum bt_io_op kind = _i & 1 ? BT_IO_WRITE : BT_IO_READ;
	uint32_t nth, i;

	for (i = 0; i < BT_ARRAY_SIZE(lengths); i++) {
		for (nth = 1; nth <= 4; nth++) {
			ck_assert_int_eq(pwrite(fd, model, sizeof(model), 0),
					 sizeof(model));
			faulty_reset();
			faulty_add((struct faulty_rule){
				.op = kind,
				.nth = nth,
				.times = nth == 1 ? UINT32_MAX : 1,
				.shorten = true,
				.max_length = lengths[i] });
			run(kind, 6, 1);
			run(kind, 6, 3);
			check_file(0, 1, true);
			check_file(3, 1, true);
			check_file(15, 1, true);
		}
	}
	ck_assert_uint_gt(bt_engine_get_stats(engine)->short_transfers, 50);
}
END_TEST

START_TEST(short_transfer_of_direct_goes_on_from_an_aligned_place)
{
	file.direct = true;
	file.offset_align = BLOCK;
	file.memory_align = BLOCK;
	faulty_add((struct faulty_rule){ .op = BT_IO_WRITE,
					 .nth = 1,
					 .shorten = true,
					 .max_length = 3 * BLOCK + 17 });
	run(BT_IO_WRITE, 8, 1);
	check_file(0, 8, true);
	ck_assert_int_eq(ops[7].error, 0);
	/* A write that never gets past an odd place ends. */
	faulty_reset();
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .shorten = true, .max_length = 17 });
	run(BT_IO_WRITE, 2, 1);
	ck_assert_int_eq(ops[0].error, -EIO);
	ck_assert_int_eq(ops[1].error, -EIO);
}
END_TEST

START_TEST(bounced_transfer_survives_shortening_and_failure)
{
	uint32_t max;

	file.direct = true;
	file.offset_align = BLOCK;
	file.memory_align = 1024;
	for (max = BLOCK; max <= 3 * BLOCK; max += BLOCK) {
		faulty_reset();
		faulty_add((struct faulty_rule){
			.op = BT_IO_READ, .shorten = true, .max_length = max });
		faulty_add((struct faulty_rule){
			.op = BT_IO_WRITE, .nth = 2, .error = -EIO });
		run(BT_IO_READ, 12, 1);
		check_file(0, 12, true);
		run(BT_IO_WRITE, 3, 1);
		ck_assert_int_eq(ops[0].error, 0);
		ck_assert_int_eq(ops[1].error, -EIO);
		ck_assert_int_eq(ops[2].error, 0);
	}
	ck_assert_uint_gt(bt_engine_get_stats(engine)->bounced, 0);
	/* Every buffer came back. */
	ck_assert_uint_eq(engine->bounces.free_count, engine->bounces.made);
}
END_TEST

START_TEST(write_that_moves_nothing_is_a_full_device)
{
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .shorten = true, .max_length = 0 });
	run(BT_IO_WRITE, 1, 1);
	ck_assert_int_eq(ops[0].error, -ENOSPC);
}
END_TEST

START_TEST(read_that_claims_too_much_is_an_error)
{
	faulty_add((struct faulty_rule){ .op = BT_IO_READ, .error = 100000 });
	run(BT_IO_READ, 1, 1);
	ck_assert_int_eq(ops[0].error, -EIO);
}
END_TEST

START_TEST(submission_refused_for_now_is_repeated)
{
	static const int errors[] = { -EAGAIN, -EBUSY, -EINTR, -ENOMEM };
	uint32_t i;

	for (i = 0; i < 4; i++) {
		faulty_reset();
		faulty.submit_error = errors[i];
		run(BT_IO_READ, 4, 2);
		check_file(0, 1, true);
		ck_assert_int_eq(ops[0].error, 0);
		ck_assert_int_eq(ops[6].error, 0);
	}
}
END_TEST

START_TEST(submission_refused_for_good_fails_the_first_slot)
{
	faulty.submit_error = -EBADF;
	run(BT_IO_READ, 3, 2);
	ck_assert_int_eq(ops[0].error, -EBADF);
	ck_assert_int_eq(ops[2].error, 0);
	ck_assert_int_eq(ops[4].error, 0);
}
END_TEST

START_TEST(submission_taken_in_part_goes_on_in_order)
{
	faulty.take_max = 1;
	run(BT_IO_READ, 20, 2);
	ck_assert_uint_eq(faulty.calls, 20);
	ck_assert_uint_eq(bt_engine_get_stats(engine)->batches, 20);
	check_file(38, 1, true);
}
END_TEST

START_TEST(merging_stops_at_other_files_ops_flags_and_gaps)
{
	faulty.hold = true;
	submit(0, BT_IO_READ);
	submit(1, BT_IO_READ); /* goes along */
	submit(2, BT_IO_WRITE); /* another operation */
	submit(3, BT_IO_WRITE);
	ops[3].io.flags = BT_IO_FUA; /* other flags */
	submit(4, BT_IO_WRITE);
	submit(6, BT_IO_WRITE); /* a gap */
	submit(5, BT_IO_WRITE); /* backwards */
	submit(8, BT_IO_SYNC);
	submit(9, BT_IO_SYNC); /* never */
	submit(10, BT_IO_PUNCH);
	submit(11, BT_IO_PUNCH); /* goes along */
	bt_loop_turn(loop, 0);
	ck_assert_uint_eq(bt_engine_get_stats(engine)->merged, 2);
	ck_assert_uint_eq(faulty.held, 9);
	ck_assert_uint_eq(bt_engine_get_stats(engine)->batches, 1);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	settle();
}
END_TEST

START_TEST(merging_stops_at_the_entries_and_bytes_of_a_slot)
{
	static struct op big[3];
	static unsigned char buffer[700 * 1024];
	uint32_t i;

	ck_assert_int_eq(ftruncate(fd, 3 << 20), 0);
	faulty.hold = true;
	for (i = 0; i < 3; i++) {
		big[i].iov.iov_base = buffer;
		big[i].iov.iov_len = sizeof(buffer);
		big[i].io.file = &file;
		big[i].io.offset = i * sizeof(buffer);
		big[i].io.length = sizeof(buffer);
		big[i].io.data.iov = &big[i].iov;
		big[i].io.data.count = 1;
		big[i].io.done = on_done;
		bt_engine_submit(&big[i].io);
	}
	bt_loop_turn(loop, 0);
	ck_assert_uint_eq(faulty.held, 3);
	/* As many entries as a slot has. */
	for (i = 0; i < BLOCKS; i++)
		submit(i, BT_IO_READ);
	bt_loop_turn(loop, 0);
	ck_assert_uint_eq(faulty.held, 4);
	for (i = 0; i < BLOCKS; i++)
		ck_assert_int_eq(ops[i].calls, 0);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	settle();
	ck_assert_int_eq(big[2].error, 0);
	check_file(0, BLOCKS, true);
}
END_TEST

START_TEST(slots_used_up_make_the_rest_wait_in_order)
{
	uint32_t i;

	faulty.hold = true;
	for (i = 0; i < 20; i++)
		submit(i * 2, BT_IO_READ);
	bt_loop_turn(loop, 0);
	ck_assert_uint_eq(faulty.held, 16);
	ck_assert_uint_eq(faulty.calls, 16);
	faulty_release(1);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(ops[0].calls, 1);
	ck_assert_int_eq(ops[2].calls, 0);
	ck_assert_uint_eq(faulty.calls, 17);
	ck_assert_uint_eq(file.in_flight, 19);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	settle();
	ck_assert_int_eq(ops[38].calls, 1);
}
END_TEST

/* How many batches went out before the turn ended. */
static uint64_t early_batches(uint32_t count, uint32_t step, uint32_t in_kernel,
			      bool has_device)
{
	uint64_t before = bt_engine_get_stats(engine)->batches, early;
	uint32_t i;

	faulty.pace.in_kernel = in_kernel;
	faulty.pace.has_device = has_device;
	for (i = 0; i < count; i++)
		submit(i * step, BT_IO_READ);
	early = bt_engine_get_stats(engine)->batches - before;
	for (i = 0; i < count; i++)
		ck_assert_int_eq(ops[i * step].calls, 0);
	settle();
	for (i = 0; i < count; i++)
		ck_assert_int_eq(ops[i * step].error, 0);
	return early;
}

START_TEST(helpings_keep_a_device_busy_and_spare_calls_where_there_is_none)
{
	ck_assert_uint_eq(early_batches(9, 2, 0, true), 4);
	ck_assert_uint_eq(early_batches(9, 2, 24, true), 1);
	ck_assert_uint_eq(early_batches(9, 2, 200, true), 0);
	ck_assert_uint_eq(early_batches(9, 2, 0, false), 0);
	/* neighbours are one transfer, and stay it */
	ck_assert_uint_eq(early_batches(9, 1, 0, true), 0);
}
END_TEST

START_TEST(delays_follow_the_clock_of_the_loop)
{
	faulty_add((struct faulty_rule){
		.op = BT_IO_READ, .nth = 1, .delay_ns = 5 * MS });
	submit(0, BT_IO_READ);
	submit(2, BT_IO_READ);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(ops[0].calls, 0);
	ck_assert_int_eq(ops[2].calls, 1);
	bt_loop_advance(loop, 5 * MS);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(ops[0].calls, 1);
}
END_TEST

START_TEST(backend_that_cannot_start_is_an_error_with_its_name)
{
	struct blktap_error *err = NULL;
	struct bt_engine *other = NULL;

	faulty.init_error = -EPERM;
	ck_assert_int_eq(bt_engine_create_backend(loop, NULL, &faulty_backend,
						  0, &other, &err),
			 -EPERM);
	ck_assert_ptr_null(other);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "faulty"));
	blktap_error_destroy(err);
	bt_engine_destroy(NULL);
}
END_TEST

/* Random operations against a model, with every kind of transient trouble. */
START_TEST(bytes_are_right_under_constant_trouble)
{
	uint32_t seed = (uint32_t)_i * 77 + 1, round, i;

	faulty_add((struct faulty_rule){ .op = FAULTY_ANY,
					 .nth = 7,
					 .times = 40,
					 .shorten = true,
					 .max_length = 700 });
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .nth = 20, .times = 7, .error = -EINTR });
	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .nth = 60, .times = 2, .delay_ns = 3 * MS });
	for (round = 0; round < 50; round++) {
		faulty.take_max = round % 5;
		if (round % 10 == 9)
			for (i = 0; i < faulty.rule_count; i++)
				faulty.rules[i].met = 0;
		for (i = 0; i < BLOCKS; i++) {
			seed = seed * 1664525 + 1013904223;
			memset(memory + i * BLOCK, (int)(seed >> 24), BLOCK);
			if (seed & 0x10000)
				submit(i, BT_IO_WRITE);
			else
				submit(i, BT_IO_READ);
		}
		settle();
		for (i = 0; i < BLOCKS; i++)
			ck_assert_int_eq(ops[i].error, 0);
		check_file(0, BLOCKS, true);
	}
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_loop_test(tc, error_at_any_call_fails_that_io_and_no_other, 0,
			    2);
	tcase_add_loop_test(
		tc, error_in_a_merged_transfer_fails_only_whom_it_concerns, 0,
		2);
	tcase_add_test(tc, error_after_a_short_transfer_keeps_what_was_moved);
	tcase_add_loop_test(tc, interruption_at_any_call_is_repeated, 0, 2);
	tcase_add_test(tc, interruption_without_end_becomes_an_error);
	tcase_add_loop_test(
		tc, short_transfer_of_any_length_at_any_call_goes_on, 0, 2);
	tcase_add_test(tc,
		       short_transfer_of_direct_goes_on_from_an_aligned_place);
	tcase_add_test(tc, bounced_transfer_survives_shortening_and_failure);
	tcase_add_test(tc, write_that_moves_nothing_is_a_full_device);
	tcase_add_test(tc, read_that_claims_too_much_is_an_error);
	tcase_add_test(tc, submission_refused_for_now_is_repeated);
	tcase_add_test(tc, submission_refused_for_good_fails_the_first_slot);
	tcase_add_test(tc, submission_taken_in_part_goes_on_in_order);
	tcase_add_test(tc, merging_stops_at_other_files_ops_flags_and_gaps);
	tcase_add_test(tc, merging_stops_at_the_entries_and_bytes_of_a_slot);
	tcase_add_test(tc, slots_used_up_make_the_rest_wait_in_order);
	tcase_add_test(
		tc,
		helpings_keep_a_device_busy_and_spare_calls_where_there_is_none);
	tcase_add_test(tc, delays_follow_the_clock_of_the_loop);
	tcase_add_test(tc, backend_that_cannot_start_is_an_error_with_its_name);
	tcase_add_loop_test(tc, bytes_are_right_under_constant_trouble, 0, 4);
}

int main(void)
{
	Suite *suite = suite_create("engine faults");
	TCase *tc = tcase_create("faults");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	add_tests(tc);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
