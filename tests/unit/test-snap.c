/* SPDX-License-Identifier: BSD-3-Clause */
/* BLKTAP_SEED repeats a run; BLKTAP_TEST_LONG=1 cuts at every event. */
#include "guest.h"

#include "seed.h"

#define SECTORS 1024u
#define SIZE (SECTORS * 512u)
#define DELTA (SIZE + (64u << 10))

static struct guest guest;
static struct rig rig;
static struct bt_port image_top;
static unsigned char as_it_was[SIZE], back[SIZE], cut[2][DELTA];
static unsigned char kept[2][DELTA];

static void setup(void)
{
	platter_reset(seed_take());
	platter_make(0, SIZE);
	platter_make(1, DELTA);
}

static void teardown(void)
{
	platter_reset(0);
}

static int open_snap(const char *args, struct blktap_error **err)
{
	struct bt_node *lowers[2], *node;
	int rc;

	platters.hold = false;
	rig_init(&rig);
	lowers[0] = rig_node(&rig, &platter_class, "o", "index=0", NULL, 0);
	lowers[1] = rig_node(&rig, &platter_class, "d", "index=1", NULL, 0);
	node = rig_make(&rig, &bt_snap_class, "s", args, lowers, 2, &rc, err);
	if (rc)
		return rc;
	rig_top(&rig, node);
	bt_port_init(&image_top, &rig.env, NULL, "image");
	image_top.done = rig_done;
	bt_port_link(&image_top, node);
	image_top.entry = 1;
	return 0;
}

static void must_open(const char *args)
{
	struct blktap_error *err = NULL;
	int rc = open_snap(args, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "?");
}

static void close_snap(void)
{
	platters.hold = false;
	if (rig.root)
		bt_port_link(&image_top, NULL);
	rig_fini(&rig);
}

static const char *value(const char *name)
{
	static char text[32];

	ck_assert(bt_snap_class.get_value(rig.root, name, text, sizeof(text)));
	return text;
}

/* A disk that was written to before the snapshot. */
static void prepare(void)
{
	rig_init(&rig);
	rig_top(&rig, rig_node(&rig, &platter_class, "o", "index=0", NULL, 0));
	guest_init(&guest, &rig, SECTORS, 1);
	platters.hold = true;
	guest_run(&guest, 60);
	guest.operations = 1u << BLKTAP_OP_FLUSH;
	guest.flushes[guest.flush_count++] =
		(struct guest_flush){ platters.now + 1, platters.now + 2 };
	platters.now += 3;
	guest.operations = BT_OPS_ALL;
	platters.hold = false;
	rig_fini(&rig);
	memcpy(as_it_was, platters.bytes[0], SIZE);
	platter_begin();
}

struct reading {
	struct bt_request *req;
	struct iovec iov;
	bool done;
	uint64_t offset;
};

static void read_image(struct reading *r, uint64_t offset, uint64_t length)
{
	r->req = bt_pool_take(rig.pool);
	r->iov.iov_base = back + offset;
	r->iov.iov_len = length;
	r->done = false;
	r->offset = offset;
	r->req->op = BLKTAP_OP_READ;
	r->req->offset = offset;
	r->req->length = length;
	r->req->data = (struct bt_sgl){ .iov = &r->iov, .count = 1 };
	r->req->opaque = &r->done;
	bt_port_submit(&image_top, r->req);
}

static int finish_image(struct reading *r)
{
	int error;

	guest_wait(&rig, &r->done);
	error = r->req->error;
	if (!error)
		ck_assert_mem_eq(back + r->offset, as_it_was + r->offset,
				 r->iov.iov_len);
	bt_pool_give(r->req);
	return error;
}

static void check_image(void)
{
	struct reading r;
	uint64_t at;

	for (at = 0; at < SIZE; at += 128 * 512) {
		read_image(&r, at, 128 * 512);
		ck_assert_int_eq(finish_image(&r), 0);
	}
}

START_TEST(the_image_stays_as_it_was_while_the_disk_is_written)
{
	struct reading r;
	uint32_t i;

	prepare();
	must_open(_i ? "chunk=4k" : "chunk=16k");
	platters.hold = true;
	for (i = 0; i < 120; i++) {
		uint64_t first = platter_random(SECTORS);
		uint64_t count = 1 + platter_random(128);

		if (count > SECTORS - first)
			count = SECTORS - first;
		/* under way while the disk is written */
		read_image(&r, first * 512, count * 512);
		guest_run(&guest, 1 + (uint32_t)platter_random(4));
		ck_assert_int_eq(finish_image(&r), 0);
	}
	check_image();
	guest_verify(&guest);
	ck_assert_str_eq(value("state"), "active");
	ck_assert_str_ne(value("copied"), "0");
	close_snap();
	/* and goes on after being opened again */
	must_open(_i ? "chunk=4k" : "chunk=16k");
	platters.hold = true;
	guest_run(&guest, 50);
	check_image();
	guest_verify(&guest);
	close_snap();
}
END_TEST

START_TEST(the_image_is_read_only)
{
	struct reading r;

	prepare();
	must_open("");
	r.done = false;
	r.req = bt_pool_take(rig.pool);
	r.req->op = BLKTAP_OP_WRITE_ZEROES;
	r.req->length = 512;
	r.req->opaque = &r.done;
	bt_port_submit(&image_top, r.req);
	guest_wait(&rig, &r.done);
	ck_assert_int_eq(r.req->error, -EPERM);
	bt_pool_give(r.req);
	check_image();
	close_snap();
}
END_TEST

/* ---- power cuts ------------------------------------------------------------ */

static void check_cut(uint64_t at, enum platter_model model)
{
	uint32_t leaf;

	for (leaf = 0; leaf < 2; leaf++)
		platter_cut(leaf, at, model, cut[leaf]);
	for (leaf = 0; leaf < 2; leaf++) {
		memcpy(kept[leaf], platters.bytes[leaf], platters.size[leaf]);
		memcpy(platters.bytes[leaf], cut[leaf], platters.size[leaf]);
	}
	must_open("chunk=4k");
	ck_assert_str_eq(value("state"), "active");
	ck_assert_int_eq(rig_read(&rig, 0, back, SIZE), 0);
	guest_check_cut(&guest, back, at, "live");
	check_image();
	/* it goes on: all of the disk is changed, the image stays */
	memset(back, 0xee, SIZE);
	ck_assert_int_eq(rig_write(&rig, 0, back, SIZE / 2), 0);
	check_image();
	close_snap();
	for (leaf = 0; leaf < 2; leaf++)
		memcpy(platters.bytes[leaf], kept[leaf], platters.size[leaf]);
}

START_TEST(a_power_cut_leaves_the_image_whole_and_what_was_flushed)
{
	bool all = getenv("BLKTAP_TEST_LONG");
	uint64_t first, last, at, now;

	prepare();
	must_open("chunk=4k");
	first = platters.now;
	platters.hold = true;
	guest_run(&guest, 250);
	last = platters.now;
	platters.hold = false;
	close_snap();
	now = platters.now;
	for (at = first; at <= last;
	     at +=
	     all ? 1 : 1 + platter_random((last - first) / seed_rounds(100))) {
		platters.now = now;
		check_cut(at,
			  (enum platter_model)platter_random(PLATTER_MODELS));
	}
}
END_TEST

/* ---- what cannot be kept --------------------------------------------------- */

START_TEST(a_full_delta_drops_the_image_and_never_a_write)
{
	struct reading r;

	platter_make(1, 100u << 10);
	prepare();
	must_open("chunk=4k");
	platters.hold = true;
	guest_run(&guest, 300);
	guest_verify(&guest);
	ck_assert_str_eq(value("state"), "dropped");
	read_image(&r, 0, 4096);
	ck_assert_int_eq(finish_image(&r), -EIO);
	close_snap();
	/* that is on disk: nobody takes what is left of it for an image */
	must_open("chunk=4k");
	ck_assert_str_eq(value("state"), "dropped");
	close_snap();
}
END_TEST

START_TEST(a_full_delta_stops_writes_where_the_image_counts_more)
{
	platter_make(1, 100u << 10);
	prepare();
	must_open("chunk=4k on_full=stop");
	platters.hold = true;
	guest.may_fail = true;
	guest_run(&guest, 300);
	ck_assert_uint_gt(guest.errors, 0);
	ck_assert_str_eq(value("state"), "active");
	ck_assert_str_eq(value("free"), "0");
	check_image();
	guest_verify(&guest);
	close_snap();
	must_open("chunk=4k on_full=stop");
	check_image();
	close_snap();
}
END_TEST

/* Each kind of transfer fails once, at a random moment. */
static const struct {
	enum blktap_op op;
	uint32_t leaf;
} faults[] = {
	{ BLKTAP_OP_READ, 0 },
	{ BLKTAP_OP_WRITE, 1 },
	{ BLKTAP_OP_FLUSH, 1 },
};

START_TEST(a_fault_costs_the_image_or_the_write_and_nothing_else)
{
	bool stop = _i % 2;
	uint32_t n = (uint32_t)_i / 2 % 3;

	prepare();
	must_open(stop ? "chunk=4k on_full=stop" : "chunk=4k");
	platters.hold = true;
	platters.fault = (struct platter_fault){
		.op = (int)faults[n].op,
		.leaf = faults[n].leaf,
		.skip = (uint32_t)platter_random(20),
		.times = 1 + (uint32_t)platter_random(3),
		.error = -EIO,
	};
	guest.may_fail = true; /* reads of the origin fail as well */
	guest_run(&guest, 200);
	platters.fault.op = -1;
	guest_verify(&guest);
	if (stop || !strcmp(value("state"), "active"))
		check_image();
	close_snap();
	must_open(stop ? "chunk=4k on_full=stop" : "chunk=4k");
	if (stop)
		ck_assert_str_eq(value("state"), "active");
	if (!strcmp(value("state"), "active"))
		check_image();
	ck_assert_int_eq(rig_read(&rig, 0, back, SIZE), 0);
	close_snap();
}
END_TEST

/* ---- stores that are not ours ----------------------------------------------- */

START_TEST(a_delta_of_another_disk_or_chunk_is_refused)
{
	struct blktap_error *err = NULL;

	must_open("chunk=4k");
	close_snap();
	ck_assert_int_eq(open_snap("chunk=8k", &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "4096"));
	blktap_error_destroy(err);
	err = NULL;
	close_snap();
	platter_make(0, SIZE / 2);
	ck_assert_int_eq(open_snap("chunk=4k", &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "524288"));
	blktap_error_destroy(err);
	err = NULL;
	close_snap();
	platter_make(1, 8192);
	ck_assert_int_eq(open_snap("chunk=4k", &err), -ENOSPC);
	blktap_error_destroy(err);
	close_snap();
}
END_TEST

START_TEST(any_bytes_in_a_delta_are_taken_or_refused)
{
	uint32_t i, n;

	prepare();
	must_open("chunk=4k");
	platters.hold = true;
	guest_run(&guest, 50);
	close_snap();
	memcpy(kept[1], platters.bytes[1], DELTA);
	for (i = 0; i < 300; i++) {
		struct blktap_error *err = NULL;

		memcpy(platters.bytes[1], kept[1], DELTA);
		for (n = 1 + (uint32_t)platter_random(20); n; n--)
			platters.bytes[1][platter_random(16384)] =
				(unsigned char)platter_random(256);
		if (open_snap("chunk=4k", &err) == 0)
			ck_assert_int_eq(rig_read(&rig, 0, back, SIZE), 0);
		else
			ck_assert_ptr_nonnull(err);
		blktap_error_destroy(err);
		close_snap();
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("snap");
	TCase *all = tcase_create("snap");

	tcase_add_checked_fixture(all, setup, teardown);
	tcase_add_loop_test(
		all, the_image_stays_as_it_was_while_the_disk_is_written, 0, 2);
	tcase_add_test(all, the_image_is_read_only);
	tcase_add_test(all,
		       a_power_cut_leaves_the_image_whole_and_what_was_flushed);
	tcase_add_test(all, a_full_delta_drops_the_image_and_never_a_write);
	tcase_add_test(all,
		       a_full_delta_stops_writes_where_the_image_counts_more);
	tcase_add_loop_test(
		all, a_fault_costs_the_image_or_the_write_and_nothing_else, 0,
		24);
	tcase_add_test(all, a_delta_of_another_disk_or_chunk_is_refused);
	tcase_add_test(all, any_bytes_in_a_delta_are_taken_or_refused);
	suite_add_tcase(suite, all);
	return unit_run(suite);
}
