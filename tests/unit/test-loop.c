/* SPDX-License-Identifier: BSD-3-Clause */
#include "loop-bench.h"

/* ---- descriptors --------------------------------------------------------- */
START_TEST(watch_is_level_triggered_and_silent_after_removal)
{
	struct source *s = source_create();

	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	ck_assert_int_eq(s->calls, 2);
	ck_assert_uint_eq(s->events, EPOLLIN);
	bt_watch_del(&s->watch);
	bt_watch_del(&s->watch);
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
	ck_assert_int_eq(s->calls, 2);
	source_destroy(s);
}
END_TEST

START_TEST(watch_reports_hangup_unasked_and_changes_its_events)
{
	struct source *s = source_create();

	ck_assert_int_eq(bt_watch_set_events(&s->watch, 0), 0);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(s->calls, 0);
	ck_assert_int_eq(bt_watch_set_events(&s->watch, EPOLLIN), 0);
	ck_assert_int_eq(bt_watch_set_events(&s->watch, EPOLLIN), 0);
	close(s->fds[1]);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(s->calls, 1);
	ck_assert_uint_eq(s->events, EPOLLIN | EPOLLHUP);
	s->fds[1] = -1;
	source_destroy(s);
}
END_TEST

START_TEST(watch_that_cannot_be_added_says_why)
{
	struct source *s = source_create();
	struct bt_watch other;

	ck_assert_int_eq(
		bt_watch_add(loop, &other, s->fds[0], EPOLLIN, on_source),
		-EEXIST);
	bt_watch_del(&other);
	ck_assert_int_eq(bt_watch_add(loop, &other, -1, EPOLLIN, on_source),
			 -EBADF);
	source_destroy(s);
}
END_TEST

START_TEST(watch_may_free_another_or_itself_in_a_callback)
{
	struct source *a = source_create();
	struct source *b = source_create();
	int fds[4] = { a->fds[0], a->fds[1], b->fds[0], b->fds[1] };
	int i;

	/* Whichever is called first takes the other along, and then itself. */
	a->victim = b;
	b->victim = a;
	a->free_victim = b->free_victim = true;
	survivor = NULL;
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
	ck_assert_int_eq(survivor->calls, 1);
	survivor->victim = survivor;
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
	for (i = 0; i < 4; i++)
		close(fds[i]);
}
END_TEST

START_TEST(watch_calls_every_one_of_many_descriptors)
{
	struct source *s[200];
	int i;

	for (i = 0; i < 200; i++)
		s[i] = source_create();
	for (i = 0; i < 20; i++)
		bt_loop_turn(loop, 0);
	for (i = 0; i < 200; i++) {
		ck_assert_int_gt(s[i]->calls, 0);
		source_destroy(s[i]);
	}
}
END_TEST

START_TEST(timers_fire_by_due_time_and_then_by_arming)
{
	static const uint64_t due[] = { 30, 10, 20, 10, 10 };
	static const int want[] = { 1, 3, 4, 2, 0 };
	struct alarm a[5];
	int i;

	for (i = 0; i < 5; i++) {
		alarm_init(&a[i], i);
		bt_timer_arm(loop, &a[i].timer, due[i]);
	}
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(order_count, 0);
	ck_assert_int_eq(bt_loop_timeout(loop), -1);
	bt_loop_advance(loop, 9);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(order_count, 0);
	bt_loop_advance(loop, 21);
	ck_assert_int_eq(bt_loop_timeout(loop), 0);
	bt_loop_turn(loop, -1);
	ck_assert_int_eq(order_count, 5);
	ck_assert_mem_eq(order, want, sizeof(want));
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(order_count, 5);
}
END_TEST

START_TEST(timers_cancelled_or_armed_anew_forget_the_old_time)
{
	struct alarm a, b;

	alarm_init(&a, 0);
	alarm_init(&b, 1);
	bt_timer_cancel(&a.timer);
	bt_timer_arm(loop, &a.timer, 10);
	bt_timer_arm(loop, &b.timer, 10);
	bt_timer_arm(loop, &a.timer, 50);
	bt_timer_cancel(&b.timer);
	bt_timer_cancel(&b.timer);
	bt_loop_advance(loop, 20);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(a.calls + b.calls, 0);
	bt_loop_advance(loop, 30);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(a.calls, 1);
	ck_assert_int_eq(b.calls, 0);
}
END_TEST

START_TEST(timers_armed_for_now_wait_for_the_next_turn)
{
	struct alarm a;

	alarm_init(&a, 0);
	a.again_ns = 0;
	bt_timer_arm(loop, &a.timer, 0);
	bt_loop_turn(loop, -1);
	ck_assert_int_eq(a.calls, 1);
	bt_loop_turn(loop, -1);
	ck_assert_int_eq(a.calls, 2);
	bt_timer_cancel(&a.timer);
}
END_TEST

START_TEST(timers_cancelled_by_another_that_is_due_stay_silent)
{
	struct alarm a, b;

	alarm_init(&a, 0);
	alarm_init(&b, 1);
	a.victim = &b;
	bt_timer_arm(loop, &a.timer, 5);
	bt_timer_arm(loop, &b.timer, 5);
	bt_loop_advance(loop, 5);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(a.calls, 1);
	ck_assert_int_eq(b.calls, 0);
}
END_TEST

/* Against a plain model: the heap under arms, cancels and re-arms. */
START_TEST(timers_agree_with_a_model)
{
	enum { N = 300 };
	static struct alarm a[N];
	static uint64_t due[N]; /* 0: not armed */
	uint32_t seed = 7;
	uint64_t now = 0;
	int step, i, wrong = 0;

	for (i = 0; i < N; i++)
		alarm_init(&a[i], i);
	for (step = 0; step < 20000; step++) {
		seed = seed * 1664525 + 1013904223;
		i = (int)(seed >> 8) % N;
		if ((seed >> 28) < 9) {
			due[i] = now + 1 + (seed >> 20) % 500;
			bt_timer_arm(loop, &a[i].timer, due[i]);
		} else if ((seed >> 28) < 13) {
			due[i] = 0;
			bt_timer_cancel(&a[i].timer);
		} else {
			now += seed % 40;
			bt_loop_advance(loop, seed % 40);
			bt_loop_turn(loop, 0);
			for (i = 0; i < N; i++) {
				int want = due[i] && due[i] <= now;

				wrong += a[i].calls != want;
				a[i].calls = 0;
				if (want)
					due[i] = 0;
			}
		}
	}
	for (i = 0; i < N; i++)
		bt_timer_cancel(&a[i].timer);
	ck_assert_int_eq(wrong, 0);
}
END_TEST

START_TEST(timers_end_the_wait_of_a_real_clock)
{
	struct alarm a;
	uint64_t start = bt_loop_refresh(loop);
	int ms;

	alarm_init(&a, 0);
	bt_timer_arm(loop, &a.timer, start + 5 * MS + 300000);
	ms = bt_loop_timeout(loop);
	/* unless the machine was somewhere else meanwhile */
	if (bt_loop_refresh(loop) - start <= 5 * MS)
		ck_assert_int_ge(ms, 1);
	ck_assert_int_le(ms, 6);
	while (!a.calls)
		ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	ck_assert(bt_loop_now(loop) >= start + 5 * MS + 300000);
	bt_timer_arm(loop, &a.timer, start);
	ck_assert_int_eq(bt_loop_timeout(loop), 0);
	bt_timer_cancel(&a.timer);
}
END_TEST

/* ---- deferred work and hooks --------------------------------------------- */

static void add_virtual(Suite *suite)
{
	TCase *tc = tcase_create("virtual clock");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, watch_is_level_triggered_and_silent_after_removal);
	tcase_add_test(tc, watch_reports_hangup_unasked_and_changes_its_events);
	tcase_add_test(tc, watch_that_cannot_be_added_says_why);
	tcase_add_test(tc, watch_may_free_another_or_itself_in_a_callback);
	tcase_add_test(tc, watch_calls_every_one_of_many_descriptors);
	tcase_add_test(tc, timers_fire_by_due_time_and_then_by_arming);
	tcase_add_test(tc, timers_cancelled_or_armed_anew_forget_the_old_time);
	tcase_add_test(tc, timers_armed_for_now_wait_for_the_next_turn);
	tcase_add_test(tc, timers_cancelled_by_another_that_is_due_stay_silent);
	tcase_add_test(tc, timers_agree_with_a_model);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	Suite *suite = suite_create("loop");
	TCase *tc = tcase_create("real clock");

	tcase_add_checked_fixture(tc, setup_monotonic, teardown);
	tcase_add_test(tc, timers_end_the_wait_of_a_real_clock);
	suite_add_tcase(suite, tc);
	add_virtual(suite);
	return unit_run(suite);
}
