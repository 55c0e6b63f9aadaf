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
 * How long adapts, so that it costs nothing where it does not help: a wait that
 * had to block but was soon over doubles the time, to at most the limit; one
 * that took long, or an overloaded machine where no client gets to run, sets it
 * to nothing. */
#include "loop/private.h"

#include <errno.h>
#include <sched.h>

#define FIRST_NS 4000
/* What a sleep and its end take goes into the time of a wait that blocked. */
#define SOON 3

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
}

void bt_loop_expect(struct bt_loop *loop)
{
	loop->poll_wanted = loop->poll_limit_ns != 0;
}

bool bt_poll_fits(struct bt_loop *loop, uint64_t ns)
{
	bool wanted = loop->poll_wanted;

	loop->poll_wanted = false;
	/* The wait that may follow has a timer of its own to see to. */
	return wanted && loop->clock == BT_CLOCK_MONOTONIC &&
	       ns > SOON * loop->poll_limit_ns;
}

int bt_poll_look(struct bt_loop *loop, uint64_t start_ns)
{
	while (bt_monotonic_ns() - start_ns < loop->poll_ns) {
		int rc = epoll_wait(loop->epoll_fd, loop->events,
				    BT_LOOP_EVENTS, 0);

		if (rc)
			return rc < 0 ? -errno : rc;
	}
	return 0;
}

void bt_poll_learn(struct bt_loop *loop, uint64_t took_ns)
{
	if (took_ns > SOON * loop->poll_limit_ns)
		loop->poll_ns = 0;
	else if (!loop->poll_ns)
		loop->poll_ns = FIRST_NS;
	else
		loop->poll_ns *= 2;
	if (loop->poll_ns > loop->poll_limit_ns)
		loop->poll_ns = loop->poll_limit_ns;
}
