/* SPDX-License-Identifier: BSD-3-Clause */
/* A cache at work. BLKTAP_SEED repeats a run. */
#include "cache-rig.h"

static uint64_t origin_writes(void)
{
	return bt_node_port(rig.root, 0, 0)
		->lower->stats.completed[BLKTAP_OP_WRITE];
}

static uint64_t origin_reads(void)
{
	return bt_node_port(rig.root, 0, 0)
		->lower->stats.completed[BLKTAP_OP_READ];
}

START_TEST(what_is_written_is_read)
{
	const char *args = _i % 2 ? "mode=writeback bypass=0"
				  : "mode=writethrough bypass=0";
	uint32_t i, n;

	for (i = 0; i < 4; i++) {
		must_open(args);
		if (!i)
			guest_init(&guest, &rig, SECTORS, 8);
		platters.hold = true;
		for (n = 0; n < 8; n++) {
			guest_run(&guest, 12);
			bt_loop_advance(rig.env.loop, NS_PER_S);
		}
		guest_verify(&guest);
		if (_i < 2)
			close_cache();
		else
			drop_cache();
	}
}
END_TEST

START_TEST(what_was_read_is_read_from_the_store)
{
	must_open("");
	expect(0, 0, 64u << 10);
	settle();
	ck_assert_uint_eq(value("misses"), 64u << 10);
	ck_assert_uint_eq(value("used"), 64u << 10);
	ck_assert_uint_eq(origin_reads(), 1);
	expect(0, 4096, 32u << 10);
	ck_assert_uint_eq(origin_reads(), 1);
	ck_assert_uint_eq(value("hits"), 32u << 10);
	/* what was written through is there as well */
	fill(7, 128u << 10, 8192);
	ck_assert_uint_eq(origin_writes(), 1);
	expect(7, 128u << 10, 8192);
	ck_assert_uint_eq(origin_reads(), 1);
	ck_assert_int_eq(platters.bytes[0][128u << 10], 7);
	close_cache();
}
END_TEST

static void expect_sectors(uint32_t first, uint32_t count)
{
	uint32_t i;

	memset(back, 0, 512u * count);
	ck_assert_int_eq(rig_read(&rig, 512u * first, back, 512u * count), 0);
	for (i = 0; i < count; i++)
		ck_assert_uint_eq(back[512 * i], (first + i) % 250 + 1);
}

/* As an image does whose sectors are here and there, in it and in what it stands on. */
START_TEST(a_part_of_a_block_is_read_as_it_is)
{
	uint32_t i, round;

	must_open("mode=writeback bypass=0");
	for (i = 0; i < SECTORS; i++)
		memset(platters.bytes[0] + 512u * i, (int)(i % 250 + 1), 512);
	for (round = 0; round < 3; round++) {
		expect_sectors(1, 1);
		expect_sectors(3, 12);
		expect_sectors(127, 2);
		settle();
		ck_assert_uint_eq(value("used"), round ? 68u << 10 : 0);
		/* some blocks are in the store from here on */
		expect_sectors(0, 136);
		settle();
	}
	/* and one is there alone */
	fill(9, 8192, 4096);
	ck_assert_int_eq(rig_read(&rig, 8192 + 512, back, 1024), 0);
	ck_assert_uint_eq(back[0], 9);
	ck_assert_uint_eq(back[1023], 9);
	ck_assert_int_eq(rig_write(&rig, 512, back, 512), -EINVAL);
	close_cache();
}
END_TEST

START_TEST(a_cache_that_was_closed_is_warm_and_one_that_was_not_is_cold)
{
	must_open("");
	fill(9, 0, 64u << 10);
	close_cache();
	must_open("");
	ck_assert_uint_eq(value("used"), 64u << 10);
	expect(9, 0, 64u << 10);
	ck_assert_uint_eq(origin_reads(), 0);
	drop_cache();
	/* not flushed for the last time: anybody may have written since */
	must_open("");
	ck_assert_uint_eq(value("used"), 0);
	expect(9, 0, 64u << 10);
	ck_assert_uint_eq(origin_reads(), 1);
	close_cache();
}
END_TEST

START_TEST(nothing_changes_behind_a_clean_mark)
{
	must_open("");
	fill(1, 0, 4096);
	ck_assert_int_eq(last_flush(), 0);
	/* the disk was not closed after all */
	fill(2, 0, 4096);
	drop_cache();
	must_open("");
	ck_assert_uint_eq(value("used"), 0);
	expect(2, 0, 4096);
	/* and where the mark cannot be taken back, nothing is written */
	ck_assert_int_eq(last_flush(), 0);
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_WRITE, .leaf = 1, .times = 1, .error = -EIO
	};
	memset(back, 3, 4096);
	ck_assert_int_eq(rig_write(&rig, 0, back, 4096), -EIO);
	ck_assert_int_eq(platters.bytes[0][0], 2);
	ck_assert_int_eq(rig_write(&rig, 0, back, 4096), 0);
	expect(3, 0, 4096);
	close_cache();
}
END_TEST

/* A change of the graph may hold the writes alone, or one edge after the other. */
START_TEST(a_read_during_a_last_flush_leaves_no_slot_to_the_wrong_chunk)
{
	static unsigned char data[64u << 10];
	struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	uint32_t i, chunk = 64u << 10;
	struct bt_request *flush, *read;
	bool flushed, was_read;

	must_open("bypass=0");
	for (i = 0; i < 16; i++)
		fill((unsigned char)(i + 1), i * chunk, chunk);
	settle();
	platters.hold = true;
	flush = send(BLKTAP_OP_FLUSH, BT_REQUEST_LAST, 0, NULL, &flushed);
	/* the chunk that went first: a slot is wanted for it */
	read = send(BLKTAP_OP_READ, 0, 0, &iov, &was_read);
	settle();
	ck_assert(flushed && was_read);
	ck_assert_int_eq(flush->error, 0);
	ck_assert_int_eq(read->error, 0);
	ck_assert_uint_eq(data[0], 1);
	bt_pool_give(flush);
	bt_pool_give(read);
	drop_cache();
	must_open("bypass=0");
	/* those first that the store may have */
	for (i = 16; i-- > 0;)
		expect((unsigned char)(i + 1), i * chunk, chunk);
	close_cache();
}
END_TEST

START_TEST(a_last_flush_leaves_an_origin_that_is_whole)
{
	must_open("mode=writeback dirty=100%");
	fill(4, 0, 256u << 10);
	ck_assert_uint_eq(value("dirty"), 256u << 10);
	ck_assert_uint_eq(origin_writes(), 0);
	ck_assert(has_state("dirty"));
	ck_assert_int_eq(last_flush(), 0);
	ck_assert(has_state("clean"));
	memset(back, 4, SIZE);
	ck_assert_mem_eq(platters.bytes[0], back, 256u << 10);
	drop_cache();
	/* and it fails where the origin does not take it */
	must_open("mode=writeback dirty=100%");
	fill(5, 0, 4096);
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_WRITE, .leaf = 0, .times = 1, .error = -ENOSPC
	};
	ck_assert_int_eq(last_flush(), -ENOSPC);
	expect(5, 0, 4096);
	ck_assert_int_eq(last_flush(), 0);
	ck_assert_int_eq(platters.bytes[0][0], 5);
	drop_cache();
}
END_TEST

START_TEST(no_more_is_dirty_than_may_be)
{
	/* 5 slots of 16 blocks: 40 blocks */
	must_open("mode=writeback dirty=50%");
	fill(1, 0, 128u << 10);
	fill(2, 128u << 10, 64u << 10);
	ck_assert_uint_eq(value("dirty"), 128u << 10);
	ck_assert_uint_ge(origin_writes(), 1);
	expect(1, 0, 128u << 10);
	expect(2, 128u << 10, 64u << 10);
	/* what is dirty already may be written over */
	fill(3, 0, 64u << 10);
	ck_assert_uint_eq(value("dirty"), 128u << 10);
	change("mode=writeback dirty=100%");
	fill(4, 128u << 10, 64u << 10);
	ck_assert_uint_eq(value("dirty"), 192u << 10);
	/* with another mode what is dirty is written back at once */
	change("mode=writethrough");
	pass_time(0);
	ck_assert_uint_eq(value("dirty"), 0);
	close_cache();
}
END_TEST

START_TEST(what_is_dirty_is_written_back_in_time_and_at_its_rate)
{
	must_open("mode=writeback dirty=100%");
	fill(1, 0, 128u << 10);
	pass_time(NS_PER_S / 2);
	ck_assert_uint_eq(value("dirty"), 128u << 10);
	pass_time(NS_PER_S / 2);
	ck_assert_uint_eq(value("dirty"), 0);
	close_cache();
	must_open("mode=writeback dirty=100% rate=64k/s");
	fill(2, 0, 192u << 10);
	/* one at once, then one a second */
	pass_time(NS_PER_S);
	ck_assert_uint_eq(value("dirty"), 128u << 10);
	pass_time(NS_PER_S / 2);
	ck_assert_uint_eq(value("dirty"), 128u << 10);
	pass_time(NS_PER_S / 2);
	ck_assert_uint_eq(value("dirty"), 64u << 10);
	/* a close does not wait for that */
	close_cache();
	ck_assert_int_eq(platters.bytes[0][100], 2);
}
END_TEST

START_TEST(a_failing_origin_is_tried_again_and_loses_nothing)
{
	must_open("mode=writeback dirty=100%");
	fill(8, 0, 4096);
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_WRITE, .leaf = 0, .times = 2, .error = -EIO
	};
	pass_time(NS_PER_S);
	pass_time(NS_PER_S);
	ck_assert_uint_eq(value("dirty"), 4096);
	expect(8, 0, 4096);
	pass_time(NS_PER_S);
	ck_assert_uint_eq(value("dirty"), 0);
	ck_assert_int_eq(platters.bytes[0][0], 8);
	close_cache();
}
END_TEST

START_TEST(a_long_run_passes_by)
{
	uint32_t i;

	must_open("bypass=128k");
	for (i = 0; i < 8; i++)
		expect(0, i * (64u << 10), 64u << 10);
	settle();
	ck_assert_uint_eq(value("used"), 128u << 10);
	change("bypass=0");
	for (i = 8; i < 12; i++)
		expect(0, i * (64u << 10), 64u << 10);
	settle();
	ck_assert_uint_gt(value("used"), 128u << 10);
	close_cache();
}
END_TEST

START_TEST(what_was_dirty_is_not_evicted_before_that_is_durable)
{
	uint32_t i;

	must_open("mode=writeback dirty=100% bypass=0");
	fill(6, 0, SLOTS * (64u << 10));
	ck_assert_int_eq(rig_flush(&rig), 0);
	pass_time(NS_PER_S);
	pass_time(NS_PER_S);
	ck_assert_uint_eq(value("dirty"), 0);
	/* all slots are clean, and none may be taken: the table says dirty, and
	 * that the origin has it is not sure */
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_FLUSH, .leaf = 0, .times = 1000, .error = -EIO
	};
	for (i = SLOTS; i < 16; i++)
		expect(0, i * (64u << 10), 64u << 10);
	settle();
	ck_assert_uint_gt(platters.fault.failed, 0);
	drop_cache();
	must_open("mode=writeback dirty=100% bypass=0");
	expect(6, 0, SLOTS * (64u << 10));
	/* with that flush they are free */
	platters.fault.op = -1;
	fill(6, 0, 4096);
	ck_assert_int_eq(rig_flush(&rig), 0);
	pass_time(NS_PER_S);
	pass_time(NS_PER_S);
	for (i = 0; i < 3; i++) {
		expect(0, 512u << 10, 64u << 10);
		settle();
	}
	ck_assert_uint_ge(value("hits"), (SLOTS + 1) * (64u << 10));
	close_cache();
}
END_TEST

START_TEST(zeroes_replace_and_a_discard_brings_nothing_back)
{
	must_open("mode=writeback dirty=100%");
	fill(1, 0, 64u << 10);
	ck_assert_int_eq(last_flush(), 0);
	fill(2, 0, 16384);
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_DISCARD, 0, 0, NULL, 64u << 10), 0);
	/* dirty: kept; else what the origin makes of it */
	expect(2, 0, 16384);
	expect(0, 16384, 4096);
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_WRITE_ZEROES, 0, 4096, NULL, 8192), 0);
	expect(2, 0, 4096);
	expect(0, 4096, 8192);
	ck_assert_uint_eq(value("dirty"), 8192);
	close_cache();
}
END_TEST

static struct blktap_extent ask(uint64_t offset, uint64_t length)
{
	struct blktap_extent extents[4] = { { 0 } };
	struct bt_request *req = bt_pool_take(rig.pool);
	bool done = false;

	req->op = BLKTAP_OP_BLOCK_STATUS;
	req->offset = offset;
	req->length = length;
	req->extents = extents;
	req->extent_max = 4;
	req->opaque = &done;
	bt_port_submit(&rig.top, req);
	ck_assert_int_eq(
		bt_loop_run_until(rig.env.loop, rig_is_done, &done, 30000), 0);
	ck_assert_int_eq(req->error, 0);
	ck_assert_uint_ge(req->extent_count, 1);
	ck_assert_uint_eq(req->length, length);
	bt_pool_give(req);
	return extents[0];
}

START_TEST(what_is_dirty_is_data)
{
	must_open("mode=writeback dirty=100%");
	fill(1, 64u << 10, 8192);
	ck_assert_uint_eq(ask(0, SIZE).length, 64u << 10);
	ck_assert_uint_eq(ask(64u << 10, SIZE / 2).length, 8192);
	ck_assert_uint_eq(ask(64u << 10, SIZE / 2).flags, 0);
	ck_assert_uint_eq(ask((64u << 10) + 4096, 4096).length, 4096);
	ck_assert_uint_eq(ask((64u << 10) + 8192, 65536).length, 65536);
	/* and the origin is not asked for a part of it either */
	ck_assert_uint_eq(ask((64u << 10) - 3584, 8192).length, 3584);
	ck_assert_uint_eq(ask((64u << 10) + 512, 512).length, 512);
	ck_assert_uint_eq(ask((64u << 10) + 512, 65536).length, 7680);
	close_cache();
}
END_TEST

START_TEST(a_prefetch_makes_it_warm)
{
	must_open("");
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_PREFETCH, 0, 32u << 10, NULL,
				 64u << 10),
			 0);
	settle();
	ck_assert_uint_eq(value("used"), 64u << 10);
	expect(0, 32u << 10, 64u << 10);
	ck_assert_uint_eq(origin_reads(), 2);
	close_cache();
}
END_TEST

START_TEST(another_origin_is_noticed)
{
	struct bt_node *old, *new;

	must_open(_i ? "mode=writeback dirty=100%" : "");
	fill(1, 0, 8192);
	pass_time(2 * NS_PER_S); /* written back; no flush since */
	expect(1, 0, 8192);
	expect(0, 64u << 10, 4096);
	settle();
	platter_make(2, SIZE);
	memset(platters.bytes[2], 2, SIZE);
	old = bt_node_port(rig.root, 0, 0)->lower;
	new = rig_node(&rig, &platter_class, "n", "index=2", NULL, 0);
	bt_port_link(bt_node_port(rig.root, 0, 0), new);
	/* what was read is not from here; what the guest wrote is the guest's,
	 * where the old origin did not promise to have it */
	expect(2, 64u << 10, 4096);
	expect(_i ? 1 : 2, 0, 4096);
	close_cache();
	ck_assert_int_eq(platters.bytes[2][0], _i ? 1 : 2);
	bt_node_destroy(old);
	/* a store that comes back over another origin */
	must_open("");
	expect(platters.bytes[0][0], 0, 4096);
	expect(0, 64u << 10, 4096);
	close_cache();
}
END_TEST

START_TEST(stores_that_do_not_fit_are_refused_or_begun_anew)
{
	struct blktap_error *err = NULL;

	must_open("mode=writeback dirty=100%");
	fill(3, 0, 4096);
	ck_assert_int_eq(rig_flush(&rig), 0);
	drop_cache();
	platter_make(0, SIZE / 2);
	ck_assert_int_eq(open_cache("", &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "1048576"));
	blktap_error_destroy(err);
	err = NULL;
	drop_cache();
	platter_make(0, SIZE + 512);
	ck_assert_int_eq(open_cache("", &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "4096"));
	blktap_error_destroy(err);
	err = NULL;
	drop_cache();
	platter_make(0, SIZE);
	/* what is dirty keeps its size; when it is clean a larger one is used */
	platters.bytes[1] = realloc(platters.bytes[1], STORE * 2);
	platters.size[1] = STORE * 2;
	must_open("");
	expect(3, 0, 4096);
	close_cache();
	must_open("mode=writeback dirty=100% bypass=0");
	fill(4, 0, (SLOTS + 2) * (64u << 10));
	ck_assert_uint_eq(value("dirty"), (SLOTS + 2) * (64u << 10));
	close_cache();
	platter_make(1, 100u << 10);
	ck_assert_int_eq(open_cache("", &err), -ENOSPC);
	blktap_error_destroy(err);
	drop_cache();
}
END_TEST

START_TEST(any_bytes_in_a_store_are_taken_or_refused)
{
	static unsigned char kept[STORE];
	uint32_t i, n;

	must_open("mode=writeback dirty=100%");
	fill(1, 0, 192u << 10);
	ck_assert_int_eq(rig_flush(&rig), 0);
	if (_i)
		ck_assert_int_eq(last_flush(), 0);
	drop_cache();
	memcpy(kept, platters.bytes[1], STORE);
	for (i = 0; i < 100; i++) {
		struct blktap_error *err = NULL;

		memcpy(platters.bytes[1], kept, STORE);
		for (n = 1 + (uint32_t)platter_random(20); n; n--)
			platters.bytes[1][platter_random(12288)] =
				(unsigned char)platter_random(256);
		if (open_cache("", &err) == 0)
			ck_assert_int_eq(read_all(), 0);
		else
			ck_assert_ptr_nonnull(err);
		blktap_error_destroy(err);
		drop_cache();
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *all = tcase_create("cache");

	tcase_set_timeout(all, 120);
	tcase_add_checked_fixture(all, cache_setup, cache_teardown);
	tcase_add_loop_test(all, what_is_written_is_read, 0, 4);
	tcase_add_test(all, what_was_read_is_read_from_the_store);
	tcase_add_test(all, a_part_of_a_block_is_read_as_it_is);
	tcase_add_test(
		all,
		a_cache_that_was_closed_is_warm_and_one_that_was_not_is_cold);
	tcase_add_test(all, nothing_changes_behind_a_clean_mark);
	tcase_add_test(
		all,
		a_read_during_a_last_flush_leaves_no_slot_to_the_wrong_chunk);
	tcase_add_test(all, a_last_flush_leaves_an_origin_that_is_whole);
	tcase_add_test(all, no_more_is_dirty_than_may_be);
	tcase_add_test(all,
		       what_is_dirty_is_written_back_in_time_and_at_its_rate);
	tcase_add_test(all, a_failing_origin_is_tried_again_and_loses_nothing);
	tcase_add_test(all, a_long_run_passes_by);
	tcase_add_test(all,
		       what_was_dirty_is_not_evicted_before_that_is_durable);
	tcase_add_test(all, zeroes_replace_and_a_discard_brings_nothing_back);
	tcase_add_test(all, what_is_dirty_is_data);
	tcase_add_test(all, a_prefetch_makes_it_warm);
	tcase_add_loop_test(all, another_origin_is_noticed, 0, 2);
	tcase_add_test(all, stores_that_do_not_fit_are_refused_or_begun_anew);
	tcase_add_loop_test(all, any_bytes_in_a_store_are_taken_or_refused, 0,
			    2);
	suite_add_tcase(suite, all);
	return unit_run(suite);
}
