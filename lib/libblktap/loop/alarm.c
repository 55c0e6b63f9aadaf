/* SPDX-License-Identifier: BSD-3-Clause */
/* The alarm: a timerfd for timers that are far away.
 *
 * A wait with a timeout makes the kernel program its clock anew each time, which
 * under a hypervisor costs more than the wait itself. A disk always has a timer
 * or two some time ahead; so the loop sets the alarm once and then waits without
 * a timeout. An alarm that comes too early, since its timer was cancelled or
 * moved, costs one turn. */
#include "loop/private.h"

#include <sys/timerfd.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull

void bt_alarm_init(struct bt_loop *loop)
{
	loop->alarm_fd = -1;
}

void bt_alarm_fini(struct bt_loop *loop)
{
	if (loop->alarm_fd >= 0)
		close(loop->alarm_fd);
}

static void rang(struct bt_watch *watch, uint32_t events)
{
	(void)watch;
	(void)events; /* edge-triggered: setting it anew is all it needs */
}

static bool open_alarm(struct bt_loop *loop)
{
	if (loop->alarm_fd >= 0)
		return true;
	loop->alarm_fd =
		timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->alarm_fd < 0)
		return false;
	if (bt_watch_add(loop, &loop->alarm, loop->alarm_fd, EPOLLIN | EPOLLET,
			 rang) == 0)
		return true;
	close(loop->alarm_fd);
	loop->alarm_fd = -1;
	return false;
}

bool bt_alarm_covers(struct bt_loop *loop, uint64_t ns)
{
	uint64_t due = loop->time.now_ns + ns;
	struct itimerspec when = {
		.it_value = { .tv_sec = (time_t)(due / NS_PER_S),
			      .tv_nsec = (long)(due % NS_PER_S) },
	};

	if (ns == UINT64_MAX)
		return true;
	if (ns < BT_ALARM_FAR_NS || loop->clock == BT_CLOCK_VIRTUAL ||
	    !open_alarm(loop))
		return false;
	if (loop->alarm_ns > loop->time.now_ns && loop->alarm_ns <= due)
		return true;
	if (timerfd_settime(loop->alarm_fd, TFD_TIMER_ABSTIME, &when, NULL) < 0)
		return false;
	loop->alarm_ns = due;
	return true;
}
