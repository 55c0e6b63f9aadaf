/* SPDX-License-Identifier: BSD-3-Clause */
/* One transfer through a port, waited for: how a node reads what it keeps below
 * itself before it serves anything. */
#include "port/port.h"

#include <errno.h>

struct wait {
	bool done;
};

static void finished(struct bt_request *req)
{
	((struct wait *)req->opaque)->done = true;
}

static bool is_done(void *opaque)
{
	return ((struct wait *)opaque)->done;
}

static int run(struct bt_port *port, struct bt_request *req)
{
	struct wait wait = { .done = false };
	int rc;

	req->done = finished;
	req->opaque = &wait;
	bt_port_submit(port, req);
	rc = bt_loop_run_until(port->env->loop, is_done, &wait, -1);
	return rc < 0 ? rc : req->error;
}

/* As much as the lower node takes at once. */
static int run_steps(struct bt_port *port, struct bt_request *req,
		     struct iovec iov, size_t length)
{
	uint64_t most = port->lower->limits.max_transfer;
	int rc = 0;

	while (length && !rc) {
		iov.iov_len = length < most ? length : most;
		req->length = iov.iov_len;
		req->data = (struct bt_sgl){ .iov = &iov, .count = 1 };
		rc = run(port, req);
		req->offset += iov.iov_len;
		iov.iov_base = (char *)iov.iov_base + iov.iov_len;
		length -= iov.iov_len;
	}
	return rc;
}

int bt_node_transfer(struct bt_port *port, enum blktap_op op, uint64_t offset,
		     void *memory, size_t length)
{
	struct iovec iov = { .iov_base = memory };
	struct bt_request *req;
	struct bt_pool *pool;
	int rc;

	if (bt_loop_is_running(port->env->loop))
		return -EDEADLK; /* its memory could not outlive the call */
	rc = bt_pool_create(1, sizeof(*req), port->lower->frame_sum, &pool);
	if (rc < 0)
		return rc;
	req = bt_pool_take(pool);
	req->op = op;
	req->offset = offset;
	if (op == BLKTAP_OP_FLUSH)
		rc = run(port, req);
	else
		rc = run_steps(port, req, iov, length);
	bt_pool_give(req);
	bt_pool_destroy(pool);
	return rc;
}
