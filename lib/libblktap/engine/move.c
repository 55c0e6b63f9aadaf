/* SPDX-License-Identifier: BSD-3-Clause */
/* Ios whose data is not in our memory (util/move.h), and which their movers carry to
 * a file in memory, or from there: all that is ready in one call.
 *
 *   submit -> moving -> the mover's run -> moved -> done
 *                            |  not whole, an error
 *                            +-> (a write's data is fetched) -> pending
 *
 * They need no slot, no vector and no merging. What was not moved whole is done as if
 * nobody had tried, from its beginning, and by whatever errors it meets there. */
#include "engine/private.h"

#include <errno.h>
#include <unistd.h>

/* A call of a mover costs as much as a copy of so many bytes. */
#define ALONE_MAX 8192u

/* The first one makes sure that the hook comes before the loop waits. */
void bt_move_add(struct bt_engine *engine, struct bt_io *io)
{
	if (bt_list_empty(&engine->moving))
		bt_loop_poke(engine->loop);
	bt_list_add_tail(&engine->moving, &io->link);
}

/* A small read that is ready alone is made sooner by a call of its own. A write has no
 * data here. */
static bool is_worth_it(const struct bt_list *ios)
{
	const struct bt_io *first =
		bt_list_first(ios, const struct bt_io, link);

	return ios->next != ios->prev || first->op == BT_IO_WRITE ||
	       first->length > ALONE_MAX;
}

/* In progress is the result, as of a move. */
static void read_alone(struct bt_engine *engine, struct bt_io *io)
{
	const struct bt_sgl *sgl = &io->data;
	ssize_t n;

	if (sgl->count != 1 || sgl->skip || sgl->iov->iov_len < io->length)
		return;
	engine->stats.batches++;
	n = pread(io->file->fd, sgl->iov->iov_base, (size_t)io->length,
		  (off_t)io->offset);
	io->progress = (uint64_t)n;
}

static void run(struct bt_engine *engine, struct bt_mover *mover)
{
	if (!mover)
		return;
	engine->stats.batches++;
	mover->run(mover);
}

/* In progress is the result. A move knows no FUA, and a file in memory no more than
 * that. */
static void ask(struct bt_engine *engine, struct bt_list *ios)
{
	struct bt_mover *mover = NULL;
	struct bt_list *pos;

	bt_list_for_each (pos, ios) {
		struct bt_io *io = bt_list_entry(pos, struct bt_io, link);
		struct bt_mover *next = io->move->mover;

		if (next != mover)
			run(engine, mover);
		mover = next;
		next->add(next, io->move, io->file->fd, io->offset,
			  (int64_t *)&io->progress);
	}
	run(engine, mover);
}

/* Where the data cannot be had there is nothing to write, and nothing to try
 * again. */
static void take_back(struct bt_engine *engine, struct bt_io *io)
{
	if (io->op == BT_IO_WRITE && bt_move_fetch(io->move)) {
		bt_queue_refuse(engine, io, -EIO);
		return;
	}
	io->flags &= ~BT_IO_MOVE;
	io->progress = 0;
	bt_list_add_tail(&engine->pending, &io->link);
}

bool bt_move_run(struct bt_engine *engine)
{
	struct bt_list ios = BT_LIST_INIT(ios);
	struct bt_list *node;

	if (bt_likely(bt_list_empty(&engine->moving)))
		return false;
	bt_list_splice_tail(&ios, &engine->moving);
	if (is_worth_it(&ios))
		ask(engine, &ios);
	else
		read_alone(engine, bt_list_first(&ios, struct bt_io, link));
	while ((node = bt_list_pop(&ios))) {
		struct bt_io *io = bt_list_entry(node, struct bt_io, link);

		if (bt_likely(io->progress == io->length))
			bt_list_add_tail(&engine->moved, node);
		else
			take_back(engine, io);
	}
	return true;
}
