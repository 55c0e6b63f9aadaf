/* SPDX-License-Identifier: BSD-3-Clause */
/* compare: two disks that must always give the same. Everything that changes data
 * goes to both; a read is taken from both and compared, byte by byte, and so are
 * the errors. What differs is told with its place; with on_mismatch=error, which
 * is the default, it fails with EILSEQ as well.
 *
 *   submit -> [lock the range] -> [a buffer, for reads] -> `a`, and a child to `b`
 *          -> both are back -> compare -> unlock, give the buffer -> up
 *
 * The range is locked because two disks may order requests that overlap in two
 * ways, both of them right. Discards are not offered: what they leave behind may be
 * anything. */
#include "module/module.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "module/buffers.h"
#include "port/args.h"
#include "request/rangelock.h"
#include "util/checked.h"

#define BUFFER_SIZE (256u << 10)
#define BUFFERS 16u
#define CHILDREN 64u
#define PIECE 512u

enum { PORT_A, PORT_B };

struct compare {
	struct bt_node *node;
	struct bt_pool *children;
	struct bt_buffers buffers;
	struct bt_rangelock ranges;
	struct bt_list waiting; /* for a child or a buffer, oldest first */
	uint64_t mismatches;
	bool fails;
};

struct compare_frame {
	struct compare *compare;
	struct bt_request *req;
	struct bt_range range;
	void *buffer; /* what b gave */
	struct iovec iov;
	/* 2: the request itself at `a`, the child at `b` */
	uint32_t pending;
	int error_a, error_b;
};

static const struct blktap_param params[] = {
	{ .name = "on_mismatch",
	  .type = BLKTAP_PARAM_ENUM,
	  .flags = BLKTAP_PARAM_LIVE,
	  .fallback = "error",
	  .choices = "error|log",
	  .help = "error: the request fails with EILSEQ; log: it is told, and "
		  "what a gave goes up" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "a",
	  .flags = BT_PORT_SAME_SIZE,
	  .help = "one disk, whose answers go up" },
	{ .name = "b",
	  .flags = BT_PORT_SAME_SIZE,
	  .help = "the other, which must give the same" },
	{ .name = NULL },
};

static void start_waiting(struct compare *compare);

/* ---- the end -------------------------------------------------------------- */

static void mismatch(struct compare *compare, const struct bt_request *req,
		     const char *what, uint64_t offset)
{
	compare->mismatches++;
	bt_log(compare->node->env->log, BLKTAP_LOG_ERROR,
	       "%s: %s of '%s' and '%s' differ at %" PRIu64
	       " (in the request %" PRIu64 "+%" PRIu64 ")",
	       compare->node->name, what,
	       compare->node->ports[PORT_A].lower->name,
	       compare->node->ports[PORT_B].lower->name, offset, req->offset,
	       req->length);
}

/* Where the data differ; the length where they do not. */
static uint64_t first_difference(const struct bt_request *req,
				 const uint8_t *other)
{
	struct bt_sgl sgl = req->data;
	uint8_t piece[PIECE];
	uint64_t at, i, n;

	for (at = 0; at < req->length; at += n) {
		n = bt_min_u64(req->length - at, PIECE);
		bt_sgl_copy_out(&sgl, piece, n);
		bt_sgl_advance(&sgl, n);
		if (!memcmp(piece, other + at, n))
			continue;
		for (i = 0; piece[i] == other[at + i]; i++)
			;
		return at + i;
	}
	return req->length;
}

/* That zeroes cannot be made here is no error of the disk, and one of them may be
 * able to: they are written as data then, to both. */
static bool lacks_zeroes(const struct compare_frame *frame)
{
	return frame->req->op == BLKTAP_OP_WRITE_ZEROES &&
	       (frame->error_a == -ENOTSUP || frame->error_b == -ENOTSUP);
}

/* Errors are compared by number; where both are the same it is the request's.
 */
static int judge(struct compare *compare, struct compare_frame *frame)
{
	struct bt_request *req = frame->req;
	uint64_t at;

	if (lacks_zeroes(frame))
		return -ENOTSUP;
	if (frame->error_a != frame->error_b) {
		mismatch(compare, req, "errors", req->offset);
	} else if (frame->error_a || req->op != BLKTAP_OP_READ) {
		return frame->error_a;
	} else {
		at = first_difference(req, frame->buffer);
		if (at == req->length)
			return 0;
		mismatch(compare, req, "data", req->offset + at);
	}
	return compare->fails ? -EILSEQ : frame->error_a;
}

/* Whichever comes last. The frame ends with the request. */
static void one_is_back(struct compare_frame *frame)
{
	struct compare *compare = frame->compare;
	struct bt_request *req = frame->req;
	int error;

	if (--frame->pending)
		return;
	error = judge(compare, frame);
	if (frame->buffer)
		bt_buffers_give(&compare->buffers, frame->buffer);
	bt_range_unlock(&compare->ranges, &frame->range);
	bt_request_complete(req, error);
	start_waiting(compare);
}

/* The child has no frame of its own: what it needs is the request's. */
static void child_done(struct bt_request *child)
{
	struct compare_frame *frame = child->opaque;

	frame->error_b = child->error;
	bt_pool_give(child);
	one_is_back(frame);
}

/* What the class only passes has no frame that start() has filled. */
static void compare_complete(struct bt_node *node, struct bt_port *port,
			     struct bt_request *req)
{
	struct compare_frame *frame = bt_request_frame(req);

	(void)port;
	if (!(node->cls->operations >> req->op & 1u)) {
		bt_request_complete(req, req->error); /* it passed unseen */
		return;
	}
	frame->error_a = req->error;
	one_is_back(frame);
}

/* ---- the way down --------------------------------------------------------- */

/* False where something it needs is not free. All or nothing: a buffer without
 * a child is given back, so that no request keeps what another waits for. */
static bool start(struct compare *compare, struct bt_request *req)
{
	struct compare_frame *frame = bt_request_frame(req);
	struct bt_request *child;

	if (req->op == BLKTAP_OP_READ) {
		frame->buffer = bt_buffers_take(&compare->buffers);
		if (!frame->buffer)
			return false;
	}
	child = bt_pool_take(compare->children);
	if (!child) {
		if (frame->buffer)
			bt_buffers_give(&compare->buffers, frame->buffer);
		frame->buffer = NULL;
		return false;
	}
	child->op = req->op;
	child->flags = req->flags;
	child->offset = req->offset;
	child->length = req->length;
	child->data = req->data;
	if (frame->buffer) {
		frame->iov.iov_base = frame->buffer;
		frame->iov.iov_len = req->length;
		child->data = (struct bt_sgl){ .iov = &frame->iov, .count = 1 };
	}
	child->done = child_done;
	child->opaque = frame;
	frame->pending = 2;
	/* the child first: with the request gone from here the frame may be
	 * gone, too */
	bt_port_submit(&compare->node->ports[PORT_B], child);
	bt_port_submit(&compare->node->ports[PORT_A], req);
	return true;
}

/* In order of coming, also where a later one could go, a write, which needs no
 * buffer: or a read could wait for ever behind writes. */
static void start_waiting(struct compare *compare)
{
	while (!bt_list_empty(&compare->waiting)) {
		struct bt_request *req = bt_list_first(&compare->waiting,
						       struct bt_request, link);

		bt_list_del(&req->link);
		if (start(compare, req))
			continue;
		bt_list_add(&compare->waiting, &req->link);
		return;
	}
}

/* Also where nothing waits, so that there is one way. */
static void queue(struct compare *compare, struct bt_request *req)
{
	bt_list_add_tail(&compare->waiting, &req->link);
	start_waiting(compare);
}

static void granted(struct bt_range *range)
{
	struct compare_frame *frame =
		bt_container_of(range, struct compare_frame, range);

	queue(frame->compare, frame->req);
}

/* The lock first, then the queue for child and buffer; a flush has no range. */
static void compare_submit(struct bt_node *node, struct bt_request *req)
{
	struct compare_frame *frame = bt_request_frame(req);
	struct compare *compare = node->data;

	memset(frame, 0, sizeof(*frame));
	bt_list_init(&frame->range.link);
	frame->compare = compare;
	frame->req = req;
	if (req->op == BLKTAP_OP_FLUSH ||
	    bt_range_lock(&compare->ranges, &frame->range, req->offset,
			  req->length, req->op != BLKTAP_OP_READ, granted))
		queue(compare, req);
}

/* ---- the class ------------------------------------------------------------ */

static void compare_set(struct bt_node *node, const struct bt_args *args)
{
	struct compare *compare = node->data;

	compare->fails = !strcmp(bt_args_string(args, "on_mismatch"), "error");
}

/* Two disks of different size are refused before (BT_PORT_SAME_SIZE), or the shorter
 * one counts. */
static int compare_open(struct bt_node *node, const struct bt_args *args,
			uint32_t flags, struct blktap_error **err)
{
	struct compare *compare = node->data;
	int rc = bt_buffers_init(&compare->buffers, BUFFERS, BUFFER_SIZE);

	(void)flags;
	(void)err;
	compare->node = node;
	bt_list_init(&compare->waiting);
	bt_rangelock_init(&compare->ranges);
	compare_set(node, args);
	if (!rc)
		rc = bt_node_add_pool(node, CHILDREN, sizeof(struct bt_request),
				      &compare->children);
	if (rc < 0)
		bt_buffers_fini(&compare->buffers);
	return rc;
}

static void compare_close(struct bt_node *node)
{
	struct compare *compare = node->data;

	bt_buffers_fini(&compare->buffers);
}

/* What b gives for a read has to fit a buffer. */
static void compare_limits(struct bt_node *node, struct bt_limits *limits)
{
	(void)node;
	limits->max_transfer = bt_min_u64(limits->max_transfer, BUFFER_SIZE);
}

static uint64_t compare_memory(const struct bt_args *args, uint64_t size,
			       uint32_t edges)
{
	(void)args;
	(void)size;
	(void)edges;
	return sizeof(struct compare) +
	       bt_buffers_memory(BUFFERS, BUFFER_SIZE) +
	       bt_node_pool_memory(CHILDREN, sizeof(struct bt_request));
}

static bool compare_get_value(const struct bt_node *node, const char *name,
			      char *text, size_t size)
{
	const struct compare *compare = node->data;

	if (strcmp(name, "mismatches"))
		return false;
	snprintf(text, size, "%llu", (unsigned long long)compare->mismatches);
	return true;
}

const struct blktap_class bt_compare_class = {
	.name = "compare",
	.summary = "two disks that must give the same",
	.params = params,
	.ports = ports,
	.operations = 1u << BLKTAP_OP_READ | 1u << BLKTAP_OP_WRITE |
		      1u << BLKTAP_OP_FLUSH | 1u << BLKTAP_OP_WRITE_ZEROES,
	.passes = 1u << BLKTAP_OP_BLOCK_STATUS | 1u << BLKTAP_OP_PREFETCH,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.node_bytes = sizeof(struct compare),
	.frame_bytes = sizeof(struct compare_frame),
	.open = compare_open,
	.close = compare_close,
	.get_limits = compare_limits,
	.submit = compare_submit,
	.complete = compare_complete,
	.get_memory = compare_memory,
	.reconfigure = compare_set,
	.get_value = compare_get_value,
	.values = "mismatches",
};
