/* SPDX-License-Identifier: BSD-3-Clause */
/* The loop itself: epoll, an eventfd for wake-ups, lists for the rest.
 *
 * Removal in callbacks is safe without marks or generations: what is still to
 * be called hangs on a list (or, for descriptors, in loop->events) that the
 * removal takes it off.
 *
 * Before the wait, deferred work and hooks run until they are quiet, but for at
 * most ROUNDS rounds: a disk in memory answers within the submission, and its
 * completions and new requests could go round for ever while descriptors and
 * timers starve. A turn that did work before its wait looks at the descriptors
 * without blocking, so that its caller sees the work's result at once. */
#include "loop/private.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 8
/* So many waits of a waiter that has always work, and then the rest gets a look. */
#define UNSEEN_MAX 16
#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull

uint64_t bt_monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void drain_wake(struct bt_watch *watch, uint32_t events)
{
	uint64_t count;

	/* Level-triggered: a read that was interrupted comes again. */
	if (read(watch->fd, &count, sizeof(count)) < 0)
		return;
}

static int open_fds(struct bt_loop *loop)
{
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return -errno;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		return -errno;
	return bt_watch_add(loop, &loop->wake, loop->wake_fd, EPOLLIN,
			    drain_wake);
}

_Static_assert(!offsetof(struct bt_loop, time), "see bt_loop_now");

int bt_loop_create(enum bt_clock clock, const struct bt_log *log,
		   struct bt_loop **out)
{
	struct bt_loop *loop = calloc(1, sizeof(*loop));
	int rc;

	if (!loop)
		return -ENOMEM;
	loop->clock = clock;
	loop->log = log;
	loop->epoll_fd = -1;
	loop->wake_fd = -1;
	bt_alarm_init(loop);
	bt_list_init(&loop->watches);
	bt_list_init(&loop->work);
	bt_list_init(&loop->after);
	bt_list_init(&loop->idles);
	rc = bt_timers_init(loop);
	if (!rc)
		rc = open_fds(loop);
	if (rc < 0) {
		bt_loop_destroy(loop);
		return rc;
	}
	bt_loop_refresh(loop);
	*out = loop;
	return 0;
}

/* Leaves the owners' watchers as if they had been removed. */
void bt_loop_destroy(struct bt_loop *loop)
{
	if (!loop)
		return;
	while (!bt_list_empty(&loop->watches))
		bt_watch_del(
			bt_list_first(&loop->watches, struct bt_watch, link));
	while (bt_list_pop(&loop->work))
		;
	while (bt_list_pop(&loop->after))
		;
	while (bt_list_pop(&loop->idles))
		;
	bt_timers_fini(loop);
	bt_alarm_fini(loop);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	free(loop);
}

int bt_watch_add(struct bt_loop *loop, struct bt_watch *watch, int fd,
		 uint32_t events,
		 void (*fn)(struct bt_watch *watch, uint32_t events))
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	watch->fd = fd;
	watch->events = events;
	watch->fn = fn;
	watch->loop = NULL;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	watch->loop = loop;
	bt_list_add_tail(&loop->watches, &watch->link);
	return 0;
}

int bt_watch_set_events(struct bt_watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (watch->events == events)
		return 0;
	if (epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) <
	    0)
		return -errno;
	watch->events = events;
	return 0;
}

void bt_watch_del(struct bt_watch *watch)
{
	struct bt_loop *loop = watch->loop;
	int i;

	if (!loop)
		return;
	/* Fails where the owner closed fd already, which took it out, too. */
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	for (i = loop->event_pos; i < loop->event_count; i++)
		if (loop->events[i].data.ptr == watch)
			loop->events[i].data.ptr = NULL;
	bt_list_del(&watch->link);
	watch->loop = NULL;
}

void bt_work_init(struct bt_work *work, void (*fn)(struct bt_work *work))
{
	work->fn = fn;
	bt_list_init(&work->link);
}

void bt_loop_defer(struct bt_loop *loop, struct bt_work *work)
{
	if (bt_list_empty(&work->link))
		bt_list_add_tail(&loop->work, &work->link);
}

void bt_loop_after(struct bt_loop *loop, struct bt_work *work)
{
	if (bt_list_empty(&work->link))
		bt_list_add_tail(&loop->after, &work->link);
}

void bt_work_cancel(struct bt_work *work)
{
	bt_list_del(&work->link);
}

void bt_idle_add(struct bt_loop *loop, struct bt_idle *idle,
		 bool (*fn)(struct bt_idle *idle))
{
	idle->fn = fn;
	bt_list_add_tail(&loop->idles, &idle->link);
}

void bt_idle_del(struct bt_idle *idle)
{
	bt_list_del(&idle->link);
}

void bt_loop_set_waiter(struct bt_loop *loop, struct bt_waiter *waiter)
{
	loop->waiter = waiter;
}

bool bt_loop_lets_wait(const struct bt_loop *loop,
		       const struct bt_waiter *waiter)
{
	return loop->patient && loop->waiter == waiter;
}

void bt_loop_drop_waiter(struct bt_loop *loop, struct bt_waiter *waiter)
{
	if (loop->waiter == waiter)
		loop->waiter = NULL;
}

void bt_loop_poke(struct bt_loop *loop)
{
	loop->hooks_wanted = true;
}

uint64_t bt_loop_refresh(struct bt_loop *loop)
{
	if (loop->clock == BT_CLOCK_MONOTONIC)
		loop->time.now_ns = bt_monotonic_ns();
	return loop->time.now_ns;
}

void bt_loop_advance(struct bt_loop *loop, uint64_t ns)
{
	if (loop->clock == BT_CLOCK_VIRTUAL)
		loop->time.now_ns += ns;
}

/* What is deferred meanwhile waits for the next round. */
static bool run_work(struct bt_loop *loop)
{
	struct bt_list batch = BT_LIST_INIT(batch);
	struct bt_list *node;
	bool any = false;

	bt_list_splice_tail(&batch, &loop->work);
	while ((node = bt_list_pop(&batch))) {
		struct bt_work *work =
			bt_list_entry(node, struct bt_work, link);

		any = true;
		work->fn(work);
	}
	return any;
}

/* Hooks that are added meanwhile wait for the next round. */
static bool run_idles(struct bt_loop *loop)
{
	struct bt_list batch = BT_LIST_INIT(batch);
	struct bt_list *node;
	bool any = false;

	bt_list_splice_tail(&batch, &loop->idles);
	while ((node = bt_list_pop(&batch))) {
		struct bt_idle *idle =
			bt_list_entry(node, struct bt_idle, link);

		bt_list_add_tail(&loop->idles, node);
		any |= idle->fn(idle);
	}
	return any;
}

/* Returns whether anything was done; hooks_wanted says that there may be more.
 */
static bool settle(struct bt_loop *loop)
{
	int round;

	for (round = 0; round < ROUNDS; round++) {
		bool any;

		loop->hooks_wanted = false;
		/* Hooks last: they see the batch that the work made. */
		any = run_work(loop);
		any |= run_idles(loop);
		if (!any && bt_list_empty(&loop->work))
			return round > 0;
	}
	loop->hooks_wanted = true;
	return true;
}

/* Nanoseconds that the loop itself can wait. */
static uint64_t patience(const struct bt_loop *loop)
{
	uint64_t next;

	if (loop->hooks_wanted || !bt_list_empty(&loop->work))
		return 0;
	next = bt_timers_next(loop);
	/* A clock that stands still makes no timer due. */
	if (loop->clock == BT_CLOCK_VIRTUAL && next)
		return UINT64_MAX;
	return next;
}

/* Upwards: a wait that ends before the timer is due would be one turn too many. */
static int to_ms(uint64_t ns)
{
	uint64_t ms;

	if (ns == UINT64_MAX)
		return -1;
	ms = ns / NS_PER_MS + (ns % NS_PER_MS != 0);
	return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

/* To the nanosecond where a timer asks for it and the kernel can. */
static int block(struct bt_loop *loop, uint64_t ns)
{
	int rc;

#ifdef HAVE_EPOLL_PWAIT2
	if (!loop->coarse && ns != UINT64_MAX && ns % NS_PER_MS) {
		struct timespec ts = { .tv_sec = (time_t)(ns / NS_PER_S),
				       .tv_nsec = (long)(ns % NS_PER_S) };

		rc = epoll_pwait2(loop->epoll_fd, loop->events, BT_LOOP_EVENTS,
				  &ts, NULL);
		if (rc >= 0 || (errno != ENOSYS && errno != EPERM))
			return rc < 0 ? -errno : rc;
		loop->coarse = true;
	}
#endif
	rc = epoll_wait(loop->epoll_fd, loop->events, BT_LOOP_EVENTS,
			to_ms(ns));
	return rc < 0 ? -errno : rc;
}

/* The waiter looks at the loop's descriptor as well, but says only that there is
 * something. One that always has work of its own would never get to say it. */
static int wait_by(struct bt_loop *loop, struct bt_waiter *waiter, uint64_t ns)
{
	int rc = waiter->fn(waiter, loop->epoll_fd, to_ms(ns));

	if (rc < 0 || (rc && ++loop->unseen < UNSEEN_MAX))
		return rc < 0 ? rc : 0;
	loop->unseen = 0;
	return block(loop, 0);
}

static int wait_events(struct bt_loop *loop, uint64_t ns)
{
	uint64_t start;
	int rc;

	if (ns >= BT_ALARM_FAR_NS && loop->waiter &&
	    loop->clock == BT_CLOCK_MONOTONIC)
		return wait_by(loop, loop->waiter, ns);
	if (!bt_poll_fits(loop, ns))
		return block(loop, ns);
	start = bt_monotonic_ns();
	rc = bt_poll_look(loop, start);
	if (rc)
		return rc;
	rc = block(loop, ns);
	bt_poll_learn(loop, bt_monotonic_ns() - start);
	return rc;
}

/* What a callback removes is taken out of events (bt_watch_del), so none is called that
 * is gone. */
static void run_events(struct bt_loop *loop, int count)
{
	loop->event_pos = 0;
	loop->event_count = count;
	while (loop->event_pos < loop->event_count) {
		struct epoll_event *event = &loop->events[loop->event_pos++];
		struct bt_watch *watch = event->data.ptr;

		if (watch)
			watch->fn(watch, event->events);
	}
	loop->event_count = 0;
}

/* Nanoseconds to wait in this turn. */
static uint64_t wait_limit(struct bt_loop *loop, uint64_t limit_ns)
{
	uint64_t ns;

	if (loop->timer_count)
		bt_loop_refresh(loop);
	ns = patience(loop);
	if (limit_ns <= ns)
		return limit_ns;
	return bt_alarm_covers(loop, ns) ? limit_ns : ns;
}

static int turn(struct bt_loop *loop, uint64_t limit_ns)
{
	bool did;
	int count;

	loop->patient = limit_ns >= BT_ALARM_FAR_NS;
	did = settle(loop);
	count = wait_events(loop, did ? 0 : wait_limit(loop, limit_ns));
	bt_loop_refresh(loop);
	if (count > 0)
		run_events(loop, count);
	bt_timers_run(loop);
	settle(loop);
	/* The kernel interrupts a wait also to post completions, so EINTR says
	 * nothing about signals: the turn is over, and that is all. */
	return count < 0 && count != -EINTR ? count : 0;
}

/* A turn inside of a turn would call what the outer one is in the middle of. */
static int guarded_turn(struct bt_loop *loop, int timeout_ms)
{
	int rc;

	if (loop->running)
		return -EDEADLK;
	loop->running = true;
	rc = turn(loop, timeout_ms < 0 ? UINT64_MAX
				       : (uint64_t)timeout_ms * NS_PER_MS);
	loop->running = false;
	return rc;
}

/* Such work may wait in turns of its own, in which no other such work runs. */
static void run_after(struct bt_loop *loop)
{
	struct bt_list *node;

	if (loop->running || loop->in_after)
		return;
	loop->in_after = true;
	while ((node = bt_list_pop(&loop->after))) {
		struct bt_work *work =
			bt_list_entry(node, struct bt_work, link);

		work->fn(work);
	}
	loop->in_after = false;
}

int bt_loop_turn(struct bt_loop *loop, int timeout_ms)
{
	int rc;

	run_after(loop);
	rc = guarded_turn(loop, timeout_ms);
	run_after(loop);
	return rc;
}

bool bt_loop_is_running(const struct bt_loop *loop)
{
	return loop->running;
}

bool bt_loop_enter(struct bt_loop *loop)
{
	bool before = loop->running;

	loop->running = true;
	return before;
}

void bt_loop_leave(struct bt_loop *loop, bool before)
{
	loop->running = before;
}

/* The limit is one of real time under either clock: it guards the caller. */
int bt_loop_run_until(struct bt_loop *loop, bool (*done)(void *opaque),
		      void *opaque, int timeout_ms)
{
	uint64_t end = UINT64_MAX;
	uint64_t left = UINT64_MAX;

	if (loop->running)
		return -EDEADLK;
	if (timeout_ms >= 0) {
		left = (uint64_t)timeout_ms * NS_PER_MS;
		end = bt_monotonic_ns() + left;
	}
	while (!done(opaque)) {
		uint64_t now;
		int rc = guarded_turn(loop, to_ms(left));

		if (rc < 0)
			return rc;
		if (end == UINT64_MAX)
			continue;
		now = bt_monotonic_ns();
		left = now < end ? end - now : 0;
		if (!left && !done(opaque))
			return -ETIMEDOUT;
	}
	return 0;
}

int bt_loop_fd(const struct bt_loop *loop)
{
	return loop->epoll_fd;
}

int bt_loop_timeout(struct bt_loop *loop)
{
	bt_loop_refresh(loop);
	if (!bt_list_empty(&loop->after))
		return 0;
	return to_ms(patience(loop));
}

void bt_loop_wake(struct bt_loop *loop)
{
	int saved = errno;
	uint64_t one = 1;

	/* A counter that is full wakes as well. */
	if (write(loop->wake_fd, &one, sizeof(one)) < 0)
		errno = saved;
}
