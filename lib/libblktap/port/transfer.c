/* SPDX-License-Identifier: BSD-3-Clause */
/* One transfer through a port, waited for: how a node reads what it keeps below
 * itself before it serves anything.
 *
 * It goes through an edge and memory of its own, because it may outlive the caller
 * and his port: one whose time is up is left to itself (orphan), and frees all that
 * when its request is back. Who is below has that edge until then. */
#include "port/port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/checked.h"

#define ALIGN 4096u
#define STEP (1u << 20) /* bytes at once, at most */
#define NS_PER_MS 1000000ull

struct transfer {
	struct bt_port port;
	struct bt_pool *pool;
	struct bt_work end;
	struct iovec iov;
	struct blktap_extent extent; /* BLOCK_STATUS: the first one */
	uint32_t extent_count;
	bool done;
	bool orphan;
	int error;
};

int bt_env_open_ms(const struct bt_env *env)
{
	uint64_t now;

	if (!env->open_until_ns)
		return -1;
	now = bt_monotonic_ns();
	if (now >= env->open_until_ns)
		return 0;
	return (int)bt_min_u64((env->open_until_ns - now + NS_PER_MS - 1) /
				       NS_PER_MS,
			       INT32_MAX);
}

static void destroy(struct transfer *t)
{
	bt_port_link(&t->port, NULL);
	bt_pool_destroy(t->pool);
	free(t->iov.iov_base);
	free(t);
}

static void end_orphan(struct bt_work *work)
{
	destroy(bt_container_of(work, struct transfer, end));
}

static void finished(struct bt_port *port, struct bt_request *req)
{
	struct transfer *t = port->opaque;

	t->error = req->error;
	t->extent_count = req->extent_count;
	t->done = true;
	bt_pool_give(req);
	if (t->orphan) /* the node's own code is on the stack */
		bt_loop_defer(port->env->loop, &t->end);
}

static bool is_done(void *opaque)
{
	return ((struct transfer *)opaque)->done;
}

static int create(const struct bt_port *port, size_t room,
		  struct transfer **out)
{
	struct transfer *t = calloc(1, sizeof(*t));
	int rc = t ? bt_pool_create(1, sizeof(struct bt_request),
				    port->lower->frame_sum, &t->pool)
		   : -ENOMEM;

	if (!rc && room) {
		t->iov.iov_base = aligned_alloc(
			ALIGN, (room + ALIGN - 1) & ~(size_t)(ALIGN - 1));
		if (!t->iov.iov_base) {
			bt_pool_destroy(t->pool);
			rc = -ENOMEM;
		}
	}
	if (rc < 0) {
		free(t);
		return rc;
	}
	bt_port_init(&t->port, port->env, NULL, "transfer");
	bt_work_init(&t->end, end_orphan);
	t->port.done = finished;
	t->port.opaque = t;
	bt_port_link(&t->port, port->lower);
	t->port.entry = port->entry;
	*out = t;
	return 0;
}

/* -ETIMEDOUT: the transfer is not the caller's any more. */
static int run(struct transfer *t, enum blktap_op op, uint64_t offset,
	       size_t length)
{
	struct bt_env *env = t->port.env;
	struct bt_request *req = bt_pool_take(t->pool);
	int rc;

	t->done = false;
	t->iov.iov_len = length;
	req->op = op;
	req->flags = BT_REQUEST_BYPASS; /* the caller wants its error */
	req->offset = offset;
	req->length = length;
	req->extents = &t->extent;
	req->extent_max = 1;
	if (t->iov.iov_base)
		req->data = (struct bt_sgl){ .iov = &t->iov, .count = 1 };
	bt_port_submit(&t->port, req);
	rc = bt_loop_run_until(env->loop, is_done, t, bt_env_open_ms(env));
	if (t->done)
		return t->error;
	t->orphan = true;
	return rc ? rc : -ETIMEDOUT;
}

int bt_node_transfer(struct bt_port *port, enum blktap_op op, uint64_t offset,
		     void *memory, size_t length)
{
	size_t most = bt_min_u64(port->lower->limits.max_transfer, STEP);
	size_t step = bt_min_u64(length, most), at = 0;
	bool gone = false;
	struct transfer *t;
	int rc;

	if (bt_loop_is_running(port->env->loop))
		return -EDEADLK; /* its memory could not outlive the call */
	if (op == BLKTAP_OP_FLUSH)
		step = length = 0;
	rc = create(port, step, &t);
	if (rc < 0)
		return rc;
	do {
		size_t n = bt_min_u64(length - at, step);

		if (op == BLKTAP_OP_WRITE)
			memcpy(t->iov.iov_base, (char *)memory + at, n);
		rc = run(t, op, offset + at, n);
		if (op == BLKTAP_OP_WRITE) /* for the next flush of the edge */
			port->written++;
		gone = t->orphan;
		if (!rc && op == BLKTAP_OP_READ)
			memcpy((char *)memory + at, t->iov.iov_base, n);
		at += n;
	} while (at < length && !rc);
	if (!gone)
		destroy(t);
	return rc;
}

uint64_t bt_node_zeroes(struct bt_port *port, uint64_t offset, uint64_t length)
{
	bool can = port->lower->limits.operations >> BLKTAP_OP_BLOCK_STATUS & 1;
	struct transfer *t;
	uint64_t n = 0;

	if (!can || bt_loop_is_running(port->env->loop) ||
	    create(port, 0, &t) < 0)
		return 0;
	if (!run(t, BLKTAP_OP_BLOCK_STATUS, offset, length) &&
	    t->extent_count && t->extent.flags & BLKTAP_EXTENT_ZERO)
		n = bt_min_u64(t->extent.length, length);
	if (!t->orphan)
		destroy(t);
	return n;
}
