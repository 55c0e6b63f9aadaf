/* SPDX-License-Identifier: BSD-3-Clause */
/* A transfer longer than the lower node takes goes in steps, one after another, by
 * the same request; other transfers of the task go beside it. */
#include "module/task.h"

#include <errno.h>

#include "util/checked.h"

void bt_task_begin(struct bt_task *task, void (*fn)(struct bt_task *task))
{
	task->left = 1; /* so that it cannot end before bt_task_end */
	task->error = 0;
	task->fn = fn;
}

void bt_task_end(struct bt_task *task)
{
	if (--task->left == 0)
		task->fn(task);
}

static void step(struct bt_task_io *io, struct bt_port *port);

/* The request is back in its pool before the task may end, so what begins then
 * finds the pool full. */
static void ended(struct bt_task_io *io, int error)
{
	struct bt_task *task = io->task;

	if (error && !task->error)
		task->error = error;
	if (error && io->error)
		*io->error = error;
	bt_pool_give(&io->req);
	bt_task_end(task);
}

/* A failed step is the end of the transfer: what comes behind it is not tried.
 * What came before it has been done. */
static void done(struct bt_request *req)
{
	struct bt_task_io *io = (struct bt_task_io *)req;

	io->left -= req->length;
	if (req->error || !io->left) {
		ended(io, req->error);
		return;
	}
	req->offset += req->length;
	io->iov.iov_base = (char *)io->iov.iov_base + req->length;
	step(io, req->opaque);
}

/* max_transfer is read anew for each step, as a plan may have changed it
 * between two. */
static void step(struct bt_task_io *io, struct bt_port *port)
{
	struct bt_request *req = &io->req;

	req->length = bt_min_u64(io->left, port->lower->limits.max_transfer);
	io->iov.iov_len = req->length;
	req->data = (struct bt_sgl){ .iov = &io->iov, .count = 1 };
	bt_port_submit(port, req);
}

/* The pool is never empty here: it was made for the most transfers that run at
 * once. That is the caller's to keep. */
void bt_task_add(struct bt_task *task, struct bt_pool *pool,
		 struct bt_port *port, enum blktap_op op, uint64_t offset,
		 void *memory, uint64_t length, int *error)
{
	struct bt_task_io *io = (struct bt_task_io *)bt_pool_take(pool);

	task->left++;
	io->task = task;
	io->error = error;
	io->left = length;
	io->iov.iov_base = memory;
	io->req.op = op;
	io->req.offset = offset;
	io->req.done = done;
	io->req.opaque = port;
	step(io, port);
}
