/* SPDX-License-Identifier: BSD-3-Clause */
/* A cache under power cuts and faults. BLKTAP_SEED repeats a run;
 * BLKTAP_TEST_LONG=1 cuts at every event. */
#define SLOTS 3u
#define SECTORS 768u
#include "cache-rig.h"

static unsigned char cut[2][SIZE];

static const char *const modes[] = {
	"mode=writethrough",
	"mode=writeback",
	"mode=writeback dirty=100%",
};

/* A guest at work, while time passes, data is written back, and somebody changes
 * the mode now and then. */
static void work(uint32_t rounds, bool switching)
{
	while (rounds--) {
		guest_run(&guest, 4);
		if (platter_random(3))
			bt_loop_advance(rig.env.loop, 2 * NS_PER_S);
		if (switching && !platter_random(9))
			change(modes[platter_random(3)]);
	}
	settle();
}

/* The leaves as they are after a cut at the event. */
static void cut_power(uint64_t at)
{
	enum platter_model model =
		(enum platter_model)platter_random(PLATTER_MODELS);
	uint32_t leaf;

	for (leaf = 0; leaf < 2; leaf++)
		platter_cut(leaf, at, model, cut[leaf]);
	for (leaf = 0; leaf < 2; leaf++)
		memcpy(platters.bytes[leaf], cut[leaf], platters.size[leaf]);
}

/* What is there after the cut is what a later close leaves in the origin, too. */
static void check_after(uint64_t at)
{
	must_open(modes[platter_random(3)]);
	ck_assert_int_eq(read_all(), 0);
	guest_check_cut(&guest, back, at, "disk");
	memcpy(cut[0], back, SIZE);
	if (platter_random(4)) {
		drop_cache();
		return;
	}
	if (!platter_random(3)) { /* once more, before anything is clean */
		drop_cache();
		must_open("mode=writethrough");
	}
	close_cache();
	ck_assert_mem_eq(platters.bytes[0], cut[0], SIZE);
	must_open("mode=writeback");
	ck_assert_int_eq(read_all(), 0);
	ck_assert_mem_eq(back, cut[0], SIZE);
	drop_cache();
}

/* At about so many events; that is, of a test that is not long. */
static void cut_everywhere(uint64_t first, uint64_t last, uint32_t about)
{
	bool all = getenv("BLKTAP_TEST_LONG");
	uint64_t at, now;

	for (at = first; at <= last;
	     at += all ? 1
		       : 1 + platter_random((last - first) * 2 /
					    seed_rounds(about))) {
		now = platters.now;
		cut_power(at);
		check_after(at);
		platters.now = now;
	}
}

START_TEST(a_power_cut_leaves_what_was_flushed_and_nothing_stale)
{
	uint64_t first;

	must_open(modes[_i % 3]);
	guest_init(&guest, &rig, SECTORS, 8);
	platter_begin();
	first = platters.now;
	platters.hold = true;
	work(70, _i >= 3);
	drop_cache();
	cut_everywhere(first, platters.now, 60);
}
END_TEST

START_TEST(a_cut_while_a_cache_is_opened_or_closed_loses_nothing)
{
	uint64_t first;

	must_open("mode=writeback dirty=100%");
	guest_init(&guest, &rig, SECTORS, 8);
	platters.hold = true;
	work(18, false);
	ck_assert_int_eq(last_flush(), 0);
	drop_cache();
	/* from here on */
	guest.flushes[guest.flush_count++] =
		(struct guest_flush){ platters.now + 1, platters.now + 2 };
	platters.now += 3;
	platter_begin();
	first = platters.now;
	must_open("mode=writeback dirty=100%");
	guest.rig = &rig;
	platters.hold = true;
	work(12, false);
	close_cache();
	must_open("mode=writeback");
	work(12, false);
	close_cache();
	cut_everywhere(first, platters.now, 60);
}
END_TEST

static const struct {
	enum blktap_op op;
	uint32_t leaf;
} faults[] = {
	{ BLKTAP_OP_READ, 0 },	{ BLKTAP_OP_WRITE, 0 },
	{ BLKTAP_OP_FLUSH, 0 }, { BLKTAP_OP_WRITE_ZEROES, 0 },
	{ BLKTAP_OP_READ, 1 },	{ BLKTAP_OP_WRITE, 1 },
	{ BLKTAP_OP_FLUSH, 1 },
};

static void break_something(uint32_t n, uint32_t times)
{
	platters.fault = (struct platter_fault){
		.op = (int)faults[n].op,
		.leaf = faults[n].leaf,
		.skip = (uint32_t)platter_random(40),
		.times = times,
		.error = -EIO,
	};
}

/* Any version may be there since the last good one; but none before. */
START_TEST(a_fault_never_brings_back_what_was_written_over)
{
	uint32_t n = (uint32_t)_i % BT_ARRAY_SIZE(faults);

	must_open(modes[_i % 3]);
	guest_init(&guest, &rig, SECTORS, 8);
	guest.may_fail = true;
	platters.hold = true;
	break_something(n, 1 + (uint32_t)platter_random(5));
	work(50, _i % 2);
	platters.fault.op = -1;
	guest_verify(&guest);
	drop_cache();
}
END_TEST

START_TEST(a_cut_after_a_fault_leaves_what_was_flushed)
{
	uint32_t n = (uint32_t)_i % BT_ARRAY_SIZE(faults);
	uint64_t first;

	must_open(modes[_i % 3]);
	guest_init(&guest, &rig, SECTORS, 8);
	guest.may_fail = true;
	platter_begin();
	first = platters.now;
	platters.hold = true;
	break_something(n, platter_random(2) ? 1 : 1000000);
	work(40, true);
	platters.fault.op = -1;
	drop_cache();
	cut_everywhere(first, platters.now, 12);
}
END_TEST

START_TEST(a_store_that_dies_costs_a_write_through_cache_nothing)
{
	uint32_t i;

	must_open("mode=writethrough");
	guest_init(&guest, &rig, SECTORS, 8);
	platters.hold = true;
	guest_run(&guest, 60);
	/* may_fail is not set: no request may notice */
	platters.fault = (struct platter_fault){
		.op = _i ? BLKTAP_OP_READ : BLKTAP_OP_WRITE,
		.leaf = 1,
		.times = UINT32_MAX,
		.error = -EIO,
	};
	for (i = 0; i < 10; i++)
		guest_run(&guest, 30);
	guest_verify(&guest);
	ck_assert(has_state("lost"));
	ck_assert_int_eq(last_flush(), 0);
	drop_cache();
	/* it comes back with old copies, and none of them is served */
	platters.fault.op = -1;
	must_open("mode=writethrough");
	platters.hold = true;
	guest_verify(&guest);
	close_cache();
}
END_TEST

START_TEST(a_store_that_dies_with_the_only_copy_is_an_error_by_name)
{
	uint32_t i, wrong = 0;

	must_open("mode=writeback dirty=100%");
	memset(back, 1, SIZE);
	ck_assert_int_eq(rig_write(&rig, 0, back, 64u << 10), 0);
	ck_assert_int_eq(rig_flush(&rig), 0);
	memset(back, 2, SIZE);
	ck_assert_int_eq(rig_write(&rig, 0, back, 32u << 10), 0);
	ck_assert_uint_eq(value("dirty"), 64u << 10);
	platters.fault = (struct platter_fault){
		.op = _i ? BLKTAP_OP_FLUSH : BLKTAP_OP_READ,
		.leaf = 1,
		.times = UINT32_MAX,
		.error = -ENXIO,
	};
	if (_i)
		ck_assert_int_eq(rig_flush(&rig), -EIO);
	for (i = 0; i < 16; i++)
		wrong += rig_read(&rig, i * 4096, back, 4096) != -EIO;
	ck_assert_uint_eq(wrong, 0);
	ck_assert(has_state("lost"));
	/* the rest of the disk works, and what is written anew is there */
	memset(back, 3, SIZE);
	ck_assert_int_eq(rig_write(&rig, 4096, back, 4096), 0);
	memset(back, 0, SIZE);
	ck_assert_int_eq(rig_read(&rig, 4096, back, 4096), 0);
	ck_assert_int_eq(back[0], 3);
	ck_assert_int_eq(rig_read(&rig, 256u << 10, back, 4096), 0);
	ck_assert_int_ne(last_flush(), 0);
	drop_cache();
	/* and what was flushed comes back with the store */
	platters.fault.op = -1;
	must_open("mode=writeback");
	ck_assert_int_eq(rig_read(&rig, 32u << 10, back, 4096), 0);
	ck_assert_int_eq(back[0], 1);
	drop_cache();
}
END_TEST

START_TEST(what_an_origin_lost_is_written_back_again)
{
	must_open("mode=writeback dirty=100%");
	memset(back, 5, SIZE);
	ck_assert_int_eq(rig_write(&rig, 0, back, 128u << 10), 0);
	ck_assert_int_eq(rig_flush(&rig), 0);
	pass_time(2 * NS_PER_S);
	pass_time(2 * NS_PER_S);
	ck_assert_uint_eq(value("dirty"), 0);
	/* (a flush with nothing written before it does not get far) */
	ck_assert_int_eq(rig_write(&rig, 128u << 10, back, 4096), 0);
	/* the origin drops what it had not flushed, and says so */
	memset(platters.bytes[0], 0, SIZE);
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_FLUSH, .leaf = 0, .times = 1, .error = -EIO
	};
	ck_assert_int_eq(rig_flush(&rig), -EIO);
	ck_assert_uint_eq(value("dirty"), 132u << 10);
	close_cache();
	memset(back, 5, SIZE);
	ck_assert_mem_eq(platters.bytes[0], back, 128u << 10);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache-cuts");
	TCase *all = tcase_create("cache-faults");
	TCase *cuts = tcase_create("cache-cuts");

	tcase_set_timeout(all, 300);
	tcase_set_timeout(cuts, 3000);
	tcase_add_checked_fixture(cuts, cache_setup, cache_teardown);
	tcase_add_checked_fixture(all, cache_setup, cache_teardown);
	tcase_add_loop_test(
		cuts, a_power_cut_leaves_what_was_flushed_and_nothing_stale, 0,
		6);
	tcase_add_test(all,
		       a_cut_while_a_cache_is_opened_or_closed_loses_nothing);
	tcase_add_loop_test(
		all, a_fault_never_brings_back_what_was_written_over, 0, 42);
	tcase_add_loop_test(cuts, a_cut_after_a_fault_leaves_what_was_flushed,
			    0, 21);
	tcase_add_loop_test(
		all, a_store_that_dies_costs_a_write_through_cache_nothing, 0,
		2);
	tcase_add_loop_test(
		all, a_store_that_dies_with_the_only_copy_is_an_error_by_name,
		0, 2);
	tcase_add_test(all, what_an_origin_lost_is_written_back_again);
	suite_add_tcase(suite, cuts);
	suite_add_tcase(suite, all);
	return unit_run(suite);
}
