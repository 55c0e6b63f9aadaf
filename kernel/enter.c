// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * How a daemon hands its answers in and waits for requests: ENTER and poll.
 *
 * Wake-ups. The kernel stores sq_tail, then looks for a sleeper; a sleeper
 * announces itself, then looks at sq_tail. With a full barrier in between on
 * both sides one of them always sees the other. ENTER announces itself in a
 * counter of our own; poll by need_wake in shared memory, which is a hint
 * only: a daemon that lies about it misses its own wake-ups. While somebody
 * sleeps in ENTER on all queues, poll is not woken: he takes what there is.
 *
 * Before it sleeps, ENTER looks at sq_tail for a moment, as a wake-up costs
 * more than most gaps between requests last: never over spin_us, and not while
 * anyone else wants the CPU. A look that was in vain is not repeated for a
 * while, which doubles; one that found a request is. What a sleep takes goes
 * into the time of a wait that slept, so such a wait counts as short up to SOON
 * times the limit.
 */
#include <linux/file.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>

#include "blktap.h"

#define SPIN_MAX_US 1000U
#define SOON 3
#define PAUSE_MAX 255

static unsigned int spin_us = 20;
module_param(spin_us, uint, 0644);
MODULE_PARM_DESC(spin_us, "most microseconds ENTER looks for requests before "
			  "it sleeps (default 20, 0: none, most 1000)");

/*
 * Called without a lock by whoever published. Sleepers of the queue are always
 * woken; of those on all queues ENTER's come before poll's.
 */
void bt_ring_notify(struct bt_ring *r, struct bt_queue *q)
{
	smp_mb(); /* sq_tail before the sleeper's mark; pairs with sleepers */
	if (atomic_read(&q->waiters)) {
		q->wakes++;
		wake_up_interruptible_all(&q->wait);
	}
	if (atomic_read(&r->waiters)) {
		q->wakes++;
		wake_up_interruptible_all(&r->all);
	} else if (READ_ONCE(q->shared->need_wake)) {
		q->wakes++;
		WRITE_ONCE(q->shared->need_wake, 0);
		wake_up_interruptible_poll(&r->wait, EPOLLIN | EPOLLRDNORM);
	}
}

/* By the daemon's own sq_head: a wrong one cheats the daemon alone. */
static u32 pending(const struct bt_ring *r, const struct bt_queue *q)
{
	u32 n = READ_ONCE(q->sq_tail) - READ_ONCE(q->shared->sq_head);

	return min(n, r->layout.entries);
}

static u32 pending_all(const struct bt_ring *r)
{
	u32 i, n = 0;

	for (i = 0; i < r->nr_queues; i++)
		n += pending(r, &r->queues[i]);
	return n;
}

__poll_t bt_ring_poll(struct file *file, poll_table *pt)
{
	struct bt_ring *r = file->private_data;
	int gone;
	u32 i;

	poll_wait(file, &r->wait, pt);
	if (!smp_load_acquire(&r->ready))
		return 0;
	gone = READ_ONCE(r->gone);
	if (gone)
		return gone == -ENODEV ? EPOLLHUP : EPOLLERR;
	/* need_wake of all queues, since the caller of poll waits for all */
	if (!pending_all(r)) {
		for (i = 0; i < r->nr_queues; i++)
			WRITE_ONCE(r->queues[i].shared->need_wake, 1);
		smp_mb(); /* pairs with bt_ring_notify */
		if (!pending_all(r))
			return 0;
	}
	return EPOLLIN | EPOLLRDNORM;
}

/* What a sleeper waits for, of one queue, or of all if @q is NULL. */
static bool is_due(const struct bt_ring *r, const struct bt_queue *q)
{
	return q ? pending(r, q) || READ_ONCE(q->dead)
		 : pending_all(r) || READ_ONCE(r->gone);
}

/*
 * Whether it came before @until. Only while this task alone wants the CPU, as
 * it has it for nothing.
 */
static bool spin(const struct bt_ring *r, const struct bt_queue *q, u64 until)
{
	while (!is_due(r, q)) {
		if (!single_task_running() || need_resched() ||
		    signal_pending(current) || ktime_get_ns() >= until)
			return false;
		cpu_relax();
	}
	return true;
}

/* Requests the daemon has and did not answer, of @q or of all. */
static bool is_any_out(const struct bt_ring *r, const struct bt_queue *q)
{
	u32 i;

	if (q)
		return READ_ONCE(q->sq_tail) != READ_ONCE(q->cq_head);
	for (i = 0; i < r->nr_queues; i++)
		if (is_any_out(r, &r->queues[i]))
			return true;
	return false;
}

/*
 * The same sleep, which ends also when @file may be readable. A poll table of
 * our own, as poll(2) has one; `triggered` is set by the file's wake-up, and is
 * only looked at.
 */
static noinline long sleep_with(const struct bt_ring *r,
				const struct bt_queue *q,
				wait_queue_head_t *wait, struct file *file,
				long left)
{
	const __poll_t events = EPOLLIN | EPOLLERR | EPOLLHUP;
	struct poll_wqueues table;

	poll_initwait(&table);
	table.pt._key = events;
	if (!(vfs_poll(file, &table.pt) & events) && !table.error)
		left = wait_event_interruptible_timeout(
			*wait, is_due(r, q) || READ_ONCE(table.triggered),
			left);
	if (table.error)
		left = table.error;
	poll_freewait(&table);
	return left;
}

static long sleep_for(struct bt_ring *r, struct bt_queue *q, struct file *file,
		      s32 timeout_ms)
{
	/* msecs_to_jiffies rounds up, so a wait is never too short */
	long left = timeout_ms < 0 ? MAX_SCHEDULE_TIMEOUT
				   : (long)msecs_to_jiffies(timeout_ms);
	atomic_t *waiters = q ? &q->waiters : &r->waiters;
	wait_queue_head_t *wait = q ? &q->wait : &r->all;

	atomic_inc(waiters);
	smp_mb__after_atomic(); /* pairs with bt_ring_notify */
	if (file)
		left = sleep_with(r, q, wait, file, left);
	else
		left = wait_event_interruptible_timeout(*wait, is_due(r, q),
							left);
	atomic_dec(waiters);
	smp_mb__after_atomic(); /* who saw us left the rest to our caller */
	if (left == -ERESTARTSYS)
		return -EINTR;
	return left < 0 ? left : 0;
}

/* The file is held for the sleep: it may be closed meanwhile. */
static long sleep_for_fd(struct bt_ring *r, struct bt_queue *q,
			 const struct blktap_enter *e)
{
	struct file *file;
	long err = -EPERM;

	if (!(e->flags & BLKTAP_ENTER_FD))
		return sleep_for(r, q, NULL, e->timeout_ms);
	file = fget(e->fd);
	if (!file)
		return -EBADF;
	if (file_can_poll(file))
		err = sleep_for(r, q, file, e->timeout_ms);
	fput(file);
	return err;
}

/*
 * The pause after a look in vain is 1, 3, 7, .. up to PAUSE_MAX waits that
 * would have paid; one look that found something ends that.
 */
static void learn(struct bt_look *look, bool found, bool soon)
{
	if (found) {
		look->pause = 0;
	} else if (look->on) {
		look->on = false;
		look->pause = min(2 * look->pause + 1, PAUSE_MAX);
		look->rest = look->pause;
	} else if (soon) {
		if (look->rest)
			look->rest--;
		else
			look->on = true;
	}
}

static u32 limit_ns(void)
{
	return min(READ_ONCE(spin_us), SPIN_MAX_US) * NSEC_PER_USEC;
}

/*
 * Whose own I/O is out may have to see to that first: no look holds it up.
 * Without WAIT_FD no I/O of its own would end the sleep either.
 */
static bool may_look(const struct bt_ring *r, const struct bt_queue *q)
{
	return limit_ns() &&
	       (!(r->features & BLKTAP_FEATURE_WAIT_FD) || !is_any_out(r, q));
}

/*
 * "soon" is what a look would have found, more or less: a wait that slept
 * counts up to SOON times the limit.
 */
static long wait_for(struct bt_ring *r, struct bt_queue *q,
		     const struct blktap_enter *e)
{
	struct bt_look *look = q ? &q->look : &r->look;
	u32 limit = limit_ns();
	long err = 0;
	bool found;
	u64 start;

	if (!e->timeout_ms)
		return 0;
	if (!may_look(r, q))
		return sleep_for_fd(r, q, e);
	start = ktime_get_ns();
	found = look->on && spin(r, q, start + limit);
	if (!found)
		err = sleep_for_fd(r, q, e);
	learn(look, found,
	      is_due(r, q) && ktime_get_ns() - start <= SOON * limit);
	return err;
}

static void look_for(struct bt_ring *r, struct bt_queue *q)
{
	struct bt_look *look = q ? &q->look : &r->look;

	if (look->on && may_look(r, q))
		learn(look, spin(r, q, ktime_get_ns() + limit_ns()), false);
}

/* The disk is failed here, with no lock of the queue held. */
static int reap(struct bt_ring *r, struct bt_queue *q)
{
	char why[96];
	int err = bt_request_reap(r, q, why, sizeof(why));

	if (err == -EBADMSG)
		bt_disk_fail(r->minor, r, why);
	return err;
}

/* A flag of a feature that was not asked for is unknown. */
static int check_enter(const struct bt_ring *r, const struct blktap_enter *e)
{
	const u32 known =
		BLKTAP_ENTER_WAIT |
		(r->features & BLKTAP_FEATURE_WAIT_FD ? BLKTAP_ENTER_FD : 0) |
		(r->features & BLKTAP_FEATURE_LOOK ? BLKTAP_ENTER_LOOK : 0);
	bool waits = e->flags & BLKTAP_ENTER_WAIT;

	if (e->flags & ~known || e->reserved)
		return -EINVAL;
	if (!(e->flags & BLKTAP_ENTER_FD))
		return e->fd ? -EINVAL : 0;
	return waits ? 0 : -EINVAL;
}

static u32 pending_of(const struct bt_ring *r, const struct bt_queue *q)
{
	return q ? pending(r, q) : pending_all(r);
}

long bt_ring_enter(struct bt_ring *r, void __user *arg)
{
	struct blktap_enter e;
	struct bt_queue *q = NULL;
	long err;
	u32 i;

	err = bt_get_arg_grown(&e, sizeof(e), offsetof(struct blktap_enter, fd),
			       arg);
	if (err)
		return err;
	if (!smp_load_acquire(&r->ready))
		return -ENODEV;
	err = check_enter(r, &e);
	if (err)
		return err;
	if (e.queue != BLKTAP_ALL_QUEUES) {
		if (e.queue >= r->nr_queues)
			return -EINVAL;
		q = &r->queues[array_index_nospec(e.queue, r->nr_queues)];
	}
	/*
	 * answers of all queues asked for are taken before anything is waited
	 * for; a dead one ends the call
	 */
	for (i = 0; i < (q ? 1 : r->nr_queues); i++) {
		err = reap(r, q ? q : &r->queues[i]);
		if (err)
			return err;
	}
	/* there are requests: no wait, whatever the flags say */
	if (pending_of(r, q))
		return pending_of(r, q);
	if (e.flags & BLKTAP_ENTER_WAIT) {
		err = wait_for(r, q, &e);
		if (err)
			return err;
		err = q ? READ_ONCE(q->dead) : READ_ONCE(r->gone);
		if (err)
			return err;
	} else if (e.flags & BLKTAP_ENTER_LOOK) {
		look_for(r, q);
	}
	return pending_of(r, q);
}
