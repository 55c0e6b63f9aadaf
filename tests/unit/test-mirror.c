/* SPDX-License-Identifier: BSD-3-Clause */
#include "mirror-rig.h"

/* ---- without failures ------------------------------------------------------ */

START_TEST(every_leg_holds_what_was_written)
{
	static const char *const args[] = { "read=first", "read=fastest",
					    "read=spread" };
	struct flat flat;
	struct rig rig;
	uint64_t seed;

	for (seed = 1; seed < 7; seed++) {
		world = (struct rough_world){ .random = seed };
		make(&rig, 7, seed & 1, NULL, args[seed % 3]);
		flat_init(&flat, &rig, seed);
		flat_run(&flat, 1500);
		flat_verify(&flat);
		expect_same(&rig, 0, 1);
		expect_same(&rig, 0, 2);
		expect(&rig, "state", "synced");
		flat_fini(&flat);
		rig_fini(&rig);
	}
}
END_TEST

START_TEST(reads_are_spread_and_the_first_is_preferred_where_said)
{
	struct rig rig;
	char data[512];
	uint32_t i;

	make(&rig, 3, false, NULL, "read=first");
	for (i = 0; i < 50; i++)
		ck_assert_int_eq(rig_read(&rig, 0, data, 512), 0);
	ck_assert_uint_eq(leg_of(&rig, 0)->seen[BLKTAP_OP_READ], 50);
	set(&rig, "read", "spread");
	for (i = 0; i < 640; i++)
		ck_assert_int_eq(rig_read(&rig, 0, data, 512), 0);
	ck_assert_uint_gt(leg_of(&rig, 1)->seen[BLKTAP_OP_READ], 0);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_background_copy_ends_with_legs_that_are_the_same)
{
	struct flat flat;
	struct rig rig;
	uint64_t seed;

	for (seed = 1; seed < 5; seed++) {
		struct images images;
		uint32_t i;

		images_init(&images);
		world = (struct rough_world){ .random = seed };
		for (i = 0; i < BYTES; i += 512) /* what must not show */
			images.of[1][i] = 0xee;
		make(&rig, 3, seed & 1, &images,
		     "sync=background source=0 region=64k");
		flat_init(&flat, &rig, seed);
		expect(&rig, "state", "syncing");
		flat_run(&flat, 1500);
		flat_verify(&flat);
		pass_time(&rig, 3);
		expect(&rig, "state", "synced");
		expect(&rig, "dirty", "0");
		expect(&rig, "legs", "in-sync,in-sync");
		expect_same(&rig, 0, 1);
		flat_run(&flat, 300);
		expect_same(&rig, 0, 1);
		flat_fini(&flat);
		rig_fini(&rig);
		images_fini(&images);
	}
}
END_TEST

START_TEST(the_rate_of_a_copy_can_be_changed_while_it_runs)
{
	struct rig rig;

	make(&rig, 3, false, NULL,
	     "sync=background source=0 region=64k rate=128k/s");
	pass_time(&rig, 4); /* two regions a second, of 32 */
	ck_assert_uint_ge(strtoull(value(&rig, "dirty"), NULL, 10),
			  BYTES - (12u << 16));
	expect(&rig, "state", "syncing");
	set(&rig, "sync", "none"); /* a pause */
	pass_time(&rig, 30);
	expect(&rig, "legs", "in-sync,fresh");
	set(&rig, "sync", "background");
	pass_time(&rig, 2);
	expect(&rig, "state", "synced");
	rig_fini(&rig);
}
END_TEST

/* ---- a leg fails ----------------------------------------------------------- */

START_TEST(a_leg_that_dies_is_not_noticed_above_and_heals)
{
	struct flat flat;
	struct rig rig;
	uint64_t seed;

	for (seed = 1; seed < 9; seed++) {
		struct images images;

		images_init(&images);
		world = (struct rough_world){ .random = seed };
		/* the first opening trusts the legs: nothing is copied */
		make(&rig, 3, seed & 1, &images, "region=64k read=spread");
		flat_init(&flat, &rig, seed);
		set(&rig, "sync", "background");
		flat_run(&flat, 300);
		leg_of(&rig, seed & 2 ? 1 : 0)->dead = true;
		flat_run(&flat, 300);
		expect(&rig, "state", "degraded");
		pass_time(&rig, 10);
		flat_run(&flat, 100);
		expect(&rig, "state", "degraded");
		leg_of(&rig, seed & 2 ? 1 : 0)->dead = false;
		flat_run(&flat, 100);
		pass_time(&rig, 60);
		expect(&rig, "state", "synced");
		expect_same(&rig, 0, 1);
		flat_run(&flat, 300);
		flat_verify(&flat);
		expect_same(&rig, 0, 1);
		flat_fini(&flat);
		rig_fini(&rig);
		images_fini(&images);
	}
}
END_TEST

/* As a qcow image of version 1 over a base, or a server that says so. */
static void make_no_zeroes(struct bt_node *node, struct bt_request *req)
{
	if (req->op == BLKTAP_OP_WRITE_ZEROES)
		bt_request_complete(req, -ENOTSUP);
	else
		bt_port_submit(&node->ports[0], req);
}

static const struct bt_port_desc plain_ports[] = { { .name = "lower" },
						   { .name = NULL } };

static const struct blktap_class plain_class = {
	.name = "plain",
	.ports = plain_ports,
	.operations = BT_OPS_ALL,
	.submit = make_no_zeroes,
};

START_TEST(a_leg_that_cannot_make_zeroes_is_written_them)
{
	static unsigned char old[BYTES], back[BYTES];
	struct bt_node *legs[3] = { NULL };
	struct rig rig;

	rig_init(&rig);
	legs[0] = rig_ram(&rig, "a", "2M");
	legs[1] = rig_ram(&rig, "b", "2M");
	legs[_i] = rig_node(&rig, &plain_class, "p", "", &legs[_i], 1);
	rig_top(&rig,
		rig_node(&rig, &bt_mirror_class, "m", "region=64k", legs, 3));
	rig.root->on_error = BT_ON_ERROR_DEGRADE;
	memset(old, 0xaa, sizeof(old));
	ck_assert_int_eq(rig_write(&rig, 0, old, 1u << 20), 0);
	ck_assert_int_eq(rig_write(&rig, 1u << 20, old, 1u << 20), 0);
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_DISCARD, 0, 4096, NULL, 4096),
			 0);
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_WRITE_ZEROES, 0, 12288, NULL,
				 BYTES - 12288),
			 0);
	memset(old + 4096, 0, 4096);
	memset(old + 12288, 0, BYTES - 12288);
	expect(&rig, "legs", "in-sync,in-sync");
	bt_port_link(&rig.top, legs[!_i]);
	ck_assert_int_eq(rig_read(&rig, 0, back, BYTES), 0);
	ck_assert_mem_eq(back, old, BYTES);
	bt_port_link(&rig.top, legs[_i]);
	ck_assert_int_eq(rig_read(&rig, 0, back, BYTES), 0);
	ck_assert_mem_eq(back, old, BYTES);
	bt_port_link(&rig.top, rig.root);
	rig_fini(&rig);
}
END_TEST

/* And is copied to all the same. */
START_TEST(a_leg_that_cannot_make_zeroes_is_copied_to)
{
	struct bt_node *legs[3] = { NULL };
	struct rig rig;

	rig_init(&rig);
	legs[0] = rig_ram(&rig, "a", "2M");
	legs[1] = rig_ram(&rig, "b", "2M");
	legs[1] = rig_node(&rig, &plain_class, "p", "", &legs[1], 1);
	rig_top(&rig, rig_node(&rig, &bt_mirror_class, "m",
			       "region=64k sync=background", legs, 3));
	pass_time(&rig, 1);
	expect(&rig, "legs", "in-sync,in-sync");
	rig_fini(&rig);
}
END_TEST

/* All lanes of a batch fail together, which counts once. */
START_TEST(a_leg_that_is_back_soon_is_copied_to_soon)
{
	struct flat flat;
	struct rig rig;

	world = (struct rough_world){ .random = 7 };
	make(&rig, 3, true, NULL, "region=64k sync=background");
	flat_init(&flat, &rig, 7);
	leg_of(&rig, 1)->dead = true;
	flat_run(&flat, 300);
	pass_time(&rig, 2);
	leg_of(&rig, 1)->dead = false;
	pass_time(&rig, 4);
	expect(&rig, "state", "synced");
	expect_same(&rig, 0, 1);
	flat_fini(&flat);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_leg_that_stays_dead_holds_up_no_copy_to_another)
{
	struct flat flat;
	struct rig rig;

	world = (struct rough_world){ .random = 8 };
	make(&rig, 7, true, NULL, "region=64k sync=background");
	flat_init(&flat, &rig, 8);
	leg_of(&rig, 1)->dead = true;
	flat_run(&flat, 300);
	pass_time(&rig, 120);
	leg_of(&rig, 2)->dead = true;
	flat_run(&flat, 50);
	leg_of(&rig, 2)->dead = false;
	pass_time(&rig, 4);
	expect(&rig, "state", "degraded");
	expect_same(&rig, 0, 2);
	flat_fini(&flat);
	rig_fini(&rig);
}
END_TEST

START_TEST(without_degrade_the_error_comes_up)
{
	char data[512] = { 1 };
	struct rig rig;

	make(&rig, 3, false, NULL, "");
	rig.root->on_error = BT_ON_ERROR_REPORT;
	leg_of(&rig, 1)->dead = true;
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), -EIO);
	/* and the leg is not read from there any more */
	leg_of(&rig, 1)->dead = false;
	set(&rig, "read", "spread");
	ck_assert_int_eq(rig_read(&rig, 0, data, 512), 0);
	ck_assert_int_eq(data[0], 1);
	expect(&rig, "legs", "in-sync,stale");
	rig_fini(&rig);
}
END_TEST

START_TEST(the_last_leg_is_never_given_up)
{
	char data[512] = { 1 };
	struct rig rig;

	make(&rig, 3, true, NULL, "");
	leg_of(&rig, 1)->dead = true;
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
	leg_of(&rig, 0)->dead = true;
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), -EIO);
	ck_assert_int_eq(rig_read(&rig, 0, data, 512), -EIO);
	leg_of(&rig, 0)->dead = false;
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
	ck_assert_int_eq(rig_read(&rig, 0, data, 512), 0);
	expect(&rig, "legs", "in-sync,stale");
	rig_fini(&rig);
}
END_TEST

static bool spoil_flush;

static int fail_flush(struct rough *rough, const struct bt_request *req)
{
	return spoil_flush && req->op == BLKTAP_OP_FLUSH ? -EIO : 0;
}

START_TEST(a_leg_whose_flush_failed_gets_all_since_the_last_sweep_anew)
{
	static char data[64 << 10];
	struct rig rig;

	make(&rig, 3, true, NULL, "region=64k");
	leg_of(&rig, 1)->spoil = fail_flush;
	spoil_flush = true;
	ck_assert_int_eq(rig_write(&rig, 0, data, 65536), 0);
	ck_assert_int_eq(rig_write(&rig, 1u << 20, data, 65536), 0);
	ck_assert_int_eq(rig_flush(&rig), 0); /* the other leg has it */
	expect(&rig, "legs", "in-sync,stale");
	expect(&rig, "dirty", "131072");
	spoil_flush = false;
	set(&rig, "sync", "background");
	pass_time(&rig, 40);
	expect(&rig, "state", "synced");
	rig_fini(&rig);
}
END_TEST

/* As a server that lost its power and is there again: what it had not flushed is gone,
 * and nothing fails. */
static void lose_unflushed(struct rough *leg)
{
	memcpy(leg->now, leg->stable, leg->size);
	bt_node_lose(leg->node);
}

START_TEST(a_leg_that_lost_what_it_had_not_flushed_gets_it_anew)
{
	unsigned char data[4096], back[4096];
	struct rig rig;

	world = (struct rough_world){ .random = 7 };
	make(&rig, 3, _i & 1, NULL, "region=64k read=first sync=background");
	pass_time(&rig, 1);
	memset(data, 1, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 0, data, 4096), 0);
	ck_assert_int_eq(rig_flush(&rig), 0);
	memset(data, 2, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 0, data, 4096), 0);
	lose_unflushed(leg_of(&rig, _i >> 1 & 1));
	if (_i & 4)
		ck_assert_int_eq(rig_flush(&rig), 0);
	ck_assert_int_eq(rig_read(&rig, 0, back, 4096), 0);
	ck_assert_mem_eq(back, data, 4096);
	pass_time(&rig, 20);
	expect(&rig, "legs", "in-sync,in-sync");
	expect_same(&rig, 0, 1);
	ck_assert_mem_eq(leg_of(&rig, 0)->now, data, 4096);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_bad_read_is_served_by_another_leg_and_repaired)
{
	char data[512] = { 42 };
	struct rig rig;

	make(&rig, 3, false, NULL, "region=64k");
	ck_assert_int_eq(rig_write(&rig, 4096, data, 512), 0);
	leg_of(&rig, 0)->dead = true;
	data[0] = 0;
	ck_assert_int_eq(rig_read(&rig, 4096, data, 512), 0);
	ck_assert_int_eq(data[0], 42);
	leg_of(&rig, 0)->dead = false;
	memset(leg_of(&rig, 0)->now, 0x99, 65536); /* it was bad */
	set(&rig, "sync", "background");
	pass_time(&rig, 5);
	expect(&rig, "state", "synced");
	expect_same(&rig, 0, 1);
	rig_fini(&rig);
}
END_TEST

static int fail_some(struct rough *rough, const struct bt_request *req)
{
	return spoil_flush && !rough_random(rough->world, 40) ? -EIO : 0;
}

START_TEST(random_failures_of_all_legs_lose_nothing_acknowledged)
{
	struct flat flat;
	struct rig rig;
	uint64_t seed;
	uint32_t i;

	for (seed = 1; seed < 9; seed++) {
		world = (struct rough_world){ .random = seed * 3 };
		make(&rig, 7, seed & 1, NULL, "region=64k read=spread");
		set(&rig, "sync", "background");
		for (i = 0; i < 3; i++)
			leg_of(&rig, i)->spoil = fail_some;
		flat_init(&flat, &rig, seed);
		flat.may_fail = true;
		spoil_flush = true;
		for (i = 0; i < 12; i++) {
			flat_run(&flat, 100);
			pass_time(&rig, 2);
		}
		spoil_flush = false;
		flat_verify(&flat);
		pass_time(&rig, 60);
		expect(&rig, "state", "synced");
		flat_verify(&flat);
		expect_same(&rig, 0, 1);
		expect_same(&rig, 0, 2);
		flat_fini(&flat);
		rig_fini(&rig);
	}
}
END_TEST

/* ---- order ------------------------------------------------------------------ */

START_TEST(writes_that_overlap_leave_legs_that_agree)
{
	struct bt_request *reqs[16];
	bool done[16] = { false };
	struct iovec iov[16];
	struct rig rig;
	uint64_t seed;
	uint32_t i;

	for (seed = 1; seed < 40; seed++) {
		world = (struct rough_world){ .random = seed };
		make(&rig, 7, seed & 1, NULL, "");
		for (i = 0; i < 16; i++) {
			uint64_t length = 512 * (1 + rough_random(&world, 8));

			iov[i].iov_base = malloc(length);
			iov[i].iov_len = length;
			memset(iov[i].iov_base, (int)i + 1, length);
			reqs[i] = bt_pool_take(rig.pool);
			reqs[i]->op = BLKTAP_OP_WRITE;
			reqs[i]->offset = 512 * rough_random(&world, 8);
			reqs[i]->length = length;
			reqs[i]->data =
				(struct bt_sgl){ .iov = &iov[i], .count = 1 };
			reqs[i]->opaque = &done[i];
			done[i] = false;
			bt_port_submit(&rig.top, reqs[i]);
		}
		for (i = 0; i < 16; i++) {
			ck_assert_int_eq(bt_loop_run_until(rig.env.loop,
							   rig_is_done,
							   &done[i], 30000),
					 0);
			ck_assert_int_eq(reqs[i]->error, 0);
			bt_pool_give(reqs[i]);
			free(iov[i].iov_base);
		}
		expect_same(&rig, 0, 1);
		expect_same(&rig, 0, 2);
		rig_fini(&rig);
	}
}
END_TEST

/* ---- the last flush --------------------------------------------------------- */

static uint32_t work_of(const struct rig *rig, bool log)
{
	uint32_t i, n = 0;

	for (i = 0; i < BLKTAP_OP_COUNT; i++)
		n += leg_of(rig, 0)->seen[i] + leg_of(rig, 1)->seen[i] +
		     (log ? log_of(rig)->seen[i] : 0);
	return n;
}

static struct bt_request *last;
static uint32_t copies_left;

/* The flush comes in the middle of a copy. */
static int submit_last(struct rough *rough, const struct bt_request *req)
{
	struct rig *rig = rough->opaque;

	if (copies_left-- == 0)
		bt_port_submit(&rig->top, last);
	return 0;
}

static void flush_last(struct rig *rig, uint64_t seed, struct images *images)
{
	bool done = false;
	uint32_t i;

	world = (struct rough_world){ .random = seed };
	images_init(images);
	for (i = 0; i < BYTES; i += 512)
		images->of[0][i] = (unsigned char)(i / 512);
	make(rig, 3, seed & 1, images, "sync=background source=0 region=64k");
	last = bt_pool_take(rig->pool);
	last->op = BLKTAP_OP_FLUSH;
	last->flags = BT_REQUEST_BYPASS | BT_REQUEST_LAST;
	last->opaque = &done;
	copies_left = (uint32_t)rough_random(&world, 20);
	leg_of(rig, 1)->spoil = submit_last;
	leg_of(rig, 1)->opaque = rig;
	ck_assert_int_eq(
		bt_loop_run_until(rig->env.loop, rig_is_done, &done, 30000), 0);
	ck_assert_int_eq(last->error, 0);
	bt_pool_give(last);
	leg_of(rig, 1)->spoil = NULL;
}

START_TEST(after_its_last_flush_a_mirror_does_nothing_of_its_own)
{
	unsigned char data[512] = { 7 };
	struct images images;
	struct rig rig;
	uint64_t seed;
	uint32_t work;

	for (seed = 1; seed < 21; seed++) {
		flush_last(&rig, seed, &images);
		work = work_of(&rig, seed & 1);
		expect(&rig, "state", "syncing");
		pass_time(&rig, 60);
		ck_assert_uint_eq(work_of(&rig, seed & 1), work);
		ck_assert_int_eq(rig_read(&rig, 0, data, 512), 0);
		/* a write says that it goes on */
		ck_assert_int_eq(
			rig_run(&rig, BLKTAP_OP_WRITE, 0, 0, data, 512), 0);
		pass_time(&rig, 60);
		expect(&rig, "state", "synced");
		expect_same(&rig, 0, 1);
		rig_fini(&rig);
		images_fini(&images);
	}
}
END_TEST

START_TEST(a_mirror_that_stays_after_all_goes_on_with_its_copy)
{
	struct images images;
	struct rig rig;
	uint64_t seed;

	for (seed = 1; seed < 5; seed++) {
		flush_last(&rig, seed, &images);
		rig.root->stays = true;
		pass_time(&rig, 60);
		expect(&rig, "state", "synced");
		expect_same(&rig, 0, 1);
		rig_fini(&rig);
		images_fini(&images);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mirror");
	TCase *tc = tcase_create("mirror");

	tcase_set_timeout(tc, getenv("BLKTAP_TEST_LONG") ? 7200 : 60);
	tcase_add_test(tc, every_leg_holds_what_was_written);
	tcase_add_test(tc,
		       reads_are_spread_and_the_first_is_preferred_where_said);
	tcase_add_test(tc, a_background_copy_ends_with_legs_that_are_the_same);
	tcase_add_test(tc, the_rate_of_a_copy_can_be_changed_while_it_runs);
	tcase_add_loop_test(tc, a_leg_that_cannot_make_zeroes_is_written_them,
			    0, 2);
	tcase_add_test(tc, a_leg_that_cannot_make_zeroes_is_copied_to);
	tcase_add_test(tc, a_leg_that_dies_is_not_noticed_above_and_heals);
	tcase_add_test(tc, a_leg_that_is_back_soon_is_copied_to_soon);
	tcase_add_test(tc, a_leg_that_stays_dead_holds_up_no_copy_to_another);
	tcase_add_test(tc, without_degrade_the_error_comes_up);
	tcase_add_test(tc, the_last_leg_is_never_given_up);
	tcase_add_test(
		tc,
		a_leg_whose_flush_failed_gets_all_since_the_last_sweep_anew);
	tcase_add_loop_test(
		tc, a_leg_that_lost_what_it_had_not_flushed_gets_it_anew, 0, 8);
	tcase_add_test(tc, a_bad_read_is_served_by_another_leg_and_repaired);
	tcase_add_test(tc,
		       random_failures_of_all_legs_lose_nothing_acknowledged);
	tcase_add_test(tc, writes_that_overlap_leave_legs_that_agree);
	tcase_add_test(tc,
		       after_its_last_flush_a_mirror_does_nothing_of_its_own);
	tcase_add_test(tc, a_mirror_that_stays_after_all_goes_on_with_its_copy);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
