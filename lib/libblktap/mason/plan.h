/* SPDX-License-Identifier: BSD-3-Clause */
/* What has to be done to a running graph so that it becomes another one. A plan
 * changes nothing; apply.c carries it out. */
#ifndef BT_MASON_PLAN_H
#define BT_MASON_PLAN_H

#include "mason/run.h"

#define BT_PLAN_NONE UINT32_MAX

enum bt_change {
	BT_CHANGE_IDLE, /* no open disk reaches it */
	BT_CHANGE_KEEP,
	BT_CHANGE_RECONFIGURE, /* live arguments differ */
	BT_CHANGE_REPLACE,
	BT_CHANGE_ADD,
};

/* A node of the new graph. */
struct bt_plan_node {
	enum bt_change change;
	/* set by match.c; `change` says whether the running node is kept as it
	 */
	uint32_t old; /* the node of the old graph that it is; or NONE */
	bool late; /* opened while the gates are held: it must see every write
		    * from the state that it finds on */
	bool on_kept; /* something that runs is below it */
	bool under; /* a node that is no filter is above it, or a driver */
	const char *why; /* of REPLACE */
	bool locked; /* and it cannot be, where the file system has locks */
	struct bt_args
		*args; /* of RECONFIGURE: the new ones, then the old; NULL:
			       * only those with an @ differ */
	char *name; /* of a kept one that is called otherwise: the same */
	struct bt_limits limits; /* as they will be */
	uint32_t frame_sum;
};

/* An edge of a node that stays, or of a disk, which leads elsewhere. */
struct bt_plan_edge {
	struct bt_port *port;
	const char *upper; /* who has it */
	uint32_t from, to; /* in the old graph, in the new one */
	uint32_t entry;
	enum bt_pause pause;
	/* the edges' array does not move any more once gates are held */
	struct bt_gate gate;
	bool swapped; /* limits.c */
	struct bt_node *old_lower;
};

/* A front that the new graph has no more. */
struct bt_plan_leaver {
	struct bt_front *front;
	struct bt_plan_edge edge; /* held while it goes; leads nowhere */
};

struct bt_plan {
	struct bt_run *run;
	/* owned; behind the commit the old one, and so is `running` */
	struct bt_mason_file *file; /* the new one */
	struct bt_plan_node *nodes; /* by index in the new graph */
	uint32_t node_count;
	uint32_t *kept_as; /* by index in the old one: the new node, or NONE */
	uint32_t *fronts; /* by index in the old one: the new front, or NONE */
	struct bt_node **running; /* by index in the new one */
	struct bt_plan_edge *edges; /* upper ones first */
	uint32_t edge_count;
	struct bt_plan_leaver *leavers;
	uint32_t leaver_count;
	uint32_t kept, reconfigured, replaced, added, removed;
	/* the strictest of all edges */
	enum bt_pause pause;
};

/* Takes file over, on failure too. */
int bt_plan_create(struct bt_run *run, struct bt_mason_file *file,
		   struct bt_plan **out, struct blktap_error **err);
void bt_plan_destroy(struct bt_plan *plan);

/* Whether the arguments of g and of the old node that it is differ; core: those
 * with an @. */
bool bt_plan_args_differ(const struct bt_plan *plan,
			 const struct bt_mason_node *g, bool core);

/* match.c: which node of the old graph each of the new one is. */
int bt_plan_match(struct bt_plan *plan);

/* plan-crypt.c: clear text is not taken for ciphertext, nor the other way. */
int bt_plan_check_crypt(const struct bt_plan *plan, struct blktap_error **err);

/* The plan for people, and as members of a JSON object. */
struct bt_json;
struct bt_strbuf;
void bt_plan_print(const struct bt_plan *plan, struct bt_strbuf *out);
void bt_plan_put(const struct bt_plan *plan, struct bt_json *json);
const char *bt_pause_name(enum bt_pause pause);

static inline bool bt_plan_is_kept(const struct bt_plan_node *node)
{
	return node->change == BT_CHANGE_KEEP ||
	       node->change == BT_CHANGE_RECONFIGURE;
}

#endif
