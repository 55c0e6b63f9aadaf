/* SPDX-License-Identifier: BSD-3-Clause */
/* BLKTAP_SEED repeats a run; BLKTAP_TEST_LONG=1 cuts at every event. */
#include "guest.h"

#include "seed.h"

#define SECTORS 1024u
#define SIZE (SECTORS * 512u)
#define STORE (32u << 10)

static struct guest guest;
static struct rig rig;
static unsigned char back[SIZE], kept[3][SIZE], cut[3][SIZE];

static void setup(void)
{
	platter_reset(seed_take());
	platter_make(0, SIZE);
	platter_make(1, STORE);
	platter_make(2, SIZE);
}

static void teardown(void)
{
	platter_reset(0);
}

/* ---- two copies ------------------------------------------------------------- */

static const struct bt_port_desc twin_ports[] = {
	{ .name = "a" },
	{ .name = "b" },
	{ .name = NULL },
};

/* Writes to both, one after the other; reads the first, or which is asked for. */
static void twin_submit(struct bt_node *node, struct bt_request *req)
{
	bt_port_submit(
		&node->ports[req->op == BLKTAP_OP_READ && req->copy == 2], req);
}

static void twin_complete(struct bt_node *node, struct bt_port *port,
			  struct bt_request *req)
{
	if (req->op != BLKTAP_OP_READ && port == &node->ports[0] && !req->error)
		bt_port_submit(&node->ports[1], req);
	else
		bt_request_complete(req, req->error);
}

static void twin_limits(struct bt_node *node, struct bt_limits *limits)
{
	(void)node;
	limits->copies = 2;
}

static const struct blktap_class twin_class = {
	.name = "twin",
	.summary = "two copies",
	.ports = twin_ports,
	.operations = BT_OPS_ALL,
	.get_limits = twin_limits,
	.submit = twin_submit,
	.complete = twin_complete,
};

static bool use_mirror;

static int open_sums(const char *args, bool twins, struct blktap_error **err)
{
	struct bt_node *lowers[2], *legs[3] = { NULL }, *node;
	int rc;

	platters.hold = false;
	rig_init(&rig);
	lowers[0] = rig_node(&rig, &platter_class, "o", "index=0", NULL, 0);
	lowers[1] = rig_node(&rig, &platter_class, "s", "index=1", NULL, 0);
	if (twins) {
		legs[0] = lowers[0];
		legs[1] =
			rig_node(&rig, &platter_class, "p", "index=2", NULL, 0);
		lowers[0] = use_mirror ? rig_node(&rig, &bt_mirror_class, "m",
						  "read=first", legs, 3)
				       : rig_node(&rig, &twin_class, "t", "",
						  legs, 2);
	}
	node = rig_make(&rig, &bt_checksum_class, "c", args, lowers, 2, &rc,
			err);
	if (!rc)
		rig_top(&rig, node);
	return rc;
}

static void must_open(const char *args, bool twins)
{
	struct blktap_error *err = NULL;
	int rc = open_sums(args, twins, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "?");
}

static void close_sums(void)
{
	platters.hold = false;
	rig_fini(&rig);
}

static uint64_t value(const char *name)
{
	char text[32];

	ck_assert(bt_checksum_class.get_value(rig.root, name, text,
					      sizeof(text)));
	return strtoull(text, NULL, 10);
}

/* In the pieces that the node takes. */
static int read_all(void)
{
	uint64_t at;
	int rc = 0;

	for (at = 0; !rc && at < SIZE; at += 64u << 10)
		rc = rig_read(&rig, at, back + at, 64u << 10);
	return rc;
}

START_TEST(what_is_written_is_read)
{
	uint32_t i;

	if (_i)
		platters.block[1] = 4096;
	for (i = 0; i < 3; i++) {
		must_open("", false);
		if (!i)
			guest_init(&guest, &rig, SECTORS, 1);
		platters.hold = true;
		guest_run(&guest, 150);
		guest_verify(&guest);
		ck_assert_uint_eq(value("wrong"), 0);
		close_sums();
	}
}
END_TEST

/* A VHD above counts in 512 bytes. What was written so had no sum. */
START_TEST(a_part_of_a_granule_is_refused)
{
	platters.block[0] = 4096;
	platters.block[1] = 4096;
	must_open("", false);
	ck_assert_int_eq(rig_write(&rig, 512, back, 512), -EINVAL);
	ck_assert_int_eq(rig_read(&rig, 4096, back, 512), -EINVAL);
	ck_assert_int_eq(rig_read(&rig, 0, back, 4096), 0);
	close_sums();
}
END_TEST

START_TEST(a_changed_byte_is_an_error_and_never_data)
{
	uint32_t i;

	must_open("", false);
	guest_init(&guest, &rig, SECTORS, 1);
	guest_run(&guest, 80);
	for (i = 0; i < 100; i++) {
		uint64_t at = platter_random(SIZE);
		uint64_t sector = at / 512 * 512;

		platters.bytes[0][at] ^= (unsigned char)(1u << (i % 8));
		ck_assert_int_eq(rig_read(&rig, sector, back, 512), -EIO);
		platters.bytes[0][at] ^= (unsigned char)(1u << (i % 8));
		ck_assert_int_eq(rig_read(&rig, sector, back, 512), 0);
	}
	ck_assert_uint_eq(value("wrong"), 100);
	/* writing it over mends it */
	platters.bytes[0][1000] ^= 1;
	memset(back, 7, 512);
	ck_assert_int_eq(rig_write(&rig, 512, back, 512), 0);
	ck_assert_int_eq(rig_read(&rig, 512, back, 512), 0);
	close_sums();
}
END_TEST

START_TEST(a_write_that_the_disk_lost_is_found_out)
{
	unsigned char old[512];

	must_open("", false);
	memset(back, 1, 512);
	ck_assert_int_eq(rig_write(&rig, 0, back, 512), 0);
	memcpy(old, platters.bytes[0], 512);
	memset(back, 2, 512);
	ck_assert_int_eq(rig_write(&rig, 0, back, 512), 0);
	memcpy(platters.bytes[0], old, 512);
	ck_assert_int_eq(rig_read(&rig, 0, back, 512), -EIO);
	close_sums();
}
END_TEST

START_TEST(a_good_copy_heals_a_bad_one)
{
	uint32_t i;

	use_mirror = _i;
	must_open("", true);
	guest_init(&guest, &rig, SECTORS, 1);
	guest_run(&guest, 80);
	for (i = 0; i < 50; i++) {
		uint64_t at = platter_random(SIZE);

		platters.bytes[0][at] ^= 1;
		guest_verify(&guest);
		ck_assert_mem_eq(platters.bytes[0], platters.bytes[2], SIZE);
		ck_assert_uint_eq(value("healed"), i + 1);
	}
	/* a copy that cannot be read is as good as a bad one */
	platters.fault = (struct platter_fault){
		.op = BLKTAP_OP_READ, .leaf = 0, .times = 1, .error = -EIO
	};
	guest_verify(&guest);
	platters.fault.op = -1;
	/* both bad */
	platters.bytes[0][5] ^= 1;
	platters.bytes[2][6] ^= 1;
	ck_assert_int_eq(rig_read(&rig, 0, back, 512), -EIO);
	close_sums();
}
END_TEST

/* Its first 8 KiB are cleared, as a damaged header says, and it gets an empty disk. */
START_TEST(a_store_that_is_begun_anew_knows_nothing_of_before)
{
	must_open("", false);
	guest_init(&guest, &rig, SECTORS, 1);
	guest_run(&guest, 80);
	close_sums();
	memset(platters.bytes[1], 0, 8192);
	memset(platters.bytes[0], 0, SIZE);
	must_open(_i ? "adopt=true" : "", false);
	ck_assert_int_eq(read_all(), 0);
	ck_assert_uint_eq(value("wrong"), 0);
	close_sums();
}
END_TEST

/* A file system may lack the call. It is no write that failed: that puts all sums
 * in doubt, and costs one of a bounded number. */
START_TEST(zeroes_that_cannot_be_made_below_are_written)
{
	struct bt_node *lowers[2];

	rig_init(&rig);
	lowers[0] = rig_node(&rig, &platter_class, "o", "index=0", NULL, 0);
	lowers[0] = rig_node(&rig, &bt_fault_class, "f", "rules=zero\tENOTSUP",
			     lowers, 1);
	lowers[1] = rig_node(&rig, &platter_class, "s", "index=1", NULL, 0);
	rig_top(&rig, rig_node(&rig, &bt_checksum_class, "c", "", lowers, 2));
	memset(back, 5, 8192);
	ck_assert_int_eq(rig_write(&rig, 0, back, 8192), 0);
	ck_assert_int_eq(rig_run(&rig, BLKTAP_OP_WRITE_ZEROES, BLKTAP_MAY_UNMAP,
				 4096, NULL, 4096),
			 0);
	ck_assert_int_eq(rig_read(&rig, 0, back, 8192), 0);
	ck_assert_int_eq(back[4095], 5);
	ck_assert_int_eq(back[4096] | back[8191], 0);
	ck_assert_int_eq(platters.bytes[0][4096], 0);
	close_sums();
}
END_TEST

START_TEST(a_bad_copy_is_passed_over_where_nothing_is_written)
{
	use_mirror = _i;
	must_open("", true);
	guest_init(&guest, &rig, SECTORS, 1);
	guest_run(&guest, 80);
	rig.root->ports[0].lower->limits.read_only = true;
	platters.bytes[0][5] ^= 1;
	memcpy(kept[0], platters.bytes[0], SIZE);
	guest_verify(&guest);
	guest_verify(&guest);
	ck_assert_mem_eq(platters.bytes[0], kept[0], SIZE);
	ck_assert_uint_ge(value("wrong"), 2);
	ck_assert_uint_eq(value("healed"), 0);
	close_sums();
}
END_TEST

START_TEST(a_disk_with_data_is_adopted_or_not_believed)
{
	uint32_t i;

	for (i = 0; i < SIZE; i++)
		platters.bytes[0][i] = (unsigned char)platter_random(256);
	must_open("adopt=true", false);
	ck_assert_int_eq(read_all(), 0);
	ck_assert_mem_eq(back, platters.bytes[0], SIZE);
	platters.bytes[0][SIZE - 1] ^= 1;
	ck_assert_int_eq(rig_read(&rig, SIZE - 512, back, 512), -EIO);
	close_sums();
	/* only a new store adopts */
	must_open("adopt=true", false);
	ck_assert_int_eq(rig_read(&rig, SIZE - 512, back, 512), -EIO);
	close_sums();
	memset(platters.bytes[1], 0, STORE);
	must_open("", false);
	ck_assert_int_eq(rig_read(&rig, 0, back, 512), -EIO);
	close_sums();
}
END_TEST

START_TEST(a_power_cut_leaves_what_was_flushed_and_nothing_that_does_not_match)
{
	bool all = getenv("BLKTAP_TEST_LONG");
	uint64_t first, last, at, now;
	uint32_t leaf;

	must_open("", false);
	guest_init(&guest, &rig, SECTORS, 1);
	platter_begin();
	first = platters.now;
	platters.hold = true;
	guest_run(&guest, 200);
	last = platters.now;
	close_sums();
	for (leaf = 0; leaf < 2; leaf++)
		memcpy(kept[leaf], platters.bytes[leaf], platters.size[leaf]);
	for (at = first; at <= last;
	     at +=
	     all ? 1 : 1 + platter_random((last - first) / seed_rounds(150))) {
		enum platter_model model =
			(enum platter_model)platter_random(PLATTER_MODELS);

		now = platters.now;
		for (leaf = 0; leaf < 2; leaf++)
			platter_cut(leaf, at, model, cut[leaf]);
		for (leaf = 0; leaf < 2; leaf++)
			memcpy(platters.bytes[leaf], cut[leaf],
			       platters.size[leaf]);
		must_open("", false);
		ck_assert_int_eq(read_all(), 0);
		guest_check_cut(&guest, back, at, "disk");
		/* what is in doubt can be written over and read */
		memset(back, 0x77, SIZE / 8);
		ck_assert_int_eq(rig_write(&rig, 0, back, SIZE / 8), 0);
		ck_assert_int_eq(read_all(), 0);
		ck_assert_int_eq(back[0], 0x77);
		close_sums();
		platters.now = now;
	}
}
END_TEST

START_TEST(a_fault_fails_its_request_and_nothing_else)
{
	static const struct {
		enum blktap_op op;
		uint32_t leaf;
	} faults[] = {
		{ BLKTAP_OP_WRITE, 0 }, { BLKTAP_OP_FLUSH, 0 },
		{ BLKTAP_OP_READ, 1 },	{ BLKTAP_OP_WRITE, 1 },
		{ BLKTAP_OP_FLUSH, 1 }, { BLKTAP_OP_READ, 0 },
	};
	uint32_t n = (uint32_t)_i % BT_ARRAY_SIZE(faults), tries;

	must_open("", false);
	guest_init(&guest, &rig, SECTORS, 1);
	guest.may_fail = true;
	platters.hold = true;
	platters.fault = (struct platter_fault){
		.op = (int)faults[n].op,
		.leaf = faults[n].leaf,
		.skip = (uint32_t)platter_random(40),
		.times = 1 + (uint32_t)platter_random(5),
		.error = -EIO,
	};
	for (tries = 0; tries < 20 && !platters.fault.failed; tries++)
		guest_run(&guest, 200);
	ck_assert_uint_gt(platters.fault.failed, 0);
	platters.fault.op = -1;
	ck_assert_uint_eq(value("wrong"), 0);
	guest_run(&guest, 50);
	guest_verify(&guest);
	close_sums();
	must_open("", false);
	platters.hold = true;
	guest_verify(&guest);
	ck_assert_uint_eq(value("wrong"), 0);
	close_sums();
}
END_TEST

START_TEST(a_store_of_another_disk_is_refused)
{
	struct blktap_error *err = NULL;

	must_open("", false);
	ck_assert_int_eq(read_all(), 0);
	close_sums();
	platter_make(0, SIZE / 2);
	ck_assert_int_eq(open_sums("", false, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(blktap_error_get_message(err), "524288"));
	blktap_error_destroy(err);
	err = NULL;
	close_sums();
	platter_make(0, SIZE * 2);
	platter_make(1, 16384);
	ck_assert_int_eq(open_sums("", false, &err), -ENOSPC);
	blktap_error_destroy(err);
	close_sums();
}
END_TEST

START_TEST(any_bytes_in_a_store_give_data_or_an_error)
{
	uint32_t i, n;

	must_open("", false);
	guest_init(&guest, &rig, SECTORS, 1);
	guest_run(&guest, 60);
	close_sums();
	memcpy(kept[1], platters.bytes[1], STORE);
	for (i = 0; i < 200; i++) {
		struct blktap_error *err = NULL;
		uint64_t at;

		memcpy(platters.bytes[1], kept[1], STORE);
		for (n = 1 + (uint32_t)platter_random(30); n; n--)
			platters.bytes[1][platter_random(STORE)] ^=
				(unsigned char)(1 + platter_random(255));
		if (open_sums("", false, &err))
			ck_assert_ptr_nonnull(err);
		else
			for (at = 0; at < SIZE; at += 4096)
				if (!rig_read(&rig, at, back, 4096))
					ck_assert_mem_eq(back,
							 platters.bytes[0] + at,
							 4096);
		blktap_error_destroy(err);
		close_sums();
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("checksum");
	TCase *all = tcase_create("checksum");

	tcase_add_checked_fixture(all, setup, teardown);
	tcase_add_loop_test(all, what_is_written_is_read, 0, 2);
	tcase_add_test(all, a_part_of_a_granule_is_refused);
	tcase_add_test(all, a_changed_byte_is_an_error_and_never_data);
	tcase_add_test(all, a_write_that_the_disk_lost_is_found_out);
	tcase_add_loop_test(all, a_good_copy_heals_a_bad_one, 0, 2);
	tcase_add_loop_test(
		all, a_bad_copy_is_passed_over_where_nothing_is_written, 0, 2);
	tcase_add_loop_test(
		all, a_store_that_is_begun_anew_knows_nothing_of_before, 0, 2);
	tcase_add_test(all, zeroes_that_cannot_be_made_below_are_written);
	tcase_add_test(all, a_disk_with_data_is_adopted_or_not_believed);
	tcase_add_test(
		all,
		a_power_cut_leaves_what_was_flushed_and_nothing_that_does_not_match);
	tcase_add_loop_test(all, a_fault_fails_its_request_and_nothing_else, 0,
			    24);
	tcase_add_test(all, a_store_of_another_disk_is_refused);
	tcase_add_test(all, any_bytes_in_a_store_give_data_or_an_error);
	suite_add_tcase(suite, all);
	return unit_run(suite);
}
