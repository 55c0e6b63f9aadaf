/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "loop/loop.h"

#define MS 1000000ull

static struct bt_loop *loop;

static void setup(void)
{
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_VIRTUAL, NULL, &loop), 0);
}

static void setup_monotonic(void)
{
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &loop), 0);
}

static void teardown(void)
{
	bt_loop_destroy(loop);
	loop = NULL;
}

static uint64_t real_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- descriptors --------------------------------------------------------- */

/* A pipe with one byte in it, so that its watch is called in every turn. */
struct source {
	struct bt_watch watch;
	int fds[2];
	int calls;
	uint32_t events;
	struct source *victim;
	bool free_victim;
};

static struct source *survivor;

static void on_source(struct bt_watch *watch, uint32_t events)
{
	struct source *source = bt_list_entry(watch, struct source, watch);
	struct source *victim = source->victim;

	source->calls++;
	source->events = events;
	if (!victim)
		return;
	source->victim = NULL;
	survivor = source;
	bt_watch_del(&victim->watch);
	if (source->free_victim)
		free(victim);
}

static struct source *source_create(void)
{
	struct source *source = calloc(1, sizeof(*source));

	ck_assert_int_eq(pipe(source->fds), 0);
	ck_assert_int_eq(write(source->fds[1], "x", 1), 1);
	ck_assert_int_eq(bt_watch_add(loop, &source->watch, source->fds[0],
				      EPOLLIN, on_source),
			 0);
	return source;
}

static void source_destroy(struct source *source)
{
	bt_watch_del(&source->watch);
	close(source->fds[0]);
	close(source->fds[1]);
	free(source);
}

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

/* ---- timers -------------------------------------------------------------- */

static int order[32];
static int order_count;

struct alarm {
	struct bt_timer timer;
	int id;
	int calls;
	uint64_t again_ns; /* rearm this far from now; UINT64_MAX: not */
	struct alarm *victim;
};

static void on_alarm(struct bt_timer *timer)
{
	struct alarm *alarm = bt_list_entry(timer, struct alarm, timer);

	ck_assert_ptr_null(timer->loop);
	alarm->calls++;
	if (order_count < 32)
		order[order_count++] = alarm->id;
	if (alarm->victim)
		bt_timer_cancel(&alarm->victim->timer);
	if (alarm->again_ns != UINT64_MAX)
		bt_timer_arm(loop, timer, bt_loop_now(loop) + alarm->again_ns);
}

static void alarm_init(struct alarm *alarm, int id)
{
	memset(alarm, 0, sizeof(*alarm));
	alarm->id = id;
	alarm->again_ns = UINT64_MAX;
	bt_timer_init(&alarm->timer, on_alarm);
	order_count = 0;
}

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

static void send_signal_in(int ms)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct itimerval timer = { .it_value = { .tv_usec = ms * 1000 } };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

START_TEST(signal_ends_a_turn_but_not_run_until)
{
	uint64_t start = real_ms();

	send_signal_in(10);
	ck_assert_int_eq(bt_loop_turn(loop, -1), 0);
	send_signal_in(10);
	ck_assert_int_eq(bt_loop_run_until(loop, never, NULL, 50), -ETIMEDOUT);
	ck_assert(real_ms() - start >= 50);
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
	tcase_add_test(tc, watch_is_level_triggered_and_silent_after_removal);
	tcase_add_test(tc, watch_reports_hangup_unasked_and_changes_its_events);
	tcase_add_test(tc, watch_that_cannot_be_added_says_why);
	tcase_add_test(tc, watch_may_free_another_or_itself_in_a_callback);
	tcase_add_test(tc, watch_calls_every_one_of_many_descriptors);
	tcase_add_test(tc, work_behind_the_turn_may_wait_and_is_not_nested);
	tcase_add_test(tc, timers_fire_by_due_time_and_then_by_arming);
	tcase_add_test(tc, timers_cancelled_or_armed_anew_forget_the_old_time);
	tcase_add_test(tc, timers_armed_for_now_wait_for_the_next_turn);
	tcase_add_test(tc, timers_cancelled_by_another_that_is_due_stay_silent);
	tcase_add_test(tc, timers_agree_with_a_model);
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
	Suite *suite = suite_create("loop");
	TCase *tc = tcase_create("real clock");

	tcase_add_checked_fixture(tc, setup_monotonic, teardown);
	tcase_add_test(tc, timers_end_the_wait_of_a_real_clock);
	suite_add_tcase(suite, tc);
	add_virtual(suite);
	return unit_run(suite);
}
