/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests one after the other: each is submitted, and the loop runs until it
 * has ended. For tools that do nothing else meanwhile. */
#include "chain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where it fails nothing is left to close. */
int chain_open(struct chain *chain, const char *path, uint32_t flags,
	       struct blktap_error **err)
{
	struct blktap_disk_options options;
	char *spec = NULL;
	int rc;

	memset(chain, 0, sizeof(*chain));
	blktap_disk_options_init(&options);
	options.flags = flags;
	options.name = path;
	if (asprintf(&spec, "vhd:%s", path) < 0)
		return -ENOMEM;
	rc = blktap_context_create(NULL, &chain->context, err);
	if (!rc)
		rc = blktap_disk_open(chain->context, spec, &options,
				      &chain->disk, err);
	free(spec);
	if (rc)
		blktap_context_destroy(chain->context);
	return rc;
}

int chain_close(struct chain *chain)
{
	int rc = blktap_disk_close(chain->disk);

	blktap_context_destroy(chain->context);
	return rc;
}

/* 1 stands for "ended well": 0 means that it has not ended. */
static void moved(void *opaque, int error)
{
	*(int *)opaque = error ? error : 1;
}

int chain_move(struct chain *chain, enum blktap_op op, uint64_t offset,
	       void *buf, uint64_t length)
{
	struct iovec iov = { .iov_base = buf, .iov_len = length };
	int result = 0, rc;
	struct blktap_io io = {
		.size = sizeof(io),
		.op = op,
		.offset = offset,
		.length = length,
		.iov = buf ? &iov : NULL,
		.iov_count = buf ? 1 : 0,
		.callback = moved,
		.opaque = &result,
	};

	rc = blktap_disk_submit(chain->disk, &io);
	while (!rc && !result)
		rc = blktap_context_run(chain->context, -1);
	return rc ? rc : result < 0 ? result : 0;
}
