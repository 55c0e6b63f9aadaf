/* SPDX-License-Identifier: BSD-3-Clause */
/* A bounded, asynchronous cache of an image's metadata, and its ordered
 * write-back.
 *
 * Blocks are read when somebody asks for them, changed in memory, and written by
 * a commit. A commit makes durable all that was changed before it began, and all
 * data the file was given before, in this order:
 *
 *   1. every dirty block is copied; what changes from now on is for the next one
 *   2. blocks of rank 0 are written, and the file is synced (with it, the data)
 *   3. the same for rank 1, 2, 3: so a block of rank n is on disk before any of
 *      rank n + 1 that was changed after it
 *
 * A format gives low ranks to what may be written early without harm (reference
 * counts, new tables) and high ranks to the pointers that make them reachable. A
 * crash between any two steps then leaks at worst.
 *
 * Where nobody who waits for a commit asked for more than bt_meta_store, the last
 * sync is left to the next commit, which begins with one.
 *
 * One commit runs at a time; who asks meanwhile joins the next. When a sync has
 * failed, every later commit fails: nobody knows what reached the disk. */
#ifndef BT_META_META_H
#define BT_META_META_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "util/list.h"

#define BT_META_RANKS 4
#define BT_META_KINDS 4

struct bt_meta;

/* A kind of block: all of one size and rank. */
struct bt_meta_kind {
	uint32_t block_size; /* bytes, a multiple of the file's alignment */
	uint32_t block_count; /* kept in memory at the most; at least 4 */
	uint32_t rank; /* 0 .. BT_META_RANKS - 1 */
};

/* What looking for a block and finding it touches comes first, in one line of the
 * processor's cache: a table that is looked up at random has thousands. */
#define BT_META_LINE 64

struct bt_meta_block {
	_Alignas(BT_META_LINE) uint64_t offset; /* in the file */
	unsigned char *data; /* block_size bytes */
	/* the cache's own */
	/* the next of the same place in the table */
	struct bt_meta_block *hash_next;
	uint32_t kind; /* index of its set */
	uint32_t refs; /* who may touch data; 0: it may be evicted */
	struct bt_meta *meta;
	uint32_t dirty_from, dirty_to; /* bytes; equal: clean */
	bool loading; /* data is being read: nobody has it yet */
	bool committing; /* shadow is the commit's until it has ended */
	bool used; /* since it was last passed over for eviction */
	struct bt_list link; /* kept, or the free list */
	struct bt_list dirty_link; /* its set's dirty list */
	struct bt_list commit_link; /* the commit's list */
	struct bt_list waiters; /* of bt_meta_wait, while loading */
	struct bt_io io; /* the reading, then each writing: one at a time */
	struct iovec iov;
	unsigned char *shadow; /* the copy that a commit writes */
	uint32_t shadow_from, shadow_to; /* bytes of shadow that are written */
};

/* Someone who waits for a block. Embedded in a frame. */
struct bt_meta_wait {
	struct bt_list link;
	/* block is referenced; NULL and a negative errno where it could not be
	 * read. Never called inside bt_meta_get. */
	void (*fn)(struct bt_meta_wait *wait, struct bt_meta_block *block,
		   int error);
	/* the cache's own */
	uint64_t offset;
	uint32_t kind;
	bool fresh; /* by bt_meta_get_new: zeroes, not read */
};

struct bt_meta_commit {
	struct bt_list link;
	bool stores; /* the cache's own: bt_meta_store */
	/* error: 0 or a negative errno. */
	void (*fn)(struct bt_meta_commit *commit, int error);
};

/* Memory: twice the blocks of all kinds, touched as it is used. kinds is copied.
 */
int bt_meta_create(struct bt_loop *loop, struct bt_file *file,
		   const struct bt_meta_kind *kinds, uint32_t kind_count,
		   struct bt_meta **out);
/* Nothing is waited for, committed or referenced; what is dirty is dropped. */
void bt_meta_destroy(struct bt_meta *meta);

/* The block at offset, which is a multiple of the file's alignment; the same bytes
 * are always asked for at the same offset and kind. Returns it, referenced,
 * where it is in memory; otherwise NULL, and wait->fn is called later. */
struct bt_meta_block *bt_meta_get(struct bt_meta *meta, uint32_t kind,
				  uint64_t offset, struct bt_meta_wait *wait);
/* The same for a block whose bytes in the file mean nothing yet: it is zeroed
 * and all dirty, and never read. Nobody else references it. */
struct bt_meta_block *bt_meta_get_new(struct bt_meta *meta, uint32_t kind,
				      uint64_t offset,
				      struct bt_meta_wait *wait);
/* A further reference, and the end of one. */
void bt_meta_ref(struct bt_meta_block *block);
void bt_meta_put(struct bt_meta_block *block);

/* The caller changed these bytes of a block that it references. */
void bt_meta_dirty(struct bt_meta_block *block, uint32_t from, uint32_t length);

/* Drops a block, changed or not, whose place in the file is given up. Nobody
 * references it. Harmless where it is not in memory. */
void bt_meta_forget(struct bt_meta *meta, uint32_t kind, uint64_t offset);

/* Makes what is dirty now durable; commit->fn is called later, once. */
void bt_meta_commit(struct bt_meta *meta, struct bt_meta_commit *commit);
/* Less than that: what is dirty now is in the file, in the order above, but the last
 * rank is not synced. It is found by who opens the file when this process is gone. */
void bt_meta_store(struct bt_meta *meta, struct bt_meta_commit *commit);
/* Writes and syncs what is dirty, in the same order, blocking: for closing an
 * image. No commit may be running. 0 or a negative errno. */
int bt_meta_write_out(struct bt_meta *meta);
/* Whether anything is not durable. */
bool bt_meta_is_dirty(const struct bt_meta *meta);
/* Whether all is in the file, durable or not. */
bool bt_meta_is_stored(const struct bt_meta *meta);
bool bt_meta_is_idle(const struct bt_meta *meta);

#endif
