/* SPDX-License-Identifier: BSD-3-Clause */
#include "flat.h"

#define BYTES (2u << 20)
#define NS_PER_S 1000000000ull

static struct rough_world world;

static struct rough *from_of(const struct rig *rig)
{
	return rough_of(rig->root->ports[0].lower);
}

static struct rough *to_of(const struct rig *rig)
{
	return rough_of(rig->root->ports[1].lower);
}

/* from holds 0xf0 everywhere where that is asked for, to holds 0xee. */
static void make(struct rig *rig, bool filled, const char *args)
{
	unsigned char *image = malloc(BYTES);
	struct bt_node *lowers[3] = { NULL };

	rig_init(rig);
	lowers[0] = rough_make(rig, &world, "from", "size=2M");
	lowers[1] = rough_make(rig, &world, "to", "size=2M");
	memset(image, 0xf0, BYTES);
	if (filled)
		rough_load(rough_of(lowers[0]), image);
	memset(image, 0xee, BYTES);
	rough_load(rough_of(lowers[1]), image);
	free(image);
	rig_top(rig, rig_node(rig, &bt_copy_class, "c", args, lowers, 3));
}

static void expect(const struct rig *rig, const char *name, const char *text)
{
	char value[64];

	ck_assert(rig->root->cls->get_value(rig->root, name, value,
					    sizeof(value)));
	ck_assert_str_eq(value, text);
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

static void set(struct rig *rig, const char *name, const char *text)
{
	struct bt_args *args;

	ck_assert_int_eq(bt_args_create(rig->root->cls, &args), 0);
	ck_assert_int_eq(bt_args_set(args, name, text, NULL), 0);
	rig->root->cls->reconfigure(rig->root, args);
	bt_args_destroy(args);
}

START_TEST(a_disk_in_use_is_copied_whole)
{
	struct flat flat;
	struct rig rig;
	uint64_t seed;

	for (seed = 1; seed < 5; seed++) {
		world = (struct rough_world){ .random = seed };
		make(&rig, false, "region=64k");
		flat_init(&flat, &rig, seed);
		expect(&rig, "state", "copying");
		expect(&rig, "progress", "0");
		flat_run(&flat, 1000);
		pass_time(&rig, 3);
		expect(&rig, "state", "done");
		expect(&rig, "progress", "100");
		expect(&rig, "dirty", "0");
		/* and they stay the same */
		flat_run(&flat, 300);
		flat_verify(&flat);
		ck_assert_mem_eq(from_of(&rig)->now, to_of(&rig)->now, BYTES);
		flat_fini(&flat);
		rig_fini(&rig);
	}
}
END_TEST

START_TEST(a_copy_that_is_paused_copies_nothing_more)
{
	struct rig rig;
	uint32_t writes;

	make(&rig, true, "region=64k rate=128k/s");
	pass_time(&rig, 3);
	set(&rig, "pause", "true");
	pass_time(&rig, 3);
	expect(&rig, "state", "paused");
	writes = to_of(&rig)->seen[BLKTAP_OP_WRITE];
	ck_assert_uint_gt(writes, 0);
	pass_time(&rig, 20);
	ck_assert_uint_eq(to_of(&rig)->seen[BLKTAP_OP_WRITE], writes);
	set(&rig, "pause", "false");
	pass_time(&rig, 3);
	expect(&rig, "state", "done");
	ck_assert_mem_eq(from_of(&rig)->now, to_of(&rig)->now, BYTES);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_target_that_fails_is_not_noticed_by_the_guest)
{
	struct flat flat;
	struct rig rig;

	world = (struct rough_world){ .random = 5 };
	make(&rig, false, "region=64k");
	flat_init(&flat, &rig, 5);
	flat_run(&flat, 50);
	to_of(&rig)->dead = true;
	flat_run(&flat, 200); /* none of them fails */
	pass_time(&rig, 5);
	expect(&rig, "state", "failed");
	to_of(&rig)->dead = false;
	pass_time(&rig, 60);
	expect(&rig, "state", "done");
	flat_verify(&flat);
	ck_assert_mem_eq(from_of(&rig)->now, to_of(&rig)->now, BYTES);
	flat_fini(&flat);
	rig_fini(&rig);
}
END_TEST

START_TEST(an_error_of_the_source_comes_up)
{
	char data[512];
	struct rig rig;

	make(&rig, true, "pause=true");
	from_of(&rig)->dead = true;
	ck_assert_int_eq(rig_read(&rig, 0, data, 512), -EIO);
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), -EIO);
	rig_fini(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("module-copy");
	TCase *tc = tcase_create("module-copy");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_disk_in_use_is_copied_whole);
	tcase_add_test(tc, a_copy_that_is_paused_copies_nothing_more);
	tcase_add_test(tc, a_target_that_fails_is_not_noticed_by_the_guest);
	tcase_add_test(tc, an_error_of_the_source_comes_up);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
