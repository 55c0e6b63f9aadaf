/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of change tracking; only the bitmap*.c files include it. */
#ifndef BT_MODULE_BITMAP_H
#define BT_MODULE_BITMAP_H

#include "module/header.h"
#include "module/task.h"

#define BT_BITMAP_MAX 16u
#define BT_BITMAP_NAME 64u /* with the 0 behind it */

enum bt_bitmap_state {
	BT_BITMAP_CLEAN, /* the store holds what is in memory, and says so */
	BT_BITMAP_MARKING, /* "not clean" is on its way */
	BT_BITMAP_DIRTY, /* the store says that it knows nothing */
	BT_BITMAP_SAVING, /* the bits, and then "clean", are on their way */
};

struct bt_mark {
	char name[BT_BITMAP_NAME];
	unsigned char *bits; /* bits_len bytes; NULL: everything is dirty */
};

struct bt_bitmap {
	struct bt_node *node;
	struct bt_port *lower, *store;
	uint64_t size;
	uint32_t shift; /* of the granularity */
	uint64_t bit_count;
	uint64_t bits_len; /* a multiple of 4096 */
	struct bt_mark marks[BT_BITMAP_MAX];
	uint32_t count;
	uint64_t
		begun; /* marks, ever: a write that finds another one is set anew */
	enum bt_bitmap_state state;
	/* the store's header may say either, clean or not; in memory all is
	 * right */
	bool unsaved; /* CLEAN: but the last write of the header failed */
	/* Requests by their link. A write is on waiting only while the state is
	 * not DIRTY; a LAST flush on lasts until the state is CLEAN, or saving
	 * has failed for it. */
	struct bt_list waiting; /* writes, until the store says "not clean" */
	struct bt_list lasts; /* last flushes, in order */
	struct bt_header header;
	struct bt_header_writer writer;
	struct bt_pool *pool;
	struct bt_task task;
};

/* bitmap-store.c */
int bt_bitmap_load(struct bt_bitmap *bm, struct blktap_error **err);
/* Puts what is in memory into the header's payload. */
void bt_bitmap_fill_header(struct bt_bitmap *bm);
uint64_t bt_bitmap_slot_at(const struct bt_bitmap *bm, uint32_t index);

/* bitmap-marks.c: the names that args give. */
int bt_bitmap_check_names(const char *list, struct blktap_error **err);
/* Keeps the marks that are still named, drops others, begins new ones with no bit
 * set. Never fails: a mark without memory has everything dirty. */
void bt_bitmap_set_names(struct bt_bitmap *bm, const char *list);
void bt_bitmap_drop_all(struct bt_bitmap *bm);
void bt_bitmap_set(struct bt_bitmap *bm, uint64_t offset, uint64_t length);
bool bt_bitmap_is_set(const struct bt_mark *mark, uint64_t bit);
uint64_t bt_bitmap_count(const struct bt_bitmap *bm,
			 const struct bt_mark *mark);

#endif
