/* SPDX-License-Identifier: BSD-3-Clause */
/* The modules that make trouble for tests, and the one that rides it out: delay,
 * fault, log, retry. */
#include "module.h"

#include <sys/uio.h>

#include "core/log.h"
#include "module/fault.h"

#define MS 1000000ull
#define KIB 1024u

static struct rig rig;
static struct bt_log lines;
static char logged[4096];
static uint8_t memory[65536];

static void on_line(void *opaque, enum blktap_log_level level, const char *text)
{
	size_t n = strlen(logged);

	snprintf(logged + n, sizeof(logged) - n, "%s\n", text);
}

static void setup(void)
{
	rig_init(&rig);
	bt_log_init(&lines);
	bt_log_set(&lines, BLKTAP_LOG_DEBUG, on_line, NULL, NULL);
	rig.env.log = &lines;
	*logged = '\0';
	bt_loop_advance(rig.env.loop, MS);
}

static void teardown(void)
{
	rig_fini(&rig);
	bt_log_fini(&lines);
}

/* cls over a ram disk, or over fault with those rules over it. */
static struct bt_node *stack(const struct blktap_class *cls, const char *args,
			     const char *rules)
{
	struct bt_node *lower = rig_ram(&rig, "ram", "1M"), *top;
	char text[256];

	if (rules) {
		snprintf(text, sizeof(text), "rules=%s", rules);
		lower = rig_node(&rig, &bt_fault_class, "bad", text, &lower, 1);
	}
	top = rig_node(&rig, cls, "top", args, &lower, 1);
	rig_top(&rig, top);
	return top;
}

static uint64_t value(const struct bt_node *node, const char *name)
{
	char text[32] = "";

	ck_assert(node->cls->get_value(node, name, text, sizeof(text)));
	return strtoull(text, NULL, 10);
}

/* One request that is not waited for. */
static struct bt_request *begin(enum blktap_op op, uint64_t offset,
				uint64_t length, bool *done)
{
	static struct iovec iov = { memory, sizeof(memory) };
	struct bt_request *req = bt_pool_take(rig.pool);

	*done = false;
	req->op = op;
	req->offset = offset;
	req->length = length;
	req->data = (struct bt_sgl){ .iov = &iov, .count = 1 };
	req->opaque = done;
	bt_port_submit(&rig.top, req);
	return req;
}

static void pass(uint64_t ns)
{
	bt_loop_advance(rig.env.loop, ns);
	ck_assert_int_eq(bt_loop_turn(rig.env.loop, 0), 0);
}

/* ---- delay ---------------------------------------------------------------- */

START_TEST(delay_keeps_each_request_its_time_and_no_longer)
{
	struct bt_request *req;
	struct bt_node *node;
	bool done;

	setup();
	node = stack(&bt_delay_class, "min=5ms what=reads", NULL);
	req = begin(BLKTAP_OP_READ, 0, 4096, &done);
	pass(5 * MS - 1);
	ck_assert(!done);
	ck_assert_uint_eq(value(node, "waiting"), 1);
	pass(1);
	ck_assert(done);
	ck_assert_int_eq(req->error, 0);
	bt_pool_give(req);
	req = begin(BLKTAP_OP_WRITE, 0, 4096, &done);
	ck_assert(done);
	bt_pool_give(req);
	teardown();
}
END_TEST

START_TEST(delays_within_bounds_let_requests_overtake)
{
	struct bt_request *reqs[32];
	bool done[32], overtaken = false;
	uint32_t i, ended = 0;
	uint64_t ms;

	setup();
	stack(&bt_delay_class, "min=2ms max=20ms seed=7", NULL);
	for (i = 0; i < 32; i++)
		reqs[i] = begin(BLKTAP_OP_WRITE, i * 4096, 4096, &done[i]);
	for (ms = 1; ms <= 20; ms++) {
		pass(MS);
		for (i = 0, ended = 0; i < 32; i++) {
			ended += done[i];
			overtaken |= i && done[i] && !done[i - 1];
		}
		ck_assert(ms >= 2 || !ended);
	}
	ck_assert_uint_eq(ended, 32);
	ck_assert(overtaken);
	for (i = 0; i < 32; i++)
		bt_pool_give(reqs[i]);
	teardown();
}
END_TEST

/* ---- retry ---------------------------------------------------------------- */

START_TEST(retry_hides_what_passes_in_time)
{
	struct bt_request *req;
	struct bt_node *node;
	bool done;

	setup();
	node = stack(&bt_retry_class, "for=1s", "write\tEIO\ttimes=3");
	memset(memory, 0x5a, 4096);
	req = begin(BLKTAP_OP_WRITE, 4096, 4096, &done);
	pass(10 * MS);
	pass(20 * MS);
	ck_assert(!done);
	pass(40 * MS);
	ck_assert(done);
	ck_assert_int_eq(req->error, 0);
	ck_assert_ptr_null(req->failed);
	bt_pool_give(req);
	ck_assert_uint_eq(value(node, "retries"), 3);
	memset(memory, 0, 4096);
	ck_assert_int_eq(rig_read(&rig, 4096, memory, 4096), 0);
	ck_assert_uint_eq(memory[4095], 0x5a);
	teardown();
}
END_TEST

START_TEST(retry_ends_after_its_time_with_the_error)
{
	struct bt_request *req;
	struct bt_node *node;
	bool done;
	int i;

	setup();
	node = stack(&bt_retry_class, "for=3s", "any\tETIMEDOUT");
	req = begin(BLKTAP_OP_READ, 0, 4096, &done);
	for (i = 0; i < 30 && !done; i++)
		pass(100 * MS);
	ck_assert(done);
	ck_assert_int_ge(i, 20);
	ck_assert_int_eq(req->error, -ETIMEDOUT);
	ck_assert_str_eq(req->failed->name, "bad");
	bt_pool_give(req);
	ck_assert_uint_eq(value(node, "given_up"), 1);
	ck_assert_uint_eq(value(node, "waiting"), 0);
	teardown();
}
END_TEST

START_TEST(retry_leaves_alone_what_does_not_pass)
{
	setup();
	stack(&bt_retry_class, "for=1h",
	      "write\tENOSPC\nread\tEINVAL\nflush\tEIO");
	ck_assert_int_eq(rig_write(&rig, 0, memory, 4096), -ENOSPC);
	ck_assert_int_eq(rig_read(&rig, 0, memory, 4096), -EINVAL);
	/* a second one could say that all is well */
	ck_assert_int_eq(rig_flush(&rig), -EIO);
	teardown();
}
END_TEST

/* ---- log ------------------------------------------------------------------ */

START_TEST(log_tells_what_came_of_each_request)
{
	setup();
	stack(&bt_log_class, "what=all", "read\tEIO");
	ck_assert_int_eq(
		rig_run(&rig, BLKTAP_OP_WRITE, BLKTAP_FUA, 4096, memory, 512),
		0);
	ck_assert_int_eq(rig_read(&rig, 0, memory, 1024), -EIO);
	ck_assert_str_eq(logged, "top: write 4096+512 fua in 0 us: done\n"
				 "top: read 0+1024 in 0 us: Input/output "
				 "error\n");
	teardown();
}
END_TEST

START_TEST(log_tells_what_it_was_asked_for_alone)
{
	setup();
	stack(&bt_log_class, "what=errors", "read\tEIO");
	ck_assert_int_eq(rig_write(&rig, 0, memory, 512), 0);
	ck_assert_str_eq(logged, "");
	ck_assert_int_eq(rig_read(&rig, 0, memory, 1024), -EIO);
	ck_assert_ptr_nonnull(strstr(logged, "read 0+1024"));
	teardown();
}
END_TEST

/* ---- fault ---------------------------------------------------------------- */

START_TEST(rules_are_read_as_they_are_written)
{
	struct bt_fault_rule r;

	ck_assert_int_eq(bt_fault_parse("write 1M..2M EIO p=1%", &r, NULL), 0);
	ck_assert_uint_eq(r.operations, BT_OPS_WRITING);
	ck_assert_uint_eq(r.start, 1u << 20);
	ck_assert_uint_eq(r.end, 2u << 20);
	ck_assert_int_eq(r.action, BT_FAULT_ERROR);
	ck_assert_int_eq(r.error, -EIO);
	ck_assert_uint_eq(r.ppm, 10000);
	ck_assert_int_eq(bt_fault_parse(" flush  lost after=100", &r, NULL), 0);
	ck_assert_uint_eq(r.operations, 1u << BLKTAP_OP_FLUSH);
	ck_assert_int_eq(r.action, BT_FAULT_LOST);
	ck_assert_uint_eq(r.after, 100);
	ck_assert_int_eq(bt_fault_parse("p=0.25% times=3 ENOSPC", &r, NULL), 0);
	ck_assert_uint_eq(r.operations, BT_OPS_ALL);
	ck_assert_uint_eq(r.ppm, 2500);
	ck_assert_uint_eq(r.times, 3);
	ck_assert_int_eq(bt_fault_parse("read delay=15ms", &r, NULL), 0);
	ck_assert_uint_eq(r.delay_ns, 15 * MS);
	ck_assert_int_eq(bt_fault_parse("corrupt", &r, NULL), 0);
	ck_assert_uint_eq(r.operations, 1u << BLKTAP_OP_READ);
}
END_TEST

START_TEST(a_wrong_rule_is_told_with_the_word)
{
	static const struct {
		const char *rule, *told;
	} wrong[] = {
		{ "", "does nothing" },
		{ "write 1M..2M", "does nothing" },
		{ "wirte EIO", "'wirte' is not known" },
		{ "write EFOO", "'EFOO' is not known" },
		{ "write 2M..1M EIO", "'2M..1M' is not a range" },
		{ "write 1M.. EIO", "'1M..' is not a range" },
		{ "write EIO lost", "'lost' is a second action" },
		{ "write EIO delay=1s", "'delay=1s' is a second action" },
		{ "write EIO p=101%", "'p=101%' has no valid value" },
		{ "write EIO p=5", "'p=5' has no valid value" },
		{ "write EIO p=0%", "'p=0%' has no valid value" },
		{ "write EIO after=-1", "'after=-1' has no valid value" },
		{ "write EIO times=x", "'times=x' has no valid value" },
		{ "write delay=5", "'delay=5' has no valid value" },
		{ "read lost", "cannot be treated" },
		{ "flush torn", "cannot be treated" },
		{ "write corrupt", "cannot be treated" },
		{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "too long" },
	};
	struct bt_fault_rule r;
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(wrong); i++) {
		struct blktap_error *err = NULL;

		ck_assert_int_eq(bt_fault_parse(wrong[i].rule, &r, &err),
				 -EINVAL);
		ck_assert_msg(strstr(blktap_error_get_message(err),
				     wrong[i].told) != NULL,
			      "%s", blktap_error_get_message(err));
		blktap_error_destroy(err);
	}
}
END_TEST

START_TEST(errors_hit_their_range_and_count)
{
	struct bt_node *node;

	setup();
	node = stack(&bt_fault_class,
		     "rules=write\t64k..128k\tENOSPC\tafter=1\ttimes=2", NULL);
	ck_assert_int_eq(rig_write(&rig, 60 * KIB, memory, 4096), 0);
	ck_assert_int_eq(rig_write(&rig, 128 * KIB, memory, 4096), 0);
	ck_assert_int_eq(rig_write(&rig, 60 * KIB, memory, 4097), 0);
	ck_assert_int_eq(rig_write(&rig, 60 * KIB, memory, 4097), -ENOSPC);
	ck_assert_int_eq(rig_read(&rig, 64 * KIB, memory, 4096), 0);
	ck_assert_int_eq(rig_write(&rig, 127 * KIB, memory, 4096), -ENOSPC);
	ck_assert_int_eq(rig_write(&rig, 127 * KIB, memory, 4096), 0);
	ck_assert_uint_eq(value(node, "applied"), 2);
	teardown();
}
END_TEST

START_TEST(a_lost_write_is_said_to_be_there_and_is_not)
{
	setup();
	stack(&bt_fault_class, "rules=write\tlost\tafter=1", NULL);
	memset(memory, 1, 4096);
	ck_assert_int_eq(rig_write(&rig, 0, memory, 4096), 0);
	memset(memory, 2, 4096);
	ck_assert_int_eq(rig_write(&rig, 0, memory, 4096), 0);
	ck_assert_int_eq(rig_read(&rig, 0, memory, 4096), 0);
	ck_assert_uint_eq(memory[0], 1);
	teardown();
}
END_TEST

START_TEST(a_torn_write_fails_with_its_first_blocks_written)
{
	uint32_t i, blocks, most = 0, least = 16;

	setup();
	stack(&bt_fault_class, "rules=write\ttorn\tafter=1 seed=3", NULL);
	memset(memory, 0, 8192);
	ck_assert_int_eq(rig_write(&rig, 0, memory, 8192), 0);
	for (i = 1; i < 64; i++) {
		memset(memory, (int)i, 8192);
		ck_assert_int_eq(rig_write(&rig, 0, memory, 8192), -EIO);
		ck_assert_int_eq(rig_read(&rig, 0, memory, 8192), 0);
		for (blocks = 0; blocks < 16 && memory[blocks * 512] == i;
		     blocks++)
			ck_assert_uint_eq(memory[blocks * 512 + 511], i);
		most = blocks > most ? blocks : most;
		least = blocks < least ? blocks : least;
	}
	ck_assert_uint_eq(most, 15);
	ck_assert_uint_eq(least, 0);
	teardown();
}
END_TEST

static const struct bt_port_desc watch_ports[] = { { .name = "lower" },
						   { .name = NULL } };

static void watch_submit(struct bt_node *node, struct bt_request *req)
{
	bt_port_submit(&node->ports[0], req);
}

static void watch_complete(struct bt_node *node, struct bt_port *port,
			   struct bt_request *req)
{
	ck_assert_uint_eq(req->length, 8192);
	bt_request_complete(req, req->error);
}

static const struct blktap_class watch_class = {
	.name = "watch",
	.ports = watch_ports,
	.operations = BT_OPS_ALL,
	.submit = watch_submit,
	.complete = watch_complete,
};

/* A crypt finds the buffer's pool by it, for one. */
START_TEST(a_torn_write_comes_back_as_long_as_it_went)
{
	uint32_t i;

	setup();
	stack(&watch_class, "", "write\ttorn");
	for (i = 1; i < 64; i++)
		ck_assert_int_eq(rig_write(&rig, 0, memory, 8192), -EIO);
	teardown();
}
END_TEST

START_TEST(a_corrupt_read_differs_in_one_bit)
{
	uint32_t i, bits = 0;

	setup();
	stack(&bt_fault_class, "rules=read\tcorrupt", NULL);
	ck_assert_int_eq(rig_read(&rig, 0, memory, 4096), 0);
	for (i = 0; i < 4096; i++)
		bits += (uint32_t)__builtin_popcount(memory[i]);
	ck_assert_uint_eq(bits, 1);
	teardown();
}
END_TEST

/* About one in ten, and the same ones for the same seed. */
START_TEST(chance_is_fair_and_repeats)
{
	uint32_t run, i, failed[2] = { 0, 0 };
	uint8_t first[1000];

	for (run = 0; run < 2; run++) {
		setup();
		stack(&bt_fault_class, "rules=read\tEIO\tp=10% seed=99", NULL);
		for (i = 0; i < 1000; i++) {
			int rc = rig_read(&rig, 0, memory, 512);

			failed[run] += rc != 0;
			if (run)
				ck_assert_uint_eq(first[i], rc != 0);
			first[i] = rc != 0;
		}
		teardown();
	}
	ck_assert_uint_ge(failed[0], 60);
	ck_assert_uint_le(failed[0], 140);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("trouble");
	TCase *tc = tcase_create("trouble");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, delay_keeps_each_request_its_time_and_no_longer);
	tcase_add_test(tc, delays_within_bounds_let_requests_overtake);
	tcase_add_test(tc, retry_hides_what_passes_in_time);
	tcase_add_test(tc, retry_ends_after_its_time_with_the_error);
	tcase_add_test(tc, retry_leaves_alone_what_does_not_pass);
	tcase_add_test(tc, log_tells_what_came_of_each_request);
	tcase_add_test(tc, log_tells_what_it_was_asked_for_alone);
	tcase_add_test(tc, rules_are_read_as_they_are_written);
	tcase_add_test(tc, a_wrong_rule_is_told_with_the_word);
	tcase_add_test(tc, errors_hit_their_range_and_count);
	tcase_add_test(tc, a_lost_write_is_said_to_be_there_and_is_not);
	tcase_add_test(tc, a_torn_write_fails_with_its_first_blocks_written);
	tcase_add_test(tc, a_torn_write_comes_back_as_long_as_it_went);
	tcase_add_test(tc, a_corrupt_read_differs_in_one_bit);
	tcase_add_test(tc, chance_is_fair_and_repeats);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
