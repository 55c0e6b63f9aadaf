/* SPDX-License-Identifier: BSD-3-Clause */
/* A raw disk on a file that a test may spoil, and requests one at a time. */
#ifndef BT_TESTS_VBD_RIG_H
#define BT_TESTS_VBD_RIG_H

#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "faulty.h"
#include "loop/loop.h"
#include "vbd/vbd.h"

#define SIZE (1u << 20)
#define MS 1000000ull

static struct blktap_context *context;
static struct blktap_disk *disk;
static char path[64];

static uint32_t events[16];
static char event_node[64];

static inline void on_event(void *opaque, struct blktap_disk *d,
			    const struct blktap_event *event)
{
	events[event->type]++;
	snprintf(event_node, sizeof(event_node), "%s", event->node);
}

static inline void open_disk(const struct blktap_disk_options *options)
{
	struct blktap_error *err = NULL;
	char spec[96];
	int rc;

	snprintf(spec, sizeof(spec), "raw:%s", path);
	rc = blktap_disk_open(context, spec, options, &disk, &err);
	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
	memset(events, 0, sizeof(events));
	blktap_disk_set_event(disk, on_event, NULL, NULL);
}

static inline void setup(void)
{
	int fd;

	strcpy(path, "/var/tmp/blktap-faults-XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
	close(fd);
	faulty_reset();
	ck_assert_int_eq(bt_context_create_on(BT_CLOCK_VIRTUAL, &faulty_backend,
					      &context),
			 0);
}

static inline void teardown(void)
{
	faulty_reset();
	faulty_release(UINT32_MAX);
	blktap_context_destroy(context);
	unlink(path);
}

static inline void turns(void)
{
	int i;

	for (i = 0; i < 50; i++)
		ck_assert_int_eq(blktap_context_process(context), 0);
}

static inline void pass(uint64_t ns)
{
	bt_loop_advance(bt_context_get_loop(context), ns);
	turns();
}

struct op {
	struct iovec iov;
	uint32_t calls;
	int error;
};

static inline void op_done(void *opaque, int error)
{
	struct op *op = opaque;

	op->calls++;
	op->error = error;
}

static inline void submit(struct op *op, enum blktap_op what, uint64_t offset,
			  void *data, size_t length, uint32_t flags)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = what,
		.flags = flags,
		.offset = offset,
		.length = length,
		.iov = &op->iov,
		.iov_count = data ? 1 : 0,
		.callback = op_done,
		.opaque = op,
	};

	op->iov.iov_base = data;
	op->iov.iov_len = length;
	op->calls = 0;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
}

static inline void start(struct op *op, enum blktap_op what, uint64_t offset,
			 void *data, size_t length, uint32_t flags)
{
	submit(op, what, offset, data, length, flags);
	turns();
}

static inline int run(enum blktap_op what, uint64_t offset, void *data,
		      size_t length, uint32_t flags)
{
	struct op op;

	start(&op, what, offset, data, length, flags);
	ck_assert_uint_eq(op.calls, 1);
	return op.error;
}

static inline struct blktap_disk_options options(void)
{
	struct blktap_disk_options o;

	blktap_disk_options_init(&o);
	return o;
}

static inline void close_disk(int expected)
{
	ck_assert_int_eq(blktap_disk_close(disk), expected);
}

#endif
