/* SPDX-License-Identifier: BSD-3-Clause */
/* Leaves in memory that keep a record, for modules with state: they hold what they
 * get and complete it in random order, fail what they are told to, and can say
 * what a power cut at any moment would have left on each of them. All leaves
 * share one clock: `now` goes on by one with each submission and completion. */
#ifndef BT_TESTS_PLATTER_H
#define BT_TESTS_PLATTER_H

#include "port/port.h"

#define PLATTERS 4u

enum platter_model {
	PLATTER_NOTHING, /* of what no flush covers */
	PLATTER_ALL,
	PLATTER_SOME, /* each operation or not */
	PLATTER_TORN, /* each sector or not */
	PLATTER_MODELS
};

struct platter_fault {
	int op; /* enum blktap_op; -1: none */
	uint32_t leaf;
	uint32_t skip; /* so many go well before */
	uint32_t times;
	int error;
	uint32_t met, failed;
};

struct platters {
	unsigned char *base[PLATTERS]; /* what they held at platter_begin */
	unsigned char *bytes[PLATTERS]; /* what they hold */
	uint64_t size[PLATTERS];
	uint32_t block[PLATTERS];
	bool hold; /* until platter_turn; else all completes at once */
	uint32_t stuck; /* 1u << op: what platter_turn leaves alone */
	uint64_t now;
	uint64_t random;
	struct platter_fault fault;
};

extern struct platters platters;
extern const struct blktap_class platter_class;

void platter_reset(uint64_t seed);
/* Leaf `index` of size bytes, all zero, with blocks of 512. */
void platter_make(uint32_t index, uint64_t size);
/* The record begins with what the leaves hold. */
void platter_begin(void);
/* Completes one that is held; false where there is none. */
bool platter_turn(void);
uint64_t platter_random(uint64_t below);
/* The bytes of a leaf after a cut right after event `at`. */
void platter_cut(uint32_t index, uint64_t at, enum platter_model model,
		 unsigned char *out);

#endif
