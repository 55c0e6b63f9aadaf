/* SPDX-License-Identifier: BSD-3-Clause */
/* Data that is not in this process' memory, and need not come there: a kernel that
 * has it can carry it to a file, or from one, by itself.
 *
 * Who has such data (a frontend) puts a bt_move into its request. Who would do
 * nothing with the data but write it to a file, or read it from one, and all of it,
 * gives that to the mover; whoever else wants a write's data fetches it first: then
 * it is where the request's `data` says. */
#ifndef BT_UTIL_MOVE_H
#define BT_UTIL_MOVE_H

#include <stdbool.h>
#include <stdint.h>

struct bt_mover;

/* The data of one request; embedded in it by its owner. */
struct bt_move {
	struct bt_mover *mover;
};

struct bt_mover {
	/* One more for the next run: all of the data, to or from the file, from
	 * offset on, in the direction of the request. *result, which has to stay
	 * until then, becomes the bytes that went or a negative errno. False: it
	 * takes no more. */
	bool (*add)(struct bt_mover *mover, struct bt_move *move, int fd,
		    uint64_t offset, int64_t *result);
	/* Does all that was added; blocks as preadv(2) and pwritev(2) do. */
	void (*run)(struct bt_mover *mover);
	/* Brings the data of a write into memory; 0, or a negative errno, and then
	 * what is in memory is not the data. */
	int (*fetch)(struct bt_mover *mover, struct bt_move *move);
};

static inline int bt_move_fetch(struct bt_move *move)
{
	return move->mover->fetch(move->mover, move);
}

#endif
