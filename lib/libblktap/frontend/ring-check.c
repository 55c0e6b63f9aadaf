/* SPDX-License-Identifier: BSD-3-Clause */
/* What the module says, checked before anything is computed from it: it may be
 * of another version, or not the module at all. */
#include "frontend/ring.h"

#include "util/checked.h"

/* A mapping larger than this is a mistake. */
#define MAP_MAX (1ULL << 40)

/* align is a power of two. */
static bool is_aligned(uint64_t v, uint64_t align)
{
	return !(v & (align - 1));
}

/* What the disk's own arithmetic goes by: every later shift and product is
 * bounded here. */
static const char *check_disk(const struct blktap_info *i)
{
	if (i->logical_block != 512 && i->logical_block != 4096)
		return "logical_block is neither 512 nor 4096";
	if (!i->capacity || !is_aligned(i->capacity, i->logical_block) ||
	    i->capacity > INT64_MAX)
		return "capacity";
	if (!i->queues || i->queues > BLKTAP_MAX_QUEUES)
		return "queues";
	if (!i->depth || i->depth > BLKTAP_MAX_DEPTH)
		return "depth";
	if (!i->slot_bytes || !is_aligned(i->slot_bytes, 4096) ||
	    i->slot_bytes > BLKTAP_MAX_SLOT_BYTES)
		return "slot_bytes";
	return NULL;
}

/* One part of a queue lies within the queue's stride. count and size are small,
 * so their product fits 64 bits. */
static bool fits(const struct blktap_info *i, uint32_t offset, uint64_t count,
		 uint64_t size, uint64_t align)
{
	return is_aligned(offset, align) &&
	       offset >= sizeof(struct blktap_queue) &&
	       bt_range_within(offset, count * size, i->queue_stride);
}

/* Parts of a queue may overlap each other for all that is checked here: a
 * module that has them so harms its own answers, not our memory. */
static const char *check_queues(const struct blktap_info *i)
{
	if (!bt_is_pow2(i->sq_entries) || i->sq_entries < i->depth ||
	    i->sq_entries > 2 * BLKTAP_MAX_DEPTH)
		return "sq_entries";
	if (!bt_is_pow2(i->cq_entries) || i->cq_entries < i->depth ||
	    i->cq_entries > 2 * BLKTAP_MAX_DEPTH)
		return "cq_entries";
	if (!is_aligned(i->queue_stride, 64))
		return "queue_stride";
	if (!fits(i, i->sq_offset, i->sq_entries, sizeof(uint32_t), 4))
		return "sq_offset";
	if (!fits(i, i->desc_offset, i->depth, sizeof(struct blktap_desc), 8))
		return "desc_offset";
	if (!fits(i, i->cq_offset, i->cq_entries, sizeof(struct blktap_cqe), 4))
		return "cq_offset";
	return NULL;
}

/* In the order in which each is used to judge the next. */
const char *bt_ring_check_info(const struct blktap_info *i)
{
	const char *wrong = check_disk(i);

	if (!wrong)
		wrong = check_queues(i);
	if (wrong)
		return wrong;
	if (!i->map_bytes || i->map_bytes > MAP_MAX ||
	    !is_aligned(i->map_bytes, 4096))
		return "map_bytes";
	/* The factors are bounded above: no product overflows. */
	if (!is_aligned(i->data_offset, 4096) ||
	    i->data_offset < (uint64_t)i->queues * i->queue_stride ||
	    !bt_range_within(i->data_offset,
			     (uint64_t)i->queues * i->depth * i->slot_bytes,
			     i->map_bytes))
		return "data_offset";
	return NULL;
}

uint64_t bt_ring_slots(const struct blktap_info *info, uint32_t queue)
{
	return info->data_offset +
	       (uint64_t)queue * info->depth * info->slot_bytes;
}

/* Which flags an operation may have. */
static uint16_t flags_of(uint8_t op)
{
	switch (op) {
	case BLKTAP_REQ_WRITE:
		return BLKTAP_REQ_FUA | BLKTAP_REQ_DEFERRED;
	case BLKTAP_REQ_WRITE_ZEROES:
		return BLKTAP_REQ_NOUNMAP;
	default:
		return 0;
	}
}

const char *bt_ring_explain_desc(const struct blktap_info *info,
				 const struct blktap_desc *desc, uint32_t tag,
				 uint64_t slot)
{
	bool has_data = desc->op <= BLKTAP_REQ_WRITE;

	if (desc->tag != tag)
		return "the descriptor of another tag";
	if (desc->op > BLKTAP_REQ_WRITE_ZEROES)
		return "unknown operation";
	if (desc->flags & ~flags_of(desc->op))
		return "flag the operation does not have";
	if (desc->op == BLKTAP_REQ_FLUSH)
		return desc->bytes ? "flush with a length" : NULL;
	if (!desc->bytes || !is_aligned(desc->bytes, info->logical_block) ||
	    desc->bytes > INT32_MAX)
		return "length";
	if (!is_aligned(desc->offset, info->logical_block))
		return "offset";
	if (has_data && desc->bytes > info->slot_bytes)
		return "length over that of a slot";
	if (has_data && desc->data != slot)
		return "data outside of its slot";
	return NULL;
}
