/* SPDX-License-Identifier: BSD-3-Clause */
/* What tests of the loop have in common. */
#ifndef BT_TESTS_LOOP_BENCH_H
#define BT_TESTS_LOOP_BENCH_H

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

static inline void setup(void)
{
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_VIRTUAL, NULL, &loop), 0);
}

static inline void setup_monotonic(void)
{
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &loop), 0);
}

static inline void teardown(void)
{
	bt_loop_destroy(loop);
	loop = NULL;
}

static inline uint64_t real_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

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

static inline void on_source(struct bt_watch *watch, uint32_t events)
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

static inline struct source *source_create(void)
{
	struct source *source = calloc(1, sizeof(*source));

	ck_assert_int_eq(pipe(source->fds), 0);
	ck_assert_int_eq(write(source->fds[1], "x", 1), 1);
	ck_assert_int_eq(bt_watch_add(loop, &source->watch, source->fds[0],
				      EPOLLIN, on_source),
			 0);
	return source;
}

static inline void source_destroy(struct source *source)
{
	bt_watch_del(&source->watch);
	close(source->fds[0]);
	close(source->fds[1]);
	free(source);
}

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

static inline void on_alarm(struct bt_timer *timer)
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

static inline void alarm_init(struct alarm *alarm, int id)
{
	memset(alarm, 0, sizeof(*alarm));
	alarm->id = id;
	alarm->again_ns = UINT64_MAX;
	bt_timer_init(&alarm->timer, on_alarm);
	order_count = 0;
}

#endif
