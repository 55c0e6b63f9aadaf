/* SPDX-License-Identifier: BSD-3-Clause */
/* Nodes of former graphs. A request that was in flight when the edges swung ends
 * by its frames, so its nodes and their ports stay until nothing names them:
 *
 *   retired -> no edge ends here, nothing is in it or below it -> closed
 *
 * Looked at right after the edit, and then by a timer. */
#include <errno.h>
#include <stdlib.h>

#include "mason/run.h"
#include "util/checked.h"

#define SWEEP_NS (10 * 1000000ull)

/* One more than asked for, so that room is never of no bytes. */
int bt_run_reserve(struct bt_run *run, uint32_t count)
{
	size_t room = (size_t)run->dying_count + count + 1;
	struct bt_node **dying =
		realloc(run->dying, room * sizeof(struct bt_node *));

	if (!dying)
		return -ENOMEM;
	run->dying = dying;
	return 0;
}

void bt_run_retire(struct bt_run *run, struct bt_node *node)
{
	run->dying[run->dying_count++] = node;
}

/* refs: edges that point here, those of late flushes too. has: requests, and
 * transfers whose time was up. */
static bool is_idle(const struct bt_node *node)
{
	uint32_t i;

	if (node->refs || node->has)
		return false;
	for (i = 0; i < node->port_count; i++)
		if (bt_port_in_flight(&node->ports[i]) ||
		    !bt_list_empty(&node->ports[i].held))
			return false;
	return true;
}

/* One that goes may free the one below it. From the start again after each:
 * closing one takes its edges, and another may be idle by that. The last one
 * takes the free place, so the order means nothing. */
static void drop_idle(struct bt_run *run)
{
	uint32_t i = 0;

	while (i < run->dying_count) {
		struct bt_node *node = run->dying[i];

		if (!is_idle(node)) {
			i++;
			continue;
		}
		run->dying[i] = run->dying[--run->dying_count];
		bt_run_drop(node);
		i = 0;
	}
}

/* Closing files may take a moment; it runs by a timer, so it is never inside of
 * a request's completion. */
void bt_run_sweep(struct bt_run *run)
{
	drop_idle(run);
	if (run->dying_count && !run->sweep.loop)
		bt_timer_arm(run->env->loop, &run->sweep,
			     bt_loop_refresh(run->env->loop) + SWEEP_NS);
}

static void sweep(struct bt_timer *timer)
{
	bt_run_sweep(bt_container_of(timer, struct bt_run, sweep));
}

void bt_run_retire_init(struct bt_run *run)
{
	bt_timer_init(&run->sweep, sweep);
}

struct await {
	struct bt_run *run;
	uint32_t before;
};

static bool has_gone(void *opaque)
{
	const struct await *await = opaque;

	return await->run->dying_count < await->before;
}

/* Also looks right now: what waits may have become idle since the last sweep.
 */
bool bt_run_await(struct bt_run *run, int timeout_ms)
{
	struct await await = { run, run->dying_count };

	bt_run_sweep(run);
	return has_gone(&await) ||
	       (run->dying_count && !bt_loop_run_until(run->env->loop, has_gone,
						       &await, timeout_ms));
}

static bool is_empty(void *opaque)
{
	struct bt_run *run = opaque;
	uint32_t i;

	drop_idle(run);
	for (i = 0; i < run->dying_count; i++)
		if (run->dying[i]->has)
			return false;
	return true;
}

/* A transfer that nobody waits for is memory of theirs. From a callback it cannot
 * be waited for, and what has it is left as it is, rather than freed under it. */
static void leave_busy(struct bt_run *run)
{
	uint32_t i = 0;

	while (i < run->dying_count) {
		if (run->dying[i]->has)
			run->dying[i] = run->dying[--run->dying_count];
		else
			i++;
	}
}

/* No disk is left, so whatever they still have is their own business. By refs,
 * those first that nothing points to: a class closes while what is below it is
 * open. */
void bt_run_retire_all(struct bt_run *run)
{
	bt_timer_cancel(&run->sweep);
	if (!is_empty(run) &&
	    bt_loop_run_until(run->env->loop, is_empty, run, -1) < 0)
		leave_busy(run);
	while (run->dying_count) {
		struct bt_node *node = run->dying[--run->dying_count];
		uint32_t i;

		for (i = 0; i < run->dying_count && node->refs; i++) {
			struct bt_node *other = run->dying[i];

			if (other->refs)
				continue;
			run->dying[i] = node;
			node = other;
		}
		bt_run_drop(node);
	}
}
