/* SPDX-License-Identifier: BSD-3-Clause */
/* VHD image files: what they say of themselves, and changes to that. Each call
 * opens the file and closes it; none opens a parent it is not asked for. Reading
 * works while a tapdisk has the image open. All of these block. */
#ifndef BLKTAP_VHD_H
#define BLKTAP_VHD_H

#include <blktap/base.h>
#include <blktap/error.h>

BLKTAP_BEGIN_DECLS

enum blktap_vhd_type {
	BLKTAP_VHD_FIXED = 2,
	BLKTAP_VHD_DYNAMIC = 3,
	BLKTAP_VHD_DIFFERENCING = 4
};

struct blktap_vhd_info {
	/* sizeof(struct blktap_vhd_info), set by the caller */
	size_t struct_size;
	enum blktap_vhd_type type;
	uint64_t length; /* bytes the guest sees */
	uint64_t file_size;
	uint64_t
		max_length; /* to which it can grow with its metadata in place */
	uint32_t block_size; /* 0: a fixed disk has no blocks */
	uint32_t allocated; /* blocks */
	uint32_t hidden; /* a mark for toolstacks, 0 to 255 */
	uint32_t marker; /* another */
	bool parent_is_raw;
};

/* Fills at most info->struct_size bytes of *info. Since 0.1. */
BLKTAP_API int blktap_vhd_get_info(const char *path,
				   struct blktap_vhd_info *info,
				   struct blktap_error **err);

/* The parent's path, a new string, or NULL in *parent where the image stands
 * alone. stored: as the image has it, whether it is there or not; otherwise where
 * it was found, absolute. Since 0.1. */
BLKTAP_API int blktap_vhd_get_parent(const char *path, bool stored,
				     char **parent, struct blktap_error **err);

/* Sets the mark of that name, "hidden" or "marker", to 0 to 255. -EBUSY while
 * another program has the image open. Since 0.1. */
BLKTAP_API int blktap_vhd_set_mark(const char *path, const char *mark,
				   uint32_t value, struct blktap_error **err);

/* The footer at the end of the file may be missing. */
#define BLKTAP_VHD_CHECK_NO_FOOTER 0x1u
/* Blocks that lie over each other are not looked for. */
#define BLKTAP_VHD_CHECK_NO_OVERLAPS 0x2u

/* Looks at footers, header, batmap and every entry of the table; -EINVAL, and in
 * *err the first fault. Parents are not looked at. Since 0.1. */
BLKTAP_API int blktap_vhd_check(const char *path, uint32_t flags,
				struct blktap_error **err);

BLKTAP_END_DECLS

#endif
