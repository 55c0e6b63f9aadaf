/* SPDX-License-Identifier: BSD-3-Clause */
/* What an embedder's own code may do when the library calls it, wherever that is
 * from: a turn of the loop, a submission, a close. What waits is refused there. */
#include "vbd-rig.h"

static uint32_t tries;
static struct op other;

static void try_all(void)
{
	tries++;
	ck_assert_int_eq(blktap_disk_close(disk), -EDEADLK);
	ck_assert_int_eq(blktap_disk_resize(disk, 2 * SIZE, 0, NULL), -EDEADLK);
	ck_assert_int_eq(blktap_disk_snapshot(disk, NULL, 0, NULL, NULL),
			 -EDEADLK);
	ck_assert_int_eq(blktap_context_process(context), -EDEADLK);
	ck_assert_int_eq(blktap_context_run(context, 0), -EDEADLK);
	blktap_context_destroy(context); /* it stays, with a line in the log */
}

static void when_done(void *opaque, int error)
{
	op_done(opaque, error);
	try_all();
}

static void when_told(void *opaque, struct blktap_disk *d,
		      const struct blktap_event *event)
{
	(void)opaque;
	(void)d;
	if (event->type == BLKTAP_EVENT_ERROR)
		try_all();
}

static int paused_error;

static void when_paused(void *opaque, int error, const char *message)
{
	(void)opaque;
	(void)message;
	paused_error = error;
	if (error)
		try_all();
}

static void hold_a_read(struct op *op, void *data)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_READ,
		.length = 512,
		.iov = &op->iov,
		.iov_count = 1,
		.callback = when_done,
		.opaque = op,
	};

	ck_assert_int_eq(blktap_disk_pause(disk, 0, when_paused, NULL), 0);
	turns();
	op->iov = (struct iovec){ .iov_base = data, .iov_len = 512 };
	op->calls = 0;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	turns();
	ck_assert_uint_eq(op->calls, 0);
}

START_TEST(a_callback_that_a_close_calls_cannot_close)
{
	unsigned char data[512];
	struct op op;

	open_disk(NULL);
	blktap_disk_set_event(disk, NULL, NULL, NULL);
	tries = 0;
	hold_a_read(&op, data);
	close_disk(0);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, -ESHUTDOWN);
	ck_assert_uint_eq(tries, 1);
}
END_TEST

START_TEST(an_event_that_a_close_tells_of_cannot_close)
{
	unsigned char data[512];
	struct op op;

	open_disk(NULL);
	blktap_disk_set_event(disk, when_told, NULL, NULL);
	tries = 0;
	hold_a_read(&op, data);
	close_disk(0);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_uint_eq(tries, 2);
}
END_TEST

/* A request that the image refuses at once fails inside of its submission. */
static void fail_at_once(struct op *op)
{
	faulty_add(
		(struct faulty_rule){ .op = BT_IO_ZERO, .error = -EOPNOTSUPP });
	ck_assert_int_eq(run(BLKTAP_OP_WRITE_ZEROES, 0, NULL, 512, 0), 0);
	submit(op, BLKTAP_OP_WRITE_ZEROES, 0, NULL, 512, BLKTAP_FAST_ONLY);
}

START_TEST(an_event_inside_of_a_submission_cannot_close)
{
	struct op op;

	open_disk(NULL);
	blktap_disk_set_event(disk, when_told, NULL, NULL);
	tries = 0;
	fail_at_once(&op);
	ck_assert_uint_eq(tries, 1);
	ck_assert_uint_eq(op.calls, 0);
	turns();
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, -ENOTSUP);
	blktap_disk_set_event(disk, NULL, NULL, NULL);
	close_disk(0);
}
END_TEST

static struct op first;
static bool begun;

static void submit_another(void *opaque, struct blktap_disk *d,
			   const struct blktap_event *event)
{
	static unsigned char data[512];

	(void)opaque;
	(void)d;
	if (event->type == BLKTAP_EVENT_ERROR && begun && !tries++)
		submit(&other, BLKTAP_OP_READ, 0, data, 512, 0);
}

static void begin_inside(void *opaque, int error)
{
	op_done(opaque, error);
	begun = true;
	submit(&first, BLKTAP_OP_WRITE_ZEROES, 0, NULL, 512, BLKTAP_FAST_ONLY);
	ck_assert_uint_eq(tries, 1);
	ck_assert_uint_eq(first.calls, 0);
}

/* Whoever locks around a submission is not called back under his lock, also where an
 * event of it submits. */
START_TEST(no_completion_comes_inside_of_a_submission_that_submits)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE_ZEROES,
		.flags = BLKTAP_FAST_ONLY,
		.length = 512,
		.callback = begin_inside,
	};
	struct op op;

	open_disk(NULL);
	fail_at_once(&op);
	turns();
	blktap_disk_set_event(disk, submit_another, NULL, NULL);
	tries = 0;
	begun = false;
	io.opaque = &op;
	op.calls = 0;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	turns();
	ck_assert(begun);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_uint_eq(first.calls, 1);
	ck_assert_int_eq(first.error, -ENOTSUP);
	ck_assert_uint_eq(other.calls, 1);
	ck_assert_int_eq(other.error, 0);
	close_disk(0);
}
END_TEST

/* ---- an end that meets something else ---------------------------------------- */

static void count_pause(void *opaque, int error, const char *message)
{
	struct op *op = opaque;

	(void)message;
	op_done(op, error);
}

START_TEST(a_close_ends_what_waits_for_a_pause_under_way)
{
	unsigned char data[512] = { 1 };
	struct op pause = { .calls = 0 }, op;

	open_disk(NULL);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, count_pause, &pause), 0);
	submit(&op, BLKTAP_OP_WRITE, 0, data, 512, 0);
	close_disk(0);
	ck_assert_uint_eq(pause.calls, 1);
	ck_assert_int_eq(pause.error, 0);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, -ESHUTDOWN);
}
END_TEST

static char *told;

static void ask_for_statistics(void *opaque, int error)
{
	op_done(opaque, error);
	told = blktap_disk_get_stats_json(disk, false);
}

/* What the close ends is told of last, when the image is closed; of this one
 * without a turn of the loop in between. */
START_TEST(a_callback_of_a_close_may_ask_for_statistics)
{
	struct blktap_disk_options o = options();
	unsigned char data[512];
	struct op op = { .iov = { data, 512 } };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_READ,
		.length = 512,
		.iov = &op.iov,
		.iov_count = 1,
		.callback = ask_for_statistics,
		.opaque = &op,
	};

	o.on_io_error = BLKTAP_POLICY_RETRY;
	ck_assert_int_eq(
		blktap_disk_open(context, "error(size=1M)", &o, &disk, NULL),
		0);
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	turns();
	ck_assert_uint_eq(op.calls, 0);
	close_disk(0);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, -EIO);
	ck_assert_ptr_nonnull(told);
	ck_assert_ptr_nonnull(strstr(told, "\"nodes\":[]"));
	free(told);
}
END_TEST

static void try_to_resume(void *opaque, int error)
{
	op_done(opaque, error);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), -ESHUTDOWN);
}

/* What it opened nobody would close. */
START_TEST(a_callback_of_a_close_cannot_resume)
{
	unsigned char data[512];
	struct op pause = { .calls = 0 }, op = { .iov = { data, 512 } };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_READ,
		.length = 512,
		.iov = &op.iov,
		.iov_count = 1,
		.callback = try_to_resume,
		.opaque = &op,
	};

	open_disk(NULL);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, count_pause, &pause), 0);
	turns();
	ck_assert_uint_eq(pause.calls, 1);
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	close_disk(0);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, -ESHUTDOWN);
	/* its lock would be there still */
	open_disk(NULL);
	close_disk(0);
}
END_TEST

static int refused[3];

static void ask_for_more(struct bt_work *work)
{
	struct blktap_nbd_server *server;
	struct blktap_nbd_options o;
	char socket[96];

	blktap_nbd_options_init(&o);
	snprintf(socket, sizeof(socket), "%s.sock", path);
	o.unix_path = socket;
	refused[0] = blktap_disk_pause(disk, 0, count_pause, NULL);
	refused[1] = blktap_disk_replace(disk, "ram:1M", 0, count_pause, NULL);
	refused[2] = blktap_nbd_server_create(disk, &o, &server, NULL);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
}

/* What would come to an end behind the disk's own would be told to nobody, or find a
 * disk that is gone. */
START_TEST(nothing_begins_while_the_last_flush_is_under_way)
{
	unsigned char data[512] = { 1 };
	struct bt_work work;

	open_disk(NULL);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, data, 512, 0), 0);
	faulty.hold = true;
	bt_work_init(&work, ask_for_more);
	bt_loop_defer(bt_context_get_loop(context), &work);
	close_disk(0);
	ck_assert_int_eq(refused[0], -ESHUTDOWN);
	ck_assert_int_eq(refused[1], -ESHUTDOWN);
	ck_assert_int_eq(refused[2], -ESHUTDOWN);
}
END_TEST

/* As in a child of the embedder's that has closed all it inherited. */
START_TEST(a_context_whose_loop_is_gone_stays)
{
	int fd = blktap_context_get_fd(context), kept;
	unsigned char data[512];
	struct op op;

	open_disk(NULL);
	faulty.hold = true;
	start(&op, BLKTAP_OP_READ, 0, data, 512, 0);
	kept = dup(fd);
	ck_assert_int_ge(kept, 0);
	close(fd);
	blktap_context_destroy(context);
	ck_assert_uint_eq(op.calls, 0);
	ck_assert_int_eq(dup2(kept, fd), fd);
	close(kept);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	close_disk(0);
	ck_assert_uint_eq(op.calls, 1);
}
END_TEST

/* ---- from inside of a pause's end -------------------------------------------- */

static struct op pauses[2];
static const char *next_spec; /* NULL: a pause */

static void pause_again(void *opaque, int error)
{
	op_done(opaque, error);
	ck_assert_int_eq(
		next_spec ? blktap_disk_replace(disk, next_spec, 0, count_pause,
						&pauses[1])
			  : blktap_disk_pause(disk, 0, count_pause, &pauses[1]),
		0);
}

/* The request that waits is answered as soon as it is let go. */
static void submit_that_pauses(struct op *op, enum blktap_op what,
			       uint32_t flags)
{
	static unsigned char data[512];
	struct blktap_io io = {
		.size = sizeof(io),
		.op = what,
		.flags = flags,
		.length = 512,
		.iov = &op->iov,
		.iov_count = 1,
		.callback = pause_again,
		.opaque = op,
	};

	op->iov = (struct iovec){ data, 512 };
	op->calls = 0;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	turns();
}

START_TEST(each_pause_gets_its_own_answer_where_the_first_fails)
{
	unsigned char data[512] = { 1 };
	struct op op;

	memset(pauses, 0, sizeof(pauses));
	next_spec = NULL;
	open_disk(NULL);
	blktap_disk_set_event(disk, NULL, NULL, NULL);
	fail_at_once(&op);
	turns();
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 0, data, 512, 0), 0);
	faulty_add((struct faulty_rule){
		.op = BT_IO_SYNC, .error = -EIO, .nth = 1 });
	ck_assert_int_eq(blktap_disk_pause(disk, 0, count_pause, &pauses[0]),
			 0);
	submit_that_pauses(&op, BLKTAP_OP_WRITE_ZEROES, BLKTAP_FAST_ONLY);
	turns();
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, -ENOTSUP);
	ck_assert_uint_eq(pauses[0].calls, 1);
	ck_assert_int_eq(pauses[0].error, -EIO);
	ck_assert_uint_eq(pauses[1].calls, 1);
	/* a raw image's flush goes on failing */
	ck_assert_int_eq(pauses[1].error, -EIO);
	close_disk(-EIO);
}
END_TEST

static void open_ram(void)
{
	ck_assert_int_eq(blktap_disk_open(context, "ram:1M", NULL, &disk, NULL),
			 0);
}

START_TEST(a_replace_from_inside_of_another_takes_place)
{
	struct op op;

	memset(pauses, 0, sizeof(pauses));
	next_spec = "ram:3M";
	open_ram();
	ck_assert_int_eq(
		blktap_disk_replace(disk, "ram:2M", 0, count_pause, &pauses[0]),
		0);
	submit_that_pauses(&op, BLKTAP_OP_READ, 0);
	turns();
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_uint_eq(pauses[0].calls, 1);
	ck_assert_int_eq(pauses[0].error, 0);
	ck_assert_uint_eq(pauses[1].calls, 1);
	ck_assert_int_eq(pauses[1].error, 0);
	ck_assert_str_eq(blktap_disk_get_spec(disk), "ram:3M");
	close_disk(0);
}
END_TEST

static void resume_late(void *opaque, struct blktap_disk *d,
			const struct blktap_event *event)
{
	if (event->type != BLKTAP_EVENT_REQUEST_LATE)
		return;
	events[event->type]++;
	if (events[event->type] == 1)
		ck_assert_int_eq(blktap_disk_resume(d, NULL, NULL), 0);
}

/* What is told of ends while it is told of it, and so do others. */
START_TEST(an_event_of_a_late_request_may_let_it_go)
{
	unsigned char data[512];
	struct op pause = { .calls = 0 }, ops[3];
	int i;

	open_ram();
	memset(events, 0, sizeof(events));
	blktap_disk_set_event(disk, resume_late, NULL, NULL);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, count_pause, &pause), 0);
	turns();
	ck_assert_uint_eq(pause.calls, 1);
	for (i = 0; i < 3; i++)
		submit(&ops[i], BLKTAP_OP_READ, 0, data, 512, 0);
	pass(200000 * MS);
	for (i = 0; i < 3; i++) {
		ck_assert_uint_eq(ops[i].calls, 1);
		ck_assert_int_eq(ops[i].error, 0);
	}
	ck_assert_uint_eq(events[BLKTAP_EVENT_REQUEST_LATE], 1);
	close_disk(0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vbd inside");
	TCase *tc = tcase_create("vbd inside");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_callback_that_a_close_calls_cannot_close);
	tcase_add_test(tc, an_event_that_a_close_tells_of_cannot_close);
	tcase_add_test(tc, an_event_inside_of_a_submission_cannot_close);
	tcase_add_test(tc,
		       no_completion_comes_inside_of_a_submission_that_submits);
	tcase_add_test(tc, a_close_ends_what_waits_for_a_pause_under_way);
	tcase_add_test(tc, a_callback_of_a_close_may_ask_for_statistics);
	tcase_add_test(tc, a_callback_of_a_close_cannot_resume);
	tcase_add_test(tc, a_context_whose_loop_is_gone_stays);
	tcase_add_test(tc, nothing_begins_while_the_last_flush_is_under_way);
	tcase_add_test(tc,
		       each_pause_gets_its_own_answer_where_the_first_fails);
	tcase_add_test(tc, a_replace_from_inside_of_another_takes_place);
	tcase_add_test(tc, an_event_of_a_late_request_may_let_it_go);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
