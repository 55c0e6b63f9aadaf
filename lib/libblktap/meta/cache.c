/* SPDX-License-Identifier: BSD-3-Clause */
/* Blocks: found, read, referenced, evicted.
 *
 * A block is in one of these states:
 *
 *   free       on set->free; not in the hash, its bytes mean nothing
 *   loading    in the hash and on kept; who wants it is on block->waiters
 *   clean      the file has the same bytes; evicted when refs is 0
 *   dirty      also on set->dirty: a commit has to copy it first
 *   committing also on meta->writing: a commit writes its shadow
 *
 * The last two can hold at once. Nobody is called back from inside of
 * bt_meta_get: it answers at once or by wait->fn, never by both. All of it runs
 * in the thread of the loop, so no lock is needed, but any fn may ask for
 * further blocks while a list is walked: lists are taken whole, or popped one
 * by one. */
#include "meta/private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/checked.h"

#define MIN_BLOCKS 4u

/* ---- the table ------------------------------------------------------------ */

/* The high half of the product is used, as it depends on every bit of the
 * offset. */
static uint32_t hash_of(const struct bt_meta *meta, uint32_t kind,
			uint64_t offset)
{
	/* offsets are multiples of a power of two: their low bits say nothing */
	uint64_t h = (offset >> 9) * 0x9e3779b97f4a7c15ull + kind;

	return (uint32_t)(h >> 32) & meta->hash_mask;
}

/* The same offset may be in the table once for each kind: a place in the file
 * can have been of another kind before, and what is kept of that is not what is
 * looked for. */
static struct bt_meta_block *find(const struct bt_meta *meta, uint32_t kind,
				  uint64_t offset)
{
	struct bt_meta_block *b = meta->hash[hash_of(meta, kind, offset)];

	while (b && (b->offset != offset || b->kind != kind))
		b = b->hash_next;
	return b;
}

static void insert(struct bt_meta *meta, struct bt_meta_block *block)
{
	struct bt_meta_block **head =
		&meta->hash[hash_of(meta, block->kind, block->offset)];

	block->hash_next = *head;
	*head = block;
}

static void remove_hash(struct bt_meta *meta, struct bt_meta_block *block)
{
	struct bt_meta_block **at =
		&meta->hash[hash_of(meta, block->kind, block->offset)];

	while (*at != block)
		at = &(*at)->hash_next;
	*at = block->hash_next;
}

/* ---- life ----------------------------------------------------------------- */

/* One piece of memory: the data of all blocks, then all their shadows. Pages
 * that nothing was read into cost nothing. 4096 is more than any file asks of
 * memory, and block_size is a multiple of its alignment, so each block can be
 * read and written with O_DIRECT as it lies. */
static int make_set(struct bt_meta *meta, struct bt_meta_set *set,
		    uint32_t index)
{
	uint64_t bytes, heads;
	uint32_t i;

	/* With fewer, a driver that holds one block and waits for the next
	 * could be the reason why there is none. */
	if (set->kind.block_count < MIN_BLOCKS)
		set->kind.block_count = MIN_BLOCKS;
	if (!set->kind.block_size || set->kind.rank >= BT_META_RANKS ||
	    !bt_checked_mul((uint64_t)set->kind.block_size * 2,
			    set->kind.block_count, &bytes))
		return -EINVAL;
	if (!bt_checked_mul(sizeof(*set->blocks), set->kind.block_count,
			    &heads) ||
	    posix_memalign((void **)&set->blocks, BT_META_LINE, heads))
		return -ENOMEM;
	memset(set->blocks, 0, heads);
	if (posix_memalign((void **)&set->memory, 4096, bytes))
		return -ENOMEM;
	for (i = 0; i < set->kind.block_count; i++) {
		struct bt_meta_block *b = &set->blocks[i];

		b->meta = meta;
		b->kind = index;
		b->data = set->memory + (size_t)i * set->kind.block_size;
		b->shadow = set->memory + (size_t)(set->kind.block_count + i) *
						  set->kind.block_size;
		bt_list_init(&b->dirty_link);
		bt_list_init(&b->commit_link);
		bt_list_init(&b->waiters);
		bt_list_add_tail(&set->free, &b->link);
	}
	return 0;
}

int bt_meta_create(struct bt_loop *loop, struct bt_file *file,
		   const struct bt_meta_kind *kinds, uint32_t kind_count,
		   struct bt_meta **out)
{
	struct bt_meta *meta = calloc(1, sizeof(*meta));
	uint32_t i, blocks = 0, size = 16;
	int rc = 0;

	if (!meta)
		return -ENOMEM;
	meta->loop = loop;
	meta->file = file;
	meta->set_count = kind_count;
	bt_meta_commit_init(meta);
	for (i = 0; i < BT_META_KINDS; i++) {
		bt_list_init(&meta->sets[i].free);
		bt_list_init(&meta->sets[i].kept);
		bt_list_init(&meta->sets[i].dirty);
		bt_list_init(&meta->sets[i].short_of);
	}
	for (i = 0; i < kind_count && !rc; i++) {
		meta->sets[i].kind = kinds[i];
		rc = make_set(meta, &meta->sets[i], i);
		blocks += meta->sets[i].kind.block_count;
	}
	/* Between one and two places a block: chains stay short without ever
	 * growing the table, which would be an allocation on the data path. */
	while (size < blocks)
		size *= 2;
	meta->hash_mask = size - 1;
	meta->hash = calloc(size, sizeof(struct bt_meta_block *));
	if (!rc && !meta->hash)
		rc = -ENOMEM;
	if (rc < 0) {
		bt_meta_destroy(meta);
		return rc;
	}
	*out = meta;
	return 0;
}

/* Also of what bt_meta_create made in part: every member is freed from zero
 * on. */
void bt_meta_destroy(struct bt_meta *meta)
{
	uint32_t i;

	if (!meta)
		return;
	bt_work_cancel(&meta->start);
	for (i = 0; i < BT_META_KINDS; i++) {
		free(meta->sets[i].blocks);
		free(meta->sets[i].memory);
	}
	free(meta->hash);
	free(meta);
}

/* What was deferred (start) counts where somebody waits for it, as that is on
 * next; a commit that was only forced may still come, and destroy cancels
 * it. */
bool bt_meta_is_idle(const struct bt_meta *meta)
{
	return !meta->running && !meta->reads && bt_list_empty(&meta->next);
}

/* ---- getting blocks ------------------------------------------------------- */

/* From kept to the free list. The block is clean, and nobody refers to it. */
static void give_back(struct bt_meta_block *block)
{
	struct bt_meta *meta = block->meta;

	remove_hash(meta, block);
	bt_list_del(&block->link);
	bt_list_add(&meta->sets[block->kind].free, &block->link);
}

/* Waiters are taken off the block first: one of them may ask for it again, and
 * waits for another read then, where this one failed. A block that could not be
 * read leaves the table at once, so the next who asks tries the file again: an
 * error is told to those alone who waited for it. */
static void loaded(struct bt_io *io, int error)
{
	struct bt_meta_block *block =
		bt_container_of(io, struct bt_meta_block, io);
	struct bt_meta *meta = block->meta;
	struct bt_list waiters, *node;

	block->loading = false;
	meta->reads--;
	bt_list_init(&waiters);
	bt_list_splice_tail(&waiters, &block->waiters);
	if (error)
		give_back(block); /* before anybody asks for it again */
	else
		block->refs++; /* not evicted while its waiters are told */
	while ((node = bt_list_pop(&waiters))) {
		struct bt_meta_wait *wait =
			bt_list_entry(node, struct bt_meta_wait, link);

		if (!error)
			block->refs++;
		wait->fn(wait, error ? NULL : block, error);
	}
	if (!error)
		bt_meta_put(block);
	/* a block that could not be read is free for who was short of one */
	bt_meta_serve(meta);
}

/* A block has one io: it is read before anybody can change it, so no commit has
 * it at the same time. The whole block is read, though one entry may be wanted:
 * its neighbours are wanted next, and a page costs the file no more. */
static void load(struct bt_meta *meta, struct bt_meta_block *block)
{
	struct bt_io *io = &block->io;

	block->loading = true;
	meta->reads++;
	block->iov.iov_base = block->data;
	block->iov.iov_len = meta->sets[block->kind].kind.block_size;
	io->file = meta->file;
	io->op = BT_IO_READ;
	io->flags = 0;
	io->offset = block->offset;
	io->length = block->iov.iov_len;
	io->data.iov = &block->iov;
	io->data.count = 1;
	io->data.skip = 0;
	io->done = loaded;
	bt_engine_submit(io);
}

/* Shadows are no reason to keep the data, but a commit that fails makes its
 * blocks dirty again out of data: so what is committing stays. */
static bool can_evict(const struct bt_meta_block *block)
{
	return !block->refs && !block->loading && !block->committing &&
	       block->dirty_from == block->dirty_to;
}

static struct bt_meta_block *take(struct bt_meta *meta,
				  struct bt_meta_block *block)
{
	remove_hash(meta, block);
	bt_list_del(&block->link);
	return block;
}

/* An unused block, or a clean one that nobody has asked for since it was last
 * passed over; NULL where there is none. Who finds a block marks it, and touches
 * no other: an order of last use would take three of them out of memory for
 * each that is found. Those that are busy are passed over as well, and come last
 * then. At most one way around, after which the first that could have been had
 * is taken. */
static struct bt_meta_block *take_block(struct bt_meta *meta, uint32_t kind)
{
	struct bt_meta_set *set = &meta->sets[kind];
	struct bt_list *node = bt_list_pop(&set->free);
	struct bt_meta_block *block, *spare = NULL;
	uint32_t left;

	if (node)
		return bt_list_entry(node, struct bt_meta_block, link);
	for (left = set->kind.block_count; left; left--) {
		block = bt_list_entry(set->kept.next, struct bt_meta_block,
				      link);
		if (can_evict(block) && !block->used)
			return take(meta, block);
		if (!spare && can_evict(block))
			spare = block;
		block->used = false;
		bt_list_del(&block->link);
		bt_list_add_tail(&set->kept, &block->link);
	}
	return spare ? take(meta, spare) : NULL;
}

/* A block for the place, in the table and on its way; NULL where all are
 * taken. */
static struct bt_meta_block *new_block(struct bt_meta *meta, uint32_t kind,
				       uint64_t offset, bool fresh)
{
	struct bt_meta_set *set = &meta->sets[kind];
	struct bt_meta_block *block = take_block(meta, kind);

	if (!block)
		return NULL;
	block->offset = offset;
	insert(meta, block);
	block->used = false;
	bt_list_add_tail(&set->kept, &block->link);
	if (fresh) {
		/* all of it dirty, or what an earlier owner left on disk would
		 * stay behind what is changed */
		memset(block->data, 0, set->kind.block_size);
		bt_meta_mark(block, 0, set->kind.block_size);
	} else {
		load(meta, block);
	}
	return block;
}

/* The block, where it is in memory and read. Otherwise the wait is on one list:
 * of the block that is read, or of the set that is short. A wait must therefore
 * live until its fn is called; there is no cancelling, as the frame it lies in
 * cannot end before. */
static struct bt_meta_block *get(struct bt_meta *meta,
				 struct bt_meta_wait *wait)
{
	struct bt_meta_set *set = &meta->sets[wait->kind];
	struct bt_meta_block *block = find(meta, wait->kind, wait->offset);

	if (!block)
		block = new_block(meta, wait->kind, wait->offset, wait->fresh);
	if (!block) {
		/* all are in use or dirty: a commit cleans some. Who comes later
		 * may get a block first, if it is in memory. */
		bt_list_add_tail(&set->short_of, &wait->link);
		bt_meta_commit_soon(meta);
		return NULL;
	}
	if (block->loading) {
		bt_list_add_tail(&block->waiters, &wait->link);
		return NULL;
	}
	if (wait->fresh && block->dirty_to != set->kind.block_size) {
		/* it was in memory from an earlier use of the place */
		memset(block->data, 0, set->kind.block_size);
		bt_meta_mark(block, 0, set->kind.block_size);
	}
	block->used = true;
	block->refs++;
	return block;
}

struct bt_meta_block *bt_meta_get(struct bt_meta *meta, uint32_t kind,
				  uint64_t offset, struct bt_meta_wait *wait)
{
	wait->kind = kind;
	wait->offset = offset;
	wait->fresh = false;
	return get(meta, wait);
}

/* What is known of an earlier use of the place is dropped first. A loading
 * block would hand its bytes from disk to this wait: a new place is behind all
 * that is named, so nobody reads it. */
struct bt_meta_block *bt_meta_get_new(struct bt_meta *meta, uint32_t kind,
				      uint64_t offset,
				      struct bt_meta_wait *wait)
{
	bt_meta_forget(meta, kind, offset);
	wait->kind = kind;
	wait->offset = offset;
	wait->fresh = true;
	return get(meta, wait);
}

/* The list is taken whole: get puts those on it again for whom there is none.
 * Who was short of a block, in turn, as far as there are blocks now. Those who
 * wait are asked for in the order in which they came, but one who is served may
 * take the block that the next would have had; he waits on, and the commit he
 * asked for again makes room. */
static void serve_set(struct bt_meta *meta, struct bt_meta_set *set, int error)
{
	struct bt_list waiting, *node;

	bt_list_init(&waiting);
	bt_list_splice_tail(&waiting, &set->short_of);
	while ((node = bt_list_pop(&waiting))) {
		struct bt_meta_wait *wait =
			bt_list_entry(node, struct bt_meta_wait, link);
		struct bt_meta_block *block;

		if (error) {
			wait->fn(wait, NULL, error);
			continue;
		}
		block = get(meta, wait);
		if (block)
			wait->fn(wait, block, 0);
	}
}

/* A commit that failed made no room, and another would not either. */
void bt_meta_fail_short(struct bt_meta *meta, int error)
{
	uint32_t i;

	for (i = 0; i < meta->set_count; i++)
		serve_set(meta, &meta->sets[i], error);
}

void bt_meta_serve(struct bt_meta *meta)
{
	uint32_t i;

	for (i = 0; i < meta->set_count; i++)
		if (bt_unlikely(!bt_list_empty(&meta->sets[i].short_of)))
			serve_set(meta, &meta->sets[i], 0);
}

void bt_meta_ref(struct bt_meta_block *block)
{
	block->refs++;
}

void bt_meta_put(struct bt_meta_block *block)
{
	struct bt_meta *meta = block->meta;

	/* not served here but from the loop, which commit_soon comes to even where
	 * nothing is dirty: we are deep inside a driver */
	if (--block->refs == 0 &&
	    bt_unlikely(!bt_list_empty(&meta->sets[block->kind].short_of)))
		bt_meta_commit_soon(meta);
}

/* Where a commit has the block, its shadow goes to disk as it is, and what the
 * new owner of the place makes of it follows with the next commit. */
void bt_meta_forget(struct bt_meta *meta, uint32_t kind, uint64_t offset)
{
	struct bt_meta_block *block = find(meta, kind, offset);

	if (!block || block->refs || block->loading)
		return;
	if (block->dirty_from != block->dirty_to) {
		block->dirty_from = block->dirty_to = 0;
		bt_list_del(&block->dirty_link);
		meta->sets[kind].dirty_count--;
	}
	/* a commit has its shadow: it stays, clean, until that has ended */
	if (!block->committing)
		give_back(block);
}
