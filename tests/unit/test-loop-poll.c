/* SPDX-License-Identifier: BSD-3-Clause */
/* Looking for a moment before sleep: what it finds, when it stops, and that no
 * timer is late for it. */
#include "loop-bench.h"

#include "loop/private.h"

/* So long that no machine is too slow for what the tests do meanwhile. */
#define LIMIT_NS (20000 * MS)

/* The tests run on one processor as well. */
static void allow(uint64_t limit_ns)
{
	bt_loop_set_poll(loop, limit_ns);
	loop->poll_limit_ns = limit_ns;
}

START_TEST(a_turn_that_expects_finds_what_comes_while_it_looks)
{
	struct source *s = source_create();

	allow(LIMIT_NS);
	loop->poll_ns = LIMIT_NS;
	bt_loop_expect(loop);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	ck_assert_int_eq(s->calls, 1);
	/* It did not have to block, so there is nothing to learn. */
	ck_assert_uint_eq(loop->poll_ns, LIMIT_NS);
	source_destroy(s);
}
END_TEST

static void *wake_later(void *opaque)
{
	struct timespec ts = { .tv_nsec = 2 * (long)MS };

	nanosleep(&ts, NULL);
	bt_loop_wake(opaque);
	return NULL;
}

static void turn_until_woken(void)
{
	pthread_t thread;

	bt_loop_expect(loop);
	ck_assert_int_eq(pthread_create(&thread, NULL, wake_later, loop), 0);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

START_TEST(a_wake_ends_the_look_as_it_ends_a_sleep)
{
	uint64_t begin = real_ms();

	allow(LIMIT_NS);
	loop->poll_ns = LIMIT_NS;
	turn_until_woken();
	ck_assert_uint_lt(real_ms() - begin, LIMIT_NS / MS);
}
END_TEST

/* One that was woken before it began has learnt nothing. */
static void turn_that_learns(void)
{
	uint64_t was = loop->poll_ns;
	int i;

	for (i = 0; i < 50 && loop->poll_ns == was; i++)
		turn_until_woken();
}

START_TEST(waits_that_end_soon_make_it_look_longer_and_long_ones_not_at_all)
{
	uint64_t first;

	allow(LIMIT_NS);
	turn_that_learns();
	first = loop->poll_ns;
	ck_assert_uint_gt(first, 0);
	turn_that_learns();
	ck_assert_uint_eq(loop->poll_ns, 2 * first);
	allow(1);
	loop->poll_ns = 1;
	turn_that_learns();
	ck_assert_uint_eq(loop->poll_ns, 0);
}
END_TEST

START_TEST(it_never_looks_longer_than_the_limit)
{
	allow(100);
	bt_poll_learn(loop, 50);
	ck_assert_uint_eq(loop->poll_ns, 100);
	bt_poll_learn(loop, 50);
	ck_assert_uint_eq(loop->poll_ns, 100);
}
END_TEST

START_TEST(a_turn_that_expects_nothing_does_not_look)
{
	allow(LIMIT_NS);
	turn_until_woken();
	loop->poll_ns = 0;
	ck_assert(!bt_poll_fits(loop, UINT64_MAX));
	bt_loop_expect(loop);
	ck_assert(bt_poll_fits(loop, UINT64_MAX));
	ck_assert(!bt_poll_fits(loop, UINT64_MAX));
}
END_TEST

START_TEST(a_timer_that_is_near_or_a_limit_of_the_caller_leaves_no_time_to_look)
{
	struct alarm alarm;

	allow(LIMIT_NS);
	loop->poll_ns = LIMIT_NS;
	alarm_init(&alarm, 1);
	ck_assert_int_eq(bt_timer_arm(loop, &alarm.timer,
				      bt_loop_refresh(loop) + 5 * MS),
			 0);
	bt_loop_expect(loop);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	ck_assert_int_eq(alarm.calls, 1);
	bt_loop_expect(loop);
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
	bt_loop_expect(loop);
	ck_assert_int_eq(bt_loop_turn(loop, 1), 0);
}
END_TEST

START_TEST(a_far_timer_ends_the_look)
{
	struct alarm alarm;

	allow(10 * MS);
	loop->poll_ns = 10 * MS;
	alarm_init(&alarm, 1);
	ck_assert_int_eq(bt_timer_arm(loop, &alarm.timer,
				      bt_loop_refresh(loop) + 50 * MS),
			 0);
	while (!alarm.calls) {
		bt_loop_expect(loop);
		ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	}
}
END_TEST

/* A wait that looked for the whole limit in vain, and then did not take long. */
static void look_in_vain(void)
{
	loop->poll_ns = loop->poll_limit_ns;
	bt_poll_learn(loop, loop->poll_limit_ns);
}

/* Waits without a look, up to max, until one looks again. */
static uint32_t count_rest(uint32_t max)
{
	uint32_t n;

	for (n = 0; n < max; n++) {
		bt_loop_expect(loop);
		if (bt_poll_fits(loop, UINT64_MAX))
			break;
	}
	return n;
}

static uint32_t rest_after(uint32_t looks)
{
	while (looks--)
		look_in_vain();
	return count_rest(100000);
}

START_TEST(looks_that_find_nothing_are_given_up_for_longer_each_time)
{
	uint32_t rest, last;

	allow(LIMIT_NS);
	ck_assert_uint_eq(rest_after(7), 0);
	last = rest_after(1);
	ck_assert_uint_ge(last, 64);
	rest = rest_after(8);
	ck_assert_uint_eq(rest, 2 * last);
	do {
		last = rest;
		rest = rest_after(8);
	} while (rest > last);
	ck_assert_uint_eq(rest, last);
	ck_assert_uint_ge(rest, 1024);
}
END_TEST

/* What source_create makes readable is found by the first look. */
static void look_with_success(struct source *s)
{
	int calls = s->calls;

	loop->poll_ns = loop->poll_limit_ns;
	bt_loop_expect(loop);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	ck_assert_int_eq(s->calls, calls + 1);
}

START_TEST(looks_go_on_where_two_of_three_find_something)
{
	struct source *s = source_create();
	int i;

	allow(LIMIT_NS);
	for (i = 0; i < 100; i++) {
		look_with_success(s);
		look_with_success(s);
		look_in_vain();
		ck_assert_uint_eq(count_rest(1), 0);
	}
	for (i = 0; i < 100 && !count_rest(1); i++) {
		look_with_success(s);
		look_in_vain();
	}
	ck_assert_int_lt(i, 100);
	source_destroy(s);
}
END_TEST

START_TEST(without_a_limit_nothing_is_expected)
{
	bt_loop_expect(loop);
	ck_assert(!bt_poll_fits(loop, UINT64_MAX));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("loop-poll");
	TCase *tc = tcase_create("poll");

	tcase_add_checked_fixture(tc, setup_monotonic, teardown);
	tcase_add_test(tc, a_turn_that_expects_finds_what_comes_while_it_looks);
	tcase_add_test(tc, a_wake_ends_the_look_as_it_ends_a_sleep);
	tcase_add_test(
		tc,
		waits_that_end_soon_make_it_look_longer_and_long_ones_not_at_all);
	tcase_add_test(tc, it_never_looks_longer_than_the_limit);
	tcase_add_test(tc, a_turn_that_expects_nothing_does_not_look);
	tcase_add_test(
		tc,
		a_timer_that_is_near_or_a_limit_of_the_caller_leaves_no_time_to_look);
	tcase_add_test(tc, a_far_timer_ends_the_look);
	tcase_add_test(
		tc, looks_that_find_nothing_are_given_up_for_longer_each_time);
	tcase_add_test(tc, looks_go_on_where_two_of_three_find_something);
	tcase_add_test(tc, without_a_limit_nothing_is_expected);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
