/* SPDX-License-Identifier: BSD-3-Clause */
/* Carries a plan out. */
#ifndef BT_MASON_APPLY_H
#define BT_MASON_APPLY_H

#include "mason/plan.h"

struct bt_apply_options {
	uint32_t deadline_ms; /* for the gates; 0: none */
	uint32_t flags; /* BT_RUN_* */
};

struct bt_apply_result {
	uint64_t generation;
	uint64_t pause_ns;
};

/* The whole plan, or nothing. Waits; -EDEADLK from inside a callback. The plan
 * is done with in both cases, and the caller destroys it. */
int bt_apply(struct bt_plan *plan, const struct bt_apply_options *options,
	     struct bt_apply_result *result, struct blktap_error **err);

/* asserts.c: all that the new file asserts holds. */
int bt_apply_asserts(const struct bt_plan *plan, struct blktap_error **err);
/* A value of a node by name, as asserts and pictures have it. */
bool bt_node_value(const struct bt_node *node, const char *name, char *text,
		   size_t size);

/* limits.c: what the nodes and disks of the new graph will have; checked, and
 * room made. The running graph is not changed. */
int bt_apply_limits(struct bt_plan *plan, uint32_t flags,
		    struct blktap_error **err);

/* drain.c */
int bt_drain_edge(struct bt_run *run, struct bt_plan_edge *edge,
		  uint32_t timeout_ms, struct blktap_error **err);
/* A flush of a node, the last one of a node that goes (BT_REQUEST_LAST in flags). */
int bt_drain_flush(struct bt_run *run, struct bt_node *node, uint32_t flags,
		   uint32_t timeout_ms);

#endif
