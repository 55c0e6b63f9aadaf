/* SPDX-License-Identifier: BSD-3-Clause */
/* An array of bytes that a module keeps in memory and in its store.
 *
 * It lies in the store in sectors of 512 bytes, each with its number and a checksum,
 * which a power cut leaves old or new; eight of them make a block, which is what is
 * written. A commit writes the blocks that have changed and flushes the store:
 *
 *   IDLE -> (a wait) -> WRITING: changed blocks, a few at a time -> FLUSHING
 *        <- (all that waited are told) <---------------------------'
 *
 * Who asks while a commit runs is told by the next one. Blocks that could not be
 * written, or flushed, stay changed. */
#ifndef BT_MODULE_TABLE_H
#define BT_MODULE_TABLE_H

#include "port/port.h"

#define BT_TABLE_BLOCK 4096u
#define BT_TABLE_BYTES 4032u /* of the array in a block */
#define BT_TABLE_CHILDREN 8u

#define BT_TABLE_CHANGED 0x1u /* since it was last sent */
#define BT_TABLE_SENT 0x2u /* by the commit that runs */

struct bt_table_wait {
	struct bt_list link; /* init before first use */
	void (*fn)(struct bt_table_wait *wait, int error);
};

struct bt_table {
	struct bt_port *store;
	uint64_t offset; /* in the store; a multiple of 4096 */
	uint64_t blocks;
	unsigned char *bytes; /* the array; bt_table_touch what was changed */
	unsigned char *changed; /* a byte a block: BT_TABLE_CHANGED, _SENT */
	unsigned char *buffers;
	uint32_t given; /* of them; each child keeps its own */
	struct bt_pool *pool;
	/* Each bt_table_wait is on one of these two lists from bt_table_commit
	 * until its fn is called: on waiting, until no commit runs, then on
	 * round. Both are in order of asking. */
	struct bt_list waiting; /* for the next commit */
	struct bt_list round; /* for the one that runs */
	uint64_t cursor; /* WRITING: blocks before it were looked at */
	/* one more while send() looks for blocks, so that a child which ends at
	 * once does not end the commit */
	uint32_t out; /* children under way */
	bool running;
	/* the first step that failed ends the commit behind what is under way;
	 * blocks that were sent are CHANGED again */
	int error; /* of the commit that runs */
};

/* Where an array of so many bytes ends in the store, from offset on. */
uint64_t bt_table_space(uint64_t bytes);
/* What it takes in memory. */
uint64_t bt_table_memory(uint64_t bytes);

/* From cls->open; all zeroes. fini from cls->close, harmless on a zeroed one. */
int bt_table_init(struct bt_table *table, struct bt_node *node,
		  struct bt_port *store, uint64_t offset, uint64_t bytes);
void bt_table_fini(struct bt_table *table);
/* Reads it, writes all of it: both wait, for cls->open. -EUCLEAN where a sector is
 * damaged. store does not flush. */
int bt_table_load(struct bt_table *table, const char *name,
		  struct blktap_error **err);
int bt_table_store(struct bt_table *table);

/* bytes[at] was changed. */
static inline void bt_table_touch(struct bt_table *table, uint64_t at)
{
	unsigned char *changed = &table->changed[at / BT_TABLE_BYTES];

	*changed |= BT_TABLE_CHANGED;
}

/* wait->fn is called when all that was changed so far is durable, or with the
 * error that it is not. */
void bt_table_commit(struct bt_table *table, struct bt_table_wait *wait);

#endif
