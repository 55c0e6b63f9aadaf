/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of a whole life have in common: a disk with a client that writes and
 * a flat array beside it, calls that take their time or fail, pauses, and time. */
#ifndef UNIT_LIFE_H
#define UNIT_LIFE_H

#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>

#include "faulty.h"
#include "model.h"

static struct blktap_context *context;
static struct model m;
static int pause_done; /* 0: none is asked for, or it is not there yet */
static bool pausing;

/* What is delayed looks at its rule when it ends: so none is changed but for that. */
static void calm(void)
{
	uint32_t i;

	for (i = 0; i < faulty.rule_count; i++)
		faulty.rules[i].nth = UINT32_MAX;
}

/* Calls that take their time, or fail. A sync that fails is left out: what it loses is
 * lost. */
static const struct faulty_rule troubles[] = {
	{ .op = FAULTY_ANY, .delay_ns = 1000000 },
	{ .op = BT_IO_READ, .delay_ns = 1000000 },
	{ .op = BT_IO_WRITE, .delay_ns = 1000000 },
	{ .op = BT_IO_SYNC, .delay_ns = 1000000 },
	{ .op = BT_IO_READ, .error = -EIO },
	{ .op = BT_IO_WRITE, .error = -ENOSPC },
	{ .op = BT_IO_WRITE, .error = -EIO },
};
#define TROUBLES (sizeof(troubles) / sizeof(*troubles))

/* The nth of them begins soon and lasts a while; past the last, or where there have
 * been too many, all is well. */
static void make_trouble(uint64_t n)
{
	struct faulty_rule rule;

	calm();
	if (n >= TROUBLES ||
	    faulty.rule_count == sizeof(faulty.rules) / sizeof(rule))
		return;
	rule = troubles[n];
	rule.nth = 1 + (uint32_t)model_random(&m, 20);
	rule.times = 1 + (uint32_t)model_random(&m, 20);
	faulty_add(rule);
}

static void paused(void *opaque, int error, const char *message)
{
	(void)opaque;
	(void)message;
	pause_done = error ? error : 1;
}

/* before: called before the disk goes on, or NULL. */
static void toggle_pause(void (*before)(void))
{
	if (!pausing) {
		pause_done = 0;
		pausing = !blktap_disk_pause(m.disk, 0, paused, NULL);
	} else if (pause_done) {
		if (before)
			before();
		if (pause_done == 1)
			ck_assert_int_eq(blktap_disk_resume(m.disk, NULL, NULL),
					 0);
		pausing = false;
	}
}

static void end_pause(void (*before)(void))
{
	while (pausing && !pause_done)
		ck_assert_int_ge(blktap_context_run(context, 10), 0);
	if (pausing)
		toggle_pause(before);
}

static void turn(uint64_t n)
{
	while (n--)
		ck_assert_int_eq(blktap_context_process(context), 0);
}

static void pass_time(void)
{
	ck_assert_int_eq(blktap_context_run(context, 1), 0);
}

#endif
