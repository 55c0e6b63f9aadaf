/* SPDX-License-Identifier: BSD-3-Clause */
/* What legs that fail together leave behind; one leg at a time is test-mirror's. */
#include "mirror-rig.h"

static bool spoil_writes;

/* As a server that has done a write when its connection breaks. */
static int do_and_fail(struct rough *rough, const struct bt_request *req)
{
	if (!spoil_writes || req->op != BLKTAP_OP_WRITE)
		return 0;
	bt_sgl_copy_out(&req->data, rough->now + req->offset, req->length);
	return -EIO;
}

static int fail_write(struct rough *rough, const struct bt_request *req)
{
	return spoil_writes && req->op == BLKTAP_OP_WRITE ? -EIO : 0;
}

/* Everywhere, or on the leg that has the data alone. */
START_TEST(a_write_that_failed_is_no_part_of_a_copy)
{
	char data[512] = { 1 };
	struct rig rig;
	uint32_t turn;

	world = (struct rough_world){ .random = 5 };
	make(&rig, 3, false, NULL, "region=64k rate=64k sync=background");
	leg_of(&rig, 0)->spoil = fail_write;
	leg_of(&rig, 1)->spoil = _i ? NULL : do_and_fail;
	/* the first region is there, and the batch is not flushed yet */
	for (turn = 0; turn < 200; turn++)
		ck_assert_int_eq(bt_loop_turn(rig.env.loop, 0), 0);
	ck_assert_uint_gt(leg_of(&rig, 1)->seen[BLKTAP_OP_WRITE_ZEROES], 0);
	ck_assert_uint_eq(leg_of(&rig, 1)->seen[BLKTAP_OP_FLUSH], 0);
	spoil_writes = true;
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), -EIO);
	spoil_writes = false;
	set(&rig, "sync", "background"); /* and no rate */
	pass_time(&rig, 10);
	expect(&rig, "state", "synced");
	expect_same(&rig, 0, 1);
	rig_fini(&rig);
}
END_TEST

/* A leg that tells extent by extent, as a raw file does: behind those that are
 * there. */
static void tell(struct bt_request *req, uint64_t length, uint32_t flags)
{
	req->extents[req->extent_count].length = length;
	req->extents[req->extent_count].flags = flags;
	req->extents[req->extent_count].depth = 0;
	req->extent_count++;
}

static enum { TELLS, FAILS, LOSES } first_leg;

static void tell_submit(struct bt_node *node, struct bt_request *req)
{
	bool first = node->name[0] == 'x';

	if (req->op != BLKTAP_OP_BLOCK_STATUS) {
		bt_port_submit(&node->ports[0], req);
		return;
	}
	tell(req, 4096, first ? BLKTAP_EXTENT_ZERO : 0);
	if (first && first_leg == FAILS) {
		bt_request_complete(req, -EIO);
		return;
	}
	if (first && first_leg == LOSES)
		bt_node_lose(node);
	tell(req, req->length - 4096, first ? 0 : BLKTAP_EXTENT_ZERO);
	bt_request_complete(req, 0);
}

static const struct bt_port_desc tell_ports[] = { { .name = "lower" },
						  { .name = NULL } };

static const struct blktap_class tell_class = {
	.name = "tell",
	.ports = tell_ports,
	.operations = BT_OPS_ALL,
	.submit = tell_submit,
};

static void ask(struct rig *rig, struct blktap_extent *extents, uint32_t *count)
{
	struct bt_request *req = bt_pool_take(rig->pool);
	bool done = false;

	req->op = BLKTAP_OP_BLOCK_STATUS;
	req->offset = 0;
	req->length = 65536;
	req->extents = extents;
	req->extent_max = 8;
	req->opaque = &done;
	bt_port_submit(&rig->top, req);
	ck_assert_int_eq(
		bt_loop_run_until(rig->env.loop, rig_is_done, &done, 30000), 0);
	ck_assert_int_eq(req->error, 0);
	*count = req->extent_count;
	bt_pool_give(req);
}

START_TEST(an_answer_has_nothing_of_a_leg_that_was_asked_before)
{
	struct blktap_extent extents[8];
	struct bt_node *legs[3] = { NULL };
	char data[512] = { 1 };
	struct rig rig;
	uint32_t count;

	rig_init(&rig);
	legs[0] = rig_ram(&rig, "a", "2M");
	legs[1] = rig_ram(&rig, "b", "2M");
	legs[0] = rig_node(&rig, &tell_class, "x", "", &legs[0], 1);
	legs[1] = rig_node(&rig, &tell_class, "y", "", &legs[1], 1);
	rig_top(&rig,
		rig_node(&rig, &bt_mirror_class, "m", "region=64k", legs, 3));
	rig.root->on_error = BT_ON_ERROR_DEGRADE;
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
	first_leg = (unsigned int)_i;
	ask(&rig, extents, &count);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(extents[0].length, 4096);
	ck_assert_uint_eq(extents[0].flags, _i ? 0 : BLKTAP_EXTENT_ZERO);
	ck_assert_uint_eq(extents[1].length, 61440);
	ck_assert_uint_eq(extents[1].flags, _i ? BLKTAP_EXTENT_ZERO : 0);
	rig_fini(&rig);
}
END_TEST

static uint32_t lasts; /* last flushes; behind the last one no write came */

static void log_submit(struct bt_node *node, struct bt_request *req)
{
	if (bt_op_is_writing(req->op))
		lasts = 0;
	lasts += req->op == BLKTAP_OP_FLUSH && req->flags & BT_REQUEST_LAST;
	bt_port_submit(&node->ports[0], req);
}

static const struct blktap_class log_class = {
	.name = "log-store",
	.ports = tell_ports,
	.operations = BT_OPS_ALL,
	.submit = log_submit,
};

/* It may be on a mirror itself, or behind a cache. */
START_TEST(what_the_log_stands_on_hears_of_the_last_flush)
{
	struct bt_node *lowers[3];
	char data[512] = { 1 };
	struct rig rig;
	uint32_t i;

	rig_init(&rig);
	lowers[0] = rig_ram(&rig, "a", "2M");
	lowers[1] = rig_ram(&rig, "b", "2M");
	lowers[2] = rig_ram(&rig, "l", "64k");
	lowers[2] = rig_node(&rig, &log_class, "log", "", &lowers[2], 1);
	rig_top(&rig,
		rig_node(&rig, &bt_mirror_class, "m", "region=64k", lowers, 3));
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
		ck_assert_int_eq(rig_flush(&rig), 0);
		ck_assert_uint_eq(lasts, 0);
		ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_FLUSH, BT_REQUEST_LAST,
					 0, NULL, 0),
				 0);
		ck_assert_uint_eq(lasts, 1);
	}
	rig_fini(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mirror-fails");
	TCase *tc = tcase_create("mirror-fails");

	tcase_add_loop_test(tc, a_write_that_failed_is_no_part_of_a_copy, 0, 2);
	tcase_add_loop_test(
		tc, an_answer_has_nothing_of_a_leg_that_was_asked_before, 0,
		LOSES + 1);
	tcase_add_test(tc, what_the_log_stands_on_hears_of_the_last_flush);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
