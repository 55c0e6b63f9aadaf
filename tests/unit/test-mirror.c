/* SPDX-License-Identifier: BSD-3-Clause */
#include "flat.h"

#define BYTES (2u << 20)
#define LEG "size=2M"
#define LOG_BYTES (64u << 10)
#define NS_PER_S 1000000000ull
#define MAX_LEGS 3u

static struct rough_world world;

/* What the leaves held before; NULL: zeroes. The last is the log's. */
struct images {
	unsigned char *of[MAX_LEGS + 1];
};

static void images_init(struct images *images)
{
	uint32_t i;

	for (i = 0; i <= MAX_LEGS; i++)
		images->of[i] = calloc(1, i < MAX_LEGS ? BYTES : LOG_BYTES);
}

static void images_fini(struct images *images)
{
	uint32_t i;

	for (i = 0; i <= MAX_LEGS; i++)
		free(images->of[i]);
}

/* legs: which of the three are linked, 1u << index. */
static void make_leaves(struct rig *rig, uint32_t legs, bool log,
			const struct images *images, struct bt_node **lowers,
			uint32_t *count)
{
	static const char *const names[] = { "a", "b", "c" };
	uint32_t i;

	*count = 0;
	for (i = 0; i < MAX_LEGS; i++) {
		if (!(legs >> i & 1u))
			continue;
		lowers[*count] = rough_make(rig, &world, names[i], LEG);
		if (images)
			rough_load(rough_of(lowers[*count]), images->of[i]);
		++*count;
	}
	lowers[*count] =
		log ? rough_make(rig, &world, "log", "size=64k") : NULL;
	if (log && images)
		rough_load(rough_of(lowers[*count]), images->of[MAX_LEGS]);
	++*count;
}

static struct bt_node *make(struct rig *rig, uint32_t legs, bool log,
			    const struct images *images, const char *args)
{
	struct bt_node *lowers[MAX_LEGS + 1], *node;
	uint32_t count;

	rig_init(rig);
	make_leaves(rig, legs, log, images, lowers, &count);
	node = rig_node(rig, &bt_mirror_class, "m", args, lowers, count);
	node->degrade = true;
	rig_top(rig, node);
	return node;
}

static struct rough *leg_of(const struct rig *rig, uint32_t leg)
{
	return rough_of(bt_node_port(rig->root, 0, leg)->lower);
}

static struct rough *log_of(const struct rig *rig)
{
	return rough_of(bt_node_port(rig->root, 1, 0)->lower);
}

static const char *value(const struct rig *rig, const char *name)
{
	static char text[64];

	ck_assert(
		rig->root->cls->get_value(rig->root, name, text, sizeof(text)));
	return text;
}

static void expect(const struct rig *rig, const char *name, const char *text)
{
	ck_assert_str_eq(value(rig, name), text);
}

static void pass_time(struct rig *rig, uint32_t seconds)
{
	uint32_t turn;

	while (seconds--) {
		bt_loop_advance(rig->env.loop, NS_PER_S);
		for (turn = 0; turn < 200; turn++)
			ck_assert_int_eq(bt_loop_turn(rig->env.loop, 0), 0);
	}
}

static void expect_same(const struct rig *rig, uint32_t a, uint32_t b)
{
	ck_assert_mem_eq(leg_of(rig, a)->now, leg_of(rig, b)->now, BYTES);
}

static void set(struct rig *rig, const char *name, const char *text)
{
	struct bt_args *args;

	ck_assert_int_eq(bt_args_create(rig->root->cls, &args), 0);
	ck_assert_int_eq(bt_args_set(args, name, text, NULL), 0);
	rig->root->cls->reconfigure(rig->root, args);
	bt_args_destroy(args);
}

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

START_TEST(without_degrade_the_error_comes_up)
{
	char data[512] = { 1 };
	struct rig rig;

	make(&rig, 3, false, NULL, "");
	rig.root->degrade = false;
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

/* ---- the log --------------------------------------------------------------- */

static void keep(const struct rig *rig, uint32_t legs, struct images *images)
{
	uint32_t i, n = 0;

	for (i = 0; i < MAX_LEGS; i++)
		if (legs >> i & 1u)
			memcpy(images->of[i], leg_of(rig, n++)->now, BYTES);
	memcpy(images->of[MAX_LEGS], log_of(rig)->now, LOG_BYTES);
}

static int flush_last(struct rig *rig)
{
	rig->top.done = rig_done;
	return rig_run(rig, BLKTAP_OP_FLUSH, BT_REQUEST_LAST, 0, NULL, 0);
}

START_TEST(a_leg_that_was_away_gets_what_it_missed_and_no_more)
{
	static char data[4096];
	struct images images;
	struct rig rig;

	images_init(&images);
	make(&rig, 3, true, &images, "region=64k");
	memset(data, 1, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 0, data, 4096), 0);
	ck_assert_int_eq(flush_last(&rig), 0);
	keep(&rig, 3, &images);
	rig_fini(&rig);
	/* b is away */
	make(&rig, 1, true, &images, "");
	expect(&rig, "state", "synced");
	memset(data, 2, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 1u << 20, data, 4096), 0);
	ck_assert_int_eq(rig_write(&rig, (1u << 20) + 65536, data, 4096), 0);
	ck_assert_int_eq(flush_last(&rig), 0);
	keep(&rig, 1, &images);
	rig_fini(&rig);
	/* and comes back, even in another place */
	make(&rig, 3, true, &images, "sync=background");
	expect(&rig, "dirty", "131072");
	expect(&rig, "legs", "in-sync,syncing");
	pass_time(&rig, 2);
	expect(&rig, "state", "synced");
	expect_same(&rig, 0, 1);
	ck_assert_uint_eq(leg_of(&rig, 1)->seen[BLKTAP_OP_WRITE] +
				  leg_of(&rig, 1)->seen[BLKTAP_OP_WRITE_ZEROES],
			  2);
	rig_fini(&rig);
	images_fini(&images);
}
END_TEST

START_TEST(a_leg_the_log_does_not_know_gets_everything)
{
	struct images images;
	struct rig rig;

	images_init(&images);
	make(&rig, 3, true, &images, "region=64k");
	ck_assert_int_eq(flush_last(&rig), 0);
	keep(&rig, 3, &images);
	rig_fini(&rig);
	make(&rig, 7, true, &images, "");
	expect(&rig, "legs", "in-sync,in-sync,fresh");
	expect(&rig, "dirty", "2097152");
	rig_fini(&rig);
	images_fini(&images);
}
END_TEST

static int try_open(uint32_t legs, const struct images *images,
		    const char *args, char *text, size_t size)
{
	struct blktap_error *err = NULL;
	struct bt_node *lowers[MAX_LEGS + 1], *node;
	struct rig rig;
	uint32_t count;
	int rc;

	rig_init(&rig);
	make_leaves(&rig, legs, true, images, lowers, &count);
	node = rig_make(&rig, &bt_mirror_class, "m", args, lowers, count, &rc,
			&err);
	snprintf(text, size, "%s", err ? blktap_error_get_message(err) : "");
	blktap_error_destroy(err);
	bt_node_destroy(node);
	rig_fini(&rig);
	return rc;
}

START_TEST(a_stale_leg_alone_is_refused_and_the_good_one_named)
{
	static char data[4096] = { 5 };
	struct images images;
	char text[256];
	struct rig rig;

	images_init(&images);
	make(&rig, 3, true, &images, "");
	leg_of(&rig, 1)->dead = true;
	ck_assert_int_eq(rig_write(&rig, 0, data, 4096), 0);
	keep(&rig, 3, &images);
	rig_fini(&rig);
	ck_assert_int_eq(try_open(2, &images, "", text, sizeof(text)),
			 -ENODATA);
	ck_assert_ptr_nonnull(strstr(text, "on a"));
	ck_assert_int_eq(try_open(1, &images, "", text, sizeof(text)), 0);
	ck_assert_int_eq(try_open(3, &images, "source=2", text, sizeof(text)),
			 -EINVAL);
	images.of[MAX_LEGS][8192 + 3] ^= 1;
	ck_assert_int_eq(try_open(3, &images, "", text, sizeof(text)),
			 -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(text, "'log'"));
	images_fini(&images);
}
END_TEST

START_TEST(a_log_that_cannot_be_written_stops_writes_not_reads)
{
	static char data[4096] = { 5 };
	struct rig rig;

	make(&rig, 3, true, NULL, "");
	log_of(&rig)->dead = true;
	ck_assert_int_eq(rig_write(&rig, 0, data, 4096), -EIO);
	ck_assert_int_eq(rig_read(&rig, 0, data, 4096), 0);
	log_of(&rig)->dead = false;
	ck_assert_int_eq(rig_write(&rig, 0, data, 4096), 0);
	rig_fini(&rig);
}
END_TEST

/* ---- power cuts ------------------------------------------------------------ */

struct cut {
	struct flat *flat;
	struct flat left;
	struct images images;
	struct rig *rig;
	bool taken;
};

static void take_cut(struct rough_world *w)
{
	struct cut *cut = w->opaque;
	uint32_t i;

	flat_cut(cut->flat, &cut->left);
	for (i = 0; i < 2; i++)
		rough_cut(leg_of(cut->rig, i), cut->images.of[i]);
	rough_cut(log_of(cut->rig), cut->images.of[MAX_LEGS]);
	cut->taken = true;
}

/* What is read must be what may be there, and stay so when it is read from the
 * other leg, and when the copy is done. */
static void check_cut(struct cut *cut)
{
	struct rig rig;

	world.cut_at = 0;
	make(&rig, 3, true, &cut->images, "read=first");
	cut->left.rig = &rig;
	flat_verify(&cut->left);
	set(&rig, "read", "spread");
	flat_verify(&cut->left);
	set(&rig, "sync", "background");
	flat_run(&cut->left, 60);
	pass_time(&rig, 8);
	expect(&rig, "state", "synced");
	expect_same(&rig, 0, 1);
	flat_verify(&cut->left);
	flat_fini(&cut->left);
	rig_fini(&rig);
}

static void one_cut(uint64_t seed)
{
	struct cut cut = { .taken = false };
	struct flat flat;
	struct rig rig;
	uint32_t i, dies = seed % 3; /* leg 0, leg 1, none */

	images_init(&cut.images);
	world = (struct rough_world){ .random = seed * 77 + 1 };
	make(&rig, 3, true, NULL, "region=64k read=spread");
	set(&rig, "sync", "background");
	flat_init(&flat, &rig, seed);
	cut.flat = &flat;
	cut.rig = &rig;
	world.opaque = &cut;
	world.on_cut = take_cut;
	world.cut_at = world.events + 1 + rough_random(&world, 1500);
	world.cut_at_flush = seed & 4;
	for (i = 0; i < 8 && !cut.taken; i++) {
		if (dies < 2)
			leg_of(&rig, dies)->dead = i & 1;
		flat_run(&flat, 50);
		pass_time(&rig, 1 + (uint32_t)rough_random(&world, 6));
	}
	if (cut.taken)
		check_cut(&cut);
	flat_fini(&flat);
	rig_fini(&rig);
	images_fini(&cut.images);
}

START_TEST(a_power_cut_leaves_legs_that_agree_on_what_was_flushed)
{
	const char *more = getenv("BLKTAP_TEST_LONG");
	uint64_t seed, count = more && *more ? 10000 : 60;

	for (seed = 1; seed <= count; seed++)
		one_cut(seed);
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
	tcase_add_test(tc, a_leg_that_dies_is_not_noticed_above_and_heals);
	tcase_add_test(tc, without_degrade_the_error_comes_up);
	tcase_add_test(tc, the_last_leg_is_never_given_up);
	tcase_add_test(
		tc,
		a_leg_whose_flush_failed_gets_all_since_the_last_sweep_anew);
	tcase_add_test(tc, a_bad_read_is_served_by_another_leg_and_repaired);
	tcase_add_test(tc,
		       random_failures_of_all_legs_lose_nothing_acknowledged);
	tcase_add_test(tc, a_leg_that_was_away_gets_what_it_missed_and_no_more);
	tcase_add_test(tc, a_leg_the_log_does_not_know_gets_everything);
	tcase_add_test(tc, a_stale_leg_alone_is_refused_and_the_good_one_named);
	tcase_add_test(tc, a_log_that_cannot_be_written_stops_writes_not_reads);
	tcase_add_test(tc,
		       a_power_cut_leaves_legs_that_agree_on_what_was_flushed);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
