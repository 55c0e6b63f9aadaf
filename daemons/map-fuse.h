/* SPDX-License-Identifier: BSD-3-Clause */
/* Between what asks (map-fuse.c) and what is done (map-ops.c). */
#ifndef BLKTAP_DAEMONS_MAP_FUSE_H
#define BLKTAP_DAEMONS_MAP_FUSE_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "map.h"

#define MAP_EXTENTS 32

/* A request under way. FUSE writes a request in one piece, 80 bytes of headers
 * and then what is to be written; it is received so that the latter begins on a
 * page, and so may go to the image by O_DIRECT as it is. */
struct slot {
	struct map_fuse *fuse;
	struct slot *next; /* of those that are free */
	fuse_req_t req;
	uint8_t *data;
	enum blktap_op op;
	struct iovec iov;
	/* lseek */
	int whence;
	uint64_t at;
	struct blktap_extent extents[MAP_EXTENTS];
	uint32_t extent_count;
};

struct map_fuse {
	struct fuse_session *session;
	struct blktap_disk *disk;
	struct blktap_disk_info info;
	struct timespec since;
	uint8_t *memory;
	size_t memory_size;
	size_t capacity; /* bytes of a slot's data */
	struct slot *current; /* holds the request being looked at */
	struct slot *free; /* the one used last comes first: it is warm */
	struct slot slots[MAP_SLOTS];
};

extern const struct fuse_lowlevel_ops map_ops;

/* Where its answer was sent. */
void map_slot_put(struct slot *slot);

#endif
