/* SPDX-License-Identifier: BSD-3-Clause */
/* Timers: a binary heap by due time.
 *
 *   idle    loop == NULL
 *   armed   loop set, heap_index is its place in the heap
 *   due     loop set, heap_index is NOT_IN_HEAP, linked on loop->due
 *
 * A turn first moves every timer that is due to the list and then calls them,
 * so that one that arms itself for "now" cannot keep the turn from ending, and
 * so that a callback can cancel any of the others. */
#include "loop/private.h"

#include <errno.h>
#include <stdlib.h>

#define NOT_IN_HEAP UINT32_MAX
#define ROOM_AT_START 64

static bool earlier(const struct bt_timer_slot *a,
		    const struct bt_timer_slot *b)
{
	return a->due_ns < b->due_ns ||
	       (a->due_ns == b->due_ns && a->seq < b->seq);
}

static void place(struct bt_loop *loop, uint32_t i, struct bt_timer_slot slot)
{
	loop->heap[i] = slot;
	slot.timer->heap_index = i;
}

static void sift_up(struct bt_loop *loop, uint32_t i, struct bt_timer_slot slot)
{
	while (i) {
		uint32_t parent = (i - 1) / 2;

		if (!earlier(&slot, &loop->heap[parent]))
			break;
		place(loop, i, loop->heap[parent]);
		i = parent;
	}
	place(loop, i, slot);
}

static void sift_down(struct bt_loop *loop, uint32_t i,
		      struct bt_timer_slot slot)
{
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= loop->timer_count)
			break;
		if (child + 1 < loop->timer_count &&
		    earlier(&loop->heap[child + 1], &loop->heap[child]))
			child++;
		if (!earlier(&loop->heap[child], &slot))
			break;
		place(loop, i, loop->heap[child]);
		i = child;
	}
	place(loop, i, slot);
}

/* Fills the hole at i with the last slot, which may belong on either side. */
static void heap_remove(struct bt_loop *loop, uint32_t i)
{
	struct bt_timer_slot last = loop->heap[--loop->timer_count];

	if (i == loop->timer_count)
		return;
	if (i && earlier(&last, &loop->heap[(i - 1) / 2]))
		sift_up(loop, i, last);
	else
		sift_down(loop, i, last);
}

static int heap_grow(struct bt_loop *loop)
{
	struct bt_timer_slot *heap;

	if (loop->timer_room > UINT32_MAX / 4)
		return -ENOMEM;
	heap = reallocarray(loop->heap, loop->timer_room * 2, sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	loop->heap = heap;
	loop->timer_room *= 2;
	return 0;
}

int bt_timers_init(struct bt_loop *loop)
{
	bt_list_init(&loop->due);
	loop->heap = calloc(ROOM_AT_START, sizeof(*loop->heap));
	if (!loop->heap)
		return -ENOMEM;
	loop->timer_room = ROOM_AT_START;
	return 0;
}

void bt_timers_fini(struct bt_loop *loop)
{
	while (loop->timer_count)
		bt_timer_cancel(loop->heap[loop->timer_count - 1].timer);
	free(loop->heap);
	loop->heap = NULL;
}

void bt_timer_init(struct bt_timer *timer, void (*fn)(struct bt_timer *timer))
{
	timer->due_ns = 0;
	timer->fn = fn;
	timer->loop = NULL;
	timer->heap_index = NOT_IN_HEAP;
	bt_list_init(&timer->link);
}

int bt_timer_arm(struct bt_loop *loop, struct bt_timer *timer, uint64_t due_ns)
{
	struct bt_timer_slot slot = { .due_ns = due_ns, .timer = timer };
	int rc;

	bt_timer_cancel(timer);
	if (loop->timer_count == loop->timer_room) {
		rc = heap_grow(loop);
		if (rc < 0)
			return rc;
	}
	slot.seq = loop->timer_seq++;
	timer->due_ns = due_ns;
	timer->loop = loop;
	sift_up(loop, loop->timer_count++, slot);
	return 0;
}

void bt_timer_cancel(struct bt_timer *timer)
{
	if (!timer->loop)
		return;
	if (timer->heap_index == NOT_IN_HEAP)
		bt_list_del(&timer->link);
	else
		heap_remove(timer->loop, timer->heap_index);
	timer->heap_index = NOT_IN_HEAP;
	timer->loop = NULL;
}

void bt_timers_run(struct bt_loop *loop)
{
	struct bt_list *node;

	while (loop->timer_count && loop->heap[0].due_ns <= loop->time.now_ns) {
		struct bt_timer *timer = loop->heap[0].timer;

		heap_remove(loop, 0);
		timer->heap_index = NOT_IN_HEAP;
		bt_list_add_tail(&loop->due, &timer->link);
	}
	while ((node = bt_list_pop(&loop->due))) {
		struct bt_timer *timer =
			bt_list_entry(node, struct bt_timer, link);

		timer->loop = NULL;
		timer->fn(timer);
	}
}

uint64_t bt_timers_next(const struct bt_loop *loop)
{
	if (!loop->timer_count)
		return UINT64_MAX;
	if (loop->heap[0].due_ns <= loop->time.now_ns)
		return 0;
	return loop->heap[0].due_ns - loop->time.now_ns;
}
