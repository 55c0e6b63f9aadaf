/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests of a disk that wait: for a slow file, for the end of a pause, for each
 * other; and whoever does not wait for them. */
#include "image/image.h"
#include "vbd/edit.h"

#include "graph.h"
#include "vbd-rig.h"

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

/* Nor for the time when it would be tried again, however late that may be. */
START_TEST(leaving_frontend_does_not_wait_for_another_try)
{
	struct blktap_disk_options o = options();
	struct bt_pool *leaving;
	struct queued q;

	o.on_no_space = BLKTAP_POLICY_RETRY;
	o.deadline_ms = UINT32_MAX;
	open_disk(&o);
	ck_assert_int_eq(bt_vbd_pool_create(disk, 4, sizeof(struct bt_request),
					    &leaving),
			 0);
	faulty_add((struct faulty_rule){ .op = BT_IO_WRITE, .error = -ENOSPC });
	queue(&q, leaving, 0, 512);
	turns();
	ck_assert_uint_eq(events[BLKTAP_EVENT_PARKED], 1);
	bt_vbd_cancel(disk, leaving, -ESHUTDOWN);
	ck_assert_uint_eq(q.calls, 1);
	ck_assert_int_eq(q.error, -ENOSPC);
	ck_assert_uint_eq(bt_pool_in_use(leaving), 0);
	bt_vbd_pool_destroy(disk, leaving);
	close_disk(0);
}
END_TEST

/* Nor for the parts that another's requests have all of. */
START_TEST(leaving_frontend_does_not_wait_for_parts)
{
	struct bt_pool *staying, *leaving;
	struct queued has[64], q;
	int i;

	pause_calls = 0;
	open_disk(NULL);
	ck_assert_int_eq(bt_vbd_pool_create(disk, 64, sizeof(struct bt_request),
					    &staying),
			 0);
	ck_assert_int_eq(bt_vbd_pool_create(disk, 4, sizeof(struct bt_request),
					    &leaving),
			 0);
	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, NULL), 0);
	turns();
	for (i = 0; i < 64; i++)
		queue(&has[i], staying, 4096 * (uint64_t)i + 10, 20);
	queue(&q, leaving, (1 << 19) + 10, 20);
	bt_vbd_cancel(disk, leaving, -ESHUTDOWN);
	ck_assert_uint_eq(q.calls, 1);
	ck_assert_int_eq(q.error, -ESHUTDOWN);
	bt_vbd_pool_destroy(disk, leaving);
	ck_assert_int_eq(blktap_disk_resume(disk, NULL, NULL), 0);
	turns();
	for (i = 0; i < 64; i++)
		ck_assert(has[i].calls && !has[i].error);
	bt_vbd_pool_destroy(disk, staying);
	close_disk(0);
}
END_TEST

static struct blktap_disk_stats at_the_end;

static void note_stats(void *opaque, int error)
{
	op_done(opaque, error);
	at_the_end.size = sizeof(at_the_end);
	blktap_disk_get_stats(disk, &at_the_end);
}

START_TEST(zeroes_whose_flush_waits_are_counted_as_zeroes)
{
	struct op op = { .calls = 0 };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = BLKTAP_OP_WRITE_ZEROES,
		.flags = BLKTAP_FUA,
		.length = 4096,
		.callback = note_stats,
		.opaque = &op,
	};

	open_disk(NULL);
	faulty.hold = true;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	turns();
	ck_assert_int_eq(blktap_disk_pause(disk, 0, paused, NULL), 0);
	faulty.hold = false;
	faulty_release(UINT32_MAX);
	turns();
	close_disk(0);
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, -ESHUTDOWN);
	ck_assert_uint_eq(at_the_end.errors[BLKTAP_OP_WRITE_ZEROES], 1);
	ck_assert_uint_eq(at_the_end.completed[BLKTAP_OP_FLUSH], 0);
}
END_TEST

struct other {
	struct bt_edit edit;
	struct bt_node *node, *old;
	struct queued q;
	struct bt_pool *pool;
	bool done;
};

/* The gate is held: what comes now waits there, with its part. */
static int put_other(struct bt_edit *edit, struct blktap_error **err)
{
	struct other *o = bt_container_of(edit, struct other, edit);

	queue(&o->q, o->pool, 10, 20);
	ck_assert_uint_eq(o->q.calls, 0);
	o->old = disk->root;
	return bt_disk_adopt(disk, o->node, err);
}

static void put(struct bt_edit *edit, int error, struct blktap_error *err)
{
	struct other *o = bt_container_of(edit, struct other, edit);

	ck_assert_int_eq(error, 0);
	o->done = true;
}

/* It lies in a block of the old size, whose memory has to stay until it is back; what
 * comes then is not padded for nothing. */
START_TEST(padded_write_at_the_gate_outlives_a_change_to_smaller_blocks)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct other o = { .edit = { .commit = put_other, .done = put } };
	unsigned char back[512];

	open_disk(NULL);
	ck_assert_uint_eq(disk->limits.block_size, 512);
	ck_assert_int_eq(
		bt_vbd_pool_create(disk, 4, sizeof(struct bt_request), &o.pool),
		0);
	ck_assert_int_eq(
		bt_image_open_one(&context->env, "ram:1M", 0, &o.node, NULL),
		0);
	bt_edit_start(disk, &o.edit);
	turns();
	ck_assert(o.done);
	ck_assert_uint_eq(o.q.calls, 1);
	ck_assert_int_eq(o.q.error, 0);
	ck_assert_uint_eq(disk->bounces_left, BT_PARTS);
	ck_assert_int_eq(run(BLKTAP_OP_WRITE, 3, back, 5, 0), 0);
	blktap_disk_get_info(disk, &info);
	ck_assert_uint_eq(info.block_size, 1);
	bt_node_destroy(o.old);
	bt_vbd_pool_destroy(disk, o.pool);
	close_disk(0);
}
END_TEST

/* ---- FUA ------------------------------------------------------------------- */

struct swap {
	struct bt_edit edit;
	struct bt_node *node, *old;
	struct op *op; /* begun while the gate is held; or NULL */
	uint32_t flags; /* its */
	bool done;
};

static uint32_t volatile_writes; /* that no flush came after */

static void counter_submit(struct bt_node *node, struct bt_request *req)
{
	if (req->op == BLKTAP_OP_FLUSH)
		volatile_writes = 0;
	else if (req->op == BLKTAP_OP_WRITE &&
		 !(req->flags & BLKTAP_FUA && node->limits.native_fua))
		volatile_writes++;
	bt_request_complete(req, 0);
}

static void with_fua(struct bt_node *node, struct bt_limits *limits)
{
	(void)node;
	limits->size = SIZE;
	limits->block_size = 512;
}

static void without_fua(struct bt_node *node, struct bt_limits *limits)
{
	with_fua(node, limits);
	limits->native_fua = false;
}

static void keeps_all(struct bt_node *node, struct bt_limits *limits)
{
	with_fua(node, limits);
	limits->keeps = BT_KEEPS_ALL;
}

static const struct blktap_class keeper_class = {
	.name = "keeper",
	.operations = BT_OPS_ALL,
	.get_limits = keeps_all,
	.submit = counter_submit,
};

static const struct blktap_class flusher_class = {
	.name = "flusher",
	.operations = BT_OPS_ALL,
	.get_limits = without_fua,
	.submit = counter_submit,
};

static const struct blktap_class fua_class = {
	.name = "fua",
	.operations = BT_OPS_ALL,
	.get_limits = with_fua,
	.submit = counter_submit,
};

static int put_node(struct bt_edit *edit, struct blktap_error **err)
{
	static unsigned char data[3000];
	struct swap *s = bt_container_of(edit, struct swap, edit);

	s->old = disk->root;
	if (s->op)
		submit(s->op, BLKTAP_OP_WRITE, 10, data, sizeof(data),
		       s->flags);
	return bt_disk_adopt(disk, s->node, err);
}

static void node_is_in(struct bt_edit *edit, int error,
		       struct blktap_error *err)
{
	(void)err;
	ck_assert_int_eq(error, 0);
	bt_container_of(edit, struct swap, edit)->done = true;
}

static void swap_for(const struct blktap_class *cls, struct op *op,
		     uint32_t flags)
{
	struct swap s = { .edit = { .commit = put_node, .done = node_is_in },
			  .op = op,
			  .flags = flags };

	s.node = make_node(&context->env, cls, cls->name, NULL);
	bt_edit_start(disk, &s.edit);
	turns();
	ck_assert(s.done);
	bt_node_destroy(s.old);
}

/* Its parts were made when the image below had no FUA, or had it. */
START_TEST(fua_of_a_split_write_outlives_a_change_of_the_graph)
{
	const struct blktap_class *other = _i ? &fua_class : &flusher_class;
	struct op op;

	open_disk(NULL);
	swap_for(other, NULL, 0);
	volatile_writes = 0;
	swap_for(_i ? &flusher_class : &fua_class, &op, BLKTAP_FUA);
	turns();
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, 0);
	ck_assert_uint_eq(volatile_writes, 0);
	close_disk(0);
}
END_TEST

/* The image that it was meant for kept nothing in memory, the one it met does. */
START_TEST(write_that_outlives_the_process_does_so_over_a_change_of_the_graph)
{
	struct op op;

	open_disk(NULL);
	bt_vbd_set_outlive(disk, true);
	swap_for(&fua_class, NULL, 0);
	volatile_writes = 0;
	swap_for(&keeper_class, &op, 0);
	turns();
	ck_assert_uint_eq(op.calls, 1);
	ck_assert_int_eq(op.error, 0);
	ck_assert_uint_eq(volatile_writes, 0);
	close_disk(0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vbd waits");
	TCase *tc = tcase_create("vbd waits");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, late_request_is_reported_once_with_its_node);
	tcase_add_test(
		tc, pause_that_meets_its_deadline_names_the_node_and_goes_on);
	tcase_add_test(tc, pause_whose_flush_fails_leaves_the_disk_running);
	tcase_add_test(tc, misaligned_write_waits_for_the_block_it_shares);
	tcase_add_test(tc,
		       leaving_frontend_does_not_wait_for_a_block_another_has);
	tcase_add_test(tc, leaving_frontend_does_not_wait_for_another_try);
	tcase_add_test(tc, leaving_frontend_does_not_wait_for_parts);
	tcase_add_test(tc, zeroes_whose_flush_waits_are_counted_as_zeroes);
	tcase_add_test(
		tc,
		padded_write_at_the_gate_outlives_a_change_to_smaller_blocks);
	tcase_add_loop_test(
		tc, fua_of_a_split_write_outlives_a_change_of_the_graph, 0, 2);
	tcase_add_test(
		tc,
		write_that_outlives_the_process_does_so_over_a_change_of_the_graph);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
