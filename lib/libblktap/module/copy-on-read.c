/* SPDX-License-Identifier: BSD-3-Clause */
/* The module copy_on_read: what a request does on its way; see copy-on-read.h. */
#include "module/copy-on-read.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "module/module.h"
#include "port/args.h"
#include "util/checked.h"

static const struct blktap_param params[] = {
	{ .name = "unit",
	  .type = BLKTAP_PARAM_SIZE,
	  .fallback = "64k",
	  .min = 512,
	  .max = BT_COR_BYTES,
	  .help = "a read that is copied is made so much wider that it begins "
		  "and ends at multiples of this, a power of two: an image "
		  "takes whole clusters best" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "leaf", .help = "the image that stands on another" },
	{ .name = NULL },
};

/* ---- reads ----------------------------------------------------------------- */

/* Where the read may be copied from: a lane that has begun, or NULL. It is made
 * wider, since an image that gets a part of a cluster has to fill the rest of it
 * from below, and so reads it in any case; where that is more than goes in one
 * request, what was asked for is copied alone. */
static struct bt_cor_lane *begin_lane(struct bt_cor *cor,
				      const struct bt_request *req)
{
	uint64_t unit = bt_max_u64(cor->unit, cor->node->limits.block_size);
	uint64_t end = req->offset + req->length;
	uint64_t from = bt_align_down(req->offset, unit);
	uint64_t to =
		bt_min_u64(bt_align_down(end + unit - 1, unit), cor->size);
	struct bt_cor_lane *lane;

	if (to - from > cor->node->limits.max_transfer) {
		from = req->offset;
		to = end;
	}
	if (bt_list_empty(&cor->idle) ||
	    bt_cor_find_lane(cor, from, to, BT_COR_READING) ||
	    bt_cor_is_written(cor, from, to))
		return NULL;
	lane = bt_list_first(&cor->idle, struct bt_cor_lane, link);
	bt_list_del(&lane->link);
	cor->busy++;
	lane->state = BT_COR_READING;
	lane->stale = false;
	lane->from = from;
	lane->to = to;
	lane->links = cor->links;
	return lane;
}

/* What a lane has just read need not be read again. From ASKING on its memory is
 * whole, and as long as it is not stale no write has come since: it is what the
 * disk holds, although it is not in the leaf yet. */
static bool is_served(struct bt_cor *cor, struct bt_request *req)
{
	uint64_t end = req->offset + req->length;
	struct bt_cor_lane *lane =
		bt_cor_find_lane(cor, req->offset, end, BT_COR_ASKING);

	if (!lane || lane->stale || lane->from > req->offset || lane->to < end)
		return false;
	bt_sgl_copy_in(&req->data, lane->memory + (req->offset - lane->from),
		       req->length);
	bt_request_complete(req, 0);
	return true;
}

/* A read of one copy (copy) is a question to that copy, and is not to be answered
 * from memory, nor to be spread. The guest's request itself goes down, into the
 * lane's memory: so the guest waits for no more than one read, a wider one. */
static void read_submit(struct bt_cor *cor, struct bt_request *req)
{
	struct bt_cor_frame *frame = bt_request_frame(req);
	struct bt_cor_lane *lane = NULL;

	bt_cor_look_below(cor);
	if (!cor->read_only && !cor->failed && !cor->resting && !req->copy &&
	    !bt_cor_is_known(cor, req->offset, req->length)) {
		if (is_served(cor, req))
			return;
		lane = begin_lane(cor, req);
	}
	frame->lane = lane;
	if (lane) {
		frame->offset = req->offset;
		frame->length = req->length;
		frame->data = req->data;
		lane->iov.iov_base = lane->memory;
		lane->iov.iov_len = lane->to - lane->from;
		req->offset = lane->from;
		req->length = lane->iov.iov_len;
		req->data = (struct bt_sgl){ .iov = &lane->iov, .count = 1 };
	}
	bt_port_submit(cor->leaf, req);
}

/* The guest has its answer before anything is written for it. bt_cor_copy comes
 * last, since the lane may be free again, and another's, when it returns. */
static void read_complete(struct bt_cor *cor, struct bt_request *req)
{
	struct bt_cor_frame *frame = bt_request_frame(req);
	struct bt_cor_lane *lane = frame->lane;
	bool wider = req->length != frame->length;

	frame->lane = NULL;
	req->offset = frame->offset;
	req->length = frame->length;
	req->data = frame->data;
	if (req->error) {
		bt_cor_end_lane(lane);
		if (!wider) {
			bt_request_complete(req, req->error);
			return;
		}
		/* what the guest wants may be readable */
		req->error = 0;
		req->failed = NULL;
		bt_port_submit(cor->leaf, req);
		return;
	}
	bt_sgl_copy_in(&req->data, lane->memory + (req->offset - lane->from),
		       req->length);
	bt_request_complete(req, 0);
	bt_cor_copy(lane);
}

/* ---- writes and flushes ---------------------------------------------------- */

/* It is on `writes` from before it goes down until it is back: in between no lane
 * begins there, which could read the old bytes and write them over the new ones. A
 * lane that reads or asks has nothing under way that could, so only a piece that is
 * being written is waited for; stale, the lane sends no other. */
static void write_submit(struct bt_cor *cor, struct bt_request *req)
{
	struct bt_cor_frame *frame = bt_request_frame(req);
	uint64_t end = req->offset + req->length;

	frame->req = req;
	frame->offset = req->offset;
	frame->length = req->length;
	cor->resting = false;
	bt_cor_stale(cor, req->offset, end);
	frame->waits = bt_cor_find_lane(cor, req->offset, end, BT_COR_WRITING);
	bt_list_add_tail(&cor->writes, &frame->link);
	if (!frame->waits)
		bt_port_submit(cor->leaf, req);
}

/* An ordinary flush has nothing to do with copies: whether they are there or not
 * is the same to everybody. A LAST one waits, as what is below may be opened by
 * another node, or program, from then on. */
static void flush_submit(struct bt_cor *cor, struct bt_request *req)
{
	if (req->flags & BT_REQUEST_LAST) {
		cor->resting = true;
		bt_cor_stale(cor, 0, cor->size);
		if (cor->busy) {
			bt_list_add_tail(&cor->lasts, &req->link);
			return;
		}
	}
	bt_port_submit(cor->leaf, req);
}

static void cor_submit(struct bt_node *node, struct bt_request *req)
{
	struct bt_cor *cor = node->data;

	if (req->op == BLKTAP_OP_READ)
		read_submit(cor, req);
	else if (req->op == BLKTAP_OP_FLUSH)
		flush_submit(cor, req);
	else
		write_submit(cor, req);
}

/* Reads that passed have no lane, and writes no need of one: what they find in
 * their frames is their own kind's. */
static void cor_complete(struct bt_node *node, struct bt_port *port,
			 struct bt_request *req)
{
	struct bt_cor *cor = node->data;
	struct bt_cor_frame *frame = bt_request_frame(req);

	(void)port;
	if (req->op == BLKTAP_OP_READ && frame->lane) {
		read_complete(cor, req);
		return;
	}
	if (bt_op_is_writing(req->op))
		bt_list_del(&frame->link);
	/* not before: until it is done there may be answers from before it */
	if (req->op == BLKTAP_OP_DISCARD)
		bt_cor_forget(cor, frame->offset, frame->length);
	bt_request_complete(req, req->error);
}

/* ---- the class ------------------------------------------------------------- */

static bool is_quiet(void *opaque)
{
	return !((struct bt_cor *)opaque)->busy;
}

/* A disk that is closed by force is not flushed before. */
static void cor_close(struct bt_node *node)
{
	struct bt_cor *cor = node->data;

	bt_cor_stale(cor, 0, cor->size);
	bt_loop_run_until(node->env->loop, is_quiet, cor, -1);
	free(cor->memory);
	free(cor->known);
}

/* All at once, as nothing is allocated on the data path. A lane that was never
 * used has never touched its memory; the list gives the last used one first, so
 * that a quiet disk stays with one or two. */
static int make_lanes(struct bt_cor *cor)
{
	uint32_t i = BT_COR_LANES;

	cor->memory = aligned_alloc(4096, (size_t)BT_COR_LANES * BT_COR_BYTES);
	cor->known = calloc(1, bt_cor_map_bytes(cor->size));
	if (!cor->memory || !cor->known)
		return -ENOMEM;
	while (i-- > 0) {
		cor->lanes[i].cor = cor;
		cor->lanes[i].memory = cor->memory + (size_t)i * BT_COR_BYTES;
		bt_list_add(&cor->idle, &cor->lanes[i].link);
	}
	return bt_node_add_pool(cor->node, BT_COR_LANES,
				sizeof(struct bt_request), &cor->pool);
}

/* Read-only where nothing may be written: then all reads pass. cor->below is set
 * by the first read, which finds the map empty anyhow. */
static int cor_open(struct bt_node *node, const struct bt_args *args,
		    uint32_t flags, struct blktap_error **err)
{
	const struct bt_limits *leaf = &node->ports[0].lower->limits;
	struct bt_cor *cor = node->data;
	int rc;

	cor->node = node;
	cor->leaf = &node->ports[0];
	cor->size = leaf->size;
	cor->unit = bt_args_number(args, "unit");
	cor->read_only = flags & BLKTAP_OPEN_READ_ONLY || leaf->read_only;
	bt_list_init(&cor->idle);
	bt_list_init(&cor->writes);
	bt_list_init(&cor->lasts);
	if (!(leaf->operations >> BLKTAP_OP_BLOCK_STATUS & 1u))
		return bt_fail(err, -ENOTSUP, "put it right above the image",
			       "%s: '%s' does not say where its data is from",
			       node->name, cor->leaf->lower->name);
	rc = make_lanes(cor);
	if (rc < 0) {
		free(cor->memory);
		free(cor->known);
		return bt_fail(err, rc, NULL, "%s: out of memory", node->name);
	}
	return 0;
}

static int cor_check(const struct bt_args *args, struct blktap_error **err)
{
	uint64_t unit = bt_args_number(args, "unit");

	return bt_is_pow2(unit) ? 0
				: bt_fail(err, -EINVAL, "try 64k",
					  "unit=%llu is no power of two",
					  (unsigned long long)unit);
}

/* So that every read fits a lane. */
static void cor_limits(struct bt_node *node, struct bt_limits *limits)
{
	(void)node;
	limits->max_transfer = bt_min_u64(limits->max_transfer, BT_COR_BYTES);
}

static uint64_t cor_memory(const struct bt_args *args, uint64_t size,
			   uint32_t edges)
{
	(void)args;
	(void)edges;
	return sizeof(struct bt_cor) + (uint64_t)BT_COR_LANES * BT_COR_BYTES +
	       bt_cor_map_bytes(size) +
	       bt_node_pool_memory(BT_COR_LANES, sizeof(struct bt_request));
}

static bool cor_get_value(const struct bt_node *node, const char *name,
			  char *text, size_t size)
{
	const struct bt_cor *cor = node->data;

	if (!strcmp(name, "state"))
		snprintf(text, size, "%s",
			 cor->read_only ? "readonly"
			 : cor->failed	? "failed"
					: "copying");
	else if (!strcmp(name, "copied"))
		snprintf(text, size, "%llu", (unsigned long long)cor->copied);
	else if (!strcmp(name, "error"))
		snprintf(text, size, "%d", cor->failed);
	else
		return false;
	return true;
}

const struct blktap_class bt_copy_on_read_class = {
	.name = "copy_on_read",
	.summary = "writes what is read of a lower image to the leaf, so that "
		   "the next read finds it there",
	.params = params,
	.ports = ports,
	.operations =
		BT_OPS_WRITING | 1u << BLKTAP_OP_READ | 1u << BLKTAP_OP_FLUSH,
	.passes = 1u << BLKTAP_OP_BLOCK_STATUS | 1u << BLKTAP_OP_PREFETCH,
	.flags = BT_CLASS_SAME_BYTES,
	.legacy_type = -1,
	.node_bytes = sizeof(struct bt_cor),
	.frame_bytes = sizeof(struct bt_cor_frame),
	.open = cor_open,
	.close = cor_close,
	.get_limits = cor_limits,
	.submit = cor_submit,
	.complete = cor_complete,
	.check_args = cor_check,
	.get_memory = cor_memory,
	.pause = BT_PAUSE_WRITES,
	.get_value = cor_get_value,
	.values = "state,copied,error",
};
