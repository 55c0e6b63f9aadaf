/* SPDX-License-Identifier: BSD-3-Clause */
/* A leaf in memory that is as rough as hardware: it completes what it has in
 * random order, fails what the test wants failed, and knows what a power cut would
 * leave: what no flush covers is there or not, sector by sector. */
#ifndef BT_TESTS_ROUGH_H
#define BT_TESTS_ROUGH_H

#include "module.h"

#define ROUGH_SECTOR 512u

struct rough_write; /* not covered by a flush */

/* What the leaves of one test share. */
struct rough_world {
	uint64_t random; /* state; not 0 */
	uint64_t events; /* operations performed so far */
	uint64_t cut_at; /* on_cut is called before this one; 0: never */
	bool cut_at_flush; /* rather before the first flush from there on */
	void (*on_cut)(struct rough_world *world);
	void *opaque;
};

struct rough {
	struct bt_node *node;
	struct rough_world *world;
	uint64_t size;
	unsigned char *now; /* what reads see */
	unsigned char *stable; /* what the last flush left */
	struct rough_write *writes; /* since then, newest first */
	uint64_t written; /* the number of the newest */
	struct bt_list has; /* requests that are not performed yet */
	struct bt_work work;
	uint32_t seen[BLKTAP_OP_COUNT];
	/* A negative errno instead of performing it; NULL: never. */
	int (*spoil)(struct rough *rough, const struct bt_request *req);
	bool dead; /* everything fails with EIO */
	void *opaque;
};

extern const struct blktap_class rough_class;

uint64_t rough_random(struct rough_world *world, uint64_t below);
struct bt_node *rough_make(struct rig *rig, struct rough_world *world,
			   const char *name, const char *args);
static inline struct rough *rough_of(const struct bt_node *node)
{
	return node->data;
}
/* Fills image with what a power cut now would leave. */
void rough_cut(struct rough *rough, unsigned char *image);
/* Gives a leaf that was not used yet its contents. */
void rough_load(struct rough *rough, const unsigned char *image);

#endif
