/* SPDX-License-Identifier: BSD-3-Clause */
/* cow: what is written goes to `top`, what was never written is read from `base`,
 * which nobody changes. The disk is as large as the base.
 *
 * top:	header (twice) | map: a bit a grain | data, where the base has it
 *
 * A grain is in top or not, never in part: the grain is the block size, so that
 * what is smaller has been read and merged above. A bit lives in two places:
 *
 *   CLEAR -> (the grain's write completed) -> LIVE: reads see top
 *         -> (a flush takes it along) -> in the table, durable behind the data
 *
 * A guest's FLUSH copies the live bits to the table, flushes top, and commits the
 * table: data, then map. So a cut leaves a grain in the base or in top, and in top
 * what was flushed at least. A flush that comes meanwhile belongs to the next round,
 * and what a failed one left undone is done by the next. */
#include "module/cow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "module/module.h"
#include "port/args.h"
#include "util/bytes.h"
#include "util/checked.h"

#define TOP 0u
#define BASE 1u
#define CHILDREN 128u
#define LAYOUT 1u
#define DATA_ALIGN (1u << 20)

static const struct blktap_param params[] = {
	{ .name = "grain",
	  .type = BLKTAP_PARAM_SIZE,
	  .fallback = "4k",
	  .min = 512,
	  .max = 65536,
	  .help = "bytes that are in top or not; of a new top" },
	{ .name = NULL },
};

static const struct bt_port_desc ports[] = {
	{ .name = "top",
	  .flags = BT_PORT_STORE,
	  .help = "where writes go, with a map; larger than the base by the "
		  "map and 1 MiB" },
	{ .name = "base",
	  .flags = BT_PORT_READS | BT_PORT_UNCHANGED,
	  .help = "what is read where nothing was written" },
	{ .name = NULL },
};

static uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* ---- the map --------------------------------------------------------------- */

/* Of the live map: what reads go by. */
static bool is_in_top(const struct bt_cow *cow, uint64_t grain)
{
	return cow->live[grain / 8] >> (grain % 8) & 1u;
}

/* Block size and grain make whole grains of every write. A bit is set once for
 * good: nothing clears one, a discard neither. */
static void set_in_top(struct bt_cow *cow, uint64_t offset, uint64_t length)
{
	uint64_t grain = offset / cow->grain;
	uint64_t end = (offset + length) / cow->grain;

	for (; grain < end; grain++) {
		if (is_in_top(cow, grain))
			continue;
		cow->live[grain / 8] |= (unsigned char)(1u << (grain % 8));
		cow->staged[grain / 8 / BT_TABLE_BYTES] = 1;
	}
}

/* ---- reads and questions --------------------------------------------------- */

/* Grains that lie on the same side. What is asked while it runs stays true:
 * bits are only ever set, and a grain that gets into top while it is being read
 * in base is one that the reader raced with. */
static bool cow_next(struct bt_node *node, const struct bt_request *req,
		     uint64_t *cursor, struct bt_piece *piece)
{
	const struct bt_cow *cow = node->data;
	uint64_t at = req->offset + *cursor, end = req->offset + req->length;
	uint64_t grain = at / cow->grain, to;
	bool top;

	if (at == end)
		return false;
	top = is_in_top(cow, grain);
	to = (grain + 1) * cow->grain;
	while (to < end && is_in_top(cow, to / cow->grain) == top)
		to += cow->grain;
	piece->port = top ? cow->top : cow->base;
	piece->at = *cursor;
	piece->offset = top ? cow->data_at + at : at;
	piece->length = bt_min_u64(to, end) - at;
	*cursor += piece->length;
	return true;
}

/* What the base holds is not ours to discard. */
static bool discard_next(struct bt_node *node, const struct bt_request *req,
			 uint64_t *cursor, struct bt_piece *piece)
{
	const struct bt_cow *cow = node->data;

	while (cow_next(node, req, cursor, piece))
		if (piece->port == cow->top)
			return true;
	return false;
}

/* What bt_parts asks for the pieces of everything but writes and flushes. */
static bool next(struct bt_node *node, const struct bt_request *req,
		 uint64_t *cursor, struct bt_piece *piece)
{
	return req->op == BLKTAP_OP_DISCARD
		       ? discard_next(node, req, cursor, piece)
		       : cow_next(node, req, cursor, piece);
}

/* ---- writes ---------------------------------------------------------------- */

/* Whole grains in one piece, since data lies in top as it does on the disk: so a
 * write costs no child and no lookup. Zeroes are written like data; a hole in top is
 * zero as well, and the base does not show through it. */
static void write_top(struct bt_cow *cow, struct bt_request *req)
{
	struct bt_cow_frame *frame = bt_request_frame(req);

	frame->itself = true;
	req->offset += cow->data_at;
	bt_port_submit(cow->top, req);
}

/* In this order: a read that comes now finds the data where the bit says. */
static void top_written(struct bt_cow *cow, struct bt_request *req)
{
	req->offset -= cow->data_at;
	if (!req->error)
		set_in_top(cow, req->offset, req->length);
	bt_request_complete(req, req->error);
}

/* ---- requests -------------------------------------------------------------- */

/* A discard of nothing that is in top is done: bt_parts wants one piece at least. A
 * BLOCK_STATUS is answered for its first piece alone, so who answers is known here. */
static void cow_submit(struct bt_node *node, struct bt_request *req)
{
	struct bt_cow *cow = node->data;
	struct bt_cow_frame *frame = bt_request_frame(req);
	struct bt_piece piece;
	uint64_t cursor = 0;

	frame->itself = false;
	switch (req->op) {
	case BLKTAP_OP_WRITE:
	case BLKTAP_OP_WRITE_ZEROES:
		write_top(cow, req);
		return;
	case BLKTAP_OP_FLUSH:
		bt_cow_flush(cow, req);
		return;
	case BLKTAP_OP_DISCARD:
		if (!next(node, req, &cursor, &piece)) {
			bt_request_complete(req, 0);
			return;
		}
		break;
	default:
		frame->in_base = !is_in_top(cow, req->offset / cow->grain);
		break;
	}
	bt_parts_submit(&cow->parts, req);
}

static void cow_complete(struct bt_node *node, struct bt_port *port,
			 struct bt_request *req)
{
	struct bt_cow *cow = node->data;
	struct bt_cow_frame *frame = bt_request_frame(req);
	uint32_t i;

	(void)port;
	if (frame->itself) {
		top_written(cow, req);
		return;
	}
	if (req->op == BLKTAP_OP_BLOCK_STATUS && frame->in_base)
		for (i = 0; !req->error && i < req->extent_count; i++)
			req->extents[i].depth++;
	bt_parts_complete(req);
}

/* ---- opening --------------------------------------------------------------- */

/* One more than is needed where it comes out even: layouts on disk have it. */
static uint64_t map_bytes(uint64_t size, uint32_t grain)
{
	return size / grain / 8 + 1;
}

/* At a whole MiB, so that a grain lies in top as well aligned as it does on the
 * disk, whatever the file system or device below likes best. */
static uint64_t data_start(uint64_t size, uint32_t grain)
{
	uint64_t map_end =
		BT_HEADER_AREA + bt_table_space(map_bytes(size, grain));

	return bt_align_down(map_end + DATA_ALIGN - 1, DATA_ALIGN);
}

/* All is range-tested before it is used; data_at is computed, and what is
 * stored has to agree, so another layout is never taken for this. */
static int take_header(struct bt_cow *cow, struct blktap_error **err)
{
	const unsigned char *p = cow->header.payload;
	const char *top = cow->top->lower->name;
	uint64_t size = bt_load_le64(p);

	cow->grain = bt_load_le32(p + 8);
	if (cow->header.length < 24 || !bt_is_pow2(cow->grain) ||
	    cow->grain < 512 || cow->grain > 65536 || bt_load_le32(p + 12) ||
	    bt_load_le64(p + 16) != data_start(size, cow->grain))
		return bt_fail(err, -EUCLEAN, NULL,
			       "'%s': the header of a cow makes no sense", top);
	if (size != cow->size)
		return bt_fail(err, -EINVAL, "give it the base it was made for",
			       "'%s' was made over %llu bytes, '%s' has %llu",
			       top, (unsigned long long)size,
			       cow->base->lower->name,
			       (unsigned long long)cow->size);
	return 0;
}

static int make_header(struct bt_cow *cow, const struct bt_args *args)
{
	unsigned char *p = cow->header.payload;
	int rc = bt_header_init(&cow->header, "cow", LAYOUT);

	cow->grain = (uint32_t)bt_args_number(args, "grain");
	cow->header.length = 24;
	bt_store_le64(p, cow->size);
	bt_store_le32(p + 8, cow->grain);
	bt_store_le64(p + 16, data_start(cow->size, cow->grain));
	return rc;
}

/* The grain and where data begins, from the header or for a new one. */
static int find_layout(struct bt_cow *cow, const struct bt_args *args,
		       bool *fresh, struct blktap_error **err)
{
	struct bt_node *node = cow->node;
	int rc = bt_header_check_store(node, cow->top, BT_HEADER_AREA, err);

	if (!rc)
		rc = bt_header_read(cow->top, "cow", LAYOUT, &cow->header, err);
	*fresh = rc == -ENOENT;
	if (*fresh && cow->read_only)
		return bt_fail(err, -EROFS, "open it once for writing",
			       "%s: '%s' is new, and cannot be prepared",
			       node->name, cow->top->lower->name);
	if (*fresh)
		rc = make_header(cow, args);
	else if (!rc)
		rc = take_header(cow, err);
	if (rc < 0)
		return rc;
	if (!bt_is_pow2(cow->grain) || cow->size % cow->grain)
		return bt_fail(err, -EINVAL, "give it a smaller grain",
			       "%s: grain=%u is no power of two that divides "
			       "the %llu bytes of '%s'",
			       node->name, cow->grain,
			       (unsigned long long)cow->size,
			       cow->base->lower->name);
	cow->data_at = data_start(cow->size, cow->grain);
	return bt_header_check_store(node, cow->top, cow->data_at + cow->size,
				     err);
}

static int alloc_map(struct bt_cow *cow)
{
	int rc = bt_table_init(&cow->table, cow->node, cow->top, BT_HEADER_AREA,
			       map_bytes(cow->size, cow->grain));

	if (rc < 0)
		return rc;
	cow->live = calloc(cow->table.blocks, BT_TABLE_BYTES);
	cow->staged = calloc(cow->table.blocks, 1);
	return cow->live && cow->staged ? 0 : -ENOMEM;
}

/* The map before the header, so that a header never stands before an old map.
 * The header says "not clean" from the first opening for writing on; nothing
 * depends on the mark, since the map is whole at every moment. */
static int start_map(struct bt_cow *cow, bool fresh, struct blktap_error **err)
{
	char reason[BT_STRERROR_MAX];
	int rc;

	if (!fresh) {
		rc = bt_table_load(&cow->table, cow->node->name, err);
		if (rc < 0)
			return rc;
		memcpy(cow->live, cow->table.bytes,
		       cow->table.blocks * BT_TABLE_BYTES);
	}
	if (cow->read_only || (!fresh && !cow->header.clean))
		return 0;
	cow->header.clean = false;
	rc = fresh ? bt_table_store(&cow->table) : 0;
	if (!rc && fresh)
		rc = bt_node_transfer(cow->top, BLKTAP_OP_FLUSH, 0, NULL, 0);
	if (!rc)
		rc = bt_header_write(cow->top, &cow->header);
	if (rc < 0)
		bt_fail(err, rc, NULL, "%s: '%s' cannot be prepared: %s",
			cow->node->name, cow->top->lower->name,
			bt_strerror(rc, reason));
	return rc;
}

/* A top of smaller grains than what is below takes at once: since then each write
 * covers a whole block, but older ones may have left a part of one. That would be
 * read in parts, which who is below does not serve. */
static int check_blocks(const struct bt_cow *cow, struct blktap_error **err)
{
	const struct bt_node *base = cow->base->lower, *top = cow->top->lower;
	uint32_t block =
		max_u32(base->limits.block_size, top->limits.block_size);
	uint64_t i, grains = cow->size / cow->grain, n = block / cow->grain;

	for (i = 0; n > 1 && i < grains; i++) {
		/* most bytes of a map are of one kind */
		if (i % 8 == 0 && n <= 8 &&
		    (!cow->live[i / 8] || cow->live[i / 8] == 0xff)) {
			i += 7;
			continue;
		}
		if (is_in_top(cow, i) == is_in_top(cow, i - i % n))
			continue;
		return bt_fail(err, -EINVAL,
			       "put them on what has smaller blocks",
			       "%s: the block size %u of '%s' is larger than "
			       "the pieces of %u bytes in '%s'",
			       cow->node->name, block,
			       base->limits.block_size == block ? base->name
								: top->name,
			       cow->grain, top->name);
	}
	return 0;
}

/* Nothing is written: what was not flushed is not in the map, and what it was
 * written over in the base is there still. */
static void cow_close(struct bt_node *node)
{
	struct bt_cow *cow = node->data;

	bt_header_writer_fini(&cow->writer);
	bt_table_fini(&cow->table);
	free(cow->live);
	free(cow->staged);
}

static int open_rest(struct bt_cow *cow)
{
	int rc = alloc_map(cow);

	if (!rc)
		rc = bt_cow_flush_init(cow);
	if (!rc)
		rc = bt_parts_init(&cow->parts, cow->node, CHILDREN, next);
	return rc;
}

static int cow_open(struct bt_node *node, const struct bt_args *args,
		    uint32_t flags, struct blktap_error **err)
{
	struct bt_cow *cow = node->data;
	bool fresh;
	int rc;

	cow->node = node;
	cow->top = &node->ports[TOP];
	cow->base = &node->ports[BASE];
	cow->size = cow->base->lower->limits.size;
	cow->read_only = flags & BLKTAP_OPEN_READ_ONLY;
	rc = find_layout(cow, args, &fresh, err);
	if (rc < 0)
		return rc;
	rc = open_rest(cow);
	if (rc < 0)
		bt_fail(err, rc, NULL, "%s: out of memory", node->name);
	else
		rc = start_map(cow, fresh, err);
	if (!rc)
		rc = check_blocks(cow, err);
	if (rc < 0)
		cow_close(node);
	return rc;
}

/* ---- the class ------------------------------------------------------------- */

/* Reads are bounded by both, as they go to either; writes and flushes by top alone,
 * so what the base lacks of those operations does not count. native_fua: behind a
 * write with it the map would not be durable. keeps: the live map is this
 * process' memory. */
static void cow_limits(struct bt_node *node, struct bt_limits *limits)
{
	const struct bt_cow *cow = node->data;
	const struct bt_limits *top = &cow->top->lower->limits;
	uint32_t writing = BT_OPS_WRITING | 1u << BLKTAP_OP_FLUSH;

	limits->block_size = max_u32(limits->block_size,
				     max_u32(cow->grain, top->block_size));
	limits->max_transfer =
		bt_min_u64(limits->max_transfer, top->max_transfer);
	limits->max_unmap = bt_min_u64(limits->max_unmap, top->max_unmap);
	limits->discard_granularity =
		bt_max_u64(top->discard_granularity, cow->grain);
	limits->operations &= top->operations &
			      (cow->base->lower->limits.operations | writing);
	limits->native_fua = false;
	limits->keeps = BT_KEEPS_ALL;
	limits->read_only = cow->read_only || top->read_only;
}

static uint64_t cow_size(const struct bt_args *args, const uint64_t *lower,
			 uint32_t count)
{
	(void)args;
	return count > BASE ? lower[BASE] : 0;
}

/* Without its map, whose size is the base's: see blktap-modules(7). */
static uint64_t cow_memory(const struct bt_args *args, uint64_t size,
			   uint32_t edges)
{
	uint32_t grain = (uint32_t)bt_args_number(args, "grain");
	uint64_t map = map_bytes(size, grain);

	(void)edges;
	/* the map as it lies there, as it is, and what is to go there */
	return sizeof(struct bt_cow) + bt_parts_memory(CHILDREN) +
	       bt_table_memory(map) +
	       bt_table_space(map) / BT_TABLE_BLOCK * (BT_TABLE_BYTES + 1) +
	       bt_cow_flush_memory();
}

/* Counted when asked: the data path needs no number. */
static bool cow_get_value(const struct bt_node *node, const char *name,
			  char *text, size_t size)
{
	const struct bt_cow *cow = node->data;
	uint64_t i, n = 0;

	if (strcmp(name, "allocated"))
		return false;
	for (i = 0; i < cow->table.blocks * BT_TABLE_BYTES; i++)
		n += (uint64_t)__builtin_popcount(cow->live[i]);
	snprintf(text, size, "%llu", (unsigned long long)(n * cow->grain));
	return true;
}

const struct blktap_class bt_cow_class = {
	.name = "cow",
	.summary =
		"keeps what is written apart from a base that stays as it is",
	.params = params,
	.ports = ports,
	.operations = BT_OPS_ALL,
	.legacy_type = -1,
	.node_bytes = sizeof(struct bt_cow),
	.frame_bytes = sizeof(struct bt_cow_frame),
	.open = cow_open,
	.close = cow_close,
	.get_limits = cow_limits,
	.submit = cow_submit,
	.complete = cow_complete,
	.get_size = cow_size,
	.get_memory = cow_memory,
	.get_value = cow_get_value,
	.values = "allocated",
};
