/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that a module keeps until a time of the loop's clock, and random
 * numbers that are the same for the same seed. */
#ifndef BT_MODULE_LATER_H
#define BT_MODULE_LATER_H

#include "port/port.h"

/* First in the frame of a class that uses this. */
struct bt_later_frame {
	uint64_t due_ns;
};

struct bt_later {
	struct bt_node *node;
	struct bt_list waiting; /* by due time, then by age */
	uint32_t count;
	struct bt_timer timer;
	void (*fn)(struct bt_node *node, struct bt_request *req);
};

/* fn gets each request when its time has come. */
void bt_later_init(struct bt_later *later, struct bt_node *node,
		   void (*fn)(struct bt_node *node, struct bt_request *req));
/* Nothing waits. */
void bt_later_fini(struct bt_later *later);
/* Where no timer can be had the request's time is now. */
void bt_later_add(struct bt_later *later, struct bt_request *req,
		  uint64_t due_ns);

/* The next random number; *state is a seed at first. */
static inline uint64_t bt_chance(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

#endif
