/* SPDX-License-Identifier: BSD-3-Clause */
#include "flat-cut.h"
#include "seed.h"

#define TOP_SIZE "size=3M"
#define BASE_SIZE "size=512k"
#define BASE_BYTES (512u << 10)

static struct rough_world world;

/* A cow over a base of zeroes, or over images from before. */
static void make(struct rig *rig, const char *args, const unsigned char *top)
{
	struct bt_node *lowers[2];

	rig_init(rig);
	lowers[0] = rough_make(rig, &world, "top", TOP_SIZE);
	lowers[1] = rough_make(rig, &world, "base", BASE_SIZE);
	if (top)
		rough_load(rough_of(lowers[0]), top);
	rig_top(rig, rig_node(rig, &bt_cow_class, "cow", args, lowers, 2));
}

static struct rough *top_of(const struct rig *rig)
{
	return rough_of(rig->root->ports[0].lower);
}

static struct rough *base_of(struct rig *rig)
{
	return rough_of(rig->root->ports[1].lower);
}

static void expect_base_untouched(struct rig *rig)
{
	const struct rough *base = base_of(rig);

	ck_assert_uint_eq(base->seen[BLKTAP_OP_WRITE], 0);
	ck_assert_uint_eq(base->seen[BLKTAP_OP_WRITE_ZEROES], 0);
	ck_assert_uint_eq(base->seen[BLKTAP_OP_DISCARD], 0);
}

START_TEST(a_cow_holds_what_was_written_and_leaves_the_base_alone)
{
	static const char *const args[] = { "", "grain=512", "grain=64k" };
	unsigned char *image = malloc(3u << 20);
	struct flat flat;
	struct rig rig;
	uint64_t seed;

	for (seed = 1; seed < 5; seed++) {
		world = (struct rough_world){ .random = seed };
		make(&rig, args[seed % 3], NULL);
		flat_init(&flat, &rig, seed);
		flat_run(&flat, 2000);
		flat_verify(&flat);
		ck_assert_int_eq(flat_flush(&flat), 0);
		expect_base_untouched(&rig);
		/* and what was flushed is there when it is opened anew */
		memcpy(image, top_of(&rig)->stable, 3u << 20);
		rig_fini(&rig);
		make(&rig, args[seed % 3], image);
		flat.rig = &rig;
		flat_verify(&flat);
		flat_run(&flat, 500);
		flat_verify(&flat);
		flat_fini(&flat);
		rig_fini(&rig);
	}
	free(image);
}
END_TEST

START_TEST(what_was_not_written_is_the_bases)
{
	static unsigned char data[4096], back[12288];
	struct rig rig;

	make(&rig, "", NULL);
	memset(base_of(&rig)->now, 0xb5, BASE_BYTES);
	memset(data, 0x70, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 8192, data, 4096), 0);
	ck_assert_int_eq(rig_read(&rig, 4096, back, 12288), 0);
	ck_assert_uint_eq(back[4095], 0xb5);
	ck_assert_uint_eq(back[4096], 0x70);
	ck_assert_uint_eq(back[8191], 0x70);
	ck_assert_uint_eq(back[8192], 0xb5);
	/* zeroes are written too, whatever the base has */
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_WRITE_ZEROES, 0, 0, NULL, 4096), 0);
	ck_assert_int_eq(rig_read(&rig, 0, back, 4096), 0);
	ck_assert_uint_eq(back[0] | back[4095], 0);
	/* nothing of the base can be discarded */
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_DISCARD, 0, 65536, NULL, 65536), 0);
	ck_assert_uint_eq(top_of(&rig)->seen[BLKTAP_OP_DISCARD], 0);
	expect_base_untouched(&rig);
	rig_fini(&rig);
}
END_TEST

static bool fail_now;

static int fail_some(struct rough *rough, const struct bt_request *req)
{
	return fail_now && !rough_random(rough->world, 20) ? -EIO : 0;
}

START_TEST(after_failures_a_cow_holds_old_data_or_new)
{
	struct flat flat;
	struct rig rig;

	world = (struct rough_world){ .random = 99 };
	make(&rig, "grain=512", NULL);
	top_of(&rig)->spoil = fail_some;
	fail_now = true;
	flat_init(&flat, &rig, 99);
	flat.may_fail = true;
	flat_run(&flat, 5000);
	ck_assert_uint_gt(flat.errors, 100);
	fail_now = false;
	flat_verify(&flat);
	ck_assert_int_eq(flat_flush(&flat), 0);
	flat_fini(&flat);
	rig_fini(&rig);
}
END_TEST

/* Sees what its two nodes are told, in order. */
static struct {
	uint32_t lasts, after; /* writes behind the last */
	int error;
} told[2];

static void witness_submit(struct bt_node *node, struct bt_request *req)
{
	uint32_t i = node->name[0] == 'b';

	if (req->op == BLKTAP_OP_FLUSH && req->flags & BT_REQUEST_LAST) {
		told[i].lasts++;
		told[i].after = 0;
		if (told[i].error) {
			bt_request_complete(req, told[i].error);
			return;
		}
	} else if (bt_op_is_writing(req->op)) {
		told[i].after++;
	}
	bt_port_submit(&node->ports[0], req);
}

static const struct bt_port_desc witness_ports[] = { { .name = "lower" },
						     { .name = NULL } };

static const struct blktap_class witness_class = {
	.name = "witness",
	.ports = witness_ports,
	.operations = BT_OPS_ALL,
	.submit = witness_submit,
};

/* A cache there writes back, a mirror notes that its legs are the same. */
START_TEST(what_is_below_a_cow_hears_of_the_last_flush)
{
	static unsigned char data[4096] = { 7 };
	struct bt_node *lowers[2];
	struct rig rig;
	uint32_t i;

	memset(told, 0, sizeof(told));
	world = (struct rough_world){ .random = 3 };
	rig_init(&rig);
	lowers[0] = rough_make(&rig, &world, "top", TOP_SIZE);
	lowers[1] = rough_make(&rig, &world, "base", BASE_SIZE);
	lowers[0] = rig_node(&rig, &witness_class, "t", "", &lowers[0], 1);
	lowers[1] = rig_node(&rig, &witness_class, "b", "", &lowers[1], 1);
	rig_top(&rig, rig_node(&rig, &bt_cow_class, "cow", "", lowers, 2));
	ck_assert_int_eq(rig_write(&rig, 0, data, 4096), 0);
	ck_assert_int_eq(rig_flush(&rig), 0);
	ck_assert_uint_eq(told[0].lasts + told[1].lasts, 0);
	/* the change may be undone, and another last flush come */
	for (i = 1; i < 3; i++) {
		ck_assert_int_eq(rig_write(&rig, i * 4096, data, 4096), 0);
		ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_FLUSH, BT_REQUEST_LAST,
					 0, NULL, 0),
				 0);
		ck_assert_uint_eq(told[0].lasts, i);
		ck_assert_uint_eq(told[0].after, 0);
		ck_assert_uint_eq(told[1].lasts, i);
	}
	/* what the top does not do well is told, and what the base does is not */
	told[1].error = -EIO;
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_FLUSH, BT_REQUEST_LAST, 0, NULL, 0), 0);
	told[0].error = -ENOSPC;
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_FLUSH, BT_REQUEST_LAST, 0, NULL, 0),
		-ENOSPC);
	rig_fini(&rig);
}
END_TEST

static bool is_map_write(const struct bt_request *req)
{
	return req->op == BLKTAP_OP_WRITE && req->offset >= 8192 &&
	       req->offset < (1u << 20);
}

static int fail_map(struct rough *rough, const struct bt_request *req)
{
	return fail_now && is_map_write(req) ? -EIO : 0;
}

START_TEST(a_map_that_could_not_be_written_fails_the_flush_until_it_is)
{
	static unsigned char data[4096] = { 7 }, back[4096];
	unsigned char *image = malloc(3u << 20);
	struct rig rig;

	make(&rig, "", NULL);
	top_of(&rig)->spoil = fail_map;
	ck_assert_int_eq(rig_write(&rig, 0, data, 4096), 0);
	fail_now = true;
	ck_assert_int_eq(rig_flush(&rig), -EIO);
	ck_assert_int_eq(rig_flush(&rig), -EIO);
	fail_now = false;
	ck_assert_int_eq(rig_flush(&rig), 0);
	memcpy(image, top_of(&rig)->stable, 3u << 20);
	rig_fini(&rig);
	make(&rig, "", image);
	ck_assert_int_eq(rig_read(&rig, 0, back, 4096), 0);
	ck_assert_mem_eq(back, data, 4096);
	rig_fini(&rig);
	free(image);
}
END_TEST

/* ---- power cuts ------------------------------------------------------------ */

static void make_for_cut(struct rig *rig, const void *args,
			 const unsigned char *image)
{
	make(rig, args, image);
}

START_TEST(a_power_cut_leaves_what_was_flushed)
{
	const char *more = getenv("BLKTAP_TEST_LONG");
	uint64_t seed, count = more && *more ? 20000 : seed_rounds(60);
	struct flat_cut_story story = {
		.world = &world,
		.bytes = 3u << 20,
		.steps = 700,
		.make = make_for_cut,
		.store_of = top_of,
	};

	for (seed = 1; seed <= count; seed++) {
		story.opaque = seed & 1 ? "grain=512" : "";
		flat_cut_run(&story, seed);
	}
}
END_TEST

/* ---- what is refused ------------------------------------------------------- */

static int reopen(const unsigned char *image, const char *top_size,
		  const char *base_size, char *text, size_t size)
{
	struct blktap_error *err = NULL;
	struct bt_node *lowers[2], *node;
	struct rig rig;
	int rc;

	rig_init(&rig);
	lowers[0] = rough_make(&rig, NULL, "top", top_size);
	lowers[1] = rough_make(&rig, NULL, "base", base_size);
	if (image)
		rough_load(rough_of(lowers[0]), image);
	node = rig_make(&rig, &bt_cow_class, "cow", "", lowers, 2, &rc, &err);
	snprintf(text, size, "%s", err ? blktap_error_get_message(err) : "");
	blktap_error_destroy(err);
	bt_node_destroy(node);
	rig_fini(&rig);
	return rc;
}

/* A base of large blocks reads no part of one: a cache, or a disk of 4 KiB sectors. */
START_TEST(pieces_of_a_block_stand_on_no_larger_ones)
{
	static unsigned char image[3u << 20], data[4096];
	struct blktap_error *err = NULL;
	struct bt_node *lowers[2], *cached[2], *node;
	struct rig rig;
	uint32_t whole;
	int rc;

	for (whole = 0; whole < 2; whole++) {
		world = (struct rough_world){ .random = 5 };
		make(&rig, "grain=512", NULL);
		ck_assert_int_eq(
			rig_write(&rig, 64 << 10, data, whole ? 4096 : 512), 0);
		ck_assert_int_eq(rig_flush(&rig), 0);
		memcpy(image, top_of(&rig)->stable, sizeof(image));
		rig_fini(&rig);

		rig_init(&rig);
		lowers[0] = rough_make(&rig, &world, "top", TOP_SIZE);
		rough_load(rough_of(lowers[0]), image);
		cached[0] = rough_make(&rig, &world, "base", BASE_SIZE);
		cached[1] = rough_make(&rig, &world, "store", "size=1M");
		lowers[1] = rig_node(&rig, &bt_cache_class, "c", "size=1M",
				     cached, 2);
		node = rig_make(&rig, &bt_cow_class, "cow", "grain=512", lowers,
				2, &rc, &err);
		ck_assert_int_eq(rc, whole ? 0 : -EINVAL);
		if (whole) {
			rig_top(&rig, node);
		} else {
			ck_assert_str_eq(
				blktap_error_get_message(err),
				"cow: the block size 4096 of 'c' is larger "
				"than the pieces of 512 bytes in 'top'");
			blktap_error_destroy(err);
		}
		rig_fini(&rig);
	}
}
END_TEST

START_TEST(what_does_not_fit_is_refused_by_name)
{
	unsigned char *image = malloc(3u << 20);
	char text[256];
	struct rig rig;

	make(&rig, "", NULL);
	memcpy(image, top_of(&rig)->stable, 3u << 20);
	rig_fini(&rig);
	ck_assert_int_eq(reopen(image, TOP_SIZE, BASE_SIZE, text, 256), 0);
	ck_assert_int_eq(reopen(image, TOP_SIZE, "size=1M", text, 256),
			 -EINVAL);
	ck_assert_ptr_nonnull(strstr(text, "524288"));
	ck_assert_int_eq(reopen(NULL, "size=1M", BASE_SIZE, text, 256),
			 -ENOSPC);
	ck_assert_ptr_nonnull(strstr(text, "'top'"));
	image[8192 + 77] ^= 1; /* in the map */
	ck_assert_int_eq(reopen(image, TOP_SIZE, BASE_SIZE, text, 256),
			 -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(text, "8192"));
	free(image);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cow");
	TCase *tc = tcase_create("cow");

	tcase_set_timeout(tc, getenv("BLKTAP_TEST_LONG") ? 7200 : 60);
	tcase_add_test(tc,
		       a_cow_holds_what_was_written_and_leaves_the_base_alone);
	tcase_add_test(tc, what_was_not_written_is_the_bases);
	tcase_add_test(tc, after_failures_a_cow_holds_old_data_or_new);
	tcase_add_test(
		tc,
		a_map_that_could_not_be_written_fails_the_flush_until_it_is);
	tcase_add_test(tc, what_is_below_a_cow_hears_of_the_last_flush);
	tcase_add_test(tc, a_power_cut_leaves_what_was_flushed);
	tcase_add_test(tc, pieces_of_a_block_stand_on_no_larger_ones);
	tcase_add_test(tc, what_does_not_fit_is_refused_by_name);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
