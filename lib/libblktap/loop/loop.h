/* SPDX-License-Identifier: BSD-3-Clause */
/* The event loop: descriptors, timers, deferred work, a wake-up from other
 * threads. All watchers are embedded in their owners: nothing is allocated after
 * bt_loop_create. One thread at a time; only bt_loop_wake may come from others.
 *
 * One turn of the loop:
 *   1. run deferred work and idle hooks until none of them did anything
 *   2. wait for descriptors, at most until the next timer
 *   3. call descriptors, then timers that are due, then step 1 again
 * Step 1 ends after a few rounds at the latest, and the wait does not block
 * where step 1 did anything: work without end starves no descriptor or timer.
 * A watcher may be removed, and its memory freed, in any callback, its own
 * included: it is not called again. */
#ifndef BT_LOOP_LOOP_H
#define BT_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "util/list.h"

struct bt_log;
struct bt_loop;

/* What a loop starts with: every request asks for it several times. */
struct bt_loop_time {
	uint64_t now_ns;
};

/* A descriptor. events are EPOLLIN, EPOLLOUT; level-triggered. EPOLLERR and
 * EPOLLHUP come unasked. */
struct bt_watch {
	int fd;
	uint32_t events;
	void (*fn)(struct bt_watch *watch, uint32_t events);
	struct bt_loop *loop; /* NULL while it is not added */
	struct bt_list link;
};

struct bt_timer {
	uint64_t due_ns;
	void (*fn)(struct bt_timer *timer);
	struct bt_loop *loop; /* NULL while it is not armed */
	uint32_t heap_index;
	struct bt_list link;
};

/* Work for later in this turn, once per bt_loop_defer. */
struct bt_work {
	void (*fn)(struct bt_work *work);
	struct bt_list link; /* init before first use */
};

/* Called before each wait, e.g. to submit a batch or to reap completions that
 * need no system call. Returns true where it did something: then deferred work
 * and hooks run again before the loop may wait. */
struct bt_idle {
	bool (*fn)(struct bt_idle *idle);
	struct bt_list link;
};

/* Who can wait in the loop's stead: for work of its own, which its idle hook then
 * finds, and for the loop's descriptor; so it needs one system call where epoll and
 * its own would be two. There is one at a time: whoever is busy. */
struct bt_waiter {
	/* Waits at most timeout_ms, -1: for ever. 1: it has work. 0: the loop
	 * should look at its descriptors. Or a negative errno: -EINTR. */
	int (*fn)(struct bt_waiter *waiter, int loop_fd, int timeout_ms);
};

/* The virtual clock stands still but for bt_loop_advance; for tests. */
enum bt_clock { BT_CLOCK_MONOTONIC, BT_CLOCK_VIRTUAL };

/* 0 or a negative errno, of want of memory or descriptors. log is not copied, and must
 * live as long; NULL: nobody listens. */
int bt_loop_create(enum bt_clock clock, const struct bt_log *log,
		   struct bt_loop **out);
/* Outside of a turn. What was not removed before is, without being called; so its
 * owner may still remove it after. NULL is fine. */
void bt_loop_destroy(struct bt_loop *loop);

/* 0 or a negative errno of epoll_ctl: -EPERM for a regular file. The watch is filled
 * here and need not be initialized, but it is not on a loop yet. fd stays the
 * caller's. fn comes from a turn, never from here. */
int bt_watch_add(struct bt_loop *loop, struct bt_watch *watch, int fd,
		 uint32_t events,
		 void (*fn)(struct bt_watch *watch, uint32_t events));
/* No system call where events are the same as before. It is on a loop. Where it fails
 * the events are those of before. */
int bt_watch_set_events(struct bt_watch *watch, uint32_t events);
/* Before the descriptor is closed. Harmless where it was not added. */
void bt_watch_del(struct bt_watch *watch);

/* Once, before all else. */
void bt_timer_init(struct bt_timer *timer, void (*fn)(struct bt_timer *timer));
/* Arms, or arms anew. due_ns is a time as bt_loop_now tells it; one that is past is due
 * at once, but what is armed inside of a timer's call waits for the next turn. Timers
 * that are due together are called by their time, and then in the order of arming.
 * When fn is called it is not armed any more. -ENOMEM where the heap cannot grow:
 * then it is not armed, whatever it was before. */
int bt_timer_arm(struct bt_loop *loop, struct bt_timer *timer, uint64_t due_ns);
/* It is not called any more, also where it has been due in this turn. Harmless where it
 * is not armed. */
void bt_timer_cancel(struct bt_timer *timer);

/* Once, before all else. */
void bt_work_init(struct bt_work *work, void (*fn)(struct bt_work *work));
/* Runs it once, from a turn and from under no other callback, in the order of asking:
 * in the turn that is under way, or the next. Harmless where it waits already. It
 * never fails, so what must not be forgotten goes this way. */
void bt_loop_defer(struct bt_loop *loop, struct bt_work *work);
/* Runs it behind the turn, once, outside of all callbacks: there it may call
 * what waits (bt_loop_run_until), meanwhile other work of this kind stays where
 * it is. */
void bt_loop_after(struct bt_loop *loop, struct bt_work *work);
/* Of either kind. Harmless where it does not wait. */
void bt_work_cancel(struct bt_work *work);

/* Hooks are called in the order in which they were added; one may remove itself or
 * others from inside. */
void bt_idle_add(struct bt_loop *loop, struct bt_idle *idle,
		 bool (*fn)(struct bt_idle *idle));
void bt_idle_del(struct bt_idle *idle);
/* Called for waits that no timer is to end soon; NULL: nobody. Whoever was it before is
 * not any more. */
void bt_loop_set_waiter(struct bt_loop *loop, struct bt_waiter *waiter);
/* Whether it is the one, in a turn that its caller lets wait: so it may also spend a
 * moment elsewhere than in its wait. */
bool bt_loop_lets_wait(const struct bt_loop *loop,
		       const struct bt_waiter *waiter);
/* Harmless where it is another. */
void bt_loop_drop_waiter(struct bt_loop *loop, struct bt_waiter *waiter);
/* Says that a hook has work, for bt_loop_timeout: an embedder who submits
 * between two turns must not sleep on it. */
void bt_loop_poke(struct bt_loop *loop);

/* Nanoseconds of the loop's clock, read once after each wait and at
 * bt_loop_refresh; cheap. */
static inline uint64_t bt_loop_now(const struct bt_loop *loop)
{
	return ((const struct bt_loop_time *)loop)->now_ns;
}
uint64_t bt_loop_refresh(struct bt_loop *loop);
/* BT_CLOCK_VIRTUAL only. Timers that fall due are called in the next turn. */
void bt_loop_advance(struct bt_loop *loop, uint64_t ns);

/* For an embedder's loop: readable when there is work. */
int bt_loop_fd(const struct bt_loop *loop);
/* Milliseconds, rounded up; 0 at once, -1 never. */
int bt_loop_timeout(struct bt_loop *loop);
/* One turn that waits at most timeout_ms (0: not at all, -1: for ever), and not
 * at all where there was work to do before the wait. A signal ends the wait. 0 or
 * a negative errno; -EDEADLK from inside a callback. */
int bt_loop_turn(struct bt_loop *loop, int timeout_ms);
/* At most so long (0: not at all) a wait looks at the descriptors before it
 * sleeps, where bt_loop_expect was called in the turn. */
void bt_loop_set_poll(struct bt_loop *loop, uint64_t limit_ns);
/* Something is likely to come within microseconds. */
void bt_loop_expect(struct bt_loop *loop);
/* The system's clock, whatever the loop's is. */
uint64_t bt_monotonic_ns(void);
/* Whether a callback is running. */
bool bt_loop_is_running(const struct bt_loop *loop);
/* Around code of an embedder's that may be called outside of a turn as well: it is
 * a callback there, too. What enter returns is for leave. */
bool bt_loop_enter(struct bt_loop *loop);
void bt_loop_leave(struct bt_loop *loop, bool before);
/* Turns, in step, until done(opaque) is true: for the few calls that wait. Same
 * -EDEADLK. done is asked before the first turn. timeout_ms as above, for the
 * whole; -ETIMEDOUT. */
int bt_loop_run_until(struct bt_loop *loop, bool (*done)(void *opaque),
		      void *opaque, int timeout_ms);
/* Any thread and signal handlers. */
void bt_loop_wake(struct bt_loop *loop);

#endif
