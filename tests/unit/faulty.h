/* SPDX-License-Identifier: BSD-3-Clause */
/* A backend for bt_engine_create_backend that does plain I/O and lets a test
 * spoil it: fail, shorten, delay or hold chosen operations.
 *
 *	faulty_reset();
 *	faulty_add((struct faulty_rule){ .op = BT_IO_WRITE, .nth = 3,
 *					 .error = -ENOSPC });
 *	bt_engine_create_backend(loop, NULL, &faulty_backend, 0, &e, NULL);
 *
 * An operation takes effect on the file when it completes, so that what is
 * delayed or held has not happened yet. The control block is the process' only
 * one: one faulty engine at a time. */
#ifndef BT_TESTS_FAULTY_H
#define BT_TESTS_FAULTY_H

#include "engine/engine.h"

#define FAULTY_ANY (-1)

/* Applies to an operation that meets op and range; the first rule that applies
 * is the one. nth counts the operations a rule met, from 1. */
struct faulty_rule {
	int op; /* enum bt_io_op or FAULTY_ANY */
	uint64_t offset; /* any overlap with the range; */
	uint64_t length; /* 0: everywhere */
	uint32_t nth; /* from this one on; 0 and 1: from the first */
	uint32_t times; /* so many of them; 0: one where nth is set, else all */
	int error; /* instead of I/O; 0: none */
	bool shorten; /* move at most max_length bytes */
	uint64_t max_length;
	uint64_t delay_ns; /* of the loop's clock */
	uint32_t met; /* the backend's own */
};

struct faulty {
	struct faulty_rule rules[16];
	uint32_t rule_count;
	uint32_t calls; /* operations that came, repeats included */
	uint32_t calls_of[BT_IO_OP_COUNT];
	int init_error; /* what init returns */
	int submit_error; /* what the next submit returns, once */
	uint32_t take_max; /* operations a submit takes; 0: all */
	struct bt_pace pace; /* what the queue is told; the test's to set */
	bool hold; /* keep what comes until faulty_release */
	uint32_t held;
};

extern struct faulty faulty;
extern const struct bt_backend faulty_backend;

void faulty_reset(void);
/* Returns the rule, to be changed on the way. */
struct faulty_rule *faulty_add(struct faulty_rule rule);
/* Lets the oldest count held operations go; UINT32_MAX: all. */
void faulty_release(uint32_t count);

#endif
