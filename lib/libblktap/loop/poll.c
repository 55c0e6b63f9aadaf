/* SPDX-License-Identifier: BSD-3-Clause */
/* Polling for a moment instead of going to sleep.
 *
 * A client with one request in flight answers a reply with its next request
 * within microseconds. To sleep meanwhile costs more than that: the kernel stops
 * the processor, and the client's send has to start it again, which under a
 * hypervisor leaves the guest. So where a frontend says that the next message is
 * likely near (bt_loop_expect), the wait looks at the descriptors for a while
 * before it blocks.
 *
 * How long adapts, so that it costs nothing where it does not help:
 *
 *   a wait that had to block      and then
 *   was soon over                 the time doubles, to at most the limit
 *   took long                     it is nothing: the client is slow, or the
 *                                 machine has no time for it
 *
 *   a look of the whole limit     and then
 *   found nothing, or found       a point is lost; with all of them gone nobody
 *   it late                       looks for a while, which doubles each time
 *   found something soon          half a point is won
 *
 * So a look must pay in two of three waits. What it costs where it never pays is
 * at most POINTS / 2 limits in the time of REST_MIN waits at first, and of
 * REST_MAX in the end. */
#include "loop/private.h"

#include <errno.h>
#include <sched.h>

#define FIRST_NS 4000
/* What a sleep and its end take goes into the time of a wait that blocked. */
#define SOON 3
#define POINTS 16
#define REST_MIN 64
#define REST_MAX 4096

/* With one processor the client cannot run while we look. */
static bool have_company(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	return !sched_getaffinity(0, sizeof(set), &set) && CPU_COUNT(&set) > 1;
}

void bt_loop_set_poll(struct bt_loop *loop, uint64_t limit_ns)
{
	loop->poll_limit_ns = have_company() ? limit_ns : 0;
	loop->poll_ns = 0;
	loop->poll_lost = 0;
	loop->poll_rest = 0;
	loop->poll_rest_last = 0;
}

void bt_loop_expect(struct bt_loop *loop)
{
	loop->poll_wanted = loop->poll_limit_ns != 0;
}

bool bt_poll_fits(struct bt_loop *loop, uint64_t ns)
{
	bool wanted = loop->poll_wanted;

	loop->poll_wanted = false;
	if (wanted && loop->poll_rest) {
		loop->poll_rest--;
		return false;
	}
	/* The wait that may follow has a timer of its own to see to. */
	return wanted && loop->clock == BT_CLOCK_MONOTONIC &&
	       ns > SOON * loop->poll_limit_ns;
}

static void win(struct bt_loop *loop)
{
	if (loop->poll_lost)
		loop->poll_lost--;
	else
		loop->poll_rest_last = 0;
}

static void lose(struct bt_loop *loop)
{
	uint32_t rest = loop->poll_rest_last * 2;

	loop->poll_lost += 2;
	if (loop->poll_lost < POINTS)
		return;
	if (rest < REST_MIN)
		rest = REST_MIN;
	if (rest > REST_MAX)
		rest = REST_MAX;
	loop->poll_rest = rest;
	loop->poll_rest_last = rest;
	loop->poll_lost = 0;
}

int bt_poll_look(struct bt_loop *loop, uint64_t start_ns)
{
	uint64_t spent = 0;

	while (spent < loop->poll_ns) {
		int rc = epoll_wait(loop->epoll_fd, loop->events,
				    BT_LOOP_EVENTS, 0);

		if (rc < 0)
			return -errno;
		if (rc && spent <= loop->poll_limit_ns / 2)
			win(loop);
		else if (rc)
			lose(loop);
		if (rc)
			return rc;
		spent = bt_monotonic_ns() - start_ns;
	}
	return 0;
}

void bt_poll_learn(struct bt_loop *loop, uint64_t took_ns)
{
	if (loop->poll_ns && loop->poll_ns == loop->poll_limit_ns)
		lose(loop);
	if (took_ns > SOON * loop->poll_limit_ns)
		loop->poll_ns = 0;
	else if (!loop->poll_ns)
		loop->poll_ns = FIRST_NS;
	else
		loop->poll_ns *= 2;
	if (loop->poll_ns > loop->poll_limit_ns)
		loop->poll_ns = loop->poll_limit_ns;
}
