/* SPDX-License-Identifier: BSD-3-Clause */
/* Commits: copy what is dirty, then write and sync rank by rank.
 *
 *   idle -> start: snapshot -> [rank 0 writes] -> sync -> rank 1 writes -> sync
 *        -> ... -> finish -> (who joined meanwhile: start again)
 *
 * One that only stores has no sync behind its last writes. What it left is unsynced
 * until any sync has ended well; and one comes before the next writes of rank 1 or
 * more.
 *
 * A commit never waits for a reader or a request, so whoever waits for one
 * cannot be in its way. What it writes are shadows: a block may be changed the
 * moment after it was copied, and nothing that is changed together (an entry
 * and a count) is split between two commits unless the driver changes it in two
 * turns of the loop. */
#include "meta/private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "util/checked.h"

static void go_on(struct bt_meta *meta);
static void start(struct bt_work *work);

/* One range a block, from the first to the last changed byte. A block with a
 * change at each end writes what lies between as well: no more than a page, and
 * one write. */
void bt_meta_mark(struct bt_meta_block *block, uint32_t from, uint32_t to)
{
	struct bt_meta_set *set = &block->meta->sets[block->kind];

	if (block->dirty_from == block->dirty_to) {
		block->dirty_from = from;
		block->dirty_to = to;
		bt_list_add_tail(&set->dirty, &block->dirty_link);
		set->dirty_count++;
		return;
	}
	if (from < block->dirty_from)
		block->dirty_from = from;
	if (to > block->dirty_to)
		block->dirty_to = to;
}

/* The range need not be aligned: snapshot widens it to what the file takes. */
void bt_meta_dirty(struct bt_meta_block *block, uint32_t from, uint32_t length)
{
	struct bt_meta *meta = block->meta;
	struct bt_meta_set *set = &meta->sets[block->kind];

	bt_meta_mark(block, from, from + length);
	/* early enough that readers do not have to wait for room */
	if (set->dirty_count > set->kind.block_count / 2)
		bt_meta_commit_soon(meta);
}

static bool has_changes(const struct bt_meta *meta)
{
	uint32_t i;

	for (i = 0; i < meta->set_count; i++)
		if (meta->sets[i].dirty_count)
			return true;
	return false;
}

/* While a commit runs its blocks are neither dirty nor on disk: so that counts,
 * too. */
bool bt_meta_is_stored(const struct bt_meta *meta)
{
	return !meta->running && !has_changes(meta);
}

/* Who asks (a write with FUA) wants to know whether a table may be behind. */
bool bt_meta_is_dirty(const struct bt_meta *meta)
{
	return meta->unsynced || !bt_meta_is_stored(meta);
}

void bt_meta_commit_init(struct bt_meta *meta)
{
	bt_list_init(&meta->writing);
	bt_list_init(&meta->joined);
	bt_list_init(&meta->next);
	bt_work_init(&meta->start, start);
}

/* Nobody waits for it. It is deferred, as who asks is deep inside a driver, and
 * so that what the same turn of the loop changes goes along. */
void bt_meta_commit_soon(struct bt_meta *meta)
{
	meta->forced = true;
	if (!meta->running)
		bt_loop_defer(meta->loop, &meta->start);
}

static void ask(struct bt_meta *meta, struct bt_meta_commit *commit,
		bool stores)
{
	commit->stores = stores;
	bt_list_add_tail(&meta->next, &commit->link);
	if (!meta->running)
		bt_loop_defer(meta->loop, &meta->start);
}

void bt_meta_commit(struct bt_meta *meta, struct bt_meta_commit *commit)
{
	ask(meta, commit, false);
}

void bt_meta_store(struct bt_meta *meta, struct bt_meta_commit *commit)
{
	ask(meta, commit, true);
}

/* Whole sectors of the file, so that O_DIRECT takes them. The block is clean
 * from here on: what changes it now is not in the shadow, and is for the next
 * commit. Widening takes in bytes that nobody changed; they are copied from
 * data, where they are what the file has or newer, so nothing is written
 * backwards. */
static void snapshot(struct bt_meta *meta, struct bt_meta_block *block)
{
	uint32_t align = meta->file->offset_align;
	uint32_t size = meta->sets[block->kind].kind.block_size;
	uint32_t to =
		(uint32_t)bt_align_down(block->dirty_to + align - 1, align);

	block->shadow_from = (uint32_t)bt_align_down(block->dirty_from, align);
	block->shadow_to = to < size ? to : size;
	memcpy(block->shadow + block->shadow_from,
	       block->data + block->shadow_from,
	       block->shadow_to - block->shadow_from);
	block->dirty_from = block->dirty_to = 0;
	block->committing = true;
	bt_list_del(&block->dirty_link);
	bt_list_add_tail(&meta->writing, &block->commit_link);
}

/* All sets at once, in one turn: a count and the entry that needs it, changed
 * together, are in the same commit, and ranks put them in order. */
static void take_dirty(struct bt_meta *meta)
{
	uint32_t i;

	for (i = 0; i < meta->set_count; i++) {
		struct bt_meta_set *set = &meta->sets[i];

		while (!bt_list_empty(&set->dirty))
			snapshot(meta, bt_list_first(&set->dirty,
						     struct bt_meta_block,
						     dirty_link));
		set->dirty_count = 0;
	}
}

/* Somebody joined, and all who did are content with that. */
static bool is_store(const struct bt_meta *meta)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &meta->joined)
		if (!bt_list_entry(pos, struct bt_meta_commit, link)->stores)
			return false;
	return !bt_list_empty(&meta->joined);
}

/* After a sync that failed no commit writes anything: the kernel may have
 * dropped what it could not write, and ranks that follow would point to it.
 * Where there is nothing to do, and only room was asked for, those who are
 * short of a block are served: one of them may have been released since. */
static void start(struct bt_work *work)
{
	struct bt_meta *meta = bt_container_of(work, struct bt_meta, start);

	if (meta->running)
		return;
	if (bt_list_empty(&meta->next) && !has_changes(meta)) {
		meta->forced = false;
		bt_meta_serve(meta);
		return;
	}
	meta->running = true;
	meta->forced = false;
	meta->error = meta->sync_error;
	meta->rank = 0;
	/* whoever came until now has his changes in take_dirty below */
	bt_list_splice_tail(&meta->joined, &meta->next);
	meta->stores = is_store(meta);
	if (!meta->error)
		take_dirty(meta);
	go_on(meta);
}

/* What could not be written is dirty again, for the next try. data is newer
 * than the shadow or the same, so the range is written from data the next time.
 * Ranks that were written before the error are written again: that is
 * harmless. */
static void settle(struct bt_meta *meta, struct bt_meta_block *block)
{
	block->committing = false;
	bt_list_del(&block->commit_link);
	if (meta->error)
		bt_meta_mark(block, block->shadow_from, block->shadow_to);
}

/* The end of a commit, well or not. A write that failed is an error for those
 * who waited for this commit alone; a sync that failed is kept in sync_error,
 * for all to come. */
static void finish(struct bt_meta *meta)
{
	struct bt_list joined, *node;
	int error = meta->error;

	while (!bt_list_empty(&meta->writing))
		settle(meta, bt_list_first(&meta->writing, struct bt_meta_block,
					   commit_link));
	bt_list_init(&joined);
	bt_list_splice_tail(&joined, &meta->joined);
	/* from here on who is told may ask for the next one */
	meta->running = false;
	if (!bt_list_empty(&meta->next) || meta->forced)
		bt_loop_defer(meta->loop, &meta->start);
	while ((node = bt_list_pop(&joined))) {
		struct bt_meta_commit *commit =
			bt_list_entry(node, struct bt_meta_commit, link);

		commit->fn(commit, error);
	}
	if (error)
		bt_meta_fail_short(meta, error);
	else
		bt_meta_serve(meta);
}

/* Of this rank, and of the data before it. fdatasync tells of an error once,
 * and the pages may be gone by then: so it is never tried again to see whether
 * it works now. */
static void synced(struct bt_io *io, int error)
{
	struct bt_meta *meta = bt_container_of(io, struct bt_meta, sync);

	if (error) {
		meta->sync_error = error;
		meta->error = error;
	} else {
		meta->unsynced = false;
	}
	meta->rank++;
	go_on(meta);
}

/* One io for all syncs, as no two are under way. */
static void submit_sync(struct bt_meta *meta)
{
	struct bt_io *io = &meta->sync;

	memset(io, 0, sizeof(*io));
	io->file = meta->file;
	io->op = BT_IO_SYNC;
	io->done = synced;
	bt_engine_submit(io);
}

/* Of the commit that runs: no block has a higher rank than the present one. */
static bool is_last_rank(const struct bt_meta *meta)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &meta->writing) {
		struct bt_meta_block *block =
			bt_list_entry(pos, struct bt_meta_block, commit_link);

		if (meta->sets[block->kind].kind.rank > meta->rank)
			return false;
	}
	return true;
}

/* The last write of a rank goes on for all. */
static void rank_written(struct bt_meta *meta)
{
	if (meta->error) {
		go_on(meta);
	} else if (meta->stores && is_last_rank(meta)) {
		meta->unsynced = true;
		finish(meta);
	} else {
		submit_sync(meta);
	}
}

static void written(struct bt_io *io, int error)
{
	struct bt_meta_block *block =
		bt_container_of(io, struct bt_meta_block, io);
	struct bt_meta *meta = block->meta;

	if (error && !meta->error)
		meta->error = error;
	/* one that failed stops the commit, but not before all have ended */
	if (--meta->writes == 0)
		rank_written(meta);
}

/* The block's own io is free: it was read before it could be changed, and is
 * written by one commit at a time. */
static void submit_write(struct bt_meta *meta, struct bt_meta_block *block)
{
	struct bt_io *io = &block->io;

	meta->writes++;
	block->iov.iov_base = block->shadow + block->shadow_from;
	block->iov.iov_len = block->shadow_to - block->shadow_from;
	io->file = meta->file;
	io->op = BT_IO_WRITE;
	io->flags = 0;
	io->offset = block->offset + block->shadow_from;
	io->length = block->iov.iov_len;
	io->data.iov = &block->iov;
	io->data.count = 1;
	io->data.skip = 0;
	io->done = written;
	bt_engine_submit(io);
}

/* Writes the blocks of the present rank; false where there are none. No write ends
 * inside bt_engine_submit, so writes cannot come to 0 before all are counted. */
static bool write_rank(struct bt_meta *meta)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &meta->writing) {
		struct bt_meta_block *block =
			bt_list_entry(pos, struct bt_meta_block, commit_link);

		if (meta->sets[block->kind].kind.rank == meta->rank)
			submit_write(meta, block);
	}
	return meta->writes > 0;
}

/* Rank 0 is synced for the data's sake, unless nothing is to follow it that could be
 * there without the data; the others where they wrote. A driver's FLUSH is a commit, so
 * a flush with clean tables is one sync, and no more. After an error all further ranks
 * are left out: what points to the rank that failed must not be on disk. */
static void go_on(struct bt_meta *meta)
{
	while (!meta->error && meta->rank < BT_META_RANKS) {
		if (write_rank(meta))
			return;
		if (meta->rank == 0 && !(meta->stores && is_last_rank(meta))) {
			submit_sync(meta);
			return;
		}
		meta->rank++;
	}
	finish(meta);
}

/* ---- closing -------------------------------------------------------------- */

/* Past the engine, since the loop does not turn any more when an image is
 * closed. Its blocks are aligned in memory and file, as those of a commit
 * are. */
static int write_block(struct bt_meta *meta, struct bt_meta_block *block)
{
	const unsigned char *from = block->shadow + block->shadow_from;
	size_t left = block->shadow_to - block->shadow_from;
	uint64_t offset = block->offset + block->shadow_from;

	while (left) {
		ssize_t n = pwrite(meta->file->fd, from, left, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		offset += (uint64_t)n;
		left -= (size_t)n;
	}
	return 0;
}

/* As in a commit, rank 0 is synced for the data's sake. Ranks that have nothing
 * to write cost no sync. */
static int write_out_rank(struct bt_meta *meta, uint32_t rank)
{
	bool any =
		rank == 0 && (meta->unsynced || !bt_list_empty(&meta->writing));
	struct bt_list *pos;
	int rc = 0;

	bt_list_for_each (pos, &meta->writing) {
		struct bt_meta_block *block =
			bt_list_entry(pos, struct bt_meta_block, commit_link);

		if (meta->sets[block->kind].kind.rank != rank || rc)
			continue;
		any = true;
		rc = write_block(meta, block);
	}
	if (any && !rc && fdatasync(meta->file->fd) < 0)
		rc = -errno;
	return rc;
}

/* The order of a commit, and its rules: nothing after a sync that failed, and
 * what could not be written stays dirty, which is_dirty then tells. */
int bt_meta_write_out(struct bt_meta *meta)
{
	uint32_t rank;

	if (meta->running)
		return -EBUSY;
	meta->error = meta->sync_error;
	if (!meta->error)
		take_dirty(meta);
	for (rank = 0; rank < BT_META_RANKS && !meta->error; rank++)
		meta->error = write_out_rank(meta, rank);
	if (!meta->error)
		meta->unsynced = false;
	while (!bt_list_empty(&meta->writing))
		settle(meta, bt_list_first(&meta->writing, struct bt_meta_block,
					   commit_link));
	return meta->error;
}
