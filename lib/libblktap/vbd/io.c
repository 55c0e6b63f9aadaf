/* SPDX-License-Identifier: BSD-3-Clause */
/* The in-memory frontend: requests of a program that embeds the library.
 *
 *   submitted -> in the disk -> done -> callback                        -> given back
 *                                  |--> results, the callback is deferred --^
 *                                  '--> polled, until blktap_disk_poll -----^
 *
 * A callback is deferred inside of a submission and outside of the loop's turns, so
 * that whoever locks around a call is not called back under his lock, and after
 * IN_A_ROW of them, so that others have their turn. The order of completion is kept
 * among those that are deferred, and among those that are polled. */
#include "vbd/private.h"

#include <errno.h>

#include "engine/engine.h"

#define IN_A_ROW 256u /* callbacks from under a completion */

struct user {
	struct bt_request req;
	blktap_io_fn *callback;
	void *opaque;
	uint32_t *extent_count;
	struct blktap_disk *disk;
};

static struct user *user_of(struct bt_list *node)
{
	return bt_container_of(bt_list_entry(node, struct bt_request, link),
			       struct user, req);
}

/* Only here does code of the embedder run: nothing of the request is touched
 * behind it. */
static void call_back(struct user *user)
{
	struct bt_loop *loop = user->disk->context->loop;
	blktap_io_fn *callback = user->callback;
	void *opaque = user->opaque;
	int error = user->req.error;
	bool before;

	/* first, so that the callback can submit the next one */
	bt_pool_give(&user->req);
	before = bt_loop_enter(loop);
	callback(opaque, error);
	bt_loop_leave(loop, before);
}

/* Callbacks that were due while blktap_disk_submit was running. */
static void deliver(struct bt_work *work)
{
	struct blktap_disk *disk =
		bt_container_of(work, struct blktap_disk, deliver);
	struct bt_list due, *node;

	disk->in_a_row = 0;
	bt_engine_kick(disk->context->engine);
	bt_list_init(&due);
	bt_list_splice_tail(&due, &disk->results);
	while ((node = bt_list_pop(&due)))
		call_back(user_of(node));
}

static void done(struct bt_request *req)
{
	struct user *user = bt_container_of(req, struct user, req);
	struct blktap_disk *disk = user->disk;

	if (user->extent_count)
		*user->extent_count = req->extent_count;
	if (!user->callback) {
		bt_list_add_tail(&disk->polled, &req->link);
	} else if (disk->submitting || disk->in_a_row++ >= IN_A_ROW ||
		   !bt_loop_is_running(disk->context->loop)) {
		/* an image that answers at once, and a callback that submits
		 * again, would never come to an end */
		bt_list_add_tail(&disk->results, &req->link);
		bt_loop_defer(disk->context->loop, &disk->deliver);
	} else {
		call_back(user);
	}
}

/* Below here a request is believed to have the memory that it says. */
static bool has_memory(const struct blktap_io *io)
{
	uint64_t left = io->length;
	uint32_t i;

	if (io->op == BLKTAP_OP_BLOCK_STATUS)
		return io->extents && io->extent_max && io->extent_count;
	if (io->op != BLKTAP_OP_READ && io->op != BLKTAP_OP_WRITE)
		return true;
	for (i = 0; left && io->iov && i < io->iov_count; i++)
		left -= bt_min_u64(left, io->iov[i].iov_len);
	return !left;
}

/* An embedder hears of its own mistakes at once, and by the return value;
 * callbacks tell only of requests that were taken. */
static int check(const struct blktap_disk *disk, const struct blktap_io *io)
{
	if (disk->closing)
		return -ESHUTDOWN;
	/* The first version's fields, up to opaque, have to be there. */
	if (io->size < offsetof(struct blktap_io, opaque) + sizeof(void *))
		return -EINVAL;
	/* The bits above are the core's own (BT_REQUEST_*), and nobody's from
	 * outside. */
	if (io->flags & ~(BLKTAP_FUA | BLKTAP_MAY_UNMAP | BLKTAP_FAST_ONLY))
		return -EINVAL;
	if (!has_memory(io))
		return -EINVAL;
	return bt_vbd_check(disk, io->op, io->flags, io->offset, io->length);
}

static void fill(struct bt_request *req, const struct blktap_io *io)
{
	req->op = io->op;
	req->flags = io->flags;
	req->offset = io->offset;
	req->length = io->length;
	req->data.iov = io->iov;
	req->data.count = io->iov_count;
	req->data.skip = 0;
	req->extents = io->extents;
	req->extent_max = io->extent_max;
	req->done = done;
}

int blktap_disk_submit(struct blktap_disk *disk, const struct blktap_io *io)
{
	bool before = disk->submitting;
	struct bt_request *req;
	struct user *user;
	int rc = check(disk, io);

	if (rc < 0)
		return rc;
	req = bt_pool_take(disk->users);
	if (!req)
		return -EAGAIN;
	user = bt_container_of(req, struct user, req);
	fill(req, io);
	user->callback = io->callback;
	user->opaque = io->opaque;
	user->extent_count = io->extent_count;
	user->disk = disk;
	/* Callbacks wait meanwhile: an embedder that locks around its submit must
	 * not be called back under its own lock. */
	disk->submitting = true;
	bt_vbd_submit(disk, req);
	disk->submitting =
		before; /* an event of another's may have submitted */
	/* so that an embedder's poll knows of the work */
	if (!bt_loop_is_running(disk->context->loop))
		bt_loop_defer(disk->context->loop, &disk->deliver);
	return 0;
}

uint32_t blktap_disk_poll(struct blktap_disk *disk,
			  struct blktap_io_result *results, uint32_t max)
{
	uint32_t n = 0;

	while (n < max) {
		struct bt_list *node = bt_list_pop(&disk->polled);
		struct user *user;

		if (!node)
			break;
		user = user_of(node);
		results[n].opaque = user->opaque;
		results[n].error = user->req.error;
		n++;
		bt_pool_give(&user->req);
	}
	return n;
}

int bt_io_init(struct blktap_disk *disk, uint32_t depth)
{
	bt_list_init(&disk->results);
	bt_list_init(&disk->polled);
	bt_work_init(&disk->deliver, deliver);
	return bt_vbd_pool_create(disk, depth ? depth : 128,
				  sizeof(struct user), &disk->users);
}

/* What was not polled is dropped; what has a callback gets it. */
void bt_io_fini(struct blktap_disk *disk)
{
	struct blktap_io_result dropped;

	if (!disk->users)
		return;
	bt_work_cancel(&disk->deliver);
	deliver(&disk->deliver);
	while (blktap_disk_poll(disk, &dropped, 1))
		;
	bt_vbd_pool_destroy(disk, disk->users);
}
