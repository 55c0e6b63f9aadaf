/* SPDX-License-Identifier: BSD-3-Clause */
/* Compressed clusters: one is read and inflated at a time, and the last one is
 * kept, since who reads a part of it will want the next. */
#include <errno.h>
#include <stdlib.h>

#include "driver/qcow/qcow.h"
#include "util/checked.h"

#define MAX_ALIGN 4096u

static void next(struct bt_qcow *q);

int bt_qcow_unpack_init(struct bt_qcow *q)
{
	struct bt_qcow_unpacker *u = &q->unpacker;
	size_t in = (size_t)bt_qcow_cluster(q) * 2 + 2 * MAX_ALIGN;

	bt_list_init(&u->waiting);
	if (posix_memalign((void **)&u->in, MAX_ALIGN, in) ||
	    posix_memalign((void **)&u->out, MAX_ALIGN, bt_qcow_cluster(q)))
		return -ENOMEM;
	return bt_qcow_inflater_create(
		(enum bt_qcow_compression)q->geo.compression, &u->inflater);
}

void bt_qcow_unpack_fini(struct bt_qcow *q)
{
	bt_qcow_inflater_destroy(q->unpacker.inflater);
	free(q->unpacker.in);
	free(q->unpacker.out);
}

/* Answers all who wait for what is in memory, or could not be had. */
static void answer(struct bt_qcow *q, int error)
{
	struct bt_qcow_unpacker *u = &q->unpacker;
	struct bt_list now, *node;

	bt_list_init(&now);
	bt_list_splice_tail(&now, &u->waiting);
	while ((node = bt_list_pop(&now))) {
		struct bt_qcow_inflate *wait =
			bt_list_entry(node, struct bt_qcow_inflate, link);

		if (wait->host == u->host && wait->bytes == u->bytes)
			wait->fn(wait, u->out, error);
		else
			bt_list_add_tail(&u->waiting, &wait->link);
	}
}

static void have_stream(struct bt_io *io, int error)
{
	struct bt_qcow *q = bt_container_of(io, struct bt_qcow, unpacker.io);
	struct bt_qcow_unpacker *u = &q->unpacker;
	struct bt_fault fault = { .field = "compressed cluster",
				  .value = u->host,
				  .reason = "its stream is damaged" };

	if (!error) {
		error = bt_qcow_inflate(u->inflater,
					u->in + (u->host - io->offset),
					u->bytes, u->out, bt_qcow_cluster(q));
		if (error)
			bt_qcow_complain(q, 0, &fault, error);
	}
	answer(q, error);
	u->valid = !error && !u->stale;
	u->busy = false;
	next(q);
}

static void next(struct bt_qcow *q)
{
	struct bt_qcow_unpacker *u = &q->unpacker;
	uint32_t align = q->f.file.offset_align;
	struct bt_qcow_inflate *wait;

	if (u->busy || bt_list_empty(&u->waiting))
		return;
	wait = bt_list_first(&u->waiting, struct bt_qcow_inflate, link);
	u->host = wait->host;
	u->bytes = wait->bytes;
	u->valid = false;
	u->stale = false;
	u->busy = true;
	u->io.file = &q->f.file;
	u->io.op = BT_IO_READ;
	u->io.flags = 0;
	u->io.offset = bt_align_down(u->host, align);
	u->io.length = bt_align_down(u->host + u->bytes + align - 1, align) -
		       u->io.offset;
	u->iov.iov_base = u->in;
	u->iov.iov_len = u->io.length;
	u->io.data = (struct bt_sgl){ .iov = &u->iov, .count = 1 };
	u->io.done = have_stream;
	bt_engine_submit(&u->io);
}

void bt_qcow_unpack(struct bt_qcow *q, struct bt_qcow_inflate *wait)
{
	struct bt_qcow_unpacker *u = &q->unpacker;

	if (u->valid && wait->host == u->host && wait->bytes == u->bytes) {
		wait->fn(wait, u->out, 0);
		return;
	}
	bt_list_add_tail(&u->waiting, &wait->link);
	next(q);
}

void bt_qcow_unpack_forget(struct bt_qcow *q, uint64_t host)
{
	struct bt_qcow_unpacker *u = &q->unpacker;

	if (u->host != host)
		return;
	u->valid = false;
	u->stale = true;
}
