/* SPDX-License-Identifier: BSD-3-Clause */
/* stripe: chunks dealt to the legs in turn. Chunk c lies on leg c % n as its chunk
 * c / n. It has no state, on disk neither: that the legs come in their old order, and
 * all of them, is up to who writes the graph. What is left of a leg behind its last
 * whole chunk is not used.
 *
 * What carries no data is not cut at chunks: the chunks of a range that one leg
 * has lie together on it, so each leg is asked once. */
#include "module/module.h"

#include <errno.h>

#include "core/error.h"
#include "module/parts.h"
#include "port/args.h"
#include "util/checked.h"

#define CHILDREN 256u

struct stripe {
	struct bt_parts parts;
	uint64_t chunk;
	uint64_t size;
};

static const struct blktap_param params[] = {
	{ .name = "chunk",
	  .type = BLKTAP_PARAM_SIZE,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .min = 4096,
	  .max = 1u << 30,
	  .help = "bytes on one leg before the next one's turn" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "leg",
	  .flags = BT_PORT_ARRAY | BT_PORT_SAME_SIZE,
	  .help = "what the chunks are dealt to, in order" },
	{ .name = NULL },
};

/* How many bytes of the disk before `at` lie on the leg. A row is one chunk of
 * each leg: whole rows, and of the last one what lies before `at` on this leg.
 */
static uint64_t before_on_leg(const struct bt_node *node, uint64_t at,
			      uint64_t leg)
{
	const struct stripe *stripe = node->data;
	uint64_t row = stripe->chunk * node->port_count;
	uint64_t whole = at / row * stripe->chunk;
	uint64_t rest = at % row, first = leg * stripe->chunk;

	if (rest <= first)
		return whole;
	return whole + bt_min_u64(rest - first, stripe->chunk);
}

/* One piece a leg at most, which need not begin or end where a chunk does. */
static bool next_leg(struct bt_node *node, const struct bt_request *req,
		     uint64_t *cursor, struct bt_piece *piece)
{
	while (*cursor < node->port_count) {
		uint64_t leg = (*cursor)++;

		piece->port = &node->ports[leg];
		piece->at = 0;
		piece->offset = before_on_leg(node, req->offset, leg);
		piece->length =
			before_on_leg(node, req->offset + req->length, leg) -
			piece->offset;
		if (piece->length)
			return true;
	}
	return false;
}

/* Data is cut where the leg changes, as its memory belongs to two. */
static bool next_chunk(struct bt_node *node, const struct bt_request *req,
		       uint64_t *cursor, struct bt_piece *piece)
{
	const struct stripe *stripe = node->data;
	uint64_t at = req->offset + *cursor;
	uint64_t chunk = at / stripe->chunk, in_chunk = at % stripe->chunk;

	if (*cursor == req->length)
		return false;
	piece->port = &node->ports[chunk % node->port_count];
	piece->at = *cursor;
	piece->offset = chunk / node->port_count * stripe->chunk + in_chunk;
	piece->length =
		bt_min_u64(req->length - *cursor, stripe->chunk - in_chunk);
	*cursor += piece->length;
	return true;
}

static bool stripe_next(struct bt_node *node, const struct bt_request *req,
			uint64_t *cursor, struct bt_piece *piece)
{
	switch (req->op) {
	case BLKTAP_OP_FLUSH:
		return bt_parts_every_port(node, req, cursor, piece);
	case BLKTAP_OP_DISCARD:
	case BLKTAP_OP_WRITE_ZEROES:
	case BLKTAP_OP_PREFETCH:
		return next_leg(node, req, cursor, piece);
	default: /* the answer of a BLOCK_STATUS is in the disk's order */
		return next_chunk(node, req, cursor, piece);
	}
}

/* The smallest leg, in whole chunks, times their number. */
static int check_legs(struct bt_node *node, struct blktap_error **err)
{
	struct stripe *stripe = node->data;
	uint64_t least = UINT64_MAX;
	uint32_t i;

	for (i = 0; i < node->port_count; i++) {
		const struct bt_node *leg = node->ports[i].lower;

		if (stripe->chunk % leg->limits.block_size)
			return bt_fail(err, -EINVAL, NULL,
				       "%s: chunk=%llu is not a multiple of "
				       "the block size %u of '%s'",
				       node->name,
				       (unsigned long long)stripe->chunk,
				       leg->limits.block_size, leg->name);
		if (leg->limits.size < stripe->chunk)
			return bt_fail(err, -ENOSPC, "make it larger",
				       "%s: '%s' does not hold one chunk of "
				       "%llu bytes",
				       node->name, leg->name,
				       (unsigned long long)stripe->chunk);
		least = bt_min_u64(least, leg->limits.size);
	}
	least -= least % stripe->chunk;
	if (!bt_checked_mul(least, node->port_count, &stripe->size) ||
	    stripe->size > INT64_MAX)
		return bt_fail(err, -EFBIG, NULL,
			       "%s: its legs are more than 8 EiB", node->name);
	return 0;
}

/* A chunk of at least 4096 and legs that hold one: the divisions in the data path
 * need no further look. */
static int stripe_open(struct bt_node *node, const struct bt_args *args,
		       uint32_t flags, struct blktap_error **err)
{
	struct stripe *stripe = node->data;
	int rc;

	(void)flags;
	if (!node->port_count)
		return bt_fail(err, -EINVAL, "link its legs with =>",
			       "%s: there is no leg", node->name);
	stripe->chunk = bt_args_number(args, "chunk");
	rc = check_legs(node, err);
	return rc ? rc
		  : bt_parts_init(&stripe->parts, node, CHILDREN, stripe_next);
}

static void stripe_limits(struct bt_node *node, struct bt_limits *limits)
{
	struct stripe *stripe = node->data;

	limits->size = stripe->size;
}

/* 0 where a leg's size is not known: it is the least, then. */
static uint64_t stripe_size(const struct bt_args *args, const uint64_t *lower,
			    uint32_t count)
{
	uint64_t least = UINT64_MAX, size;
	uint32_t i;

	for (i = 0; i < count; i++)
		least = bt_min_u64(least, lower[i]);
	least -= least % bt_args_number(args, "chunk");
	return count && bt_checked_mul(least, count, &size) ? size : 0;
}

static uint64_t stripe_memory(const struct bt_args *args, uint64_t size,
			      uint32_t edges)
{
	(void)args;
	(void)size;
	(void)edges;
	return sizeof(struct stripe) + bt_parts_memory(CHILDREN);
}

static void stripe_submit(struct bt_node *node, struct bt_request *req)
{
	struct stripe *stripe = node->data;

	bt_parts_submit(&stripe->parts, req);
}

static void stripe_complete(struct bt_node *node, struct bt_port *port,
			    struct bt_request *req)
{
	(void)node;
	(void)port;
	bt_parts_complete(req);
}

const struct blktap_class bt_stripe_class = {
	.name = "stripe",
	.summary = "deals chunks to its legs in turn",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL,
	.legacy_type = -1,
	.node_bytes = sizeof(struct stripe),
	.frame_bytes = sizeof(struct bt_parts_frame),
	.open = stripe_open,
	.get_limits = stripe_limits,
	.submit = stripe_submit,
	.complete = stripe_complete,
	.get_size = stripe_size,
	.get_memory = stripe_memory,
};
