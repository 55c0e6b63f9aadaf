/* SPDX-License-Identifier: BSD-3-Clause */
/* What an export is: checked when it is first seen, held to when it is seen
 * again, and made into the limits of a node. */
#include "driver/nbd/nbd.h"

#include <errno.h>
#include <inttypes.h>

#include "util/checked.h"

#define BLOCK_MAX 65536u /* what the protocol lets a minimum be */
/* What servers take that say nothing of their blocks, by the protocol's
 * advice. */
#define TRANSFER_MAX (32u << 20)
#define UNMAP_MAX (1u << 30)
#define ANOTHER "is it another disk that is served there now?"

/* What the protocol advises where the server is silent. */
static void assume_blocks(struct bt_nbdc_info *info)
{
	info->min_block = info->size % 512 ? 1 : 512;
	info->preferred_block = 4096;
	info->max_block = TRANSFER_MAX;
}

/* By the protocol: the minimum is a power of two up to 64 KiB, the preferred
 * size one that is not less, the maximum a multiple of the minimum, or all ones
 * for none. */
static int check_blocks(struct bt_nbdc_conn *conn)
{
	struct bt_nbdc_info *info = &conn->info;
	uint32_t min = info->min_block, max = info->max_block;

	if (!bt_is_pow2(min) || min > BLOCK_MAX)
		return bt_nbdc_broken(
			conn,
			"minimum block size %u is not a power of two "
			"up to %u",
			min, BLOCK_MAX);
	if (!bt_is_pow2(info->preferred_block) || info->preferred_block < min)
		return bt_nbdc_broken(
			conn,
			"preferred block size %u is not a power of "
			"two from %u on",
			info->preferred_block, min);
	if (max < min || (max % min && max != UINT32_MAX))
		return bt_nbdc_broken(
			conn,
			"maximum block size %u is not a multiple of "
			"%u",
			max, min);
	if (info->size % min)
		return bt_nbdc_broken(conn,
				      "size %" PRIu64
				      " is not a multiple of the minimum block "
				      "size %u",
				      info->size, min);
	return 0;
}

/* Of every connection, before its numbers are used for anything. */
int bt_nbdc_info_check(struct bt_nbdc_conn *conn)
{
	struct bt_nbdc_info *info = &conn->info;

	if (!(info->flags & NBD_FLAG_HAS_FLAGS))
		return bt_nbdc_broken(conn,
				      "transmission flags 0x%x are invalid",
				      info->flags);
	if (!info->size)
		return bt_nbdc_fail(conn, -EINVAL, "a disk needs a size",
				    "the export is empty");
	if (info->size > INT64_MAX)
		return bt_nbdc_broken(conn, "size %" PRIu64 " is over 8 EiB",
				      info->size);
	if (!info->has_blocks)
		assume_blocks(info);
	return check_blocks(conn);
}

/* What we send at once, whatever a server would take. */
static uint64_t transfer_max(const struct bt_nbdc_info *info)
{
	return bt_align_down(bt_min_u64(info->max_block, TRANSFER_MAX),
			     info->min_block);
}

/* Flags whose loss would break a promise. */
static uint16_t promised(const struct bt_nbdc *nbd)
{
	uint16_t flags = nbd->info.flags &
			 (NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES |
			  NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			  NBD_FLAG_SEND_CACHE | NBD_FLAG_SEND_FAST_ZERO);

	if (nbd->conn_count > 1)
		flags |= NBD_FLAG_CAN_MULTI_CONN;
	return flags;
}

/* The disk above was told limits and size once, and holds to them; a server
 * that can do more now is as good. It is no proof that the data is the same:
 * the manual says so. */
int bt_nbdc_info_compare(struct bt_nbdc_conn *conn)
{
	const struct bt_nbdc_info *old = &conn->nbd->info, *new = &conn->info;
	uint16_t gone = promised(conn->nbd) & (uint16_t) ~new->flags;

	if (new->size < old->size)
		return bt_nbdc_fail(conn, -EINVAL, ANOTHER,
				    "the export has shrunk from %" PRIu64
				    " to %" PRIu64 " bytes",
				    old->size, new->size);
	if (new->flags & NBD_FLAG_READ_ONLY && !conn->nbd->read_only)
		return bt_nbdc_fail(conn, -EROFS, ANOTHER,
				    "the export has become read-only");
	if (gone)
		return bt_nbdc_fail(conn, -EINVAL, ANOTHER,
				    "the export has lost the abilities 0x%x",
				    gone);
	if (old->has_meta && !new->has_meta)
		return bt_nbdc_fail(conn, -EINVAL, ANOTHER,
				    "the export has lost base:allocation");
	if (new->min_block > old->min_block ||
	    transfer_max(new) < transfer_max(old))
		return bt_nbdc_fail(conn, -EINVAL, ANOTHER,
				    "the export's block sizes are now %u to "
				    "%u, and were %u to %u",
				    new->min_block, new->max_block,
				    old->min_block, old->max_block);
	return 0;
}

/* Of the first connection, for as long as the node is open. */
void bt_nbdc_get_limits(struct bt_node *node, struct bt_limits *limits)
{
	static const struct {
		uint16_t flag;
		enum blktap_op op;
	} needs[] = {
		{ NBD_FLAG_SEND_TRIM, BLKTAP_OP_DISCARD },
		{ NBD_FLAG_SEND_WRITE_ZEROES, BLKTAP_OP_WRITE_ZEROES },
		{ NBD_FLAG_SEND_CACHE, BLKTAP_OP_PREFETCH },
	};
	struct bt_nbdc *nbd = node->data;
	const struct bt_nbdc_info *info = &nbd->info;
	size_t i;

	limits->size = info->size;
	limits->block_size = info->min_block;
	limits->preferred_block_size =
		(uint32_t)bt_min_u64(info->preferred_block, TRANSFER_MAX);
	limits->max_transfer = transfer_max(info);
	limits->max_unmap = UNMAP_MAX;
	limits->discard_granularity =
		bt_max_u64(info->min_block, info->preferred_block);
	limits->read_only = nbd->read_only;
	limits->native_fua = info->flags & NBD_FLAG_SEND_FUA;
	for (i = 0; i < BT_ARRAY_SIZE(needs); i++)
		if (!(info->flags & needs[i].flag))
			limits->operations &= ~(1u << needs[i].op);
	if (!info->has_meta)
		limits->operations &= ~(1u << BLKTAP_OP_BLOCK_STATUS);
}
