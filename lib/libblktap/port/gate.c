/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate: held edges, and the wait until what entered them has left.
 *
 *   open -> bt_gate_hold -> held -> (drained, or the deadline) -> told
 *        <--------------- bt_gate_release ----------------------- */
#include "port/port.h"

#include <errno.h>
#include <string.h>

#define NS_PER_MS 1000000ull

/* Never from inside of what drained it: a node is on the stack there, which the holder
 * may be about to close. */
static void tell(struct bt_gate *gate, int result)
{
	gate->told = true;
	gate->result = result;
	bt_timer_cancel(&gate->timer);
	bt_loop_defer(gate->env->loop, &gate->tell);
}

static void told(struct bt_work *work)
{
	struct bt_gate *gate = bt_container_of(work, struct bt_gate, tell);

	gate->fn(gate, gate->result);
}

static void expired(struct bt_timer *timer)
{
	struct bt_gate *gate = bt_container_of(timer, struct bt_gate, timer);

	if (!gate->told)
		tell(gate, -ETIMEDOUT);
}

void bt_gate_init(struct bt_gate *gate, struct bt_env *env)
{
	memset(gate, 0, sizeof(*gate));
	gate->env = env;
	bt_timer_init(&gate->timer, expired);
	bt_work_init(&gate->tell, told);
}

bool bt_gate_is_drained(const struct bt_gate *gate)
{
	uint32_t i, flow;

	for (i = 0; i < gate->count; i++)
		for (flow = 0; flow < BT_FLOW_COUNT; flow++)
			if (gate->hold & (1u << flow) &&
			    gate->ports[i]->entered[flow] !=
				    gate->ports[i]->left[flow])
				return false;
	return true;
}

void bt_gate_check(struct bt_gate *gate)
{
	if (gate->is_held && !gate->told && bt_gate_is_drained(gate))
		tell(gate, 0);
}

int bt_gate_hold(struct bt_gate *gate, struct bt_port **ports, uint32_t count,
		 uint32_t hold, uint32_t timeout_ms,
		 void (*fn)(struct bt_gate *gate, int error), void *opaque)
{
	struct bt_loop *loop = gate->env->loop;
	uint32_t i;
	int rc;

	if (gate->is_held)
		return -EBUSY;
	for (i = 0; i < count; i++)
		if (ports[i]->gate)
			return -EBUSY;
	if (timeout_ms) {
		rc = bt_timer_arm(loop, &gate->timer,
				  bt_loop_refresh(loop) +
					  timeout_ms * NS_PER_MS);
		if (rc < 0)
			return rc;
	}
	gate->ports = ports;
	gate->count = count;
	gate->hold = hold;
	gate->fn = fn;
	gate->opaque = opaque;
	gate->is_held = true;
	gate->told = false;
	for (i = 0; i < count; i++) {
		ports[i]->gate = gate;
		ports[i]->hold = hold;
	}
	bt_gate_check(gate);
	return 0;
}

/* Its place in the array is the last one's then: the order of edges says nothing. */
void bt_gate_forget(struct bt_gate *gate, struct bt_port *port)
{
	uint32_t i;

	if (port->gate != gate)
		return;
	for (i = 0; gate->ports[i] != port; i++)
		;
	gate->ports[i] = gate->ports[--gate->count];
	port->gate = NULL;
	port->hold = 0;
	bt_gate_check(gate);
}

/* All edges are open before the first request goes: it may go from one to another. */
void bt_gate_release(struct bt_gate *gate)
{
	struct bt_port **ports = gate->ports;
	uint32_t i, count = gate->count;

	if (!gate->is_held)
		return;
	bt_timer_cancel(&gate->timer);
	bt_work_cancel(&gate->tell);
	gate->is_held = false;
	for (i = 0; i < count; i++) {
		ports[i]->gate = NULL;
		ports[i]->hold = 0;
	}
	for (i = 0; i < count; i++)
		bt_port_resubmit(ports[i]);
}
