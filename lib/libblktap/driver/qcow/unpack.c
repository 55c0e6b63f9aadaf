/* SPDX-License-Identifier: BSD-3-Clause */
/* Compressed clusters: one is read and inflated at a time, and the last one is
 * kept, since who reads a part of it will want the next.
 *
 *   unpacker.waiting: who waits, oldest first; the first one's stream is read
 *   busy: in is being filled, for host and bytes; out belongs to that read
 *   valid: out holds the cluster of host and bytes
 *   stale: that stream was dropped while it was read: answer, and keep nothing
 *
 * Requests for one stream that come together are answered by one inflation. */
#include <errno.h>
#include <stdlib.h>

#include "driver/qcow/qcow.h"
#include "util/checked.h"

#define MAX_ALIGN 4096u

static void next(struct bt_qcow *q);

/* A stream takes at most twice a cluster: versions 2 and 3 have cluster_bits -
 * 8 bits for its sectors (libqcow/geometry.c), version 1 less than a cluster.
 * O_DIRECT adds up to an alignment at each end. */
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

/* Answers all who wait for what is in memory, or could not be had. Whoever is
 * told may ask for another stream, which then joins the list: so it is taken
 * whole. busy is still set, or such a call would begin to read into what is
 * being handed out. */
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

/* A stream that is cut by the end of the file is inflated all the same: what is
 * missing is zeroes (eof_ok), and the inflater judges. */
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

/* The length of an entry is an upper bound, in whole sectors; the stream ends
 * inside. */
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

/* fn may be called inside of this call. */
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

/* An entry that named the stream is gone. Its place can be given to another
 * one, of the same length, so what is kept of it must not answer for that. */
void bt_qcow_unpack_forget(struct bt_qcow *q, uint64_t host)
{
	struct bt_qcow_unpacker *u = &q->unpacker;

	if (u->host != host)
		return;
	u->valid = false;
	u->stale = true;
}
