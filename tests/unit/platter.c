/* SPDX-License-Identifier: BSD-3-Clause */
#include "platter.h"

#include <stdlib.h>
#include <string.h>

#include "port/args.h"
#include "seed.h"
#include "util/checked.h"
#include "util/sgl.h"

#define SECTOR 512u

struct event {
	uint32_t leaf;
	enum blktap_op op;
	uint64_t offset, length;
	unsigned char *data; /* WRITE */
	uint64_t submitted, completed;
};

struct platter {
	uint32_t index;
};

struct platter_frame {
	uint32_t event; /* UINT32_MAX: nothing that changes anything */
};

static struct event *events;
static uint32_t event_count;
static struct bt_request *held[512];
static uint32_t held_count;

struct platters platters;

static const struct blktap_param params[] = {
	{ .name = "index", .type = BLKTAP_PARAM_INT, .help = "which" },
	{ .name = NULL },
};

uint64_t platter_random(uint64_t below)
{
	return seed_next(&platters.random) % below;
}

static void forget(void)
{
	uint32_t i;

	for (i = 0; i < event_count; i++)
		free(events[i].data);
	free(events);
	events = NULL;
	event_count = 0;
}

void platter_reset(uint64_t seed)
{
	uint32_t i;

	forget();
	for (i = 0; i < PLATTERS; i++) {
		free(platters.base[i]);
		free(platters.bytes[i]);
	}
	memset(&platters, 0, sizeof(platters));
	platters.random = seed * 2 + 1;
	platters.fault.op = -1;
	held_count = 0;
}

void platter_make(uint32_t index, uint64_t size)
{
	free(platters.base[index]);
	free(platters.bytes[index]);
	platters.base[index] = calloc(1, size);
	platters.bytes[index] = calloc(1, size);
	platters.size[index] = size;
	platters.block[index] = SECTOR;
}

void platter_begin(void)
{
	uint32_t i;

	forget();
	for (i = 0; i < PLATTERS; i++)
		if (platters.size[i])
			memcpy(platters.base[i], platters.bytes[i],
			       platters.size[i]);
}

static bool fails(uint32_t leaf, enum blktap_op op)
{
	struct platter_fault *f = &platters.fault;

	if (f->op != (int)op || f->leaf != leaf)
		return false;
	if (f->met++ < f->skip || f->failed >= f->times)
		return false;
	f->failed++;
	return true;
}

static void perform(const struct platter *p, struct bt_request *req)
{
	unsigned char *at = platters.bytes[p->index] + req->offset;

	switch (req->op) {
	case BLKTAP_OP_READ:
		bt_sgl_copy_in(&req->data, at, req->length);
		break;
	case BLKTAP_OP_WRITE:
		bt_sgl_copy_out(&req->data, at, req->length);
		break;
	case BLKTAP_OP_DISCARD:
	case BLKTAP_OP_WRITE_ZEROES:
		memset(at, 0, req->length);
		break;
	case BLKTAP_OP_BLOCK_STATUS:
		req->extents[0].length = req->length;
		req->extents[0].flags = 0;
		req->extents[0].depth = 0;
		req->extent_count = 1;
		break;
	default:
		break;
	}
}

static void finish(struct bt_request *req)
{
	const struct platter *p = req->top->node->data;
	struct platter_frame *frame = bt_request_frame(req);

	if (fails(p->index, req->op)) {
		/* it may have been written, and counts as under way for ever */
		bt_request_complete(req, platters.fault.error);
		return;
	}
	perform(p, req);
	if (frame->event != UINT32_MAX)
		events[frame->event].completed = ++platters.now;
	bt_request_complete(req, 0);
}

static uint32_t keep(const struct platter *p, const struct bt_request *req)
{
	struct event *event;

	if (!bt_op_is_writing(req->op) && req->op != BLKTAP_OP_FLUSH)
		return UINT32_MAX;
	events = realloc(events, (event_count + 1) * sizeof(*events));
	event = &events[event_count];
	memset(event, 0, sizeof(*event));
	event->leaf = p->index;
	event->op = req->op;
	event->offset = req->offset;
	event->length = req->length;
	event->submitted = ++platters.now;
	if (req->op == BLKTAP_OP_WRITE) {
		event->data = malloc(req->length);
		bt_sgl_copy_out(&req->data, event->data, req->length);
	}
	return event_count++;
}

static void platter_submit(struct bt_node *node, struct bt_request *req)
{
	const struct platter *p = node->data;
	struct platter_frame *frame = bt_request_frame(req);

	if (req->op != BLKTAP_OP_FLUSH &&
	    (!bt_range_within(req->offset, req->length,
			      platters.size[p->index]) ||
	     (req->offset | req->length) % platters.block[p->index] ||
	     req->length > 1u << 20))
		abort(); /* a module that breaks the leaf's limits */
	frame->event = keep(p, req);
	if (!platters.hold)
		finish(req);
	else if (held_count == BT_ARRAY_SIZE(held))
		abort();
	else
		held[held_count++] = req;
}

bool platter_turn(void)
{
	struct bt_request *req;
	uint64_t i, tries = held_count;

	if (!held_count)
		return false;
	i = platter_random(held_count);
	while (platters.stuck >> held[i]->op & 1u) {
		if (!tries--)
			return false;
		i = (i + 1) % held_count;
	}
	req = held[i];
	held[i] = held[--held_count];
	finish(req);
	return true;
}

static int platter_open(struct bt_node *node, const struct bt_args *args,
			uint32_t flags, struct blktap_error **err)
{
	struct platter *p = node->data;

	(void)flags;
	(void)err;
	p->index = (uint32_t)bt_args_number(args, "index");
	return 0;
}

static void platter_limits(struct bt_node *node, struct bt_limits *limits)
{
	const struct platter *p = node->data;

	limits->size = platters.size[p->index];
	limits->block_size = platters.block[p->index];
	limits->max_unmap = 1u << 20;
	limits->native_fua = false;
}

const struct blktap_class platter_class = {
	.name = "platter",
	.summary = "remembers what it was asked",
	.params = params,
	.operations = BT_OPS_ALL,
	.node_bytes = sizeof(struct platter),
	.frame_bytes = sizeof(struct platter_frame),
	.open = platter_open,
	.get_limits = platter_limits,
	.submit = platter_submit,
};

/* ---- the cut --------------------------------------------------------------- */

static uint64_t last_flush(uint32_t leaf, uint64_t at)
{
	uint64_t last = 0;
	uint32_t i;

	for (i = 0; i < event_count; i++) {
		const struct event *e = &events[i];

		if (e->leaf == leaf && e->op == BLKTAP_OP_FLUSH &&
		    e->completed && e->completed <= at && e->submitted > last)
			last = e->submitted;
	}
	return last;
}

static void put(const struct event *e, uint64_t from, uint64_t length,
		unsigned char *out)
{
	if (e->op == BLKTAP_OP_WRITE)
		memcpy(out + e->offset + from, e->data + from, length);
	else
		memset(out + e->offset + from, 0, length);
}

void platter_cut(uint32_t index, uint64_t at, enum platter_model model,
		 unsigned char *out)
{
	uint64_t flushed = last_flush(index, at), n;
	uint32_t i;

	memcpy(out, platters.base[index], platters.size[index]);
	for (i = 0; i < event_count && events[i].submitted <= at; i++) {
		const struct event *e = &events[i];
		bool durable = e->completed && e->completed < flushed;

		if (e->leaf != index || e->op == BLKTAP_OP_FLUSH)
			continue;
		if (durable || model == PLATTER_ALL ||
		    (model == PLATTER_SOME && platter_random(2))) {
			put(e, 0, e->length, out);
			continue;
		}
		for (n = 0; model == PLATTER_TORN && n < e->length; n += SECTOR)
			if (platter_random(2))
				put(e, n, SECTOR, out);
	}
}
