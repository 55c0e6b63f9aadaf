/* SPDX-License-Identifier: BSD-3-Clause */
#include "record.h"

#include <stdlib.h>
#include <string.h>

#include "engine/private.h"
#include "util/checked.h"
#include "util/sgl.h"

#define SECTOR 512u

struct state {
	void (*completed)(void *opaque, struct bt_slot *slot);
	void *opaque;
	struct bt_list ready;
	uint32_t *index; /* of a slot's operation; UINT32_MAX: a read */
};

struct record record;
uint32_t (*record_file)(int fd);

void record_reset(void)
{
	uint32_t i;

	for (i = 0; i < record.count; i++)
		free(record.ops[i].data);
	free(record.ops);
	memset(&record, 0, sizeof(record));
}

uint64_t record_tick(void)
{
	return ++record.now;
}

struct record_op *record_add(void)
{
	struct record_op *op;

	record.ops =
		realloc(record.ops, (record.count + 1) * sizeof(*record.ops));
	op = &record.ops[record.count++];
	memset(op, 0, sizeof(*op));
	op->submitted = record_tick();
	return op;
}

static uint32_t keep(const struct bt_slot *slot)
{
	struct bt_sgl sgl = { .iov = slot->iov, .count = slot->iov_count };
	struct record_op *op;

	if (slot->op == BT_IO_READ)
		return UINT32_MAX;
	op = record_add();
	op->op = (int)slot->op;
	op->file = record_file ? record_file(slot->fd) : 0;
	op->offset = slot->offset;
	op->length = slot->length;
	op->fua = slot->flags & BT_IO_FUA;
	if (slot->op == BT_IO_WRITE) {
		op->data = malloc(slot->length);
		bt_sgl_copy_out(&sgl, op->data, slot->length);
	}
	return record.count - 1;
}

static int record_init(struct bt_loop *loop, uint32_t queue_depth,
		       void (*completed)(void *opaque, struct bt_slot *slot),
		       void *opaque, void **out)
{
	struct state *s = calloc(1, sizeof(*s));

	s->completed = completed;
	s->opaque = opaque;
	s->index = calloc(queue_depth, sizeof(*s->index));
	bt_list_init(&s->ready);
	*out = s;
	return 0;
}

static void record_fini(void *state)
{
	struct state *s = state;

	free(s->index);
	free(s);
}

static int record_submit(void *state, struct bt_slot **slots, uint32_t count)
{
	struct state *s = state;
	uint32_t i;

	for (i = 0; i < count; i++) {
		s->index[slots[i]->index] = keep(slots[i]);
		slots[i]->result = bt_sync_perform(slots[i]);
		bt_list_add_tail(&s->ready, &slots[i]->link);
	}
	return (int)count;
}

static bool record_reap(void *state)
{
	struct state *s = state;
	struct bt_list batch = BT_LIST_INIT(batch), *node;
	bool any = false;

	bt_list_splice_tail(&batch, &s->ready);
	while ((node = bt_list_pop(&batch))) {
		struct bt_slot *slot =
			bt_list_entry(node, struct bt_slot, link);
		uint32_t index = s->index[slot->index];

		if (index != UINT32_MAX)
			record.ops[index].completed = record_tick();
		s->completed(s->opaque, slot);
		any = true;
	}
	return any;
}

const struct bt_backend record_backend = {
	.name = "record",
	.init = record_init,
	.fini = record_fini,
	.submit = record_submit,
	.reap = record_reap,
};

/* ---- the cut -------------------------------------------------------------- */

/* The submission of the last sync that had completed. */
static uint64_t last_sync(uint32_t file, uint64_t at)
{
	uint64_t last = 0;
	uint32_t i;

	for (i = 0; i < record.count; i++) {
		const struct record_op *op = &record.ops[i];

		if (op->op == BT_IO_SYNC && op->file == file && op->completed &&
		    op->completed <= at && op->submitted > last)
			last = op->submitted;
	}
	return last;
}

static void put(const struct record_op *op, uint64_t from, uint64_t length,
		unsigned char *image, uint64_t *size, uint64_t max)
{
	uint64_t at = op->offset + from;

	if (op->op == RECORD_TRUNCATE) {
		if (op->length < *size)
			memset(image + op->length, 0, *size - op->length);
		*size = op->length;
		return;
	}
	if (at + length > max)
		abort();
	if (op->op == BT_IO_WRITE) {
		memcpy(image + at, op->data + from, length);
		*size = bt_max_u64(*size, at + length);
	} else if (at < *size) {
		memset(image + at, 0, bt_min_u64(length, *size - at));
	}
}

uint64_t record_cut(uint64_t at, enum record_model model,
		    uint64_t (*random)(void), unsigned char *image,
		    uint64_t size, uint64_t max)
{
	return record_cut_file(0, at, model, random, image, size, max);
}

uint64_t record_cut_file(uint32_t file, uint64_t at, enum record_model model,
			 uint64_t (*random)(void), unsigned char *image,
			 uint64_t size, uint64_t max)
{
	uint64_t synced = last_sync(file, at), n;
	uint32_t i;

	memset(image + size, 0, max - size);
	for (i = 0; i < record.count && record.ops[i].submitted <= at; i++) {
		const struct record_op *op = &record.ops[i];
		bool durable =
			op->completed && (op->completed < synced ||
					  (op->fua && op->completed <= at));

		if (op->op == BT_IO_SYNC || op->file != file)
			continue;
		if (durable || model == RECORD_ALL ||
		    (model == RECORD_SOME && random() % 2)) {
			put(op, 0, op->length, image, &size, max);
			continue;
		}
		if (model != RECORD_TORN || op->op == RECORD_TRUNCATE)
			continue;
		for (n = 0; n < op->length; n += SECTOR)
			if (random() % 2)
				put(op, n, bt_min_u64(SECTOR, op->length - n),
				    image, &size, max);
	}
	return size;
}
