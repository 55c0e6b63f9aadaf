/* SPDX-License-Identifier: BSD-3-Clause */
/* Deferred work, hooks, turns, wake-ups and their order. */
#include "loop-bench.h"

struct job {
	struct bt_work work;
	int id;
	int calls;
	bool again;
	struct job *victim;
};

static void on_job(struct bt_work *work)
{
	struct job *job = bt_list_entry(work, struct job, work);

	ck_assert(bt_loop_is_running(loop));
	job->calls++;
	if (order_count < 32)
		order[order_count++] = job->id;
	if (job->victim)
		bt_work_cancel(&job->victim->work);
	if (job->again)
		bt_loop_defer(loop, work);
}

static void job_init(struct job *job, int id)
{
	memset(job, 0, sizeof(*job));
	job->id = id;
	bt_work_init(&job->work, on_job);
	order_count = 0;
}

START_TEST(work_runs_once_per_defer_in_order)
{
	struct job a, b;

	job_init(&a, 0);
	job_init(&b, 1);
	bt_loop_defer(loop, &b.work);
	bt_loop_defer(loop, &a.work);
	bt_loop_defer(loop, &b.work);
	ck_assert_int_eq(bt_loop_timeout(loop), 0);
	ck_assert(!bt_loop_is_running(loop));
	bt_loop_turn(loop, -1);
	ck_assert_int_eq(bt_loop_timeout(loop), -1);
	ck_assert_int_eq(order_count, 2);
	ck_assert_int_eq(order[0], 1);
	ck_assert_int_eq(order[1], 0);
	bt_loop_defer(loop, &a.work);
	bt_work_cancel(&a.work);
	bt_work_cancel(&a.work);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(a.calls, 1);
}
END_TEST

START_TEST(work_can_cancel_work_of_its_own_batch)
{
	struct job a, b;

	job_init(&a, 0);
	job_init(&b, 1);
	a.victim = &b;
	bt_loop_defer(loop, &a.work);
	bt_loop_defer(loop, &b.work);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(a.calls, 1);
	ck_assert_int_eq(b.calls, 0);
}
END_TEST

START_TEST(work_without_end_starves_no_descriptor)
{
	struct source *s = source_create();
	struct job a;

	job_init(&a, 0);
	a.again = true;
	bt_loop_defer(loop, &a.work);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	ck_assert_int_eq(s->calls, 1);
	ck_assert_int_gt(a.calls, 1);
	ck_assert_int_lt(a.calls, 1000);
	ck_assert_int_eq(bt_loop_timeout(loop), 0);
	bt_work_cancel(&a.work);
	source_destroy(s);
}
END_TEST

struct hook {
	struct bt_idle idle;
	int calls;
	int busy; /* so many calls find something to do */
	struct job *job;
	struct hook *victim;
};

static bool on_idle(struct bt_idle *idle)
{
	struct hook *hook = bt_list_entry(idle, struct hook, idle);

	hook->calls++;
	if (hook->victim)
		bt_idle_del(&hook->victim->idle);
	if (!hook->busy)
		return false;
	hook->busy--;
	if (hook->job)
		bt_loop_defer(loop, &hook->job->work);
	return true;
}

START_TEST(hooks_run_until_they_are_quiet_and_work_runs_between)
{
	struct hook h = { .busy = 3 };
	struct job a;

	job_init(&a, 0);
	h.job = &a;
	bt_idle_add(loop, &h.idle, on_idle);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	ck_assert_int_eq(h.busy, 0);
	ck_assert_int_eq(a.calls, 3);
	bt_idle_del(&h.idle);
	bt_idle_del(&h.idle);
	h.calls = 0;
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(h.calls, 0);
}
END_TEST

START_TEST(hooks_can_remove_each_other)
{
	struct hook a = { .busy = 0 }, b = { .busy = 0 };

	a.victim = &b;
	bt_idle_add(loop, &a.idle, on_idle);
	bt_idle_add(loop, &b.idle, on_idle);
	bt_loop_turn(loop, 0);
	ck_assert_int_gt(a.calls, 0);
	ck_assert_int_eq(b.calls, 0);
	a.victim = &a;
	a.calls = 0;
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(a.calls, 1);
}
END_TEST

START_TEST(hooks_that_were_poked_forbid_the_embedder_to_wait)
{
	struct hook h = { .busy = 1 };

	bt_idle_add(loop, &h.idle, on_idle);
	ck_assert_int_eq(bt_loop_timeout(loop), -1);
	bt_loop_poke(loop);
	ck_assert_int_eq(bt_loop_timeout(loop), 0);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(bt_loop_timeout(loop), -1);
	bt_idle_del(&h.idle);
}
END_TEST

/* ---- turns, waking, embedding -------------------------------------------- */

static int inner_turn, inner_run;

static bool never(void *opaque)
{
	return false;
}

static bool is_set(void *opaque)
{
	return *(int *)opaque != 0;
}

static void on_nested(struct bt_work *work)
{
	inner_turn = bt_loop_turn(loop, 0);
	inner_run = bt_loop_run_until(loop, never, NULL, 0);
}

START_TEST(turn_inside_a_callback_is_refused)
{
	struct bt_work work;

	bt_work_init(&work, on_nested);
	bt_loop_defer(loop, &work);
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
	ck_assert_int_eq(inner_turn, -EDEADLK);
	ck_assert_int_eq(inner_run, -EDEADLK);
}
END_TEST

START_TEST(turn_waits_as_long_as_it_was_told)
{
	uint64_t start = real_ms();

	ck_assert_int_eq(bt_loop_turn(loop, 30), 0);
	ck_assert(real_ms() - start >= 29);
}
END_TEST

START_TEST(run_until_sees_what_work_before_the_wait_did)
{
	struct job a;

	job_init(&a, 0);
	bt_loop_defer(loop, &a.work);
	ck_assert_int_eq(bt_loop_run_until(loop, is_set, &a.calls, -1), 0);
	ck_assert_int_eq(a.calls, 1);
	/* Already true: no turn. */
	bt_loop_defer(loop, &a.work);
	ck_assert_int_eq(bt_loop_run_until(loop, is_set, &a.calls, -1), 0);
	ck_assert_int_eq(a.calls, 1);
	bt_work_cancel(&a.work);
}
END_TEST

START_TEST(run_until_times_out_and_with_zero_takes_one_turn)
{
	uint64_t start = real_ms();
	struct job a;

	ck_assert_int_eq(bt_loop_run_until(loop, never, NULL, 20), -ETIMEDOUT);
	ck_assert(real_ms() - start >= 19);
	job_init(&a, 0);
	bt_loop_defer(loop, &a.work);
	ck_assert_int_eq(bt_loop_run_until(loop, never, NULL, 0), -ETIMEDOUT);
	ck_assert_int_eq(a.calls, 1);
}
END_TEST

static void on_signal(int signo)
{
}

/* Again and again: a single one may come before the wait that it is to end. */
static void send_signals_every(int ms)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct itimerval timer = { .it_interval = { .tv_usec = ms * 1000 },
				   .it_value = { .tv_usec = ms * 1000 } };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

START_TEST(signal_ends_a_turn_but_not_run_until)
{
	uint64_t start = real_ms();

	send_signals_every(10);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	ck_assert_int_eq(bt_loop_run_until(loop, never, NULL, 50), -ETIMEDOUT);
	ck_assert(real_ms() - start >= 50);
	send_signals_every(0);
}
END_TEST

static void *wake_later(void *opaque)
{
	usleep(10000);
	bt_loop_wake(loop);
	return NULL;
}

START_TEST(wake_from_another_thread_ends_the_wait)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, wake_later, NULL), 0);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	pthread_join(thread, NULL);
}
END_TEST

START_TEST(wake_before_the_wait_is_kept_once)
{
	uint64_t start;

	bt_loop_wake(loop);
	bt_loop_wake(loop);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	start = real_ms();
	bt_loop_turn(loop, 20);
	ck_assert(real_ms() - start >= 19);
}
END_TEST

static int poll_loop(int timeout)
{
	struct pollfd pfd = { .fd = bt_loop_fd(loop), .events = POLLIN };

	return poll(&pfd, 1, timeout);
}

START_TEST(embedded_in_poll_the_descriptor_tells_of_work)
{
	struct source *s;

	ck_assert_int_eq(poll_loop(0), 0);
	s = source_create();
	ck_assert_int_eq(poll_loop(-1), 1);
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
	ck_assert_int_eq(s->calls, 1);
	source_destroy(s);
	ck_assert_int_eq(poll_loop(0), 0);
	bt_loop_wake(loop);
	ck_assert_int_eq(poll_loop(-1), 1);
	bt_loop_turn(loop, 0);
	ck_assert_int_eq(poll_loop(0), 0);
}
END_TEST

START_TEST(virtual_clock_stands_still)
{
	uint64_t now = bt_loop_now(loop);

	usleep(2000);
	bt_loop_turn(loop, 0);
	ck_assert(bt_loop_refresh(loop) == now);
	bt_loop_advance(loop, 17);
	ck_assert(bt_loop_now(loop) == now + 17);
}
END_TEST

START_TEST(destroy_leaves_owners_free_to_remove_again)
{
	struct bt_loop *other;
	struct bt_watch watch;
	struct bt_timer timer;
	struct job job;
	struct hook hook = { .busy = 0 };
	int fds[2];

	bt_loop_destroy(NULL);
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_VIRTUAL, NULL, &other), 0);
	ck_assert_int_eq(pipe(fds), 0);
	bt_watch_add(other, &watch, fds[0], EPOLLIN, on_source);
	bt_timer_init(&timer, on_alarm);
	bt_timer_arm(other, &timer, 5);
	job_init(&job, 0);
	bt_loop_defer(other, &job.work);
	bt_idle_add(other, &hook.idle, on_idle);
	bt_loop_destroy(other);
	bt_watch_del(&watch);
	bt_timer_cancel(&timer);
	bt_work_cancel(&job.work);
	bt_idle_del(&hook.idle);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

/* ---- work behind the turn ------------------------------------------------ */

static struct bt_work after_work, second_work;
static int after_calls, second_calls;

static bool second_ran(void *opaque)
{
	return second_calls > 0;
}

static void on_second(struct bt_work *work)
{
	second_calls++;
}

/* Waits, which no callback may. */
static void on_after(struct bt_work *work)
{
	after_calls++;
	ck_assert(!bt_loop_is_running(loop));
	bt_loop_after(loop, &second_work);
	ck_assert_int_eq(bt_loop_run_until(loop, second_ran, NULL, 20),
			 -ETIMEDOUT);
}

static void ask_for_after(struct bt_work *work)
{
	bt_loop_after(loop, &after_work);
	ck_assert_int_eq(after_calls, 0);
}

START_TEST(work_behind_the_turn_may_wait_and_is_not_nested)
{
	struct bt_work asker;

	after_calls = second_calls = 0;
	bt_work_init(&asker, ask_for_after);
	bt_work_init(&after_work, on_after);
	bt_work_init(&second_work, on_second);
	bt_loop_defer(loop, &asker);
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
	ck_assert_int_eq(after_calls, 1);
	ck_assert_int_eq(second_calls, 1);
	/* asked for between turns: the embedder is told to come at once */
	bt_loop_after(loop, &second_work);
	ck_assert_int_eq(bt_loop_timeout(loop), 0);
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
	ck_assert_int_eq(second_calls, 2);
	ck_assert_int_eq(bt_loop_timeout(loop), -1);
	bt_loop_after(loop, &second_work);
	bt_work_cancel(&second_work);
	ck_assert_int_eq(bt_loop_turn(loop, 0), 0);
	ck_assert_int_eq(second_calls, 2);
}
END_TEST

static void add_virtual(Suite *suite)
{
	TCase *tc = tcase_create("virtual clock");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, work_behind_the_turn_may_wait_and_is_not_nested);
	tcase_add_test(tc, work_runs_once_per_defer_in_order);
	tcase_add_test(tc, work_can_cancel_work_of_its_own_batch);
	tcase_add_test(tc, work_without_end_starves_no_descriptor);
	tcase_add_test(tc,
		       hooks_run_until_they_are_quiet_and_work_runs_between);
	tcase_add_test(tc, hooks_can_remove_each_other);
	tcase_add_test(tc, hooks_that_were_poked_forbid_the_embedder_to_wait);
	tcase_add_test(tc, turn_inside_a_callback_is_refused);
	tcase_add_test(tc, turn_waits_as_long_as_it_was_told);
	tcase_add_test(tc, run_until_sees_what_work_before_the_wait_did);
	tcase_add_test(tc, run_until_times_out_and_with_zero_takes_one_turn);
	tcase_add_test(tc, signal_ends_a_turn_but_not_run_until);
	tcase_add_test(tc, wake_from_another_thread_ends_the_wait);
	tcase_add_test(tc, wake_before_the_wait_is_kept_once);
	tcase_add_test(tc, embedded_in_poll_the_descriptor_tells_of_work);
	tcase_add_test(tc, virtual_clock_stands_still);
	tcase_add_test(tc, destroy_leaves_owners_free_to_remove_again);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	Suite *suite = suite_create("loop-work");

	add_virtual(suite);
	return unit_run(suite);
}
