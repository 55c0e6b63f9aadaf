/* SPDX-License-Identifier: BSD-3-Clause */
/* copy_on_read over a chain of a cow: `top` is the leaf, `base` what is slow. */
#include "flat-cut.h"
#include "seed.h"

#include "core/log.h"
#include "util/bytes.h"

#define KIB 1024u
#define TOP_BYTES (3u << 20)
#define BASE_BYTES (512u << 10)
#define GRAIN (64u * KIB)

static struct rough_world world;
static struct bt_log lines;
static char logged[1024];
static uint32_t log_count;
static bool fail_now;
static unsigned char data[GRAIN], back[GRAIN];

static void on_line(void *opaque, enum blktap_log_level level, const char *text)
{
	snprintf(logged, sizeof(logged), "%s", text);
	log_count++;
}

static struct rough *top_of(const struct rig *rig)
{
	return rough_of(rig->root->ports[0].lower->ports[0].lower);
}

static struct rough *base_of(const struct rig *rig)
{
	return rough_of(rig->root->ports[0].lower->ports[1].lower);
}

/* Every sector of the base says which it is, as version 0 of a flat does. */
static void fill_base(struct rough *base)
{
	unsigned char *image = calloc(1, BASE_BYTES);
	uint32_t i, k;

	for (i = 0; i < BASE_BYTES / 512; i++)
		for (k = 0; k < 512; k += 8)
			bt_store_le32(image + i * 512 + k, i);
	rough_load(base, image);
	free(image);
}

static void make(struct rig *rig, const char *cow, const char *args,
		 const unsigned char *top)
{
	struct bt_node *lowers[2], *leaf;

	rig_init(rig);
	bt_log_init(&lines);
	bt_log_set(&lines, BLKTAP_LOG_INFO, on_line, NULL, NULL);
	rig->env.log = &lines;
	log_count = 0;
	lowers[0] = rough_make(rig, &world, "top", "size=3M");
	lowers[1] = rough_make(rig, &world, "base", "size=512k");
	if (top)
		rough_load(rough_of(lowers[0]), top);
	fill_base(rough_of(lowers[1]));
	leaf = rig_node(rig, &bt_cow_class, "leaf", cow, lowers, 2);
	rig_top(rig,
		rig_node(rig, &bt_copy_on_read_class, "c", args, &leaf, 1));
}

static uint64_t value_of(const struct rig *rig, const char *name)
{
	char text[64] = "";

	ck_assert(
		rig->root->cls->get_value(rig->root, name, text, sizeof(text)));
	return strtoull(text, NULL, 10);
}

static void expect_state(const struct rig *rig, const char *state)
{
	char text[64] = "";

	rig->root->cls->get_value(rig->root, "state", text, sizeof(text));
	ck_assert_str_eq(text, state);
}

/* Until nothing that nobody asked for is under way. */
static void settle(struct rig *rig)
{
	uint32_t i;

	for (i = 0; i < 200; i++)
		ck_assert_int_eq(bt_loop_turn(rig->env.loop, 0), 0);
}

/* The depth of the first extent there. */
static uint32_t depth_at(struct rig *rig, uint64_t offset, uint64_t *length)
{
	struct bt_request *req = bt_pool_take(rig->pool);
	struct blktap_extent extents[4];
	bool done = false;
	uint32_t depth;

	req->op = BLKTAP_OP_BLOCK_STATUS;
	req->offset = offset;
	req->length = BASE_BYTES - offset;
	req->extents = extents;
	req->extent_max = 4;
	req->opaque = &done;
	bt_port_submit(&rig->top, req);
	ck_assert_int_eq(
		bt_loop_run_until(rig->env.loop, rig_is_done, &done, 30000), 0);
	ck_assert_int_eq(req->error, 0);
	depth = extents[0].depth;
	if (length)
		*length = extents[0].length;
	bt_pool_give(req);
	return depth;
}

static void expect_base(const unsigned char *bytes, uint64_t offset,
			uint64_t length)
{
	uint64_t i;

	for (i = 0; i < length; i += 512)
		ck_assert_uint_eq(bt_load_le32(bytes + i), (offset + i) / 512);
}

START_TEST(what_was_read_once_is_read_from_the_leaf)
{
	uint64_t length;
	uint32_t reads;
	struct rig rig;

	world = (struct rough_world){ .random = 3 };
	make(&rig, "", "", NULL);
	ck_assert_uint_eq(depth_at(&rig, 0, NULL), 1);
	ck_assert_int_eq(rig_read(&rig, 8192, back, 4096), 0);
	expect_base(back, 8192, 4096);
	settle(&rig);
	/* the unit around it, and no more */
	ck_assert_uint_eq(depth_at(&rig, 0, &length), 0);
	ck_assert_uint_eq(length, GRAIN);
	ck_assert_uint_eq(depth_at(&rig, GRAIN, NULL), 1);
	ck_assert_uint_eq(value_of(&rig, "copied"), GRAIN);
	reads = base_of(&rig)->seen[BLKTAP_OP_READ];
	ck_assert_int_eq(rig_read(&rig, 0, back, GRAIN), 0);
	expect_base(back, 0, GRAIN);
	ck_assert_int_eq(rig_read(&rig, 512, back, 512), 0);
	expect_base(back, 512, 512);
	ck_assert_uint_eq(base_of(&rig)->seen[BLKTAP_OP_READ], reads);
	/* and nobody asks again where all is known */
	settle(&rig);
	reads = rig.root->ports[0]
			.lower->stats.completed[BLKTAP_OP_BLOCK_STATUS];
	ck_assert_int_eq(rig_read(&rig, 0, back, GRAIN), 0);
	ck_assert_uint_eq(
		rig.root->ports[0]
			.lower->stats.completed[BLKTAP_OP_BLOCK_STATUS],
		reads);
	rig_fini(&rig);
}
END_TEST

START_TEST(what_the_guest_wrote_is_not_copied_over)
{
	struct rig rig;
	uint32_t i;

	world = (struct rough_world){ .random = 4 };
	make(&rig, "", "", NULL);
	memset(data, 0x5a, sizeof(data));
	/* every other block of the unit */
	for (i = 0; i < GRAIN; i += 8192)
		ck_assert_int_eq(rig_write(&rig, i, data, 4096), 0);
	ck_assert_int_eq(rig_read(&rig, 4096, back, 512), 0);
	settle(&rig);
	ck_assert_uint_eq(value_of(&rig, "copied"), GRAIN / 2);
	ck_assert_uint_eq(depth_at(&rig, 0, NULL), 0);
	ck_assert_int_eq(rig_read(&rig, 0, back, GRAIN), 0);
	for (i = 0; i < GRAIN; i += 4096) {
		if (i % 8192)
			expect_base(back + i, i, 4096);
		else
			ck_assert_mem_eq(back + i, data, 4096);
	}
	rig_fini(&rig);
}
END_TEST

/* ---- against a model ------------------------------------------------------- */

static const char *const units[] = { "unit=512", "unit=4k", "unit=16k", "" };

START_TEST(a_disk_is_the_same_with_copies_and_without)
{
	uint64_t seed = seed_take(), copied = 0;
	struct flat flat;
	struct rig rig;
	uint32_t i, n = seed_rounds(12);

	for (i = 0; i < n; i++) {
		world = (struct rough_world){ .random = seed + i };
		make(&rig, i & 1 ? "grain=512" : "", units[i % 4], NULL);
		flat_init(&flat, &rig, seed + i);
		flat_run(&flat, 1500);
		flat_verify(&flat);
		settle(&rig);
		flat_verify(&flat);
		copied += value_of(&rig, "copied");
		ck_assert_uint_eq(base_of(&rig)->seen[BLKTAP_OP_WRITE], 0);
		expect_state(&rig, "copying");
		flat_fini(&flat);
		rig_fini(&rig);
	}
	ck_assert_uint_gt(copied, 0);
}
END_TEST

static int fail_some(struct rough *rough, const struct bt_request *req)
{
	return fail_now && req->op == BLKTAP_OP_READ &&
			       !rough_random(rough->world, 20)
		       ? -EIO
		       : 0;
}

START_TEST(reads_that_fail_leave_what_was_there)
{
	uint64_t seed = seed_take();
	struct flat flat;
	struct rig rig;
	uint32_t i, n = seed_rounds(4);

	for (i = 0; i < n; i++) {
		world = (struct rough_world){ .random = seed + i };
		make(&rig, i & 1 ? "grain=512" : "", units[i % 4], NULL);
		base_of(&rig)->spoil = top_of(&rig)->spoil = fail_some;
		fail_now = true;
		flat_init(&flat, &rig, seed + i);
		flat.may_fail = true;
		flat_run(&flat, 1500);
		ck_assert_uint_gt(flat.errors, 0);
		fail_now = false;
		flat_verify(&flat);
		settle(&rig);
		flat_verify(&flat);
		expect_state(&rig, "copying");
		flat_fini(&flat);
		rig_fini(&rig);
	}
}
END_TEST

static void make_for_cut(struct rig *rig, const void *seed,
			 const unsigned char *image)
{
	uint64_t n = *(const uint64_t *)seed;

	make(rig, n & 1 ? "grain=512" : "", units[n % 4], image);
}

START_TEST(a_power_cut_leaves_what_was_flushed)
{
	const char *more = getenv("BLKTAP_TEST_LONG");
	uint64_t seed = seed_take() % 1000000;
	uint64_t end = seed + (more && *more ? 20000 : seed_rounds(30));
	struct flat_cut_story story = {
		.world = &world,
		.bytes = TOP_BYTES,
		.steps = 500,
		/* where one leaves the base's data, that is older than all writes */
		.no_discard = true,
		.make = make_for_cut,
		.store_of = top_of,
		.opaque = &seed,
	};

	for (; seed < end; seed++)
		flat_cut_run(&story, seed);
}
END_TEST

/* ---- races, one by one ----------------------------------------------------- */

struct slow {
	struct bt_request *req;
	struct iovec iov;
	unsigned char bytes[GRAIN];
	bool done;
};

static void send(struct rig *rig, struct slow *s, enum blktap_op op,
		 uint64_t offset, uint64_t length, uint32_t flags)
{
	s->done = false;
	s->req = bt_pool_take(rig->pool);
	s->iov = (struct iovec){ .iov_base = s->bytes, .iov_len = length };
	s->req->op = op;
	s->req->flags = flags;
	s->req->offset = offset;
	s->req->length = length;
	if (length)
		s->req->data = (struct bt_sgl){ .iov = &s->iov, .count = 1 };
	s->req->opaque = &s->done;
	bt_port_submit(&rig->top, s->req);
}

static void receive(struct rig *rig, struct slow *s)
{
	ck_assert_int_eq(
		bt_loop_run_until(rig->env.loop, rig_is_done, &s->done, 30000),
		0);
	ck_assert_int_eq(s->req->error, 0);
	bt_pool_give(s->req);
}

/* However many turns pass between the two, the guest's write is what stays. */
START_TEST(a_write_wins_over_a_copy_at_any_moment)
{
	static struct slow reading, writing;
	enum blktap_op op;
	struct rig rig;
	uint32_t turns, i;

	for (turns = 0; turns < 36; turns++) {
		op = turns & 1 ? BLKTAP_OP_WRITE_ZEROES : BLKTAP_OP_WRITE;
		world = (struct rough_world){ .random = turns + 1 };
		make(&rig, "", "", NULL);
		memset(writing.bytes, 0x77, GRAIN);
		send(&rig, &reading, BLKTAP_OP_READ, 0, 4096, 0);
		for (i = 0; i < turns / 2; i++)
			bt_loop_turn(rig.env.loop, 0);
		send(&rig, &writing, op, 8192, 4096, 0);
		receive(&rig, &writing);
		receive(&rig, &reading);
		settle(&rig);
		ck_assert_int_eq(rig_read(&rig, 0, back, GRAIN), 0);
		expect_base(back, 0, 8192);
		expect_base(back + 12288, 12288, GRAIN - 12288);
		memset(data, op == BLKTAP_OP_WRITE ? 0x77 : 0, 4096);
		ck_assert_mem_eq(back + 8192, data, 4096);
		rig_fini(&rig);
	}
}
END_TEST

/* Others keep the leaf busy, so that a copy could be done before the write is. */
START_TEST(no_copy_goes_over_a_write_that_was_there_before_it)
{
	static struct slow reading, writing[12];
	struct rig rig;
	uint32_t i, round, n = seed_rounds(100);

	for (round = 0; round < n; round++) {
		world = (struct rough_world){ .random = round + 1 };
		make(&rig, "", "", NULL);
		for (i = 0; i < BT_ARRAY_SIZE(writing); i++) {
			memset(writing[i].bytes, 0x77, 4096);
			send(&rig, &writing[i], BLKTAP_OP_WRITE,
			     i ? GRAIN + i * 8192 : 8192, 4096, 0);
		}
		send(&rig, &reading, BLKTAP_OP_READ, 0, 4096, 0);
		for (i = 0; i < BT_ARRAY_SIZE(writing); i++)
			receive(&rig, &writing[i]);
		receive(&rig, &reading);
		settle(&rig);
		ck_assert_int_eq(rig_read(&rig, 8192, back, 4096), 0);
		ck_assert_mem_eq(back, writing[0].bytes, 4096);
		rig_fini(&rig);
	}
}
END_TEST

START_TEST(a_flush_before_the_end_waits_for_copies_and_none_begins_after_it)
{
	static struct slow reading, flushing;
	uint64_t copied;
	struct rig rig;
	uint32_t turns, i;

	for (turns = 0; turns < 12; turns++) {
		world = (struct rough_world){ .random = turns + 1 };
		make(&rig, "", "", NULL);
		send(&rig, &reading, BLKTAP_OP_READ, 0, 4096, 0);
		for (i = 0; i < turns; i++)
			bt_loop_turn(rig.env.loop, 0);
		send(&rig, &flushing, BLKTAP_OP_FLUSH, 0, 0, BT_REQUEST_LAST);
		receive(&rig, &flushing);
		copied = value_of(&rig, "copied");
		if (!reading.done)
			receive(&rig, &reading);
		else
			bt_pool_give(reading.req);
		ck_assert_int_eq(rig_read(&rig, GRAIN, back, GRAIN), 0);
		settle(&rig);
		ck_assert_uint_eq(value_of(&rig, "copied"), copied);
		/* a write says that the disk goes on */
		memset(data, 1, 4096);
		ck_assert_int_eq(rig_write(&rig, 3 * GRAIN, data, 4096), 0);
		ck_assert_int_eq(rig_read(&rig, 2 * GRAIN, back, GRAIN), 0);
		settle(&rig);
		ck_assert_uint_eq(value_of(&rig, "copied"), copied + GRAIN);
		rig_fini(&rig);
	}
}
END_TEST

static struct bt_request *kept;
static bool keeps;

static void keep_submit(struct bt_node *node, struct bt_request *req)
{
	bt_port_submit(&node->ports[0], req);
}

static void keep_complete(struct bt_node *node, struct bt_port *port,
			  struct bt_request *req)
{
	if (keeps && req->op == BLKTAP_OP_BLOCK_STATUS)
		kept = req;
	else
		bt_request_complete(req, req->error);
}

static const struct bt_port_desc keep_ports[] = { { .name = "lower" },
						  { .name = NULL } };
static const struct blktap_class keep_class = {
	.name = "keep",
	.ports = keep_ports,
	.operations = BT_OPS_ALL,
	.submit = keep_submit,
	.complete = keep_complete,
};

START_TEST(what_was_told_before_a_discard_is_not_learned_after_it)
{
	struct bt_node *lowers[2], *leaf;
	uint64_t asked;
	struct rig rig;

	world = (struct rough_world){ .random = 11 };
	rig_init(&rig);
	lowers[0] = rig_ram(&rig, "top", "3M");
	lowers[1] = rig_ram(&rig, "base", "512k");
	leaf = rig_node(&rig, &bt_cow_class, "leaf", "grain=512", lowers, 2);
	leaf = rig_node(&rig, &keep_class, "k", "", &leaf, 1);
	rig_top(&rig, rig_node(&rig, &bt_copy_on_read_class, "c", "unit=512",
			       &leaf, 1));
	ck_assert_int_eq(rig_write(&rig, 0, data, GRAIN), 0);
	keeps = true;
	ck_assert_int_eq(rig_read(&rig, 0, back, 512), 0);
	settle(&rig);
	ck_assert_ptr_nonnull(kept);
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_DISCARD, 0, GRAIN / 2, NULL, 4096), 0);
	keeps = false;
	bt_request_complete(kept, 0);
	settle(&rig);
	asked = leaf->stats.completed[BLKTAP_OP_BLOCK_STATUS];
	ck_assert_int_eq(rig_read(&rig, 0, back, 512), 0);
	settle(&rig);
	ck_assert_uint_gt(leaf->stats.completed[BLKTAP_OP_BLOCK_STATUS], asked);
	rig_fini(&rig);
}
END_TEST

/* ---- what ends it ---------------------------------------------------------- */

static int no_space(struct rough *rough, const struct bt_request *req)
{
	return fail_now && req->op == BLKTAP_OP_WRITE && req->offset >= 1u << 20
		       ? -ENOSPC
		       : 0;
}

START_TEST(a_copy_that_fails_fails_no_read_and_is_told_once)
{
	struct rig rig;
	uint32_t i;

	world = (struct rough_world){ .random = 8 };
	make(&rig, "", "", NULL);
	top_of(&rig)->spoil = no_space;
	fail_now = true;
	for (i = 0; i < BASE_BYTES; i += GRAIN) {
		ck_assert_int_eq(rig_read(&rig, i, back, GRAIN), 0);
		expect_base(back, i, GRAIN);
		settle(&rig);
	}
	fail_now = false;
	ck_assert_uint_eq(log_count, 1);
	ck_assert_ptr_nonnull(strstr(logged, "nothing more is copied to "
					     "'leaf'"));
	ck_assert_ptr_nonnull(strstr(logged, "No space"));
	expect_state(&rig, "failed");
	/* for good, until it is opened anew */
	ck_assert_int_eq(rig_read(&rig, 0, back, GRAIN), 0);
	settle(&rig);
	ck_assert_uint_eq(value_of(&rig, "copied"), 0);
	ck_assert_uint_eq(depth_at(&rig, 0, NULL), 1);
	rig_fini(&rig);
}
END_TEST

static bool bad_block(const struct bt_request *req)
{
	return req->op == BLKTAP_OP_READ && req->offset < 8192 &&
	       req->offset + req->length > 4096;
}

static int fail_block(struct rough *rough, const struct bt_request *req)
{
	return bad_block(req) ? -EIO : 0;
}

START_TEST(what_is_read_beside_does_not_fail_a_read)
{
	struct rig rig;

	world = (struct rough_world){ .random = 9 };
	make(&rig, "", "", NULL);
	base_of(&rig)->spoil = fail_block;
	ck_assert_int_eq(rig_read(&rig, 0, back, 4096), 0);
	expect_base(back, 0, 4096);
	ck_assert_int_eq(rig_read(&rig, 8192, back, 8192), 0);
	expect_base(back, 8192, 8192);
	ck_assert_int_eq(rig_read(&rig, 4096, back, 512), -EIO);
	expect_state(&rig, "copying");
	rig_fini(&rig);
}
END_TEST

/* ---- what has no copies ---------------------------------------------------- */

START_TEST(zeroes_and_what_is_the_leafs_own_are_not_copied)
{
	struct bt_node *lowers[2], *leaf;
	struct rig rig;

	rig_init(&rig);
	lowers[0] = rig_ram(&rig, "top", "3M");
	lowers[1] =
		rig_node(&rig, &bt_null_class, "base", "size=512k", NULL, 0);
	leaf = rig_node(&rig, &bt_cow_class, "leaf", "", lowers, 2);
	rig_top(&rig,
		rig_node(&rig, &bt_copy_on_read_class, "c", "", &leaf, 1));
	ck_assert_int_eq(rig_read(&rig, 0, back, GRAIN), 0);
	settle(&rig);
	ck_assert_uint_eq(depth_at(&rig, 0, NULL), 1);
	ck_assert_uint_eq(value_of(&rig, "copied"), 0);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_leaf_that_stands_alone_is_just_read)
{
	struct bt_node *leaf;
	struct rig rig;

	world = (struct rough_world){ .random = 10 };
	rig_init(&rig);
	leaf = rough_make(&rig, &world, "alone", "size=512k");
	fill_base(rough_of(leaf));
	rig_top(&rig,
		rig_node(&rig, &bt_copy_on_read_class, "c", "", &leaf, 1));
	ck_assert_int_eq(rig_read(&rig, 4096, back, 4096), 0);
	expect_base(back, 4096, 4096);
	settle(&rig);
	ck_assert_uint_eq(rough_of(leaf)->seen[BLKTAP_OP_WRITE], 0);
	rig_fini(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("copy-on-read");
	TCase *tc = tcase_create("copy-on-read");

	tcase_set_timeout(tc, getenv("BLKTAP_TEST_LONG") ? 7200 : 60);
	tcase_add_test(tc, what_was_read_once_is_read_from_the_leaf);
	tcase_add_test(tc, what_the_guest_wrote_is_not_copied_over);
	tcase_add_test(tc, a_disk_is_the_same_with_copies_and_without);
	tcase_add_test(tc, reads_that_fail_leave_what_was_there);
	tcase_add_test(tc, a_power_cut_leaves_what_was_flushed);
	tcase_add_test(tc, a_write_wins_over_a_copy_at_any_moment);
	tcase_add_test(tc, no_copy_goes_over_a_write_that_was_there_before_it);
	tcase_add_test(
		tc,
		a_flush_before_the_end_waits_for_copies_and_none_begins_after_it);
	tcase_add_test(tc,
		       what_was_told_before_a_discard_is_not_learned_after_it);
	tcase_add_test(tc, a_copy_that_fails_fails_no_read_and_is_told_once);
	tcase_add_test(tc, what_is_read_beside_does_not_fail_a_read);
	tcase_add_test(tc, zeroes_and_what_is_the_leafs_own_are_not_copied);
	tcase_add_test(tc, a_leaf_that_stands_alone_is_just_read);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
