/* SPDX-License-Identifier: BSD-3-Clause */
/* What tests that look at an image again and again share: a directory of their own,
 * in memory where there is such a place, since there are images by the hundred; a
 * context that calls the kernel directly; and a transfer that is waited for. */
#ifndef BT_TESTS_SCRATCH_H
#define BT_TESTS_SCRATCH_H

#include "unit.h"

#include <blktap/blktap.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void scratch_make(char *dir, size_t size)
{
	snprintf(dir, size, "%s/blktap-cut-XXXXXX",
		 access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static inline void scratch_remove(const char *dir)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static inline struct blktap_context *scratch_context(void)
{
	struct blktap_context_options options = {
		.size = sizeof(options),
		.engine = BLKTAP_ENGINE_SYNC,
	};
	struct blktap_context *made = NULL;

	ck_assert_int_eq(blktap_context_create(&options, &made, NULL), 0);
	return made;
}

static inline void scratch_done(void *opaque, int error)
{
	*(int *)opaque = error ? error : 1;
}

/* It succeeds. */
static inline void scratch_transfer(struct blktap_context *loop,
				    struct blktap_disk *disk, enum blktap_op op,
				    uint64_t offset, void *buf, uint64_t length)
{
	struct iovec iov = { .iov_base = buf, .iov_len = length };
	int result = 0;
	struct blktap_io io = { .size = sizeof(io),
				.op = op,
				.offset = offset,
				.length = length,
				.iov = &iov,
				.iov_count = buf ? 1 : 0,
				.callback = scratch_done,
				.opaque = &result };

	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
	while (!result)
		ck_assert_int_eq(blktap_context_run(loop, -1), 0);
	ck_assert_int_eq(result, 1);
}

#endif
