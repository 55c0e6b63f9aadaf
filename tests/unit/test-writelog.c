/* SPDX-License-Identifier: BSD-3-Clause */
/* writelog: what is in the log is what happened; a cut leaves what was flushed, and
 * of the rest any part; a client that forgets a flush is found out. */
#include "narrow.h"

#include "module/later.h"
#include "module/writelog.h"
#include "util/bytes.h"

#define DISK (256u << 10)
#define MS 1000000ull
#define ROUNDS 12u
#define WRITES 20u
#define BLOCK 4096u

static struct rig rig;
static struct bt_node *top, *store;
static uint8_t image[DISK], flat[DISK];
static uint8_t snapshots[ROUNDS][DISK];
static uint64_t random_state;

/* above: a fault node's rules, or NULL. */
static void setup(const char *store_size, const char *above, bool slow)
{
	struct bt_node *lowers[2];
	char text[128];

	rig_init(&rig);
	lowers[0] = rig_ram(&rig, "ram", "256k");
	if (slow)
		lowers[0] = rig_node(&rig, &bt_delay_class, "slow",
				     "max=9ms seed=3", lowers, 1);
	lowers[1] = store = rig_ram(&rig, "store", store_size);
	top = rig_node(&rig, &bt_writelog_class, "log", "", lowers, 2);
	lowers[0] = top;
	if (above) {
		snprintf(text, sizeof(text), "rules=%s", above);
		lowers[0] =
			rig_node(&rig, &bt_fault_class, "bad", text, lowers, 1);
	}
	rig_top(&rig, lowers[0]);
	memset(flat, 0, sizeof(flat));
	random_state = 77;
}

static void teardown(void)
{
	rig_fini(&rig);
}

/* ---- replay of the store -------------------------------------------------- */

static int read_store(void *opaque, uint64_t offset, void *data, size_t length)
{
	(void)opaque;
	return bt_node_transfer(&top->ports[1], BLKTAP_OP_READ, offset, data,
				length);
}

static struct bt_replay replay_open(void)
{
	struct bt_replay replay = { .read = read_store,
				    .log_size = store->limits.size };

	ck_assert_int_eq(bt_replay_open(&replay), 0);
	ck_assert_uint_eq(replay.disk_size, DISK);
	return replay;
}

static int write_image(void *opaque, uint64_t offset, const void *data,
		       uint64_t length)
{
	(void)opaque;
	ck_assert(offset <= DISK && length <= DISK - offset);
	if (data)
		memcpy(image + offset, data, length);
	else
		memset(image + offset, 0, length);
	return 0;
}

static void make_image(const struct bt_replay *replay, uint64_t at,
		       enum bt_cut cut)
{
	memset(image, 0, sizeof(image));
	ck_assert_int_eq(bt_replay_cut(replay, at, cut, &random_state,
				       write_image, NULL),
			 0);
}

/* ---- a client ------------------------------------------------------------- */

struct op {
	struct bt_request *req;
	struct iovec iov;
	uint8_t data[3 * BLOCK];
	bool done;
};

static void begin(struct op *op, enum blktap_op kind, uint64_t offset,
		  uint64_t length)
{
	struct bt_request *req = bt_pool_take(rig.pool);

	op->req = req;
	op->done = false;
	op->iov.iov_base = op->data;
	op->iov.iov_len = sizeof(op->data);
	memset(op->data, (int)bt_chance(&random_state), sizeof(op->data));
	req->op = kind;
	req->offset = offset;
	req->length = length;
	req->data = (struct bt_sgl){ .iov = &op->iov, .count = 1 };
	req->opaque = &op->done;
	bt_port_submit(&rig.top, req);
}

static void end(struct op *op)
{
	while (!op->done) {
		bt_loop_advance(rig.env.loop, MS);
		ck_assert_int_eq(bt_loop_turn(rig.env.loop, 0), 0);
	}
	ck_assert_int_eq(op->req->error, 0);
	bt_pool_give(op->req);
}

static void flush(void)
{
	struct op op;

	begin(&op, BLKTAP_OP_FLUSH, 0, 0);
	end(&op);
}

/* Rounds of writes all at once, no two in one place, and a flush behind each. */
static void run_rounds(void)
{
	struct op *ops = calloc(WRITES, sizeof(*ops));
	uint32_t round, i;

	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < WRITES; i++) {
			uint64_t at = i * 3 * BLOCK +
				      bt_chance(&random_state) % 8 * 512;
			uint64_t length =
				512 + bt_chance(&random_state) % 16 * 512;
			bool zero = bt_chance(&random_state) % 5 == 0;

			begin(&ops[i],
			      zero ? BLKTAP_OP_WRITE_ZEROES : BLKTAP_OP_WRITE,
			      at, length);
			memcpy(flat + at, ops[i].data, length);
			if (zero)
				memset(flat + at, 0, length);
		}
		for (i = 0; i < WRITES; i++)
			end(&ops[i]);
		flush();
		memcpy(snapshots[round], flat, DISK);
	}
	free(ops);
}

struct flushes {
	uint64_t at[ROUNDS];
	uint32_t count;
};

static int find_flushes(void *opaque, const struct bt_writelog_entry *entry,
			const void *data)
{
	struct flushes *flushes = opaque;

	ck_assert(!data == (entry->kind != BT_WRITELOG_WRITE));
	if (entry->kind == BT_WRITELOG_FLUSH)
		flushes->at[flushes->count++] = entry->sequence;
	return 0;
}

/* Each sector is the one before the round or the one after. */
static void check_between(const uint8_t *before, const uint8_t *after)
{
	uint64_t at;

	for (at = 0; at < DISK; at += 512)
		ck_assert(!memcmp(image + at, before + at, 512) ||
			  !memcmp(image + at, after + at, 512));
}

START_TEST(each_flush_boundary_can_be_made_again_and_each_point_between)
{
	static const uint8_t blank[DISK];
	struct flushes flushes = { .count = 0 };
	struct bt_replay replay;
	uint32_t i, round, differ = 0;
	uint64_t at;

	setup("8M", NULL, true);
	run_rounds();
	replay = replay_open();
	ck_assert_uint_eq(replay.entries, ROUNDS * (WRITES + 1));
	ck_assert_int_eq(bt_replay_each(&replay, find_flushes, &flushes), 0);
	ck_assert_uint_eq(flushes.count, ROUNDS);
	for (i = 0; i < ROUNDS; i++) {
		make_image(&replay, flushes.at[i], BT_CUT_NOTHING);
		ck_assert_int_eq(memcmp(image, snapshots[i], DISK), 0);
	}
	/* behind a flush the next round may be on its way already */
	for (at = 1; at < replay.entries; at += 5) {
		const uint8_t *before;
		enum bt_cut cut;

		round = (uint32_t)(at / (WRITES + 1));
		before = round ? snapshots[round - 1] : blank;
		for (cut = 0; cut < BT_CUTS; cut++) {
			make_image(&replay, at, cut);
			check_between(before, snapshots[round]);
			differ += memcmp(image, before, DISK) != 0;
		}
	}
	/* the models do make something of what was in flight */
	ck_assert_uint_ge(differ, ROUNDS * 2);
	teardown();
}
END_TEST

/* A client that writes a block, flushes, and then writes a mark that says so:
 * wherever it is cut, no mark without its block. */
static uint32_t marks_without_blocks(const char *above)
{
	struct op op;
	struct bt_replay replay;
	uint32_t i, bad = 0;
	uint64_t at;

	setup("8M", above, false);
	for (i = 1; i <= 10; i++) {
		begin(&op, BLKTAP_OP_WRITE, (i + 1) * BLOCK, BLOCK);
		end(&op);
		flush();
		random_state = i; /* the mark is never 0 */
		begin(&op, BLKTAP_OP_WRITE, i * 512 - 512, 512);
		end(&op);
		flush();
	}
	replay = replay_open();
	for (at = 1; at <= replay.entries; at++) {
		make_image(&replay, at, BT_CUT_SOME);
		for (i = 1; i <= 10; i++) {
			static const uint8_t blank[BLOCK];

			bad += memcmp(image + i * 512 - 512, blank, 512) &&
			       !memcmp(image + (i + 1) * BLOCK, blank, BLOCK);
		}
	}
	teardown();
	return bad;
}

START_TEST(a_client_that_flushes_is_safe_and_one_whose_flushes_are_lost_is_not)
{
	ck_assert_uint_eq(marks_without_blocks(NULL), 0);
	ck_assert_uint_ge(marks_without_blocks("flush\tlost"), 1);
}
END_TEST

START_TEST(a_fua_write_is_durable_by_itself)
{
	struct bt_replay replay;
	uint8_t data[512];

	setup("8M", NULL, false);
	memset(data, 5, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 0, data, 512), 0);
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_WRITE, BLKTAP_FUA, 512, data, 512), 0);
	replay = replay_open();
	make_image(&replay, 2, BT_CUT_NOTHING);
	ck_assert_uint_eq(image[0], 0);
	ck_assert_uint_eq(image[512], 5);
	make_image(&replay, 1, BT_CUT_NOTHING);
	ck_assert_uint_eq(image[512], 0);
	teardown();
}
END_TEST

START_TEST(a_full_store_fails_writes_and_keeps_a_whole_log)
{
	struct bt_replay replay;
	uint8_t data[BLOCK];
	uint32_t i, kept = 0;

	setup("256k", NULL, false);
	memset(data, 1, sizeof(data));
	for (i = 0; i < 40; i++) {
		int rc = rig_write(&rig, i * BLOCK, data, BLOCK);

		ck_assert(rc == 0 || rc == -ENOSPC);
		kept += rc == 0;
	}
	ck_assert_uint_eq(kept, 31);
	ck_assert_int_eq(rig_read(&rig, 0, data, BLOCK), 0);
	replay = replay_open();
	ck_assert_uint_eq(replay.entries, kept);
	teardown();
}
END_TEST

/* A log over a store that takes so much at once; the error is the test's. */
static struct bt_node *log_over(uint64_t takes, int *rc,
				struct blktap_error **err)
{
	struct bt_node *lowers[2], *under;

	rig_init(&rig);
	narrow_takes = takes;
	under = rig_ram(&rig, "under", "1M");
	lowers[0] = rig_ram(&rig, "ram", "256k");
	lowers[1] = store =
		rig_node(&rig, &narrow_class, "narrow", "", &under, 1);
	return rig_make(&rig, &bt_writelog_class, "log", "", lowers, 2, rc,
			err);
}

START_TEST(a_store_that_takes_no_entry_is_refused)
{
	static const uint64_t takes[] = { 512, 2048, 4096, 6144 };
	struct blktap_error *err = NULL;
	size_t i;
	int rc;

	for (i = 0; i < BT_ARRAY_SIZE(takes); i++) {
		ck_assert_ptr_null(log_over(takes[i], &rc, &err));
		ck_assert_int_eq(rc, -EINVAL);
		ck_assert_msg(strstr(blktap_error_get_message(err),
				     takes[i] < BLOCK
					     ? "at once, 'log' needs 4096"
					     : "at once, 'log' needs 8192") !=
				      NULL,
			      "%s", blktap_error_get_message(err));
		ck_assert_ptr_nonnull(
			strstr(blktap_error_get_message(err), "'narrow'"));
		blktap_error_destroy(err);
		err = NULL;
		rig_fini(&rig);
	}
}
END_TEST

START_TEST(an_entry_is_no_larger_than_the_store_takes)
{
	struct bt_replay replay;
	uint8_t data[BLOCK];
	int rc;

	top = log_over(2ull * BLOCK, &rc, NULL);
	ck_assert_ptr_nonnull(top);
	ck_assert_uint_eq(top->limits.max_transfer, BLOCK);
	rig_top(&rig, top);
	memset(data, 3, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 0, data, BLOCK), 0);
	replay = replay_open();
	ck_assert_uint_eq(replay.entries, 1);
	/* a change of the graph has made the store narrower: not planned */
	narrow_takes = BLOCK;
	ck_assert_int_eq(bt_node_plan(store, NULL), 0);
	ck_assert_int_eq(bt_node_plan(top, NULL), -EINVAL);
	teardown();
}
END_TEST

static uint32_t lasts;

static void hear_submit(struct bt_node *node, struct bt_request *req)
{
	lasts += req->op == BLKTAP_OP_FLUSH && req->flags & BT_REQUEST_LAST;
	bt_port_submit(&node->ports[0], req);
}

static const struct bt_port_desc hear_ports[] = { { .name = "lower" },
						  { .name = NULL } };
static const struct blktap_class hear_class = {
	.name = "hear",
	.ports = hear_ports,
	.operations = BT_OPS_ALL,
	.submit = hear_submit,
};

/* A cache below it, for one, which marks its store clean then. */
START_TEST(what_is_below_the_store_hears_of_the_last_flush)
{
	struct bt_node *lowers[2];
	uint8_t data[512] = { 1 };

	rig_init(&rig);
	lowers[0] = rig_ram(&rig, "ram", "256k");
	lowers[1] = rig_ram(&rig, "store", _i ? "160k" : "8M");
	lowers[1] = rig_node(&rig, &hear_class, "h", "", &lowers[1], 1);
	rig_top(&rig, rig_node(&rig, &bt_writelog_class, "log", "", lowers, 2));
	lasts = 0;
	while (rig_write(&rig, 0, data, sizeof(data)) == 0 && _i)
		;
	ck_assert_int_eq(rig_flush(&rig), _i ? -ENOSPC : 0);
	ck_assert_uint_eq(lasts, 0);
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_FLUSH, BT_REQUEST_LAST, 0, NULL, 0),
		_i ? -ENOSPC : 0);
	ck_assert_uint_eq(lasts, 1);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_new_opening_is_a_new_log)
{
	struct bt_node *lowers[2], *again;
	struct bt_replay replay;
	uint8_t data[BLOCK];

	setup("8M", NULL, false);
	memset(data, 1, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, 0, data, BLOCK), 0);
	ck_assert_int_eq(rig_write(&rig, 0, data, BLOCK), 0);
	replay = replay_open();
	ck_assert_uint_eq(replay.entries, 2);
	lowers[0] = top->ports[0].lower;
	lowers[1] = store;
	again = rig_node(&rig, &bt_writelog_class, "again", "", lowers, 2);
	replay = replay_open();
	ck_assert_uint_eq(replay.entries, 0);
	bt_node_destroy(again);
	teardown();
}
END_TEST

/* ---- hostile logs --------------------------------------------------------- */

struct memory_log {
	uint8_t *bytes;
	uint64_t size;
};

static int read_memory(void *opaque, uint64_t offset, void *data, size_t length)
{
	struct memory_log *log = opaque;

	ck_assert(offset <= log->size && length <= log->size - offset);
	memcpy(data, log->bytes + offset, length);
	return 0;
}

START_TEST(a_log_of_any_bytes_is_read_without_harm)
{
	struct memory_log log = { .size = 1 << 20 };
	struct bt_replay replay;
	uint8_t *whole = malloc(log.size);
	uint32_t i, k, opened = 0;

	setup("1M", NULL, false);
	memset(flat, 9, BLOCK);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(rig_write(&rig, i * BLOCK, flat, BLOCK), 0);
	flush();
	read_store(NULL, 0, whole, log.size);
	log.bytes = malloc(log.size);
	for (i = 0; i < 3000; i++) {
		memcpy(log.bytes, whole, log.size);
		for (k = 0; k < 1 + i % 4; k++) {
			uint64_t at = bt_chance(&random_state) % (96u << 10);

			/* the interesting bytes are those of headers */
			if (k & 1)
				at = at / BLOCK * BLOCK + at % 72;
			log.bytes[at] = (uint8_t)bt_chance(&random_state);
		}
		replay = (struct bt_replay){ .read = read_memory,
					     .opaque = &log,
					     .log_size = log.size };
		if (i % 3 == 0)
			replay.log_size = bt_chance(&random_state) % log.size;
		if (bt_replay_open(&replay))
			continue;
		opened++;
		ck_assert_uint_le(replay.entries, 9);
		make_image(&replay, replay.entries, BT_CUT_TORN);
	}
	ck_assert_uint_ge(opened, 1000);
	memset(log.bytes, 0, log.size);
	replay = (struct bt_replay){ .read = read_memory,
				     .opaque = &log,
				     .log_size = log.size };
	ck_assert_int_eq(bt_replay_open(&replay), -ENOENT);
	memset(log.bytes, 0xff, log.size);
	ck_assert_int_eq(bt_replay_open(&replay), -EUCLEAN);
	free(log.bytes);
	free(whole);
	teardown();
}
END_TEST

START_TEST(an_entry_that_cannot_be_is_none)
{
	static const unsigned char id[16] = "0123456789abcdef";
	static const struct bt_writelog_entry wrong[] = {
		{ 1, 1, 0, 512, BT_WRITELOG_WRITE, 0 },
		{ 2, 1, 0, 512, 0, 0 },
		{ 2, 1, 0, 512, 5, 0 },
		{ 2, 1, 0, 512, BT_WRITELOG_WRITE, 2 },
		{ 2, 1, DISK, 512, BT_WRITELOG_WRITE, 0 },
		{ 2, 1, UINT64_MAX - 100, 512, BT_WRITELOG_ZERO, 0 },
		{ 2, 1, 0, DISK, BT_WRITELOG_WRITE, 0 },
	};
	struct bt_writelog_entry entry = {
		2, 1, 512, 1024, BT_WRITELOG_WRITE, BT_WRITELOG_FUA
	};
	uint8_t block[BT_WRITELOG_BLOCK];
	size_t i;

	bt_writelog_encode(&entry, id, block);
	memset(&entry, 0, sizeof(entry));
	ck_assert_int_eq(bt_writelog_decode(&entry, id, DISK, block), 0);
	ck_assert(entry.sequence == 2 && entry.began == 1 &&
		  entry.offset == 512 && entry.length == 1024 &&
		  entry.kind == BT_WRITELOG_WRITE &&
		  entry.flags == BT_WRITELOG_FUA);
	ck_assert_int_eq(bt_writelog_decode(&entry,
					    (const uint8_t *)"another one ....",
					    DISK, block),
			 -EUCLEAN);
	for (i = 0; i < BT_ARRAY_SIZE(wrong); i++) {
		bt_writelog_encode(&wrong[i], id, block);
		ck_assert_int_eq(bt_writelog_decode(&entry, id, DISK, block),
				 -EUCLEAN);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("writelog");
	TCase *tc = tcase_create("writelog");

	tcase_set_timeout(tc, 60);
	tcase_add_test(
		tc,
		each_flush_boundary_can_be_made_again_and_each_point_between);
	tcase_add_test(
		tc,
		a_client_that_flushes_is_safe_and_one_whose_flushes_are_lost_is_not);
	tcase_add_test(tc, a_fua_write_is_durable_by_itself);
	tcase_add_test(tc, a_full_store_fails_writes_and_keeps_a_whole_log);
	tcase_add_test(tc, a_store_that_takes_no_entry_is_refused);
	tcase_add_test(tc, an_entry_is_no_larger_than_the_store_takes);
	tcase_add_test(tc, a_new_opening_is_a_new_log);
	tcase_add_loop_test(tc, what_is_below_the_store_hears_of_the_last_flush,
			    0, 2);
	tcase_add_test(tc, a_log_of_any_bytes_is_read_without_harm);
	tcase_add_test(tc, an_entry_that_cannot_be_is_none);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
