/* SPDX-License-Identifier: BSD-3-Clause */
/* concat and stripe, which cut requests in pieces. */
#include "flat.h"
#include "seed.h"

static struct rough_world world;

static void make(struct rig *rig, const struct blktap_class *cls,
		 const char *args, uint32_t count, const char *const *leaves)
{
	struct bt_node *lowers[8];
	char name[16];
	uint32_t i;

	rig_init(rig);
	for (i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "l%u", i);
		lowers[i] = rough_make(rig, &world, name, leaves[i]);
	}
	rig_top(rig, rig_node(rig, cls, "top", args, lowers, count));
}

static void run_random(const struct blktap_class *cls, const char *args,
		       uint32_t count, const char *const *leaves)
{
	struct flat flat;
	struct rig rig;
	uint64_t seed;

	for (seed = 1; seed < 8; seed++) {
		world = (struct rough_world){ .random = seed };
		make(&rig, cls, args, count, leaves);
		flat_init(&flat, &rig, seed);
		flat_run(&flat, seed_rounds(3000));
		flat_verify(&flat);
		flat_fini(&flat);
		rig_fini(&rig);
	}
}

START_TEST(a_concat_holds_what_was_written)
{
	static const char *const leaves[] = { "size=64k", "size=512",
					      "size=200k", "size=1M" };

	run_random(&bt_concat_class, "", 4, leaves);
	run_random(&bt_concat_class, "", 1, leaves);
}
END_TEST

START_TEST(a_stripe_holds_what_was_written)
{
	static const char *const leaves[] = { "size=300k", "size=300k",
					      "size=300k" };

	run_random(&bt_stripe_class, "chunk=4k", 3, leaves);
	run_random(&bt_stripe_class, "chunk=64k", 3, leaves);
	run_random(&bt_stripe_class, "chunk=64k", 1, leaves);
}
END_TEST

START_TEST(a_concat_is_as_large_as_its_parts_and_puts_them_in_order)
{
	static const char *const leaves[] = { "size=64k", "size=1M",
					      "size=4k block=4k" };
	unsigned char data[8192], back[4096];
	struct rig rig;

	make(&rig, &bt_concat_class, "", 3, leaves);
	ck_assert_uint_eq(rig.root->limits.size,
			  (64u << 10) + (1u << 20) + 4096);
	ck_assert_uint_eq(rig.root->limits.block_size, 4096);
	memset(data, 0x11, 4096);
	memset(data + 4096, 0x22, 4096);
	ck_assert_int_eq(rig_write(&rig, (64u << 10) - 4096, data, 8192), 0);
	ck_assert_mem_eq(rough_of(rig.root->ports[0].lower)->now + 61440, data,
			 4096);
	ck_assert_int_eq(bt_node_transfer(&rig.root->ports[1], BLKTAP_OP_READ,
					  0, back, 4096),
			 0);
	ck_assert_mem_eq(back, data + 4096, 4096);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_stripe_deals_its_chunks_in_turn)
{
	static const char *const leaves[] = { "size=33k", "size=40k" };
	static unsigned char data[64 << 10];
	struct rig rig;
	uint32_t i;

	make(&rig, &bt_stripe_class, "chunk=4k", 2, leaves);
	ck_assert_uint_eq(rig.root->limits.size, 64u << 10);
	for (i = 0; i < 16; i++)
		memset(data + i * 4096, (int)i, 4096);
	ck_assert_int_eq(rig_write(&rig, 0, data, sizeof(data)), 0);
	for (i = 0; i < 16; i++)
		ck_assert_mem_eq(rough_of(rig.root->ports[i & 1].lower)->now +
					 i / 2 * 4096,
				 data + i * 4096, 4096);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_discard_asks_each_leg_of_a_stripe_once)
{
	static const char *const leaves[] = { "size=256k", "size=256k" };
	struct rig rig;
	uint32_t i;

	make(&rig, &bt_stripe_class, "chunk=4k", 2, leaves);
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_DISCARD, 0, 512, NULL, 400u << 10), 0);
	for (i = 0; i < 2; i++)
		ck_assert_uint_eq(rough_of(rig.root->ports[i].lower)
					  ->seen[BLKTAP_OP_DISCARD],
				  1);
	rig_fini(&rig);
}
END_TEST

/* What is wrong in one copy is asked for from the next (checksum): each piece is. */
static void expect_copy(struct bt_node *node, struct bt_request *req)
{
	(void)node;
	bt_request_complete(req, req->copy == 2 ? 0 : -EIO);
}

static void two_copies(struct bt_node *node, struct bt_limits *limits)
{
	(void)node;
	limits->size = 64u << 10;
	limits->copies = 2;
}

static const struct blktap_class copies_class = {
	.name = "copies",
	.operations = BT_OPS_ALL,
	.get_limits = two_copies,
	.submit = expect_copy,
};

START_TEST(a_piece_is_read_from_the_copy_that_was_asked_for)
{
	const struct blktap_class *cls =
		_i ? &bt_stripe_class : &bt_concat_class;
	struct iovec iov = { .iov_base = (char[8192]){ 0 }, .iov_len = 8192 };
	struct bt_node *lowers[2];
	struct bt_request *req;
	struct rig rig;
	bool done = false;

	rig_init(&rig);
	lowers[0] = rig_node(&rig, &copies_class, "a", "", NULL, 0);
	lowers[1] = rig_node(&rig, &copies_class, "b", "", NULL, 0);
	rig_top(&rig,
		rig_node(&rig, cls, "top", _i ? "chunk=4k" : "", lowers, 2));
	ck_assert_uint_eq(rig.root->limits.copies, 2);
	req = bt_pool_take(rig.pool);
	req->op = BLKTAP_OP_READ;
	req->offset = (64u << 10) - 4096;
	req->length = 8192;
	req->copy = 2;
	req->data = (struct bt_sgl){ .iov = &iov, .count = 1 };
	req->opaque = &done;
	bt_port_submit(&rig.top, req);
	ck_assert(done);
	ck_assert_int_eq(req->error, 0);
	bt_pool_give(req);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_flush_reaches_every_leg_and_its_error_comes_up)
{
	static const char *const leaves[] = { "size=64k", "size=64k" };
	unsigned char data[512] = { 1 };
	struct rig rig;

	make(&rig, &bt_concat_class, "", 2, leaves);
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
	ck_assert_int_eq(rig_write(&rig, 64u << 10, data, 512), 0);
	ck_assert_int_eq(rig_flush(&rig), 0);
	ck_assert_uint_eq(rough_of(rig.root->ports[0].lower)->stable[0], 1);
	ck_assert_uint_eq(rough_of(rig.root->ports[1].lower)->stable[0], 1);
	ck_assert_int_eq(rig_write(&rig, 64u << 10, data, 512), 0);
	rough_of(rig.root->ports[1].lower)->dead = true;
	ck_assert_int_eq(rig_flush(&rig), -EIO);
	/* and is not forgotten */
	ck_assert_int_eq(rig_flush(&rig), -EIO);
	rough_of(rig.root->ports[1].lower)->dead = false;
	ck_assert_int_eq(rig_flush(&rig), 0);
	rig_fini(&rig);
}
END_TEST

static int fail_one(struct rough *rough, const struct bt_request *req)
{
	return rough_random(rough->world, 50) ? 0 : -EIO;
}

START_TEST(a_piece_that_fails_fails_its_request_alone)
{
	static const char *const leaves[] = { "size=256k", "size=256k",
					      "size=256k" };
	struct flat flat;
	struct rig rig;
	uint32_t i;

	world = (struct rough_world){ .random = 4711 };
	make(&rig, &bt_stripe_class, "chunk=4k", 3, leaves);
	for (i = 0; i < 3; i++)
		rough_of(rig.root->ports[i].lower)->spoil = fail_one;
	flat_init(&flat, &rig, 4711);
	flat.may_fail = true;
	flat_run(&flat, 4000);
	ck_assert_uint_gt(flat.errors, 100);
	for (i = 0; i < 3; i++)
		rough_of(rig.root->ports[i].lower)->spoil = NULL;
	flat_verify(&flat);
	flat_fini(&flat);
	rig_fini(&rig);
}
END_TEST

static void expect_refused(const struct blktap_class *cls, const char *args,
			   uint32_t count, const char *const *leaves, int code,
			   const char *text)
{
	struct bt_node *lowers[8];
	struct blktap_error *err = NULL;
	struct rig rig;
	uint32_t i;
	int rc;

	rig_init(&rig);
	for (i = 0; i < count; i++)
		lowers[i] = rough_make(&rig, NULL, i ? "second" : "first",
				       leaves[i]);
	ck_assert_ptr_null(
		rig_make(&rig, cls, "top", args, lowers, count, &rc, &err));
	ck_assert_int_eq(rc, code);
	ck_assert_msg(strstr(blktap_error_get_message(err), text) != NULL, "%s",
		      blktap_error_get_message(err));
	blktap_error_destroy(err);
	rig_fini(&rig);
}

START_TEST(what_cannot_be_joined_is_refused_by_name)
{
	static const char *const odd[] = { "size=1536", "size=8k block=4k" };
	static const char *const small[] = { "size=64k", "size=4k" };

	expect_refused(&bt_concat_class, "", 2, odd, -EINVAL, "'first'");
	expect_refused(&bt_concat_class, "", 0, odd, -EINVAL, "no part");
	expect_refused(&bt_stripe_class, "chunk=4098", 2, small, -EINVAL,
		       "'first'");
	expect_refused(&bt_stripe_class, "chunk=8k", 2, small, -ENOSPC,
		       "'second'");
}
END_TEST

START_TEST(a_size_is_told_from_the_arguments)
{
	static const uint64_t sizes[] = { 300 << 10, 301 << 10, 0 };
	struct bt_args *args;

	ck_assert_uint_eq(bt_concat_class.get_size(NULL, sizes, 2), 601u << 10);
	ck_assert_uint_eq(bt_concat_class.get_size(NULL, sizes, 3), 0);
	ck_assert_int_eq(bt_args_create(&bt_stripe_class, &args), 0);
	ck_assert_int_eq(bt_args_set(args, "chunk", "64k", NULL), 0);
	ck_assert_uint_eq(bt_stripe_class.get_size(args, sizes, 2), 512u << 10);
	ck_assert_uint_eq(bt_stripe_class.get_size(args, sizes, 3), 0);
	bt_args_destroy(args);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("parts");
	TCase *tc = tcase_create("parts");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_concat_holds_what_was_written);
	tcase_add_test(tc, a_stripe_holds_what_was_written);
	tcase_add_test(
		tc, a_concat_is_as_large_as_its_parts_and_puts_them_in_order);
	tcase_add_test(tc, a_stripe_deals_its_chunks_in_turn);
	tcase_add_test(tc, a_discard_asks_each_leg_of_a_stripe_once);
	tcase_add_loop_test(
		tc, a_piece_is_read_from_the_copy_that_was_asked_for, 0, 2);
	tcase_add_test(tc, a_flush_reaches_every_leg_and_its_error_comes_up);
	tcase_add_test(tc, a_piece_that_fails_fails_its_request_alone);
	tcase_add_test(tc, what_cannot_be_joined_is_refused_by_name);
	tcase_add_test(tc, a_size_is_told_from_the_arguments);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
