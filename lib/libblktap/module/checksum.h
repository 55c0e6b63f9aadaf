/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of checksums; only the checksum*.c files include it. */
#ifndef BT_MODULE_CHECKSUM_H
#define BT_MODULE_CHECKSUM_H

#include "module/buffers.h"
#include "module/header.h"
#include "module/task.h"
#include "request/rangelock.h"

#define BT_SUM_TRANSFER (128u << 10) /* data of one request */
#define BT_SUM_TABLE (16u << 10) /* what that needs of the table at most */
#define BT_SUM_REQUESTS 32u
#define BT_SUM_SECTOR 512u /* of the table */
#define BT_SUM_EPOCHS 65536u /* what one opening may use up */
#define BT_SUM_ENTRIES 63u /* in a sector, behind its epoch */

struct bt_sums {
	struct bt_node *node;
	struct bt_port *lower, *store;
	uint64_t size;
	uint32_t granule; /* bytes with a checksum of their own */
	uint64_t sectors; /* of the table */
	/* what a request locks around its data, so that no two requests change
	 * one block of the table at a time */
	uint64_t unit; /* bytes of data behind one block of the store */
	uint32_t zero_crc; /* of a granule of zeroes */
	/* UINT64_MAX: used up, and no table is certain any more */
	uint64_t epoch; /* tables written in it are certain */
	uint64_t wrong; /* granules that did not match */
	uint64_t healed;
	struct bt_header header;
	struct bt_header_writer writer;
	bool is_new; /* the store has no header yet */
	struct bt_rangelock lock;
	/* Where a request is: on waiting; then it has a buffer, and waits in
	 * the lock; then in one step of its task after the other; for READ's
	 * old data on scratch_waiting in between. */
	struct bt_list waiting; /* for a buffer */
	struct bt_buffers buffers;
	struct bt_pool *pool;
	/* old data that a write reads to settle its entries: one at a time,
	 * since it is rare */
	char *scratch; /* BT_SUM_TRANSFER bytes */
	bool scratch_busy;
	struct bt_list scratch_waiting;
};

struct bt_sum_frame {
	struct bt_sums *sums;
	struct bt_request *req;
	struct bt_range range;
	struct bt_task task;
	char *table; /* a buffer, holding the store's bytes from table_at on */
	uint64_t table_at, table_len;
	uint32_t copy; /* READ: the one that is tried */
	bool healing; /* READ: it goes down as a write of verified data */
	bool zeroing; /* WRITE_ZEROES: it goes down as a write of zeroes */
	uint32_t flags; /* what it came with then */
	bool second; /* LAST: the store's turn is over */
	int error;
};

/* checksum-table.c */
/* Where the table's part for a range lies in the store; whole blocks. */
void bt_sum_place(const struct bt_sums *sums, uint64_t offset, uint64_t length,
		  uint64_t *at, uint64_t *bytes);
/* Whether the data, which is length bytes of the request's range, is what the
 * table says. -> *bad: the first offset where it is not. */
bool bt_sum_verify(const struct bt_sum_frame *frame, const struct bt_sgl *data,
		   uint64_t *bad);
/* What has to be found out before the range can be written again. */
enum bt_sum_need { BT_SUM_NOTHING, BT_SUM_FLUSH, BT_SUM_READ };
enum bt_sum_need bt_sum_look(const struct bt_sum_frame *frame);
/* Which of two checksums holds: by the data that was read (scratch), or, where
 * that is NULL, the later one. */
void bt_sum_settle(const struct bt_sum_frame *frame, const char *scratch);
/* Enters what is to be written: data, or NULL for zeroes. */
void bt_sum_enter(const struct bt_sum_frame *frame, const struct bt_sgl *data);
int bt_sum_open_store(struct bt_sums *sums, bool adopt,
		      struct blktap_error **err);

#endif
