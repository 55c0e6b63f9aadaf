/* SPDX-License-Identifier: BSD-3-Clause */
/* What a flush covers while the graph changes: also a write that was under way when
 * the change was made. */
#include "mason-run.h"

#include "faulty.h"
#include "loop/loop.h"
#include "vbd/vbd.h"

#define DISK "d :: disk(\"x\") -> "
#define RAW "r :: raw(%s/r.raw);"
#define MS 1000000ull

static struct blktap_disk *disk;
static char data[4096];
static struct iovec iov = { data, sizeof(data) };
static int error; /* of the write that is under way; 1: it is */

static void start(const char *graph)
{
	blktap_context_destroy(context);
	faulty_reset();
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_VIRTUAL, &faulty_backend,
					      &context),
			 0);
	put_image("r.raw", M);
	put("x.mason", graph);
	disk = open_disk("x.mason", NULL);
}

static void apply(const char *graph, const char *part)
{
	struct blktap_error *err = NULL;
	char text[512], *answer = NULL;
	int rc;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, sizeof(text), graph, dir, dir);
#pragma GCC diagnostic pop
	rc = blktap_mason_apply(disk, in_dir("new.mason"), text, strlen(text),
				NULL, &answer, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	ck_assert_msg(strstr(answer, part) != NULL, "%s", answer);
	free(answer);
}

/* How many flushes of the image the disk's is. */
static uint32_t flush(void)
{
	uint32_t before = faulty.calls_of[BT_IO_SYNC];

	ck_assert_int_eq(io(disk, BLKTAP_OP_FLUSH, 0, NULL, 0), 0);
	return faulty.calls_of[BT_IO_SYNC] - before;
}

/* It stays in the image until end_write. */
static void begin_write(void)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE,
		.length = sizeof(data),
		.iov = &iov,
		.iov_count = 1,
		.callback = set_error,
		.opaque = &error,
	};

	faulty_add((struct faulty_rule){
		.op = BT_IO_WRITE, .length = sizeof(data), .delay_ns = MS });
	error = 1;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	ck_assert_int_eq(blktap_context_process(context), 0);
}

static void end_write(void)
{
	ck_assert_int_eq(error, 1);
	bt_loop_advance(bt_context_get_loop(context), MS);
	while (error == 1)
		ck_assert_int_eq(blktap_context_run(context, 0), 0);
	ck_assert_int_eq(error, 0);
}

static void end(void)
{
	ck_assert_int_eq(blktap_disk_close(disk), 0);
}

/* A write that was under way ends by the edges it came by: the edge of a filter that
 * has come since has not seen it, and must not say that all is flushed. */
START_TEST(a_flush_covers_a_write_that_began_before_a_filter_came)
{
	static const char *const before[] = { DISK RAW,
					      DISK "a :: log() -> " RAW };
	static const char *const after[] = { DISK "b :: log() -> " RAW,
					     DISK RAW,
					     DISK "b :: delay() -> " RAW };

	start(before[_i / 3]);
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 8192, data, 4096), 0);
	begin_write();
	apply(after[_i % 3], "pause: none");
	ck_assert_uint_eq(flush(), 1);
	end_write();
	ck_assert_uint_eq(flush(), 1);
	ck_assert_uint_eq(flush(), 0);
	end();
}
END_TEST

/* No flush of the disk's goes to the base of a cow any more. */
START_TEST(a_base_has_what_was_written_before_a_filter_came)
{
	uint32_t before;

	start(DISK RAW);
	ck_assert_int_eq(io(disk, BLKTAP_OP_WRITE, 8192, data, 4096), 0);
	begin_write();
	apply(DISK "b :: log() -> " RAW, "pause: none");
	ck_assert_uint_eq(flush(), 1);
	end_write();
	before = faulty.calls_of[BT_IO_SYNC];
	apply(DISK "b :: log() -> c :: cow(); c[top] -> t :: ram(4M); "
		   "c[base] -> " RAW,
	      "2 added");
	ck_assert_uint_gt(faulty.calls_of[BT_IO_SYNC], before);
	ck_assert_uint_eq(flush(), 0);
	end();
}
END_TEST

/* A write that came by the edge above the filter is not seen at the edge below it. A
 * mirror must not come in between: what it copies would change behind it. */
START_TEST(a_change_waits_for_writes_that_began_before_the_one_before)
{
	struct blktap_mason_change change = { .size = sizeof(change) };
	struct blktap_error *err = NULL;
	char text[512], *answer = NULL;
	int rc;

	start(DISK RAW);
	begin_write();
	apply(DISK "b :: log() -> " RAW, "pause: none");
	put_image("s.raw", M);
	snprintf(text, sizeof(text),
		 DISK "b :: log() -> m :: mirror(source=0) => "
		      "r :: raw(%s/r.raw), s :: raw(%s/s.raw);",
		 dir, dir);
	change.deadline_ms = 20;
	rc = blktap_mason_apply(disk, in_dir("new.mason"), text, strlen(text),
				&change, &answer, &err);
	ck_assert_int_eq(rc, -ETIMEDOUT);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), "have not finished"));
	blktap_error_destroy(err);
	free(answer);
	end_write();
	apply(DISK "b :: log() -> m :: mirror(source=0) => "
		   "r :: raw(%s/r.raw), s :: raw(%s/s.raw);",
	      "2 added");
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mason-flush");
	TCase *tc = tcase_create("flush");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(
		tc, a_flush_covers_a_write_that_began_before_a_filter_came, 0,
		6);
	tcase_add_test(tc, a_base_has_what_was_written_before_a_filter_came);
	tcase_add_test(
		tc, a_change_waits_for_writes_that_began_before_the_one_before);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
