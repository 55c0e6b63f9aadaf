/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared by loop.c and timer.c. */
#ifndef BT_LOOP_PRIVATE_H
#define BT_LOOP_PRIVATE_H

#include <sys/epoll.h>

#include "loop/loop.h"

#define BT_LOOP_EVENTS 64

/* seq keeps timers that are due at the same time in the order of their arming. */
struct bt_timer_slot {
	uint64_t due_ns;
	uint64_t seq;
	struct bt_timer *timer;
};

struct bt_loop {
	struct bt_loop_time time; /* must be first */
	enum bt_clock clock;
	const struct bt_log *log;
	int epoll_fd;
	int wake_fd;
	bool running; /* a turn is on the stack */
	bool hooks_wanted; /* idle hooks have work: do not wait */
	bool coarse; /* the kernel has no epoll_pwait2 */
	bool poll_wanted; /* bt_loop_expect, in this turn */
	uint64_t poll_limit_ns;
	uint64_t poll_ns; /* 0 to poll_limit_ns, see poll.c */
	uint32_t poll_lost; /* half points that looks have lost, net */
	uint32_t poll_rest; /* waits left without a look */
	uint32_t poll_rest_last; /* the last rest's length */

	struct bt_waiter *waiter; /* NULL: the loop waits itself */
	bool patient; /* the turn may wait */
	uint32_t unseen; /* its waits since the descriptors were looked at */

	struct bt_watch wake;
	struct bt_watch alarm;
	int alarm_fd; /* -1: not opened yet */
	uint64_t alarm_ns; /* when it rings, or rang last */
	struct bt_list watches;
	struct bt_list work; /* in the order of bt_loop_defer */
	struct bt_list after; /* in the order of bt_loop_after */
	bool in_after; /* such work is on the stack */
	struct bt_list idles;

	/* The events of this turn that have not been called yet. */
	struct epoll_event events[BT_LOOP_EVENTS];
	int event_pos;
	int event_count;

	struct bt_timer_slot *heap; /* the earliest is heap[0] */
	uint32_t timer_count;
	uint32_t timer_room;
	uint64_t timer_seq;
	struct bt_list due; /* taken off the heap, not called yet */
};

/* -ENOMEM, and then there is nothing for fini to do, which is harmless. */
int bt_timers_init(struct bt_loop *loop);
/* Outside of a turn: all that is armed is in the heap. */
void bt_timers_fini(struct bt_loop *loop);
/* Calls the timers that are due now; one that arms itself anew waits for the
 * next turn. */
void bt_timers_run(struct bt_loop *loop);
/* Nanoseconds to the next timer, 0 where one is due, UINT64_MAX for none. */
uint64_t bt_timers_next(const struct bt_loop *loop);

/* poll.c */
/* Whether a wait of ns may look first. Asked once in each turn. */
bool bt_poll_fits(struct bt_loop *loop, uint64_t ns);
/* Looks until poll_ns after start: the count of events, 0, or a negative errno. */
int bt_poll_look(struct bt_loop *loop, uint64_t start_ns);
/* A wait had to block, and took so long from its start. */
void bt_poll_learn(struct bt_loop *loop, uint64_t took_ns);

/* alarm.c */
/* A timer that is nearer than this is waited for with a timeout. */
#define BT_ALARM_FAR_NS 20000000ull
void bt_alarm_init(struct bt_loop *loop);
void bt_alarm_fini(struct bt_loop *loop);
/* Whether the loop is woken in ns from now, or before, without a timeout. */
bool bt_alarm_covers(struct bt_loop *loop, uint64_t ns);

#endif
