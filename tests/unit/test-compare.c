/* SPDX-License-Identifier: BSD-3-Clause */
/* compare: two disks that are the same are one; where they are not, it says so. */
#include "module.h"

#include "core/log.h"

#define KIB 1024u
#define DEPTH 48u

static struct rig rig;
static struct bt_log lines;
static char logged[4096];
static uint8_t memory[65536];
static struct bt_node *top, *rams[2];

static void on_line(void *opaque, enum blktap_log_level level, const char *text)
{
	snprintf(logged, sizeof(logged), "%s", text);
}

/* Two ram disks under compare; b with those rules, and both with delays. */
static void setup(const char *args, const char *rules, bool slow)
{
	struct bt_node *legs[2];
	char text[128];
	int i;

	rig_init(&rig);
	bt_log_init(&lines);
	bt_log_set(&lines, BLKTAP_LOG_DEBUG, on_line, NULL, NULL);
	rig.env.log = &lines;
	*logged = '\0';
	for (i = 0; i < 2; i++)
		legs[i] = rams[i] = rig_ram(&rig, i ? "right" : "left", "1M");
	snprintf(text, sizeof(text), "rules=%s", rules ? rules : "");
	if (rules)
		legs[1] = rig_node(&rig, &bt_fault_class, "bad", text, &legs[1],
				   1);
	for (i = 0; slow && i < 2; i++)
		legs[i] = rig_node(&rig, &bt_delay_class, "slow",
				   i ? "max=9ms seed=5" : "max=9ms seed=6",
				   &legs[i], 1);
	top = rig_node(&rig, &bt_compare_class, "both", args, legs, 2);
	rig_top(&rig, top);
}

static void teardown(void)
{
	rig_fini(&rig);
	bt_log_fini(&lines);
}

static uint64_t mismatches(void)
{
	char text[32] = "";

	ck_assert(top->cls->get_value(top, "mismatches", text, sizeof(text)));
	return strtoull(text, NULL, 10);
}

START_TEST(what_is_written_is_on_both_and_read_once)
{
	uint8_t got[8192];

	setup("on_mismatch=error", NULL, false);
	memset(memory, 0x77, 8192);
	ck_assert_int_eq(rig_write(&rig, 4096, memory, 8192), 0);
	ck_assert_int_eq(rig_flush(&rig), 0);
	ck_assert_int_eq(rig_read(&rig, 4096, got, 8192), 0);
	ck_assert_int_eq(memcmp(memory, got, 8192), 0);
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_WRITE_ZEROES, 0, 4096, NULL, 4096), 0);
	ck_assert_int_eq(rig_read(&rig, 4096, got, 8192), 0);
	ck_assert(!got[0] && !got[4095] && got[4096] == 0x77);
	ck_assert_uint_eq(rams[0]->stats.completed[BLKTAP_OP_WRITE], 1);
	ck_assert_uint_eq(rams[1]->stats.completed[BLKTAP_OP_WRITE], 1);
	ck_assert_uint_eq(rams[1]->stats.completed[BLKTAP_OP_READ], 2);
	ck_assert_uint_eq(mismatches(), 0);
	/* what a discard leaves may differ, so there are none */
	ck_assert(!(top->limits.operations >> BLKTAP_OP_DISCARD & 1u));
	teardown();
}
END_TEST

START_TEST(data_that_differ_are_told_by_their_first_byte)
{
	setup("on_mismatch=error", "write\ttorn\tafter=1\ttimes=1", false);
	memset(memory, 1, sizeof(memory));
	ck_assert_int_eq(rig_write(&rig, 0, memory, 65536), 0);
	memset(memory, 2, sizeof(memory));
	ck_assert_int_eq(rig_write(&rig, 0, memory, 65536), -EILSEQ);
	ck_assert_ptr_nonnull(
		strstr(logged, "both: errors of 'left' and 'bad' differ at 0"));
	ck_assert_int_eq(rig_read(&rig, 0, memory, 65536), -EILSEQ);
	ck_assert_ptr_nonnull(strstr(logged, "both: data of 'left' and 'bad'"));
	ck_assert_uint_eq(mismatches(), 2);
	teardown();
}
END_TEST

START_TEST(a_single_bit_is_found)
{
	uint64_t at;
	char *told;

	setup("on_mismatch=error", "read\tcorrupt", false);
	ck_assert_int_eq(rig_read(&rig, 8192, memory, 4096), -EILSEQ);
	told = strstr(logged, "differ at ");
	ck_assert_ptr_nonnull(told);
	at = strtoull(told + strlen("differ at "), NULL, 10);
	ck_assert(at >= 8192 && at < 12288);
	teardown();
}
END_TEST

START_TEST(a_mismatch_may_be_told_alone)
{
	setup("on_mismatch=log", "read\tcorrupt\nwrite\tEIO", false);
	ck_assert_int_eq(rig_read(&rig, 0, memory, 4096), 0);
	ck_assert_uint_eq(mismatches(), 1);
	ck_assert_int_eq(rig_write(&rig, 0, memory, 4096), 0);
	ck_assert_uint_eq(mismatches(), 2);
	teardown();
}
END_TEST

START_TEST(the_same_error_on_both_is_an_error_and_no_mismatch)
{
	struct bt_node *legs[2];
	int i;

	setup("on_mismatch=error", NULL, false);
	teardown();
	rig_init(&rig);
	for (i = 0; i < 2; i++) {
		legs[i] = rig_ram(&rig, "ram", "1M");
		legs[i] = rig_node(&rig, &bt_fault_class, "bad",
				   "rules=any\tENOSPC", &legs[i], 1);
	}
	top = rig_node(&rig, &bt_compare_class, "both", "", legs, 2);
	rig_top(&rig, top);
	ck_assert_int_eq(rig_write(&rig, 0, memory, 4096), -ENOSPC);
	ck_assert_int_eq(rig_read(&rig, 0, memory, 4096), -ENOSPC);
	ck_assert_uint_eq(mismatches(), 0);
	rig_fini(&rig);
	bt_log_init(&lines);
}
END_TEST

struct many {
	struct bt_request *req;
	struct iovec iov;
	uint8_t data[8192];
	bool done;
};

/* More than there are buffers, overlapping, on disks that reorder: the order of
 * those that overlap is the same on both. */
START_TEST(overlapping_requests_never_make_a_mismatch)
{
	struct many *many = calloc(DEPTH, sizeof(*many));
	uint64_t random = 11;
	uint32_t i, round;

	setup("on_mismatch=error", NULL, true);
	for (round = 0; round < 20; round++) {
		for (i = 0; i < DEPTH; i++) {
			uint64_t r = random = random * 6364136223846793005u + 1;
			struct bt_request *req = bt_pool_take(rig.pool);

			many[i].req = req;
			many[i].done = false;
			many[i].iov.iov_base = many[i].data;
			many[i].iov.iov_len = sizeof(many[i].data);
			memset(many[i].data, (int)(r >> 40),
			       sizeof(many[i].data));
			req->op =
				r >> 33 & 1 ? BLKTAP_OP_WRITE : BLKTAP_OP_READ;
			req->offset = (r >> 50) % 8 * 4096;
			req->length = 4096 + (r >> 60) % 2 * 4096;
			req->data = (struct bt_sgl){ .iov = &many[i].iov,
						     .count = 1 };
			req->opaque = &many[i].done;
			bt_port_submit(&rig.top, req);
		}
		for (i = 0; i < DEPTH; i++) {
			while (!many[i].done) {
				bt_loop_advance(rig.env.loop, 1000000);
				ck_assert_int_eq(bt_loop_turn(rig.env.loop, 0),
						 0);
			}
			ck_assert_int_eq(many[i].req->error, 0);
			bt_pool_give(many[i].req);
		}
	}
	ck_assert_uint_eq(mismatches(), 0);
	teardown();
	free(many);
}
END_TEST

/* A file system may not have them, and the other's may. */
START_TEST(zeroes_that_one_cannot_make_are_no_mismatch)
{
	setup("on_mismatch=error", "zero\tENOTSUP", false);
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_WRITE_ZEROES, 0, 4096, NULL, 4096),
		-ENOTSUP);
	ck_assert_uint_eq(mismatches(), 0);
	teardown();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("compare");
	TCase *tc = tcase_create("compare");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, what_is_written_is_on_both_and_read_once);
	tcase_add_test(tc, data_that_differ_are_told_by_their_first_byte);
	tcase_add_test(tc, a_single_bit_is_found);
	tcase_add_test(tc, a_mismatch_may_be_told_alone);
	tcase_add_test(tc, the_same_error_on_both_is_an_error_and_no_mismatch);
	tcase_add_test(tc, zeroes_that_one_cannot_make_are_no_mismatch);
	tcase_add_test(tc, overlapping_requests_never_make_a_mismatch);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
