/* SPDX-License-Identifier: BSD-3-Clause */
/* What a disk does when the file under it fails, is slow, or is full. */
#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "faulty.h"
#include "loop/loop.h"
#include "vbd/vbd.h"

#define SIZE (1u << 20)
#define MS 1000000ull

static struct blktap_context *context;
static struct blktap_disk *disk;
static char path[64];

static uint32_t events[16];
static char event_node[64];

static void on_event(void *opaque, struct blktap_disk *d,
		     const struct blktap_event *event)
{
	events[event->type]++;
	snprintf(event_node, sizeof(event_node), "%s", event->node);
}

static void open_disk(const struct blktap_disk_options *options)
{
	struct blktap_error *err = NULL;
	char spec[96];
	int rc;

	snprintf(spec, sizeof(spec), "raw:%s", path);
	rc = blktap_disk_open(context, spec, options, &disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	memset(events, 0, sizeof(events));
	blktap_disk_set_event(disk, on_event, NULL, NULL);
}

static void setup(void)
{
	int fd;

	strcpy(path, "/var/tmp/blktap-faults-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
	close(fd);
	faulty_reset();
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_VIRTUAL, &faulty_backend,
					      &context),
			 0);
}

static void teardown(void)
{
	faulty_reset();
	faulty_release(UINT32_MAX);
	blktap_context_destroy(context);
	unlink(path);
}

static void turns(void)
{
	int i;

	for (i = 0; i < 50; i++)
		ck_assert_int_eq(blktap_context_process(context), 0);
}

static void pass(uint64_t ns)
{
	bt_loop_advance(bt_context_get_loop(context), ns);
	turns();
}

struct op {
	struct iovec iov;
	uint32_t calls;
	int error;
};

static void op_done(void *opaque, int error)
{
	struct op *op = opaque;

	op->calls++;
	op->error = error;
}

static void start(struct op *op, enum blktap_op what, uint64_t offset,
		  void *data, size_t length, uint32_t flags)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = what,
		.flags = flags,
		.offset = offset,
		.length = length,
		.iov = &op->iov,
		.iov_count = data ? 1 : 0,
		.callback = op_done,
		.opaque = op,
	};

	op->iov.iov_base = data;
	op->iov.iov_len = length;
	op->calls = 0;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	turns();
}

static int run(enum blktap_op what, uint64_t offset, void *data, size_t length,
	       uint32_t flags)
{
	struct op op;

	start(&op, what, offset, data, length, flags);
	ck_assert_uint_eq(op.calls, 1);
	return op.error;
}

static struct blktap_disk_options options(void)
{
	struct blktap_disk_options o;

	blktap_disk_options_init(&o);
	return o;
}

static void close_disk(int expected)
{
	ck_assert_int_eq(blktap_disk_close(disk), expected);
}

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

/* ---- time ----------------------------------------------------------------- */

START_TEST(late_request_is_reported_once_with_its_node)
{
	struct blktap_disk_options o = options();
	struct blktap_disk_stats stats = { .size = sizeof(stats) };
	unsigned char back[512];
	struct op op;

	o.deadline_ms = 1000;
	open_disk(&o);
	faulty.hold = true;
	start(&op, BLKTAP_OP_READ, 0, back, 512, 0);
	pass(900 * MS);
	ck_assert_uint_eq(events[BLKTAP_EVENT_REQUEST_LATE], 0);
	pass(200 * MS);
	pass(5000 * MS);
	ck_assert_uint_eq(events[BLKTAP_EVENT_REQUEST_LATE], 1);
	ck_assert_msg(strstr(event_node, "raw:") != NULL, "%s", event_node);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	turns();
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, 0);
	blktap_disk_get_stats(disk, &stats);
	ck_assert_uint_eq(stats.late, 1);
	ck_assert_uint_eq(stats.outstanding, 0);
	close_disk(0);
}
END_TEST

static uint32_t pause_calls;
static int pause_error;
static char pause_text[128];

static void paused(void *opaque, int error, const char *message)
{
	pause_calls++;
	pause_error = error;
	snprintf(pause_text, sizeof(pause_text), "%s", message);
}

START_TEST(pause_that_meets_its_deadline_names_the_node_and_goes_on)
{
	unsigned char back[512], data[512] = { 1 };
	struct op op, held;

	pause_calls = 0;
	open_disk(NULL);
	faulty.hold = true;
	start(&op, BLKTAP_OP_READ, 0, back, 512, 0);
	ck_assert_int_eq(blktap_disk_pause(disk, 500, paused, NULL), 0);
	start(&held, BLKTAP_OP_WRITE, 0, data, 512, 0);
	pass(600 * MS);
	ck_assert_uint_eq(pause_calls, 1);
	ck_assert_int_eq(pause_error, -ETIMEDOUT);
	ck_assert_msg(strstr(pause_text, "raw:") && strstr(pause_text, "1 req"),
		      "%s", pause_text);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	turns();
	ck_assert_int_eq(op.error, 0);
	ck_assert_uint_eq(held.calls, 1);
	ck_assert_int_eq(held.error, 0);
	close_disk(0);
}
END_TEST

START_TEST(pause_whose_flush_fails_leaves_the_disk_running)
{
	unsigned char data[512] = { 1 };

	pause_calls = 0;
	open_disk(NULL);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, data, 512, 0), 0);
	faulty_add((struct faulty_rule){ .op = BT_IO_SYNC, .error = -EIO });
	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, NULL), 0);
	turns();
	ck_assert_uint_eq(pause_calls, 1);
	ck_assert_int_eq(pause_error, -EIO);
	ck_assert_int_eq(run(BLKTAP_OP_READ, 0, data, 512, 0), 0);
	close_disk(-EIO);
}
END_TEST

START_TEST(misaligned_write_waits_for_the_block_it_shares)
{
	unsigned char a[512], b[100], back[512];
	struct op first, second;

	open_disk(NULL);
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	faulty.hold = true;
	start(&first, BLKTAP_OP_WRITE, 0, a, 512, 0);
	start(&second, BLKTAP_OP_WRITE, 50, b, 100, 0);
	ck_assert_uint_eq(faulty.held, 1); /* its read has not been sent */
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	turns();
	ck_assert_uint_eq(second.calls, 1);
	ck_assert_int_eq(run(BLKTAP_OP_READ, 0, back, 512, 0), 0);
	memcpy(a + 50, b, 100);
	ck_assert_mem_eq(a, back, 512);
	close_disk(0);
}
END_TEST

struct queued {
	struct bt_request *req;
	uint32_t calls;
	int error;
};

static void queued_done(struct bt_request *req)
{
	struct queued *q = req->opaque;

	q->calls++;
	q->error = req->error;
	bt_pool_give(req);
}

static void queue(struct queued *q, struct bt_pool *pool, uint64_t offset,
		  size_t length)
{
	static unsigned char data[512];
	static const struct iovec iov = { data, sizeof(data) };

	memset(q, 0, sizeof(*q));
	q->req = bt_pool_take(pool);
	q->req->op = BLKTAP_OP_WRITE;
	q->req->offset = offset;
	q->req->length = length;
	q->req->data.iov = &iov;
	q->req->data.count = 1;
	q->req->done = queued_done;
	q->req->opaque = q;
	bt_vbd_submit(disk, q->req);
}

/* One frontend's padded write holds the block at the gate of a paused disk; the
 * other's waits for the block, and its frontend leaves. */
START_TEST(leaving_frontend_does_not_wait_for_a_block_another_has)
{
	struct bt_pool *staying, *leaving;
	struct queued first, second;

	pause_calls = 0;
	open_disk(NULL);
	ck_assert_int_eq(bt_vbd_pool_create(disk, 4, sizeof(struct bt_request),
					    &staying),
			 0);
	ck_assert_int_eq(bt_vbd_pool_create(disk, 4, sizeof(struct bt_request),
					    &leaving),
			 0);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, NULL), 0);
	turns();
	queue(&first, staying, 10, 20);
	queue(&second, leaving, 40, 20);
	bt_vbd_cancel(disk, leaving, -ESHUTDOWN);
	ck_assert_uint_eq(second.calls, 1);
	ck_assert_int_eq(second.error, -ESHUTDOWN);
	ck_assert_uint_eq(first.calls, 0);
	bt_vbd_pool_destroy(disk, leaving);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	turns();
	ck_assert_uint_eq(first.calls, 1);
	ck_assert_int_eq(first.error, 0);
	bt_vbd_pool_destroy(disk, staying);
	close_disk(0);
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
	tcase_add_test(tc, zeroes_with_fua_fail_where_their_flush_fails);
	tcase_add_test(tc, zeroes_are_written_as_data_where_the_file_cannot);
	tcase_add_test(tc, full_disk_fails_the_write_by_default);
	tcase_add_test(tc, full_disk_parks_the_write_until_space_returns);
	tcase_add_test(tc, retries_end_at_the_deadline_with_the_last_error);
	tcase_add_test(tc, busy_is_retried_without_being_asked);
	tcase_add_test(tc, closing_does_not_wait_for_parked_requests);
	tcase_add_test(tc, late_request_is_reported_once_with_its_node);
	tcase_add_test(
		tc, pause_that_meets_its_deadline_names_the_node_and_goes_on);
	tcase_add_test(tc, pause_whose_flush_fails_leaves_the_disk_running);
	tcase_add_test(tc, misaligned_write_waits_for_the_block_it_shares);
	tcase_add_test(tc,
		       leaving_frontend_does_not_wait_for_a_block_another_has);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
