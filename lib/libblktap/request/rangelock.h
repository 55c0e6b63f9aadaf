/* SPDX-License-Identifier: BSD-3-Clause */
/* Locks on byte ranges of a disk. Writers hold theirs shared, so that they only
 * pay for a list entry; who must read, change and write a block holds it
 * exclusively, and serialises just what overlaps. Grants are in order of asking
 * among those that overlap. */
#ifndef BT_REQUEST_RANGELOCK_H
#define BT_REQUEST_RANGELOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "util/list.h"

struct bt_rangelock {
	struct bt_list ranges; /* held and waiting, in order of asking */
	uint32_t exclusive; /* held or waiting */
};

/* Embedded in its asker, who zeroes it or inits link before first use, and must not
 * free it while it is held or waits. */
struct bt_range {
	struct bt_list link; /* on its lock, or empty */
	uint64_t offset;
	uint64_t length;
	bool exclusive;
	bool held;
	/* Called when a range that had to wait is held, from bt_range_unlock of
	 * another; it may lock and unlock any. */
	void (*granted)(struct bt_range *range);
	void *owner; /* the asker's */
};

/* There is nothing to be freed. */
void bt_rangelock_init(struct bt_rangelock *lock);

/* True: held now, and granted is not called. False: it is called later. length is not
 * 0, and the sum fits: nobody looks at them again. The range is on no lock. */
bool bt_range_lock(struct bt_rangelock *lock, struct bt_range *range,
		   uint64_t offset, uint64_t length, bool exclusive,
		   void (*granted)(struct bt_range *range));
/* Held or waiting: whoever waits so gives up. Grants others inside. */
void bt_range_unlock_listed(struct bt_rangelock *lock, struct bt_range *range);

/* Harmless where it is neither (zeroed or unlocked), as that of each read is. */
static inline void bt_range_unlock(struct bt_rangelock *lock,
				   struct bt_range *range)
{
	if (range->link.next && !bt_list_empty(&range->link))
		bt_range_unlock_listed(lock, range);
}

#endif
