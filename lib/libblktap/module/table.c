/* SPDX-License-Identifier: BSD-3-Clause */
/* A sector: 504 bytes of the array, its number, the crc32 of both; little-endian.
 * The number keeps a sector that was written to the wrong place from being taken
 * for the right one. */
#include "module/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/error.h"
#include "util/bytes.h"
#include "util/checked.h"

#define SECTOR 512u
#define PAYLOAD 504u
#define SECTORS (BT_TABLE_BLOCK / SECTOR)

struct bt_table_child {
	struct bt_request req;
	struct iovec iov; /* its buffer, for good */
};

/* A block holds 8 sectors of 504 bytes of the array: BT_TABLE_BYTES. */
static uint64_t block_count(uint64_t bytes)
{
	return bytes / BT_TABLE_BYTES + (bytes % BT_TABLE_BYTES != 0);
}

uint64_t bt_table_space(uint64_t bytes)
{
	return block_count(bytes) * BT_TABLE_BLOCK;
}

uint64_t bt_table_memory(uint64_t bytes)
{
	return (block_count(bytes) + 1) * (BT_TABLE_BYTES + 1) +
	       BT_TABLE_CHILDREN * BT_TABLE_BLOCK +
	       bt_node_pool_memory(BT_TABLE_CHILDREN,
				   sizeof(struct bt_table_child));
}

int bt_table_init(struct bt_table *table, struct bt_node *node,
		  struct bt_port *store, uint64_t offset, uint64_t bytes)
{
	int rc = -ENOMEM;

	memset(table, 0, sizeof(*table));
	table->store = store;
	table->offset = offset;
	table->blocks = block_count(bytes);
	bt_list_init(&table->waiting);
	bt_list_init(&table->round);
	/* one more than there are, so that an array of no bytes has memory too
	 */
	table->bytes = calloc(table->blocks + 1, BT_TABLE_BYTES);
	table->changed = calloc(table->blocks + 1, 1);
	table->buffers = aligned_alloc(BT_TABLE_BLOCK,
				       BT_TABLE_CHILDREN * BT_TABLE_BLOCK);
	if (table->bytes && table->changed && table->buffers)
		rc = bt_node_add_pool(node, BT_TABLE_CHILDREN,
				      sizeof(struct bt_table_child),
				      &table->pool);
	if (rc < 0)
		bt_table_fini(table);
	return rc;
}

void bt_table_fini(struct bt_table *table)
{
	free(table->bytes);
	free(table->changed);
	free(table->buffers);
	memset(table, 0, sizeof(*table));
}

/* ---- a block --------------------------------------------------------------- */

/* The checksum covers the payload and the number, so neither can be another
 * sector's. It is 32 bits wide, enough for 2 TiB of table. */
static void encode(const struct bt_table *table, uint64_t block,
		   unsigned char *out)
{
	const unsigned char *in = table->bytes + block * BT_TABLE_BYTES;
	uint32_t i;

	for (i = 0; i < SECTORS; i++, in += PAYLOAD, out += SECTOR) {
		memcpy(out, in, PAYLOAD);
		bt_store_le32(out + PAYLOAD, (uint32_t)(block * SECTORS + i));
		bt_store_le32(out + PAYLOAD + 4,
			      (uint32_t)crc32(0, out, PAYLOAD + 4));
	}
}

/* Each sector by itself, since a cut may leave some of a block's sectors old
 * and others new: each is whole, and the class that keeps the table knows that
 * any mix of old and new is right. */
static bool decode(struct bt_table *table, uint64_t block,
		   const unsigned char *in)
{
	unsigned char *out = table->bytes + block * BT_TABLE_BYTES;
	uint32_t i;

	for (i = 0; i < SECTORS; i++, in += SECTOR, out += PAYLOAD) {
		if (bt_load_le32(in + PAYLOAD) !=
			    (uint32_t)(block * SECTORS + i) ||
		    bt_load_le32(in + PAYLOAD + 4) !=
			    (uint32_t)crc32(0, in, PAYLOAD + 4))
			return false;
		memcpy(out, in, PAYLOAD);
	}
	return true;
}

/* ---- while a node is opened ------------------------------------------------ */

/* Blocks that are moved at once. */
static uint64_t batch(const struct bt_table *table, uint64_t block)
{
	return bt_min_u64(BT_TABLE_CHILDREN, table->blocks - block);
}

/* A damaged sector ends the opening: half a map would be worse than none, as
 * what it does not tell would be read from the wrong place. */
int bt_table_load(struct bt_table *table, const char *name,
		  struct blktap_error **err)
{
	const char *store = table->store->lower->name;
	char reason[BT_STRERROR_MAX];
	uint64_t block, n, i;
	int rc;

	for (block = 0; block < table->blocks; block += n) {
		n = batch(table, block);
		rc = bt_node_transfer(table->store, BLKTAP_OP_READ,
				      table->offset + block * BT_TABLE_BLOCK,
				      table->buffers, n * BT_TABLE_BLOCK);
		if (rc < 0)
			return bt_fail(err, rc, NULL,
				       "%s: the map in '%s' cannot be read: %s",
				       name, store, bt_strerror(rc, reason));
		for (i = 0; i < n; i++)
			if (!decode(table, block + i,
				    table->buffers + i * BT_TABLE_BLOCK))
				return bt_fail(
					err, -EUCLEAN,
					"what it says cannot be trusted",
					"%s: the map in '%s' is damaged at "
					"byte %llu",
					name, store,
					(unsigned long long)(table->offset +
							     (block + i) *
								     4096));
	}
	return 0;
}

int bt_table_store(struct bt_table *table)
{
	uint64_t block, n, i;
	int rc = 0;

	for (block = 0; block < table->blocks && !rc; block += n) {
		n = batch(table, block);
		for (i = 0; i < n; i++)
			encode(table, block + i,
			       table->buffers + i * BT_TABLE_BLOCK);
		rc = bt_node_transfer(table->store, BLKTAP_OP_WRITE,
				      table->offset + block * BT_TABLE_BLOCK,
				      table->buffers, n * BT_TABLE_BLOCK);
	}
	/* nothing is left to commit; without a flush it is not durable yet */
	if (!rc)
		memset(table->changed, 0, table->blocks);
	return rc;
}

/* ---- the commit ------------------------------------------------------------ */

static void begin(struct bt_table *table);

/* What was sent is durable, or has changed still. After an error nobody knows
 * which of the blocks that were sent are on disk: a flush that failed covers
 * none of them. They are written again with the next commit. One that was
 * touched meanwhile is CHANGED anyway. */
static void settle(struct bt_table *table)
{
	uint64_t block;

	for (block = 0; block < table->blocks; block++) {
		if (table->error && table->changed[block] & BT_TABLE_SENT)
			table->changed[block] |= BT_TABLE_CHANGED;
		table->changed[block] &= (unsigned char)~BT_TABLE_SENT;
	}
}

/* `running` stays set while the waiters are told, so that who commits again
 * from there is put on `waiting` and does not begin a commit inside of this
 * one. */
static void end(struct bt_table *table)
{
	struct bt_list round = BT_LIST_INIT(round), *node;
	int error = table->error;

	settle(table);
	bt_list_splice_tail(&round, &table->round);
	while ((node = bt_list_pop(&round))) {
		struct bt_table_wait *wait =
			bt_list_entry(node, struct bt_table_wait, link);

		wait->fn(wait, error);
	}
	table->running = false;
	begin(table);
}

static void flushed(struct bt_request *req)
{
	struct bt_table *table = req->opaque;

	table->error = req->error;
	bt_pool_give(req);
	end(table);
}

/* A child of the pool is free: `out` is 0, so all of them are. */
static void flush(struct bt_table *table)
{
	struct bt_request *req = bt_pool_take(table->pool);

	req->op = BLKTAP_OP_FLUSH;
	req->done = flushed;
	req->opaque = table;
	bt_port_submit(table->store, req);
}

static void send(struct bt_table *table);

static void written(struct bt_request *req)
{
	struct bt_table *table = req->opaque;

	if (req->error)
		table->error = req->error;
	bt_pool_give(req);
	table->out--;
	send(table);
}

/* The buffers belong to the places of the children in the pool; a child has the
 * one that was its own when it was first taken. */
static void send_block(struct bt_table *table, struct bt_table_child *child,
		       uint64_t block)
{
	struct bt_request *req = &child->req;

	if (!child->iov.iov_base)
		child->iov.iov_base = table->buffers +
				      (size_t)table->given++ * BT_TABLE_BLOCK;
	child->iov.iov_len = BT_TABLE_BLOCK;
	encode(table, block, child->iov.iov_base);
	/* the bytes were copied just now: whoever touches the block from here
	 * on sets CHANGED again, for the next commit */
	table->changed[block] = BT_TABLE_SENT;
	req->op = BLKTAP_OP_WRITE;
	req->offset = table->offset + block * BT_TABLE_BLOCK;
	req->length = BT_TABLE_BLOCK;
	req->data = (struct bt_sgl){ .iov = &child->iov, .count = 1 };
	req->done = written;
	req->opaque = table;
	table->out++;
	bt_port_submit(table->store, req);
}

/* Called at the beginning and by each child that comes back. Blocks go in
 * order; the buffers are as many as the children. */
static void send(struct bt_table *table)
{
	table->out++; /* not done before all are sent */
	while (table->cursor < table->blocks && !table->error) {
		struct bt_request *req;

		if (!(table->changed[table->cursor] & BT_TABLE_CHANGED)) {
			table->cursor++;
			continue;
		}
		req = bt_pool_take(table->pool);
		if (!req)
			break;
		send_block(table,
			   bt_container_of(req, struct bt_table_child, req),
			   table->cursor++);
	}
	if (--table->out)
		return;
	/* no flush after a write that failed: the waiters get its error, and
	 * what did get there is harmless, as any mix of sectors is */
	if (table->error)
		end(table);
	else
		flush(table);
}

static void begin(struct bt_table *table)
{
	if (table->running || bt_list_empty(&table->waiting))
		return;
	table->running = true;
	table->error = 0;
	table->cursor = 0;
	bt_list_splice_tail(&table->round, &table->waiting);
	send(table);
}

/* What was touched before this call is covered, if not by a commit that runs
 * then by the next one: a commit that runs may have passed the block already.
 */
void bt_table_commit(struct bt_table *table, struct bt_table_wait *wait)
{
	bt_list_add_tail(&table->waiting, &wait->link);
	begin(table);
}
