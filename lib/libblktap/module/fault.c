/* SPDX-License-Identifier: BSD-3-Clause */
/* fault: breaks what its rules (fault.h) say, the same way for the same seed and
 * the same requests. The first rule that applies to a request is the one.
 *
 *   error    nothing goes down
 *   lost     nothing goes down, and success goes up
 *   torn     the first blocks of a write go down, then EIO goes up
 *   corrupt  goes down; a bit is turned on the way up
 *   delay    goes down later */
#include "module/module.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "module/fault.h"
#include "module/later.h"
#include "port/args.h"
#include "util/checked.h"

struct fault {
	struct bt_later later;
	struct bt_fault_rule rules[BT_FAULT_RULES];
	uint32_t count;
	uint64_t random;
	uint64_t applied;
};

struct fault_frame {
	struct bt_later_frame later;
	/* the node's, which has the same rules from open to close */
	const struct bt_fault_rule *rule; /* NULL: none */
	uint64_t length; /* a torn write's own */
	/* drawn once a request, where a rule applies */
	uint64_t chance;
};

static const struct blktap_param params[] = {
	{ .name = "rules",
	  .type = BLKTAP_PARAM_LIST,
	  .help = "what breaks: [\"write 1M..2M EIO p=1%\", \"flush lost "
		  "after=100\"]; actions are errnos, lost, torn, corrupt, "
		  "delay=10ms; conditions p=, after=, times=" },
	{ .name = "seed",
	  .type = BLKTAP_PARAM_INT,
	  .fallback = "1",
	  .help = "the same seed breaks the same requests" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "lower", .help = "what seems to be broken" },
	{ .name = NULL },
};

/* ---- rules ---------------------------------------------------------------- */

/* Two passes use it: the check of the text alone, and the opening. */
static int parse_rules(const struct bt_args *args, struct bt_fault_rule *rules,
		       uint32_t *count, struct blktap_error **err)
{
	const char *list = bt_args_string(args, "rules");
	char *copy = strdup(list ? list : ""), *save, *line;
	int rc = copy ? 0 : -ENOMEM;

	*count = 0;
	for (line = copy ? strtok_r(copy, "\n", &save) : NULL; line && !rc;
	     line = strtok_r(NULL, "\n", &save)) {
		if (*count == BT_FAULT_RULES)
			rc = bt_fail(err, -E2BIG, "put two nodes in a row",
				     "fault: more than %u rules",
				     BT_FAULT_RULES);
		else
			rc = bt_fault_parse(line, &rules[(*count)++], err);
	}
	free(copy);
	return rc;
}

static int fault_check(const struct bt_args *args, struct blktap_error **err)
{
	struct bt_fault_rule rules[BT_FAULT_RULES];
	uint32_t count;

	return parse_rules(args, rules, &count, err);
}

/* Whether the rule is about the request. One without a place, a flush, is in no
 * range. */
static bool is_met(const struct bt_fault_rule *rule,
		   const struct bt_request *req)
{
	if (!(rule->operations >> req->op & 1u))
		return false;
	if (!rule->end)
		return true;
	return req->length && req->offset < rule->end &&
	       req->offset + req->length > rule->start;
}

/* `met` counts requests that the rule is about, in order; a rule that does not
 * apply leaves the request to those behind it. */
static const struct bt_fault_rule *find_rule(struct fault *fault,
					     const struct bt_request *req)
{
	uint32_t i;

	for (i = 0; i < fault->count; i++) {
		struct bt_fault_rule *rule = &fault->rules[i];

		if (!is_met(rule, req) || rule->met++ < rule->after)
			continue;
		if (rule->times && rule->applied >= rule->times)
			continue;
		if (rule->ppm < BT_FAULT_MILLION &&
		    bt_chance(&fault->random) % BT_FAULT_MILLION >= rule->ppm)
			continue;
		rule->applied++;
		fault->applied++;
		return rule;
	}
	return NULL;
}

/* ---- what they do --------------------------------------------------------- */

static void go_down(struct bt_node *node, struct bt_request *req)
{
	bt_port_submit(&node->ports[0], req);
}

/* Some of the blocks, perhaps none, never all. In blocks of the disk, so that
 * what is below takes it. The request keeps its length where it does not go down:
 * what is above gets it back by that. */
static void tear(struct bt_node *node, struct bt_request *req)
{
	uint64_t block = bt_max_u64(node->limits.block_size, 512);
	struct fault_frame *frame = bt_request_frame(req);
	uint64_t blocks = (req->length + block - 1) / block;
	uint64_t whole = frame->chance % blocks;

	if (!whole) {
		bt_request_complete(req, frame->rule->error);
		return;
	}
	req->length = block * whole;
	go_down(node, req);
}

static void corrupt(const struct fault_frame *frame, struct bt_request *req)
{
	struct bt_sgl sgl = req->data;
	uint8_t byte;

	bt_sgl_advance(&sgl, (frame->chance >> 3) % req->length);
	bt_sgl_copy_out(&sgl, &byte, 1);
	byte ^= (uint8_t)(1u << (frame->chance & 7));
	bt_sgl_copy_in(&sgl, &byte, 1);
}

static void fault_submit(struct bt_node *node, struct bt_request *req)
{
	struct fault_frame *frame = bt_request_frame(req);
	struct fault *fault = node->data;

	frame->length = req->length;
	frame->rule = find_rule(fault, req);
	if (bt_likely(!frame->rule)) {
		go_down(node, req);
		return;
	}
	frame->chance = bt_chance(&fault->random);
	switch (frame->rule->action) {
	case BT_FAULT_ERROR:
	case BT_FAULT_LOST:
		bt_request_complete(req, frame->rule->error);
		break;
	case BT_FAULT_TORN:
		tear(node, req);
		break;
	case BT_FAULT_CORRUPT:
		go_down(node, req);
		break;
	case BT_FAULT_DELAY:
		bt_later_add(&fault->later, req,
			     bt_loop_now(node->env->loop) +
				     frame->rule->delay_ns);
		break;
	}
}

/* A torn write's own error comes before the rule's. */
static void fault_complete(struct bt_node *node, struct bt_port *port,
			   struct bt_request *req)
{
	struct fault_frame *frame = bt_request_frame(req);
	int error = req->error;

	req->length = frame->length;
	if (frame->rule && frame->rule->action == BT_FAULT_TORN && !error)
		error = frame->rule->error;
	if (frame->rule && frame->rule->action == BT_FAULT_CORRUPT && !error)
		corrupt(frame, req);
	bt_request_complete(req, error);
}

/* ---- the class ------------------------------------------------------------ */

/* The rules lie in the node, so that frames can point at them. */
static int fault_open(struct bt_node *node, const struct bt_args *args,
		      uint32_t flags, struct blktap_error **err)
{
	struct fault *fault = node->data;

	bt_later_init(&fault->later, node, go_down);
	fault->random = bt_args_number(args, "seed");
	return parse_rules(args, fault->rules, &fault->count, err);
}

static void fault_close(struct bt_node *node)
{
	struct fault *fault = node->data;

	bt_later_fini(&fault->later);
}

static bool fault_get_value(const struct bt_node *node, const char *name,
			    char *text, size_t size)
{
	const struct fault *fault = node->data;

	if (strcmp(name, "applied"))
		return false;
	snprintf(text, size, "%llu", (unsigned long long)fault->applied);
	return true;
}

const struct blktap_class bt_fault_class = {
	.name = "fault",
	.summary = "breaks requests by rules, the same way each time",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.node_bytes = sizeof(struct fault),
	.frame_bytes = sizeof(struct fault_frame),
	.open = fault_open,
	.close = fault_close,
	.submit = fault_submit,
	.complete = fault_complete,
	.check_args = fault_check,
	.pause = BT_PAUSE_NONE,
	.get_value = fault_get_value,
	.values = "applied",
};
