/* SPDX-License-Identifier: BSD-3-Clause */
#include "module.h"

#define NS_PER_S 1000000000ull
#define MANY 32u

/* Many requests at once, and when each of them came back. */
struct flood {
	struct rig *rig;
	struct bt_request *reqs[MANY];
	struct iovec iov;
	char memory[65536];
	uint64_t ended_ns[MANY];
	uint32_t order[MANY];
	uint32_t count;
};

static void flood_done(struct bt_port *port, struct bt_request *req)
{
	struct flood *flood = req->opaque;
	uint32_t i;

	for (i = 0; flood->reqs[i] != req; i++)
		;
	ck_assert_int_eq(req->error, 0);
	flood->ended_ns[i] = bt_loop_now(port->env->loop);
	flood->order[flood->count++] = i;
	flood->reqs[i] = NULL;
	bt_pool_give(req);
}

static void flood_on(struct flood *flood, struct rig *rig, struct bt_port *port,
		     uint32_t count, uint64_t length)
{
	uint32_t i;

	flood->rig = rig;
	port->done = flood_done;
	flood->iov.iov_base = flood->memory;
	flood->iov.iov_len = sizeof(flood->memory);
	for (i = 0; i < count; i++)
		flood->reqs[i] = bt_pool_take(rig->pool);
	for (i = 0; i < count; i++) {
		struct bt_request *req = flood->reqs[i];

		req->op = BLKTAP_OP_READ;
		req->offset = i * length;
		req->length = length;
		req->data = (struct bt_sgl){ .iov = &flood->iov, .count = 1 };
		req->opaque = flood;
		bt_port_submit(port, req);
	}
}

static void flood_start(struct flood *flood, struct rig *rig, uint32_t count,
			uint64_t length)
{
	flood_on(flood, rig, &rig->top, count, length);
}

/* The clock goes on in steps of a millisecond. */
static void pass_time(struct rig *rig, uint64_t ns)
{
	uint64_t step;

	for (step = 0; step < ns; step += NS_PER_S / 1000) {
		bt_loop_advance(rig->env.loop, NS_PER_S / 1000);
		ck_assert_int_eq(bt_loop_turn(rig->env.loop, 0), 0);
	}
}

static struct bt_node *make(struct rig *rig, const char *args)
{
	struct bt_node *ram, *node;

	rig_init(rig);
	ram = rig_ram(rig, "ram", "16M");
	node = rig_node(rig, &bt_throttle_class, "t", args, &ram, 1);
	rig_top(rig, node);
	return node;
}

static uint64_t value(struct bt_node *node, const char *name)
{
	char text[32];

	ck_assert(node->cls->get_value(node, name, text, sizeof(text)));
	return strtoull(text, NULL, 10);
}

static void set(struct bt_node *node, const char *name, const char *text)
{
	struct bt_args *args;

	ck_assert_int_eq(bt_args_create(node->cls, &args), 0);
	ck_assert_int_eq(bt_args_set(args, name, text, NULL), 0);
	node->cls->reconfigure(node, args);
	bt_args_destroy(args);
}

START_TEST(requests_beyond_the_rate_wait_for_their_time_in_order)
{
	struct flood flood = { 0 };
	struct bt_node *node;
	struct rig rig;
	uint64_t start;
	uint32_t i;

	/* 10 a second, 4 at once: the burst of 300 ms and the one that tips it */
	node = make(&rig, "iops=10 burst=300ms");
	start = bt_loop_now(rig.env.loop);
	flood_start(&flood, &rig, 10, 512);
	ck_assert_uint_eq(flood.count, 4);
	ck_assert_uint_eq(value(node, "queued"), 6);
	pass_time(&rig, NS_PER_S);
	ck_assert_uint_eq(flood.count, 10);
	for (i = 0; i < 10; i++)
		ck_assert_uint_eq(flood.order[i], i);
	for (i = 4; i < 10; i++)
		ck_assert_uint_eq((flood.ended_ns[i] - start) / (NS_PER_S / 10),
				  i - 3);
	ck_assert_uint_eq(value(node, "queued"), 0);
	ck_assert_uint_eq(value(node, "delayed"), 6);
	rig_fini(&rig);
}
END_TEST

START_TEST(bytes_are_paid_for_behind_a_request_larger_than_the_burst)
{
	struct flood flood = { 0 };
	struct rig rig;
	uint64_t start;

	make(&rig, "bytes=64k/s burst=1ms");
	start = bt_loop_now(rig.env.loop);
	flood_start(&flood, &rig, 3, 65536); /* each takes a second */
	ck_assert_uint_eq(flood.count, 1);
	pass_time(&rig, 3 * NS_PER_S);
	ck_assert_uint_eq(flood.count, 3);
	ck_assert_uint_eq((flood.ended_ns[2] - start) / (NS_PER_S / 100),
			  199); /* less the burst */
	rig_fini(&rig);
}
END_TEST

START_TEST(without_limits_nothing_waits)
{
	struct flood flood = { 0 };
	struct bt_node *node;
	struct rig rig;

	node = make(&rig, "");
	flood_start(&flood, &rig, MANY, 4096);
	ck_assert_uint_eq(flood.count, MANY);
	ck_assert_uint_eq(value(node, "delayed"), 0);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_flush_does_not_wait_for_what_is_queued)
{
	struct flood flood = { 0 };
	struct rig rig;
	uint32_t before;

	make(&rig, "iops=1 burst=1us");
	flood_start(&flood, &rig, 4, 512);
	before = flood.count;
	rig.top.done = rig_done;
	ck_assert_int_eq(rig_flush(&rig), 0);
	ck_assert_uint_eq(flood.count, before);
	rig.top.done = flood_done;
	pass_time(&rig, 4 * NS_PER_S);
	ck_assert_uint_eq(flood.count, 4);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_new_rate_holds_for_what_waits)
{
	struct flood flood = { 0 };
	struct bt_node *node;
	struct rig rig;

	node = make(&rig, "iops=1 burst=1us");
	flood_start(&flood, &rig, 11, 512);
	ck_assert_uint_eq(flood.count, 1);
	set(node, "iops", "100");
	/* what had passed is paid for at the new rate too: 10 ms, not 1 s */
	pass_time(&rig, NS_PER_S / 9);
	ck_assert_uint_eq(flood.count, 11);
	rig_fini(&rig);
}
END_TEST

START_TEST(a_limit_taken_away_lets_all_go_at_once)
{
	struct flood flood = { 0 };
	struct bt_node *node;
	struct rig rig;

	node = make(&rig, "iops=1 bytes=1/s");
	flood_start(&flood, &rig, MANY, 512);
	ck_assert_uint_lt(flood.count, MANY);
	set(node, "iops", "0");
	ck_assert_uint_eq(flood.count, MANY);
	rig_fini(&rig);
}
END_TEST

START_TEST(rates_at_the_edge_of_the_numbers_do_not_wrap)
{
	struct flood flood = { 0 };
	struct bt_node *node;
	struct rig rig;

	node = make(&rig, "bytes=1/s burst=1h iops=16777215T/s");
	flood_start(&flood, &rig, 4, 65536);
	ck_assert_uint_eq(flood.count, 1); /* 18 hours */
	set(node, "bytes", "16777215T/s");
	pass_time(&rig, NS_PER_S / 100);
	ck_assert_uint_eq(flood.count, 4);
	rig_fini(&rig);
}
END_TEST

/* ---- groups ---------------------------------------------------------------- */

struct pair {
	struct rig rig; /* of the first one */
	struct bt_node *second;
	struct bt_port top;
	struct flood floods[2];
};

/* Two throttles, over a RAM disk each. */
static void make_pair(struct pair *pair, const char *first, const char *second)
{
	struct bt_node *ram, *node;

	memset(pair, 0, sizeof(*pair));
	rig_init(&pair->rig);
	ram = rig_ram(&pair->rig, "r0", "16M");
	node = rig_node(&pair->rig, &bt_throttle_class, "t0", first, &ram, 1);
	rig_top(&pair->rig, node);
	ram = rig_ram(&pair->rig, "r1", "16M");
	pair->second =
		rig_node(&pair->rig, &bt_throttle_class, "t1", second, &ram, 1);
	bt_port_init(&pair->top, &pair->rig.env, NULL, "top");
	bt_port_link(&pair->top, pair->second);
}

static void flood_pair(struct pair *pair, uint32_t first, uint32_t second)
{
	flood_on(&pair->floods[0], &pair->rig, &pair->rig.top, first, 512);
	flood_on(&pair->floods[1], &pair->rig, &pair->top, second, 512);
}

static void free_pair(struct pair *pair)
{
	bt_port_link(&pair->top, NULL);
	bt_node_destroy(pair->second);
	rig_fini(&pair->rig);
}

START_TEST(a_group_has_one_budget_and_its_throttles_take_turns)
{
	struct pair pair;

	/* 20 a second and no burst: one at once, and 20 in the next second */
	make_pair(&pair, "iops=20 burst=1us group=g", "group=g");
	flood_pair(&pair, 30, 10);
	ck_assert_uint_eq(pair.floods[0].count + pair.floods[1].count, 1);
	pass_time(&pair.rig, NS_PER_S / 2);
	/* the second one does not wait for the 30 of the first */
	ck_assert_uint_eq(pair.floods[0].count + pair.floods[1].count, 11);
	ck_assert_uint_ge(pair.floods[1].count, 4);
	pass_time(&pair.rig, NS_PER_S / 2);
	ck_assert_uint_eq(pair.floods[0].count + pair.floods[1].count, 21);
	ck_assert_uint_ge(pair.floods[1].count, 9);
	/* what one does not use is the other's */
	pass_time(&pair.rig, NS_PER_S);
	ck_assert_uint_eq(pair.floods[0].count + pair.floods[1].count, 40);
	ck_assert_uint_eq(value(pair.second, "queued"), 0);
	free_pair(&pair);
}
END_TEST

START_TEST(throttles_of_other_groups_and_of_none_are_apart)
{
	static const char *const others[] = { "iops=20 burst=1us group=h",
					      "iops=20 burst=1us" };
	struct pair pair;

	make_pair(&pair, "iops=20 burst=1us group=g", others[_i]);
	flood_pair(&pair, 21, 21);
	pass_time(&pair.rig, NS_PER_S);
	ck_assert_uint_ge(pair.floods[0].count, 20);
	ck_assert_uint_ge(pair.floods[1].count, 20);
	pass_time(&pair.rig, NS_PER_S);
	free_pair(&pair);
}
END_TEST

START_TEST(a_rate_given_to_one_of_a_group_holds_for_all)
{
	struct pair pair;

	make_pair(&pair, "iops=1 burst=1us group=g", "group=g");
	flood_pair(&pair, 1, 11);
	ck_assert_uint_eq(pair.floods[1].count, 0);
	set(pair.rig.root, "iops", "100");
	pass_time(&pair.rig, NS_PER_S / 8);
	ck_assert_uint_eq(pair.floods[1].count, 11);
	/* one that says nothing of rates leaves them as they are */
	set(pair.second, "burst", "1us");
	pair.floods[1].count = 0;
	flood_pair(&pair, 0, 22);
	ck_assert_uint_lt(pair.floods[1].count, 22);
	pass_time(&pair.rig, NS_PER_S / 8);
	ck_assert_uint_eq(pair.floods[1].count, 22);
	free_pair(&pair);
}
END_TEST

START_TEST(a_group_lives_as_long_as_one_is_in_it)
{
	struct bt_node *ram;
	struct pair pair;

	make_pair(&pair, "group=g", "iops=1 burst=1us group=g");
	bt_port_link(&pair.top, NULL);
	bt_node_destroy(pair.second);
	/* the limit stays with who is left, and goes with the last */
	flood_pair(&pair, 3, 0);
	ck_assert_uint_eq(pair.floods[0].count, 1);
	pass_time(&pair.rig, 3 * NS_PER_S);
	ck_assert_uint_eq(pair.floods[0].count, 3);
	bt_port_link(&pair.rig.top, NULL);
	bt_node_destroy(pair.rig.root);
	ram = rig_ram(&pair.rig, "r", "16M");
	pair.rig.root = rig_node(&pair.rig, &bt_throttle_class, "t", "group=g",
				 &ram, 1);
	bt_port_link(&pair.rig.top, pair.rig.root);
	pair.floods[0].count = 0;
	flood_pair(&pair, MANY, 0);
	ck_assert_uint_eq(pair.floods[0].count, MANY);
	rig_fini(&pair.rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("throttle");
	TCase *tc = tcase_create("throttle");

	tcase_add_test(tc,
		       requests_beyond_the_rate_wait_for_their_time_in_order);
	tcase_add_test(
		tc, bytes_are_paid_for_behind_a_request_larger_than_the_burst);
	tcase_add_test(tc, without_limits_nothing_waits);
	tcase_add_test(tc, a_flush_does_not_wait_for_what_is_queued);
	tcase_add_test(tc, a_new_rate_holds_for_what_waits);
	tcase_add_test(tc, a_limit_taken_away_lets_all_go_at_once);
	tcase_add_test(tc, rates_at_the_edge_of_the_numbers_do_not_wrap);
	tcase_add_test(tc, a_group_has_one_budget_and_its_throttles_take_turns);
	tcase_add_loop_test(tc, throttles_of_other_groups_and_of_none_are_apart,
			    0, 2);
	tcase_add_test(tc, a_rate_given_to_one_of_a_group_holds_for_all);
	tcase_add_test(tc, a_group_lives_as_long_as_one_is_in_it);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
