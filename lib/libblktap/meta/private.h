/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of the cache; only the room's own files include it. */
#ifndef BT_META_PRIVATE_H
#define BT_META_PRIVATE_H

#include "loop/loop.h"
#include "meta/meta.h"

/* A block is on its set's free list (it holds nothing, and is not in the hash)
 * or on kept (it is). Beside that, by links of their own: on dirty, while it was
 * changed since the last commit began; on meta->writing, while a commit writes
 * its shadow. It can be on both: then the shadow is what it was, and data what
 * it is. What is referenced, loading, dirty or committing is not evicted. A
 * wait is on short_of in the order of asking, and on no other list. */
struct bt_meta_set {
	struct bt_meta_kind kind;
	struct bt_meta_block *blocks; /* block_count of them */
	unsigned char *memory; /* data and shadow of every block */
	struct bt_list free; /* hold nothing */
	struct bt_list kept; /* hold something, the next to be evicted first */
	struct bt_list dirty;
	struct bt_list short_of; /* of bt_meta_wait: no block to be had */
	uint32_t dirty_count; /* of dirty */
};

struct bt_meta {
	struct bt_loop *loop;
	struct bt_file *file;
	struct bt_meta_set sets[BT_META_KINDS];
	uint32_t set_count;
	struct bt_meta_block **hash;
	uint32_t hash_mask; /* a power of two, less 1 */
	uint32_t reads; /* under way */

	/* the commit that runs */
	struct bt_list writing; /* its blocks, all ranks */
	struct bt_list joined; /* who waits for it */
	struct bt_list next; /* who waits for the one after */
	struct bt_io sync; /* between two ranks */
	struct bt_work start; /* a commit is due */
	uint32_t rank; /* the one that is written or synced */
	uint32_t writes; /* under way */
	int error; /* of the commit that runs */
	int sync_error; /* for good */
	bool running; /* from start to finish */
	bool stores; /* nobody waits for the last sync of the one that runs */
	bool unsynced; /* a commit left its last sync to the next */
	bool forced; /* room is needed: commit without anyone waiting */
};

/* commit.c */
void bt_meta_commit_init(struct bt_meta *meta);
void bt_meta_commit_soon(struct bt_meta *meta);

/* cache.c: a commit made blocks clean: whoever is short of one may go on.
 * Called where no list of the cache is being walked, as those who go on may ask
 * for more. */
void bt_meta_serve(struct bt_meta *meta);
/* To all who are short of a block: there will be none. */
void bt_meta_fail_short(struct bt_meta *meta, int error);
/* These bytes differ from the file's; from < to. */
void bt_meta_mark(struct bt_meta_block *block, uint32_t from, uint32_t to);

#endif
