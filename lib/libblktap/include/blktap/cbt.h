/* SPDX-License-Identifier: BSD-3-Clause */
/* Logs of changed blocks: a bit for each 64 KiB of a disk, and the uuids of the
 * logs before and behind it. Each call opens the file and closes it, and blocks. */
#ifndef BLKTAP_CBT_H
#define BLKTAP_CBT_H

#include <blktap/base.h>
#include <blktap/error.h>

BLKTAP_BEGIN_DECLS

#define BLKTAP_CBT_BLOCK 65536u

struct blktap_cbt_info {
	size_t struct_size; /* sizeof(struct blktap_cbt_info) */
	uint8_t parent[16];
	uint8_t child[16];
	bool is_consistent; /* all changes are in it */
	uint64_t length; /* bytes of the disk */
};

/* Makes a log of a disk in which nothing has changed; a file that is there is
 * replaced. Since 0.1. */
BLKTAP_API int blktap_cbt_create(const char *path, uint64_t length,
				 struct blktap_error **err);

/* Since 0.1. */
BLKTAP_API int blktap_cbt_get_info(const char *path,
				   struct blktap_cbt_info *info,
				   struct blktap_error **err);

/* Where the length is another, the log gets longer, its new bits clear, or loses
 * those past the end. Since 0.1. */
BLKTAP_API int blktap_cbt_set_info(const char *path,
				   const struct blktap_cbt_info *info,
				   struct blktap_error **err);

/* The bits, lowest first, in a new buffer of *size bytes. Since 0.1. */
BLKTAP_API int blktap_cbt_read_map(const char *path, void **map, size_t *size,
				   struct blktap_error **err);

/* What changed in parent has changed in child as well. -EINVAL where the child's
 * disk is the smaller. Parent stays as it is. Since 0.1. */
BLKTAP_API int blktap_cbt_coalesce(const char *parent, const char *child,
				   struct blktap_error **err);

BLKTAP_END_DECLS

#endif
