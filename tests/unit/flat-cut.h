/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk that has one store: a power cut at an event of its life, and what was left
 * opened anew, checked, and used. */
#ifndef BT_TESTS_FLAT_CUT_H
#define BT_TESTS_FLAT_CUT_H

#include "flat.h"

struct flat_cut_story {
	struct rough_world *world;
	size_t bytes; /* of the store */
	uint32_t steps;
	bool no_discard; /* see struct flat */
	/* The disk over a store with that image. */
	void (*make)(struct rig *rig, const void *opaque,
		     const unsigned char *image);
	struct rough *(*store_of)(const struct rig *rig);
	const void *opaque; /* make's */
	/* its own: */
	struct flat *flat;
	struct flat left; /* what may be there */
	unsigned char *image;
	struct rig *rig;
	bool taken;
};

static inline void flat_cut_take(struct rough_world *w)
{
	struct flat_cut_story *s = w->opaque;

	flat_cut(s->flat, &s->left);
	rough_cut(s->store_of(s->rig), s->image);
	s->taken = true;
}

static inline void flat_cut_look(struct flat_cut_story *s)
{
	struct rig again;

	s->world->cut_at = 0;
	s->make(&again, s->opaque, s->image);
	s->left.rig = &again;
	flat_verify(&s->left);
	flat_run(&s->left, 100);
	flat_verify(&s->left);
	flat_fini(&s->left);
	rig_fini(&again);
}

static inline void flat_cut_run(struct flat_cut_story *s, uint64_t seed)
{
	struct rough_world *world = s->world;
	struct flat flat;
	struct rig rig;

	*world = (struct rough_world){ .random = seed * 77 + 1 };
	/* what a store held before must never be seen */
	s->image = malloc(s->bytes);
	memset(s->image, 0xee, s->bytes);
	memset(s->image, 0, 8192);
	s->make(&rig, s->opaque, s->image);
	flat_init(&flat, &rig, seed);
	flat.no_discard = s->no_discard;
	s->flat = &flat;
	s->rig = &rig;
	s->taken = false;
	world->opaque = s;
	world->on_cut = flat_cut_take;
	world->cut_at =
		world->events + 1 + rough_random(world, seed & 4 ? 900 : 90);
	world->cut_at_flush = seed & 2;
	flat_run(&flat, s->steps);
	if (s->taken)
		flat_cut_look(s);
	flat_fini(&flat);
	rig_fini(&rig);
	free(s->image);
}

#endif
