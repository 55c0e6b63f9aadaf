/* SPDX-License-Identifier: BSD-3-Clause */
/* What a writelog keeps, and what can be made of it: the disk as a power cut at
 * any point of its life could have left it.
 *
 * The log's store begins with a header (header.h), whose payload is the disk's size
 * (8 bytes, little-endian). Behind it lies entry after entry, each a block of 4096
 * bytes and, for a write, its data, padded to 4096. Entries are numbered from 1 in
 * the order in which their requests completed. Each says how many were there when
 * its own request began. So
 *
 *   a FLUSH makes those up to its `began` durable, a FUA write itself;
 *   a write was in flight at a cut behind entry n where began <= n < sequence.
 *
 * The log ends at the first block that is not the next entry of this log. */
#ifndef BT_MODULE_WRITELOG_H
#define BT_MODULE_WRITELOG_H

#include "module/header.h"

#define BT_WRITELOG_BLOCK 4096u
#define BT_WRITELOG_DATA (128u << 10) /* of one entry, at most */
#define BT_WRITELOG_VERSION 1u

enum bt_writelog_kind {
	BT_WRITELOG_WRITE = 1,
	BT_WRITELOG_ZERO,
	BT_WRITELOG_DISCARD, /* what is left may be anything */
	BT_WRITELOG_FLUSH
};
#define BT_WRITELOG_FUA 0x1u

struct bt_writelog_entry {
	uint64_t sequence;
	/* always less than sequence: the request began before it completed */
	uint64_t began; /* entries there were then */
	uint64_t offset, length; /* on the disk */
	uint32_t kind; /* enum bt_writelog_kind */
	uint32_t flags;
};

/* block has BT_WRITELOG_BLOCK bytes. decode takes any bytes: -EUCLEAN where they
 * are no entry of the log with that uuid, or one that cannot be. */
void bt_writelog_encode(const struct bt_writelog_entry *entry,
			const unsigned char *uuid, void *block);
int bt_writelog_decode(struct bt_writelog_entry *entry,
		       const unsigned char *uuid, uint64_t disk_size,
		       const void *block);
/* What the entry takes in the log. */
uint64_t bt_writelog_bytes(const struct bt_writelog_entry *entry);

/* ---- replay (writelog-replay.c) ------------------------------------------- */

/* What of the writes that no flush had made durable a power cut spares. */
enum bt_cut {
	BT_CUT_NOTHING,
	BT_CUT_ALL, /* that had completed */
	BT_CUT_SOME, /* each of them, and of those in flight, or not */
	BT_CUT_TORN, /* each sector of them or not */
	BT_CUTS
};

struct bt_replay {
	/* the caller's: blocking, 0 or a negative errno */
	int (*read)(void *opaque, uint64_t offset, void *data, size_t length);
	void *opaque;
	uint64_t log_size;
	/* the log's */
	unsigned char uuid[16];
	uint64_t disk_size;
	uint64_t entries;
	uint64_t bytes; /* where it ends */
};

/* Reads the header and counts the entries. -ENOENT where there is no log,
 * -EUCLEAN where it is damaged. */
int bt_replay_open(struct bt_replay *replay);

/* Calls fn for each entry, with its data (NULL but for a write), until it returns
 * other than 0, and returns that. data lives for the call. */
int bt_replay_each(const struct bt_replay *replay,
		   int (*fn)(void *opaque,
			     const struct bt_writelog_entry *entry,
			     const void *data),
		   void *opaque);

/* What a cut right behind entry `at` leaves, written over the disk as it was when
 * the log began. write gets data, or NULL for zeroes. *random is a seed. */
int bt_replay_cut(const struct bt_replay *replay, uint64_t at, enum bt_cut cut,
		  uint64_t *random,
		  int (*write)(void *opaque, uint64_t offset, const void *data,
			       uint64_t length),
		  void *opaque);

#endif
