/* SPDX-License-Identifier: BSD-3-Clause */
/* A cache whose origin loses what was written back: the slots have it still, and what a
 * flush said is durable is there in the end. */
#include "cache-rig.h"

/* The page that was written last may be among those that it has lost. */
START_TEST(what_was_written_back_while_a_flush_failed_is_dirty_again)
{
	struct bt_request *flush;
	bool flushed;

	must_open("mode=writeback dirty=100% bypass=4096");
	fill(8, 0, 4096);
	ck_assert_int_eq(rig_flush(&rig), 0);
	/* something to flush that is in no slot */
	fill(9, 512u << 10, 8192);
	platters.hold = true;
	platters.stuck = 1u << BLKTAP_OP_FLUSH;
	flush = send(BLKTAP_OP_FLUSH, 0, 0, NULL, &flushed);
	pass_time(2 * NS_PER_S);
	ck_assert_uint_eq(value("dirty"), 0);
	ck_assert(!flushed);
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_FLUSH, .leaf = 0, .times = 1, .error = -EIO
	};
	memset(platters.bytes[0], 0, 4096);
	platters.stuck = 0;
	while (!flushed)
		ck_assert(platter_turn() || bt_loop_turn(rig.env.loop, 0) >= 0);
	ck_assert_int_eq(flush->error, -EIO);
	bt_pool_give(flush);
	ck_assert_uint_eq(value("dirty"), 4096);
	close_cache();
	ck_assert_int_eq(platters.bytes[0][0], 8);
}
END_TEST

/* The origin is a server that ends and is there again with what it had flushed. */
static void lose_unflushed(void)
{
	static unsigned char left[SIZE];

	platter_cut(0, platters.now, PLATTER_NOTHING, left);
	memcpy(platters.bytes[0], left, SIZE);
	bt_node_lose(bt_node_port(rig.root, 0, 0)->lower);
}

START_TEST(what_a_lost_server_had_not_flushed_is_written_back_again)
{
	must_open("mode=writeback dirty=100% bypass=0");
	platter_begin();
	fill(6, 0, 128u << 10);
	if (_i & 1)
		ck_assert_int_eq(rig_flush(&rig), 0);
	pass_time(2 * NS_PER_S);
	ck_assert_uint_eq(value("dirty"), 0);
	lose_unflushed();
	ck_assert_int_eq(platters.bytes[0][0], 0);
	ck_assert_int_eq(rig_flush(&rig), 0);
	if (_i & 2) {
		close_cache();
	} else {
		drop_cache();
		must_open("mode=writeback dirty=100% bypass=0");
		expect(6, 0, 128u << 10);
		close_cache();
	}
	ck_assert_int_eq(platters.bytes[0][0], 6);
	ck_assert_int_eq(platters.bytes[0][(128u << 10) - 1], 6);
}
END_TEST

START_TEST(what_is_written_back_keeps_its_slot_until_a_flush)
{
	uint32_t i;

	must_open("mode=writeback dirty=100% bypass=0");
	platter_begin();
	fill(6, 0, SLOTS * (64u << 10));
	pass_time(NS_PER_S);
	pass_time(NS_PER_S);
	ck_assert_uint_eq(value("dirty"), 0);
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_FLUSH, .leaf = 0, .times = 1000, .error = -EIO
	};
	for (i = SLOTS; i < 16; i++)
		expect(0, i * (64u << 10), 64u << 10);
	settle();
	lose_unflushed();
	platters.fault.op = -1;
	ck_assert_int_eq(rig_flush(&rig), 0);
	expect(6, 0, SLOTS * (64u << 10));
	close_cache();
	ck_assert_int_eq(platters.bytes[0][(SLOTS << 16) - 1], 6);
}
END_TEST

/* Each event of writing back, and of the flush, is a moment at which it goes. */
START_TEST(a_server_lost_at_any_moment_loses_nothing_of_a_cache)
{
	bool done = false;
	struct bt_request *req;
	int i, turns = _i / 2;

	if (getenv("BLKTAP_VALGRIND") && _i % 7)
		return;
	must_open("mode=writeback dirty=100% bypass=0");
	platter_begin();
	fill(6, 0, 8192);
	fill(7, 16384, 8192);
	fill(8, 64u << 10, 8192);
	bt_loop_advance(rig.env.loop, NS_PER_S);
	platters.hold = true;
	while (bt_loop_turn(rig.env.loop, 0) > 0)
		;
	req = bt_pool_take(rig.pool);
	req->op = BLKTAP_OP_FLUSH;
	req->flags = _i & 1 ? BT_REQUEST_LAST : 0;
	req->opaque = &done;
	for (i = 0; i < turns && !done; i++) {
		if (i == 3)
			bt_port_submit(&rig.top, req);
		platter_turn();
		bt_loop_turn(rig.env.loop, 0);
	}
	lose_unflushed();
	if (turns <= 3)
		bt_port_submit(&rig.top, req);
	guest_wait(&rig, &done);
	ck_assert_int_eq(req->error, 0);
	bt_pool_give(req);
	drop_cache();
	must_open("mode=writeback dirty=100% bypass=0");
	expect(6, 0, 8192);
	expect(7, 16384, 8192);
	expect(8, 64u << 10, 8192);
	close_cache();
	ck_assert_int_eq(platters.bytes[0][64u << 10], 8);
}
END_TEST

START_TEST(with_the_store_lost_as_well_a_flush_tells)
{
	must_open("mode=writeback dirty=100% bypass=0");
	platter_begin();
	fill(6, 0, 4096);
	pass_time(NS_PER_S);
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_READ, .leaf = 1, .times = 1, .error = -EIO
	};
	expect(6, 0, 4096); /* the origin has it */
	ck_assert(has_state("lost"));
	lose_unflushed();
	ck_assert_int_eq(rig_flush(&rig), -EIO);
	ck_assert_int_eq(rig_flush(&rig), 0);
	close_cache();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache-loss");
	TCase *all = tcase_create("cache-loss");

	tcase_set_timeout(all, 120);
	tcase_add_checked_fixture(all, cache_setup, cache_teardown);
	tcase_add_test(
		all, what_was_written_back_while_a_flush_failed_is_dirty_again);
	tcase_add_loop_test(
		all, what_a_lost_server_had_not_flushed_is_written_back_again,
		0, 4);
	tcase_add_test(all, what_is_written_back_keeps_its_slot_until_a_flush);
	tcase_add_loop_test(
		all, a_server_lost_at_any_moment_loses_nothing_of_a_cache, 0,
		24);
	tcase_add_test(all, with_the_store_lost_as_well_a_flush_tells);
	suite_add_tcase(suite, all);
	return unit_run(suite);
}
