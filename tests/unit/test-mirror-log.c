/* SPDX-License-Identifier: BSD-3-Clause */
/* What a mirror's log is for: legs that were away, and power cuts. */
#include "mirror-rig.h"
#include "module/header.h"
#include "seed.h"

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

/* It is shown where that leg is missing. */
START_TEST(a_leg_whose_name_is_no_text_is_refused)
{
	struct bt_header header;
	struct images images;
	char text[256];
	struct rig rig;
	uint32_t i, changed = 0;

	images_init(&images);
	make(&rig, 3, true, &images, "");
	keep(&rig, 3, &images);
	rig_fini(&rig);
	for (i = 0; i < 2; i++) {
		unsigned char *slot =
			images.of[MAX_LEGS] + i * (size_t)BT_HEADER_SLOT;

		if (bt_header_decode(&header, slot) < 0)
			continue;
		memcpy(header.payload + 16, "\033[2J", 4);
		bt_header_encode(&header, slot);
		changed++;
	}
	ck_assert_uint_gt(changed, 0);
	ck_assert_int_eq(try_open(3, &images, "", text, sizeof(text)),
			 -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(text, "is no text"));
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
	uint64_t seed, count = more && *more ? 10000 : seed_rounds(60);

	for (seed = 1; seed <= count; seed++)
		one_cut(seed);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mirror-log");
	TCase *tc = tcase_create("mirror-log");

	tcase_set_timeout(tc, getenv("BLKTAP_TEST_LONG") ? 7200 : 60);
	tcase_add_test(tc, a_leg_that_was_away_gets_what_it_missed_and_no_more);
	tcase_add_test(tc, a_leg_the_log_does_not_know_gets_everything);
	tcase_add_test(tc, a_stale_leg_alone_is_refused_and_the_good_one_named);
	tcase_add_test(tc, a_leg_whose_name_is_no_text_is_refused);
	tcase_add_test(tc, a_log_that_cannot_be_written_stops_writes_not_reads);
	tcase_add_test(tc,
		       a_power_cut_leaves_legs_that_agree_on_what_was_flushed);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
