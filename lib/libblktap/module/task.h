/* SPDX-License-Identifier: BSD-3-Clause */
/* Several transfers of a module's own at once, and what follows when the last of
 * them is done: one step of a module's state machine.
 *
 *	bt_task_begin(&task, next_step);
 *	bt_task_add(&task, pool, port, BLKTAP_OP_WRITE, offset, memory, length);
 *	...
 *	bt_task_end(&task);
 *
 * next_step runs once, from the last completion or from bt_task_end; it may begin
 * the same task anew. */
#ifndef BT_MODULE_TASK_H
#define BT_MODULE_TASK_H

#include "port/port.h"

struct bt_task {
	/* transfers that have not ended, and one more between begin and end */
	uint32_t left;
	int error; /* the first one */
	/* called with the task ended: it may begin it anew, or free what it is
	 * in */
	void (*fn)(struct bt_task *task);
};

/* An item of the pools: bt_node_add_pool(node, n, sizeof(struct bt_task_io), ..)
 * with n the most that are added to tasks that run at the same time. */
struct bt_task_io {
	struct bt_request req; /* first: what the pool knows of it */
	struct bt_task *task;
	int *error; /* or NULL: this transfer's own result */
	struct iovec iov;
	uint64_t left; /* bytes from req.offset on, those under way included */
};

/* begin, any number of add, end: fn is called once, inside of end where all is done by
 * then, never before. The task is nobody else's until that. */
void bt_task_begin(struct bt_task *task, void (*fn)(struct bt_task *task));
/* READ or WRITE, in steps that the lower node takes; or FLUSH, without memory.
 * *error, where error is not NULL, is set where it fails. */
void bt_task_add(struct bt_task *task, struct bt_pool *pool,
		 struct bt_port *port, enum blktap_op op, uint64_t offset,
		 void *memory, uint64_t length, int *error);
void bt_task_end(struct bt_task *task);

#endif
