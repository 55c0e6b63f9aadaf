/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of a cow; only its own files include it. */
#ifndef BT_MODULE_COW_H
#define BT_MODULE_COW_H

#include "module/header.h"
#include "module/parts.h"
#include "module/table.h"

struct bt_cow {
	struct bt_node *node;
	struct bt_port *top;
	struct bt_port *base;
	struct bt_parts parts;
	struct bt_header header;
	struct bt_header_writer writer;
	struct bt_table table;
	unsigned char *live; /* the map as reads see it */
	unsigned char *staged; /* a byte a block of the table: has new bits */
	/* A FLUSH is on one of the two until its round is over. A round is:
	 * stage, flush top, commit the table, and for a LAST one the clean
	 * mark, and a LAST flush of top. */
	struct bt_list flushes; /* for the next round, oldest first */
	struct bt_list round;
	struct bt_pool *flush_pool;
	struct bt_table_wait wait;
	uint64_t size;
	uint64_t data_at; /* in top */
	uint32_t grain;
	bool flushing;
	bool read_only;
};

struct bt_cow_frame {
	struct bt_parts_frame parts;
	bool in_base; /* BLOCK_STATUS: who answers */
	bool itself; /* went to top as it is */
};

/* cow-flush.c. From cls->open: what it needs of memory. */
int bt_cow_flush_init(struct bt_cow *cow);
uint64_t bt_cow_flush_memory(void);
void bt_cow_flush(struct bt_cow *cow, struct bt_request *req);

#endif
