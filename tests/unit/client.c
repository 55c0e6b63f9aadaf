/* SPDX-License-Identifier: BSD-3-Clause */
#include "client.h"

#include <string.h>

#include "record.h"
#include "unit.h"

#define SECTORS (CLIENT_PAGE / 512u) /* of a page */

struct client client;

void client_reset(uint64_t (*random)(void))
{
	memset(&client, 0, sizeof(client));
	client.random = random;
	client.next_tag = 1;
}

void client_fill(unsigned char *bytes, uint32_t page, uint32_t tag)
{
	uint32_t i;

	for (i = 0; i < SECTORS; i++)
		versions_fill(bytes + i * 512, page * SECTORS + i, tag);
}

static void next(struct client_op *op);

static void done(void *opaque, int error)
{
	struct client_op *op = opaque;
	struct version v = { .tag = op->tag,
			     .submitted = op->submitted,
			     .completed = record_tick(),
			     .fua = op->fua,
			     .discard = op->op == BLKTAP_OP_DISCARD };
	uint32_t i;

	ck_assert_int_eq(error, 0);
	op->busy = false;
	if (op->op == BLKTAP_OP_FLUSH) {
		versions_flushed(op->submitted, v.completed);
	} else {
		for (i = 0; i < SECTORS; i++)
			versions_add(op->page * SECTORS + i, &v);
	}
	if (client.goes_on)
		next(op);
}

static void submit(struct client_op *op)
{
	struct blktap_io io = { .size = sizeof(io),
				.op = op->op,
				.flags = op->fua ? BLKTAP_FUA : 0,
				.callback = done,
				.opaque = op };

	if (op->op != BLKTAP_OP_FLUSH) {
		io.offset = (uint64_t)op->page * CLIENT_PAGE;
		io.length = CLIENT_PAGE;
	}
	if (op->op == BLKTAP_OP_WRITE) {
		op->iov.iov_base = op->bytes;
		op->iov.iov_len = CLIENT_PAGE;
		io.iov = &op->iov;
		io.iov_count = 1;
	}
	op->busy = true;
	op->submitted = record_tick();
	ck_assert_int_eq(blktap_disk_submit(client.disk, &io), 0);
}

static bool page_is_busy(uint32_t page)
{
	uint32_t i;

	for (i = 0; i < CLIENT_DEPTH; i++)
		if (client.ops[i].busy && client.ops[i].op != BLKTAP_OP_FLUSH &&
		    client.ops[i].page == page)
			return true;
	return false;
}

/* Another write, or now and then a discard or a flush. */
static void next(struct client_op *op)
{
	uint64_t r = client.random() % 16;
	uint32_t page = (uint32_t)(client.random() % CLIENT_PAGES);

	if (op->busy || client.requests >= client.most || page_is_busy(page))
		return;
	client.requests++;
	op->page = page;
	op->op = r < 3	 ? BLKTAP_OP_FLUSH
		 : r < 5 ? BLKTAP_OP_DISCARD
			 : BLKTAP_OP_WRITE;
	op->fua = r > 13;
	op->tag = op->op == BLKTAP_OP_WRITE ? client.next_tag++ : 0;
	client.flushes += op->op == BLKTAP_OP_FLUSH;
	client_fill(op->bytes, page, op->tag);
	submit(op);
}

void client_submit(void)
{
	uint32_t i;

	for (i = 0; i < CLIENT_DEPTH; i++)
		next(&client.ops[i]);
}

bool client_is_idle(void)
{
	uint32_t i, busy = 0;

	for (i = 0; i < CLIENT_DEPTH; i++)
		busy += client.ops[i].busy;
	return !busy;
}
