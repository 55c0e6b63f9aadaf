/* SPDX-License-Identifier: BSD-3-Clause */
/* The list is in order of asking, and a range is held when none before it stands
 * against it. So who asks exclusively for a busy block is passed by nobody who
 * asked later, and waits for no more than those who were there. That no cycle can
 * form is up to the users: who holds a range and waits for a second one of the same
 * lock has to be the only one to do so, as the batch of a snap is.
 *
 * Without an exclusive range nothing is looked at: the list is for who comes. */
#include "request/rangelock.h"

void bt_rangelock_init(struct bt_rangelock *lock)
{
	bt_list_init(&lock->ranges);
	lock->exclusive = 0;
}

static bool conflicts(const struct bt_range *a, const struct bt_range *b)
{
	if (!a->exclusive && !b->exclusive)
		return false;
	/* offset + length was checked against the disk's size before */
	return a->offset < b->offset + b->length &&
	       b->offset < a->offset + a->length;
}

/* Whether nobody who asked before range stands against it. */
static bool is_free(struct bt_rangelock *lock, const struct bt_range *range)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &lock->ranges) {
		struct bt_range *other =
			bt_list_entry(pos, struct bt_range, link);

		if (other == range)
			break;
		if (conflicts(other, range))
			return false;
	}
	return true;
}

bool bt_range_lock(struct bt_rangelock *lock, struct bt_range *range,
		   uint64_t offset, uint64_t length, bool exclusive,
		   void (*granted)(struct bt_range *range))
{
	range->offset = offset;
	range->length = length;
	range->exclusive = exclusive;
	range->granted = granted;
	bt_list_add_tail(&lock->ranges, &range->link);
	lock->exclusive += exclusive;
	range->held = !lock->exclusive || is_free(lock, range);
	return range->held;
}

/* A grant may unlock ranges or lock new ones, so the walk starts anew after
 * each. */
static bool grant_one(struct bt_rangelock *lock)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &lock->ranges) {
		struct bt_range *range =
			bt_list_entry(pos, struct bt_range, link);

		if (range->held || !is_free(lock, range))
			continue;
		range->held = true;
		range->granted(range);
		return true;
	}
	return false;
}

/* Without an exclusive range nobody waits, so there is nobody to look for. */
void bt_range_unlock_listed(struct bt_rangelock *lock, struct bt_range *range)
{
	bool contended = lock->exclusive > 0;

	bt_list_del(&range->link);
	lock->exclusive -= range->exclusive;
	range->held = false;
	while (contended && grant_one(lock))
		;
}
