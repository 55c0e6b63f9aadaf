/* SPDX-License-Identifier: BSD-3-Clause */
/* BLKTAP_SEED repeats a run. */
#include "guest.h"

#include "seed.h"

#define SECTORS 1024u
#define SIZE (SECTORS * 512u)
#define STORE (128u << 10)
#define GRANULE 4096u

static struct guest guest;
static struct rig rig;
static unsigned char before[SIZE], kept[2][SIZE], cut[2][SIZE];

static void setup(void)
{
	platter_reset(seed_take());
	platter_make(0, SIZE);
	platter_make(1, STORE);
}

static void teardown(void)
{
	platter_reset(0);
}

static int open_bitmap(const char *args, struct blktap_error **err)
{
	struct bt_node *lowers[2], *node;
	int rc;

	platters.hold = false;
	rig_init(&rig);
	lowers[0] = rig_node(&rig, &platter_class, "o", "index=0", NULL, 0);
	lowers[1] = rig_node(&rig, &platter_class, "s", "index=1", NULL, 0);
	node = rig_make(&rig, &bt_bitmap_class, "b", args, lowers, 2, &rc, err);
	if (!rc)
		rig_top(&rig, node);
	return rc;
}

static void must_open(const char *args)
{
	struct blktap_error *err = NULL;
	int rc = open_bitmap(args, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "?");
}

static int last_flush(void)
{
	return rig_run(&rig, BLKTAP_OP_FLUSH, BT_REQUEST_LAST, 0, NULL, 0);
}

static void close_bitmap(void)
{
	platters.hold = false;
	rig_fini(&rig);
}

static int index_of(const char *name)
{
	const char *other;
	uint32_t i;

	for (i = 0; (other = bt_bitmap_class.get_bitmap(rig.root, i)); i++)
		if (!strcmp(other, name))
			return (int)i;
	return -1;
}

static bool is_dirty(const char *name, uint64_t offset)
{
	int index = index_of(name);
	bool dirty;

	ck_assert_int_ge(index, 0);
	ck_assert_uint_ge(bt_bitmap_class.get_dirty(rig.root, (uint32_t)index,
						    offset, 512, &dirty),
			  512);
	return dirty;
}

/* How many bytes are dirty, by the extents. */
static uint64_t dirty_bytes(const char *name)
{
	int index = index_of(name);
	uint64_t at = 0, n, sum = 0;
	bool dirty, was = false;

	ck_assert_int_ge(index, 0);
	for (; at < SIZE; at += n, was = dirty) {
		n = bt_bitmap_class.get_dirty(rig.root, (uint32_t)index, at,
					      SIZE - at, &dirty);
		ck_assert_uint_gt(n, 0);
		ck_assert_uint_le(n, SIZE - at);
		ck_assert(!at || dirty != was); /* as long as they can be */
		sum += dirty ? n : 0;
	}
	return sum;
}

static void reconfigure(const char *names)
{
	struct bt_args *args;

	ck_assert_int_eq(bt_args_create(&bt_bitmap_class, &args), 0);
	ck_assert_int_eq(bt_args_set(args, "checkpoints", names, NULL), 0);
	ck_assert_int_eq(bt_args_set(args, "granularity", "4k", NULL), 0);
	bt_args_destroy(rig.root->args);
	rig.root->args = args;
	bt_bitmap_class.reconfigure(rig.root, args);
}

/* What differs from `before` has to be dirty. */
static void check_covers(const char *name, const unsigned char *bytes)
{
	uint32_t i;

	for (i = 0; i < SECTORS; i++)
		ck_assert_msg(!memcmp(bytes + i * 512, before + i * 512, 512) ||
				      is_dirty(name, i * 512),
			      "sector %u changed and is not dirty", i);
}

START_TEST(what_is_written_is_dirty_and_nothing_else)
{
	unsigned char data[1024] = { 1 };

	must_open("checkpoints=mon granularity=4k");
	ck_assert_uint_eq(dirty_bytes("mon"), 0);
	ck_assert_int_eq(rig_write(&rig, GRANULE * 3 - 512, data, 1024), 0);
	ck_assert_uint_eq(dirty_bytes("mon"), 2 * GRANULE);
	ck_assert(is_dirty("mon", GRANULE * 2));
	ck_assert(is_dirty("mon", GRANULE * 3));
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_DISCARD, 0, GRANULE * 10, NULL, 512),
		0);
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_WRITE_ZEROES, 0, GRANULE * 20,
				 NULL, GRANULE * 30),
			 0);
	ck_assert_uint_eq(dirty_bytes("mon"), 33 * GRANULE);
	ck_assert_int_eq(rig_read(&rig, 0, before, SIZE), 0);
	ck_assert_uint_eq(dirty_bytes("mon"), 33 * GRANULE);
	close_bitmap();
}
END_TEST

START_TEST(checkpoints_come_and_go_while_the_disk_is_written)
{
	must_open("checkpoints=mon granularity=4k");
	guest_init(&guest, &rig, SECTORS, 1);
	platters.hold = true;
	guest_run(&guest, 50);
	memcpy(before, platters.bytes[0], SIZE);
	reconfigure("mon\ntue");
	ck_assert_uint_gt(dirty_bytes("mon"), 0);
	ck_assert_uint_eq(dirty_bytes("tue"), 0);
	guest_run(&guest, 10);
	ck_assert_uint_gt(dirty_bytes("tue"), 0);
	ck_assert_uint_lt(dirty_bytes("tue"), dirty_bytes("mon"));
	check_covers("tue", platters.bytes[0]);
	reconfigure("tue\nwed");
	ck_assert_int_eq(index_of("mon"), -1);
	ck_assert_uint_eq(dirty_bytes("wed"), 0);
	check_covers("tue", platters.bytes[0]);
	guest_verify(&guest);
	close_bitmap();
}
END_TEST

/* A copy that begins with the checkpoint may read the place before the write is
 * there. */
START_TEST(a_write_that_is_under_way_is_one_since_the_checkpoint)
{
	unsigned char data[512] = { 1 };
	struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	struct bt_request *req;
	bool done = false;

	must_open("checkpoints=mon granularity=4k");
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
	platters.hold = true;
	req = bt_pool_take(rig.pool);
	req->op = BLKTAP_OP_WRITE;
	req->offset = GRANULE * 5;
	req->length = sizeof(data);
	req->data = (struct bt_sgl){ .iov = &iov, .count = 1 };
	req->opaque = &done;
	bt_port_submit(&rig.top, req);
	reconfigure("mon\ntue");
	ck_assert(!done);
	platters.hold = false;
	while (!done)
		ck_assert(platter_turn());
	bt_pool_give(req);
	ck_assert_uint_eq(dirty_bytes("mon"), 2 * GRANULE);
	ck_assert(is_dirty("tue", GRANULE * 5));
	ck_assert_uint_eq(dirty_bytes("tue"), GRANULE);
	close_bitmap();
}
END_TEST

START_TEST(a_disk_that_was_closed_goes_on_with_the_same_bits)
{
	uint64_t bytes;
	uint32_t i;

	must_open("checkpoints=mon granularity=4k");
	guest_init(&guest, &rig, SECTORS, 1);
	for (i = 0; i < 3; i++) {
		platters.hold = true;
		guest_run(&guest, 20);
		platters.hold = false;
		/* a flush said to be the last need not be */
		ck_assert_int_eq(last_flush(), 0);
		guest_run(&guest, 20);
		bytes = dirty_bytes("mon");
		ck_assert_uint_gt(bytes, 0);
		ck_assert_int_eq(last_flush(), 0);
		close_bitmap();
		must_open("checkpoints=mon\ntue granularity=4k");
		ck_assert_uint_eq(dirty_bytes("mon"), bytes);
		check_covers("mon", platters.bytes[0]);
		if (!i)
			ck_assert_uint_eq(dirty_bytes("tue"), 0);
	}
	close_bitmap();
}
END_TEST

START_TEST(a_power_cut_never_loses_a_change)
{
	uint64_t first, last, at, now;
	uint32_t leaf, all = 0, cuts = 0;
	uint32_t step = getenv("BLKTAP_VALGRIND") ? 8 : 1;

	must_open("checkpoints=mon granularity=4k");
	guest_init(&guest, &rig, SECTORS, 1);
	platter_begin();
	memset(before, 0, SIZE);
	first = platters.now;
	for (at = 0; at < 4; at++) {
		platters.hold = true;
		guest_run(&guest, 25);
		platters.hold = false;
		if (at % 2)
			ck_assert_int_eq(last_flush(), 0);
	}
	last = platters.now;
	close_bitmap();
	for (leaf = 0; leaf < 2; leaf++)
		memcpy(kept[leaf], platters.bytes[leaf], platters.size[leaf]);
	for (at = first; at <= last; at += step) {
		enum platter_model model =
			(enum platter_model)platter_random(PLATTER_MODELS);

		for (leaf = 0; leaf < 2; leaf++)
			platter_cut(leaf, at, model, cut[leaf]);
		for (leaf = 0; leaf < 2; leaf++)
			memcpy(platters.bytes[leaf], cut[leaf],
			       platters.size[leaf]);
		now = platters.now;
		must_open("checkpoints=mon granularity=4k");
		check_covers("mon", platters.bytes[0]);
		all += dirty_bytes("mon") == SIZE;
		cuts++;
		close_bitmap();
		platters.now = now;
	}
	/* unclean is all dirty; what was closed is not */
	ck_assert_uint_gt(all, 0);
	ck_assert_uint_lt(all, cuts);
}
END_TEST

START_TEST(an_unclean_store_stays_so_until_the_disk_is_closed)
{
	unsigned char data[512] = { 1 };

	must_open("checkpoints=mon granularity=4k");
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
	close_bitmap();
	must_open("checkpoints=mon\ntue granularity=4k");
	ck_assert_uint_eq(dirty_bytes("mon"), SIZE);
	ck_assert_uint_eq(dirty_bytes("tue"), SIZE);
	reconfigure("mon\nwed");
	ck_assert_uint_eq(dirty_bytes("wed"), 0);
	ck_assert_int_eq(last_flush(), 0);
	close_bitmap();
	must_open("checkpoints=mon\nwed granularity=4k");
	ck_assert_uint_eq(dirty_bytes("mon"), SIZE);
	ck_assert_uint_eq(dirty_bytes("wed"), 0);
	close_bitmap();
}
END_TEST

START_TEST(a_store_that_fails_is_told_and_no_bit_is_lost)
{
	unsigned char data[512] = { 1 };

	must_open("checkpoints=mon granularity=4k");
	platters.fault = (struct platter_fault){
		.op = _i % 2 ? BLKTAP_OP_FLUSH : BLKTAP_OP_WRITE,
		.leaf = 1,
		.skip = _i < 2 ? 0 : (uint32_t)_i / 2 + 1, /* two marks */
		.times = 1,
		.error = -EIO,
	};
	if (_i < 2) {
		/* the write that would have made the store wrong */
		ck_assert_int_eq(rig_write(&rig, 0, data, 512), -EIO);
		ck_assert_int_eq(platters.bytes[0][0], 0);
	}
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
	if (_i >= 2) {
		ck_assert_int_eq(last_flush(), -EIO);
		ck_assert_int_eq(rig_write(&rig, 5 * GRANULE, data, 512), 0);
	}
	ck_assert_uint_eq(dirty_bytes("mon"), (_i < 2 ? 1 : 2) * GRANULE);
	close_bitmap();
	platters.fault.op = -1;
	must_open("checkpoints=mon granularity=4k");
	ck_assert_uint_eq(dirty_bytes("mon"), SIZE);
	close_bitmap();
}
END_TEST

/* Also of a disk whose store failed, whatever it failed with before. */
START_TEST(a_last_flush_ends)
{
	unsigned char data[512] = { 1 };

	must_open("checkpoints=mon granularity=4k");
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_WRITE,
		.leaf = 1,
		.times = 2,
		.error = -EIO,
	};
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), -EIO);
	ck_assert_int_eq(last_flush(), -EIO);
	ck_assert_int_eq(last_flush(), 0);
	close_bitmap();
	/* nothing was written, and that is what the store says */
	must_open("checkpoints=mon granularity=4k");
	ck_assert_uint_eq(dirty_bytes("mon"), 0);
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
	platters.fault.failed = 0;
	ck_assert_int_eq(last_flush(), -EIO);
	ck_assert_int_eq(last_flush(), -EIO);
	ck_assert_int_eq(last_flush(), 0);
	close_bitmap();
	must_open("checkpoints=mon granularity=4k");
	ck_assert_uint_eq(dirty_bytes("mon"), GRANULE);
	close_bitmap();
}
END_TEST

START_TEST(any_bytes_in_a_store_are_taken_or_refused)
{
	uint32_t i, n;

	must_open("checkpoints=mon\ntue granularity=4k");
	guest_init(&guest, &rig, SECTORS, 1);
	guest_run(&guest, 30);
	ck_assert_int_eq(last_flush(), 0);
	close_bitmap();
	memcpy(kept[1], platters.bytes[1], STORE);
	memset(before, 0, SIZE);
	for (i = 0; i < 500; i++) {
		struct blktap_error *err = NULL;

		memcpy(platters.bytes[1], kept[1], STORE);
		for (n = 1 + (uint32_t)platter_random(8); n; n--)
			platters.bytes[1][platter_random(17000)] ^=
				(unsigned char)(1 + platter_random(255));
		if (open_bitmap("checkpoints=mon granularity=4k", &err) == 0)
			check_covers("mon", platters.bytes[0]);
		else
			ck_assert_ptr_nonnull(err);
		blktap_error_destroy(err);
		close_bitmap();
	}
}
END_TEST

START_TEST(a_store_that_failed_once_is_saved_by_the_next_last_flush)
{
	unsigned char data[512] = { 1 };

	must_open("checkpoints=mon granularity=4k");
	ck_assert_int_eq(rig_write(&rig, 8192, data, 512), 0);
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_WRITE, .leaf = 1, .times = 1, .error = -EIO
	};
	ck_assert_int_eq(last_flush(), -EIO);
	ck_assert_int_eq(last_flush(), 0);
	close_bitmap();
	must_open("checkpoints=mon granularity=4k");
	ck_assert_uint_eq(dirty_bytes("mon"), 4096);
	close_bitmap();
}
END_TEST

static const struct {
	const char *args;
	int error;
	const char *text;
} bad[] = {
	{ "granularity=5000", -EINVAL, "power of 2" },
	{ "checkpoints=a\nb\na", -EEXIST, "twice" },
	{ "checkpoints=a\tb", -EINVAL, "not a name" },
	{ "checkpoints=0123456789012345678901234567890123456789012345678901234"
	  "567890123",
	  -EINVAL, "not a name" },
	{ "checkpoints=a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nn\no\np\nq",
	  -E2BIG, "more than 16" },
	{ "granularity=512", -ENOSPC, "needs" },
};

START_TEST(bad_arguments_are_refused_with_a_reason)
{
	struct blktap_error *err = NULL;

	if (bad[_i].error == -ENOSPC)
		platter_make(1, 16384);
	ck_assert_int_eq(open_bitmap(bad[_i].args, &err), bad[_i].error);
	ck_assert_ptr_nonnull(
		strstr(blktap_error_get_message(err), bad[_i].text));
	blktap_error_destroy(err);
	close_bitmap();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("bitmap");
	TCase *all = tcase_create("bitmap");

	tcase_add_checked_fixture(all, setup, teardown);
	tcase_add_test(all, what_is_written_is_dirty_and_nothing_else);
	tcase_add_test(all, checkpoints_come_and_go_while_the_disk_is_written);
	tcase_add_test(all,
		       a_write_that_is_under_way_is_one_since_the_checkpoint);
	tcase_add_test(all, a_disk_that_was_closed_goes_on_with_the_same_bits);
	tcase_add_test(all, a_power_cut_never_loses_a_change);
	tcase_add_test(all, an_unclean_store_stays_so_until_the_disk_is_closed);
	tcase_add_test(
		all, a_store_that_failed_once_is_saved_by_the_next_last_flush);
	tcase_add_loop_test(all, a_store_that_fails_is_told_and_no_bit_is_lost,
			    0, 6);
	tcase_add_test(all, a_last_flush_ends);
	tcase_add_test(all, any_bytes_in_a_store_are_taken_or_refused);
	tcase_add_loop_test(all, bad_arguments_are_refused_with_a_reason, 0,
			    (int)BT_ARRAY_SIZE(bad));
	suite_add_tcase(suite, all);
	return unit_run(suite);
}
