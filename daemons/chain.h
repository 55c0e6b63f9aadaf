/* SPDX-License-Identifier: BSD-3-Clause */
/* An image with all that it stands on, read and written one request at a time. */
#ifndef BLKTAP_DAEMONS_CHAIN_H
#define BLKTAP_DAEMONS_CHAIN_H

#include <blktap/blktap.h>

#define CHAIN_PIECE (2u << 20) /* a good length of a request */

struct chain {
	struct blktap_context *context;
	struct blktap_disk *disk;
};

/* flags: BLKTAP_OPEN_*. */
int chain_open(struct chain *chain, const char *path, uint32_t flags,
	       struct blktap_error **err);
int chain_close(struct chain *chain);
/* buf is NULL for an operation without data. */
int chain_move(struct chain *chain, enum blktap_op op, uint64_t offset,
	       void *buf, uint64_t length);

#endif
