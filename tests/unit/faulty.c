/* SPDX-License-Identifier: BSD-3-Clause */
#include "faulty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/private.h"
#include "util/sgl.h"

struct faulty_op {
	struct bt_slot *slot;
	const struct faulty_rule *rule;
	struct bt_timer timer;
	struct bt_list link;
};

struct faulty_state {
	struct bt_loop *loop;
	void (*completed)(void *opaque, struct bt_slot *slot);
	void *opaque;
	struct faulty_op *ops; /* one a slot */
	struct bt_list ready; /* completed by the next reap */
	struct bt_list held;
};

struct faulty faulty;
static struct faulty_state *the_state;

void faulty_reset(void)
{
	memset(&faulty, 0, sizeof(faulty));
}

struct faulty_rule *faulty_add(struct faulty_rule rule)
{
	struct faulty_rule *added = &faulty.rules[faulty.rule_count++];

	*added = rule;
	return added;
}

static bool meets(const struct faulty_rule *rule, const struct bt_slot *slot)
{
	if (rule->op != FAULTY_ANY && rule->op != (int)slot->op)
		return false;
	if (!rule->length)
		return true;
	return slot->offset < rule->offset + rule->length &&
	       rule->offset < slot->offset + slot->length;
}

static const struct faulty_rule *find_rule(const struct bt_slot *slot)
{
	const struct faulty_rule *found = NULL;
	uint32_t i;

	for (i = 0; i < faulty.rule_count; i++) {
		struct faulty_rule *rule = &faulty.rules[i];
		uint32_t first = rule->nth ? rule->nth : 1;
		uint32_t times = rule->times ? rule->times : rule->nth ? 1 : 0;

		if (!meets(rule, slot))
			continue;
		rule->met++;
		if (rule->met >= first &&
		    (!times || rule->met - first < times) && !found)
			found = rule;
	}
	return found;
}

static int64_t perform_short(const struct bt_slot *slot, uint64_t max)
{
	struct bt_sgl sgl = { .iov = slot->iov, .count = slot->iov_count };
	struct iovec iov[BT_SLOT_IOV];
	struct bt_slot part = *slot;

	if (!max)
		return 0;
	part.iov = iov;
	part.iov_count =
		bt_sgl_to_iov(&sgl, max, iov, BT_SLOT_IOV, &part.length);
	return bt_sync_perform(&part);
}

static void finish(struct faulty_op *op)
{
	struct bt_slot *slot = op->slot;
	const struct faulty_rule *rule = op->rule;

	if (rule && rule->error)
		slot->result = rule->error;
	else if (rule && rule->shorten && slot->length > rule->max_length)
		slot->result = perform_short(slot, rule->max_length);
	else
		slot->result = bt_sync_perform(slot);
	the_state->completed(the_state->opaque, slot);
}

static void on_due(struct bt_timer *timer)
{
	finish(bt_list_entry(timer, struct faulty_op, timer));
}

static int faulty_init(struct bt_loop *loop, uint32_t queue_depth,
		       void (*completed)(void *opaque, struct bt_slot *slot),
		       void *opaque, void **state)
{
	struct faulty_state *s;
	uint32_t i;

	if (faulty.init_error)
		return faulty.init_error;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->loop = loop;
	s->completed = completed;
	s->opaque = opaque;
	bt_list_init(&s->ready);
	bt_list_init(&s->held);
	s->ops = calloc(queue_depth, sizeof(*s->ops));
	for (i = 0; s->ops && i < queue_depth; i++)
		bt_timer_init(&s->ops[i].timer, on_due);
	the_state = s;
	*state = s;
	return 0;
}

static void faulty_fini(void *state)
{
	struct faulty_state *s = state;

	free(s->ops);
	free(s);
	the_state = NULL;
}

static void take(struct faulty_state *s, struct bt_slot *slot)
{
	struct faulty_op *op = &s->ops[slot->index];

	op->slot = slot;
	op->rule = find_rule(slot);
	faulty.calls++;
	faulty.calls_of[slot->op]++;
	if (faulty.hold) {
		faulty.held++;
		bt_list_add_tail(&s->held, &op->link);
	} else if (op->rule && op->rule->delay_ns) {
		bt_timer_arm(s->loop, &op->timer,
			     bt_loop_now(s->loop) + op->rule->delay_ns);
	} else {
		bt_list_add_tail(&s->ready, &op->link);
	}
}

static int faulty_submit(void *state, struct bt_slot **slots, uint32_t count)
{
	int error = faulty.submit_error;
	uint32_t i;

	faulty.submit_error = 0;
	if (error)
		return error;
	if (faulty.take_max && count > faulty.take_max)
		count = faulty.take_max;
	for (i = 0; i < count; i++)
		take(state, slots[i]);
	return (int)count;
}

static bool faulty_reap(void *state)
{
	struct faulty_state *s = state;
	struct bt_list batch = BT_LIST_INIT(batch);
	struct bt_list *node;
	bool any = false;

	bt_list_splice_tail(&batch, &s->ready);
	while ((node = bt_list_pop(&batch))) {
		finish(bt_list_entry(node, struct faulty_op, link));
		any = true;
	}
	return any;
}

void faulty_release(uint32_t count)
{
	struct bt_list *node;

	while (count-- && (node = bt_list_pop(&the_state->held))) {
		faulty.held--;
		bt_list_add_tail(&the_state->ready, node);
		bt_loop_poke(the_state->loop);
	}
}

static const struct bt_pace *faulty_pace(const void *state)
{
	return &faulty.pace;
}

const struct bt_backend faulty_backend = {
	.name = "faulty",
	.init = faulty_init,
	.fini = faulty_fini,
	.submit = faulty_submit,
	.pace = faulty_pace,
	.reap = faulty_reap,
};
