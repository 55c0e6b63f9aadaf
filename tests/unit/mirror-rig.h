/* SPDX-License-Identifier: BSD-3-Clause */
/* A mirror of up to three rough legs, with a log or without. */
#ifndef BT_TESTS_MIRROR_RIG_H
#define BT_TESTS_MIRROR_RIG_H

#include "flat.h"

#define BYTES (2u << 20)
#define LEG "size=2M"
#define LOG_BYTES (64u << 10)
#define NS_PER_S 1000000000ull
#define MAX_LEGS 3u

static struct rough_world world;

/* What the leaves held before; NULL: zeroes. The last is the log's. */
struct images {
	unsigned char *of[MAX_LEGS + 1];
};

static inline void images_init(struct images *images)
{
	uint32_t i;

	for (i = 0; i <= MAX_LEGS; i++)
		images->of[i] = calloc(1, i < MAX_LEGS ? BYTES : LOG_BYTES);
}

static inline void images_fini(struct images *images)
{
	uint32_t i;

	for (i = 0; i <= MAX_LEGS; i++)
		free(images->of[i]);
}

/* legs: which of the three are linked, 1u << index. */
static inline void make_leaves(struct rig *rig, uint32_t legs, bool log,
			       const struct images *images,
			       struct bt_node **lowers, uint32_t *count)
{
	static const char *const names[] = { "a", "b", "c" };
	uint32_t i;

	*count = 0;
	for (i = 0; i < MAX_LEGS; i++) {
		if (!(legs >> i & 1u))
			continue;
		lowers[*count] = rough_make(rig, &world, names[i], LEG);
		if (images)
			rough_load(rough_of(lowers[*count]), images->of[i]);
		++*count;
	}
	lowers[*count] =
		log ? rough_make(rig, &world, "log", "size=64k") : NULL;
	if (log && images)
		rough_load(rough_of(lowers[*count]), images->of[MAX_LEGS]);
	++*count;
}

static inline struct bt_node *make(struct rig *rig, uint32_t legs, bool log,
				   const struct images *images,
				   const char *args)
{
	struct bt_node *lowers[MAX_LEGS + 1], *node;
	uint32_t count;

	rig_init(rig);
	make_leaves(rig, legs, log, images, lowers, &count);
	node = rig_node(rig, &bt_mirror_class, "m", args, lowers, count);
	node->on_error = BT_ON_ERROR_DEGRADE;
	rig_top(rig, node);
	return node;
}

static inline struct rough *leg_of(const struct rig *rig, uint32_t leg)
{
	return rough_of(bt_node_port(rig->root, 0, leg)->lower);
}

static inline struct rough *log_of(const struct rig *rig)
{
	return rough_of(bt_node_port(rig->root, 1, 0)->lower);
}

static inline const char *value(const struct rig *rig, const char *name)
{
	static char text[64];

	ck_assert(
		rig->root->cls->get_value(rig->root, name, text, sizeof(text)));
	return text;
}

static inline void expect(const struct rig *rig, const char *name,
			  const char *text)
{
	ck_assert_str_eq(value(rig, name), text);
}

static inline void pass_time(struct rig *rig, uint32_t seconds)
{
	uint32_t turn;

	while (seconds--) {
		bt_loop_advance(rig->env.loop, NS_PER_S);
		for (turn = 0; turn < 200; turn++)
			ck_assert_int_eq(bt_loop_turn(rig->env.loop, 0), 0);
	}
}

static inline void expect_same(const struct rig *rig, uint32_t a, uint32_t b)
{
	ck_assert_mem_eq(leg_of(rig, a)->now, leg_of(rig, b)->now, BYTES);
}

static inline void set(struct rig *rig, const char *name, const char *text)
{
	struct bt_args *args;

	ck_assert_int_eq(bt_args_create(rig->root->cls, &args), 0);
	ck_assert_int_eq(bt_args_set(args, name, text, NULL), 0);
	rig->root->cls->reconfigure(rig->root, args);
	bt_args_destroy(args);
}

#endif
