/* SPDX-License-Identifier: BSD-3-Clause */
/* One timer for all: the list is in order of the time they are due, equal ones in
 * order of coming, so its head is what the timer is armed for. A request's frame
 * begins with a bt_later_frame. Where no timer can be had they all go at once:
 * too early is better than never. */
#include "module/later.h"

static struct bt_later_frame *frame_of(struct bt_list *at)
{
	return bt_request_frame(bt_list_entry(at, struct bt_request, link));
}

static void take(struct bt_later *later)
{
	struct bt_list *at = bt_list_pop(&later->waiting);

	later->count--;
	later->fn(later->node, bt_list_entry(at, struct bt_request, link));
}

static void arm(struct bt_later *later)
{
	if (bt_list_empty(&later->waiting))
		return;
	if (bt_timer_arm(later->node->env->loop, &later->timer,
			 frame_of(later->waiting.next)->due_ns) == 0)
		return;
	/* fn may add again from here, and find no timer again: then that one
	 * goes at once, too */
	while (!bt_list_empty(&later->waiting))
		take(later);
}

/* The clock is read once: what becomes due while requests are handed on waits
 * for the next timer, so that this ends. */
static void fired(struct bt_timer *timer)
{
	struct bt_later *later = bt_container_of(timer, struct bt_later, timer);
	uint64_t now = bt_loop_now(later->node->env->loop);

	while (!bt_list_empty(&later->waiting) &&
	       frame_of(later->waiting.next)->due_ns <= now)
		take(later);
	arm(later);
}

void bt_later_init(struct bt_later *later, struct bt_node *node,
		   void (*fn)(struct bt_node *node, struct bt_request *req))
{
	later->node = node;
	later->fn = fn;
	bt_list_init(&later->waiting);
	bt_timer_init(&later->timer, fired);
}

void bt_later_fini(struct bt_later *later)
{
	bt_timer_cancel(&later->timer);
}

/* From the back, as most are due last: for a fixed delay that is one step. */
void bt_later_add(struct bt_later *later, struct bt_request *req,
		  uint64_t due_ns)
{
	struct bt_later_frame *frame = bt_request_frame(req);
	struct bt_list *at = later->waiting.prev;

	frame->due_ns = due_ns;
	while (at != &later->waiting && frame_of(at)->due_ns > due_ns)
		at = at->prev;
	bt_list_insert(at, &req->link);
	later->count++;
	/* a new head is due before what the timer is armed for */
	if (later->waiting.next == &req->link)
		arm(later);
}
