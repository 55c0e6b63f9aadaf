/* SPDX-License-Identifier: BSD-3-Clause */
/* VHD image files: what they say of themselves, and changes to that. A call that
 * takes a path opens the file and closes it; none opens a parent it is not asked
 * for. Reading works while a tapdisk has the image open. All of these block; the
 * long ones report their progress, and end where the report says so. */
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

/* Bitmaps are read too, and held against the batmap. */
#define BLKTAP_VHD_CHECK_BITMAPS 0x4u

/* ---- an image that stays open --------------------------------------------- */

struct blktap_vhd;

#define BLKTAP_VHD_WRITE 0x1u /* else for reading, in spite of locks */

/* Opens one image without its parent; locators that are bad do not matter here.
 * -EBUSY for writing, while another program has the image open. Since 0.1. */
BLKTAP_API int blktap_vhd_open(const char *path, uint32_t flags,
			       struct blktap_vhd **out,
			       struct blktap_error **err);

/* NULL is fine. Since 0.1. */
BLKTAP_API void blktap_vhd_close(struct blktap_vhd *vhd);

/* done of total, in units of the call; other than 0 ends the work with
 * -ECANCELED, what is done so far being kept and the image whole. */
typedef int blktap_vhd_progress_fn(void *opaque, uint64_t done, uint64_t total);

/* Text lives for the call. */
typedef void blktap_vhd_field_fn(void *opaque, const char *section,
				 const char *name, const char *value);

/* Calls fn for each field of footer, header, locators and batmap. Since 0.1. */
BLKTAP_API void blktap_vhd_list_fields(struct blktap_vhd *vhd,
				       blktap_vhd_field_fn *fn, void *opaque);

/* Where the image has a block. */
#define BLKTAP_VHD_ABSENT UINT64_MAX

struct blktap_vhd_block {
	size_t struct_size; /* sizeof(struct blktap_vhd_block) */
	uint64_t offset; /* of its bitmap in the file, or BLKTAP_VHD_ABSENT */
	uint64_t data; /* of its data, or BLKTAP_VHD_ABSENT */
	uint32_t bitmap_size; /* bytes */
	bool in_batmap; /* the batmap says that all of it is here */
};

/* -ERANGE past the end of the table, -EINVAL for a fixed disk. Since 0.1. */
BLKTAP_API int blktap_vhd_get_block(struct blktap_vhd *vhd, uint32_t block,
				    struct blktap_vhd_block *out,
				    struct blktap_error **err);

/* The table as bits, highest bit first, a new buffer of *size bytes; batmap: what
 * the batmap says instead. Since 0.1. */
BLKTAP_API int blktap_vhd_get_map(struct blktap_vhd *vhd, bool batmap,
				  void **map, size_t *size,
				  struct blktap_error **err);

/* The bitmap of a block, highest bit first, and the data it has, both new
 * buffers; data may be NULL. Of a block that is absent both are zeroes.
 * Since 0.1. */
BLKTAP_API int blktap_vhd_read_block(struct blktap_vhd *vhd, uint32_t block,
				     void **bitmap, size_t *bitmap_size,
				     void **data, size_t *data_size,
				     struct blktap_error **err);

struct blktap_vhd_stats {
	size_t struct_size; /* sizeof(struct blktap_vhd_stats) */
	uint32_t blocks; /* that the disk needs */
	uint32_t allocated;
	uint32_t full; /* of the allocated, those with all sectors here */
	uint32_t beyond; /* allocated past the end of the disk */
	uint64_t sectors; /* that are here */
};

/* Reads every bitmap. Since 0.1. */
BLKTAP_API int blktap_vhd_get_stats(struct blktap_vhd *vhd,
				    struct blktap_vhd_stats *stats,
				    struct blktap_error **err);

/* Where the parent is found, absolute: a new string. any_uuid: whatever disk is
 * there. *parent is NULL where the image stands alone. Since 0.1. */
BLKTAP_API int blktap_vhd_find_parent(struct blktap_vhd *vhd, bool any_uuid,
				      char **parent, struct blktap_error **err);

/* ---- changes -------------------------------------------------------------- */

/* The copy of the footer at the start is believed, not the end. */
#define BLKTAP_VHD_REPAIR_BACKUP 0x1u

/* Writes the footer anew, at both ends. Since 0.1. */
BLKTAP_API int blktap_vhd_repair(const char *path, uint32_t flags,
				 struct blktap_error **err);

/* Takes the place of the parent that is recorded: parent is found from the
 * program's directory and recorded relative to the child. The switch is one
 * sector. Since 0.1. */
BLKTAP_API int blktap_vhd_set_parent(struct blktap_vhd *vhd, const char *parent,
				     bool raw, struct blktap_error **err);

/* Makes the file that long, its footer at the end; -ENOSPC where blocks are in
 * the way. Since 0.1. */
BLKTAP_API int blktap_vhd_set_file_size(struct blktap_vhd *vhd, uint64_t size,
					struct blktap_error **err);

/* Drops every block of a dynamic or differencing disk. Since 0.1. */
BLKTAP_API int blktap_vhd_drop_data(struct blktap_vhd *vhd,
				    struct blktap_error **err);

/* Puts blocks first to last, those that are absent, into the table. They read as
 * before. Since 0.1. */
BLKTAP_API int blktap_vhd_allocate(struct blktap_vhd *vhd, uint32_t first,
				   uint32_t last, blktap_vhd_progress_fn *fn,
				   void *opaque, struct blktap_error **err);

/* Only what the tables have room for: -EINVAL beyond. */
#define BLKTAP_VHD_RESIZE_FAST 0x1u

/* Grows or shrinks the disk. journal, a file that is not there yet or a device,
 * holds what is changed until the work has ended: with it an interrupted resize
 * can be undone. It may be NULL; the image is whole at every moment either way.
 * What grows reads as zeroes: -ENOTSUP where a larger parent's data would be seen.
 * Since 0.1. */
BLKTAP_API int blktap_vhd_resize(struct blktap_vhd *vhd, uint64_t length,
				 const char *journal, uint32_t flags,
				 struct blktap_error **err);

/* Undoes the resize that left journal behind, and removes it. Since 0.1. */
BLKTAP_API int blktap_vhd_revert(const char *path, const char *journal,
				 struct blktap_error **err);

/* Zeroes that read as zeroes anyhow are not written. */
#define BLKTAP_VHD_COALESCE_SPARSE 0x1u

struct blktap_vhd_coalesce_options {
	size_t struct_size; /* sizeof(struct blktap_vhd_coalesce_options) */
	uint32_t flags; /* BLKTAP_VHD_COALESCE_* */
	const char *into; /* another image of its chain; NULL: the parent */
	bool into_raw; /* that is no VHD */
	/* A file that says how far it came, so that a later call with the same
	 * images goes on from there; NULL: none. */
	const char *state;
	blktap_vhd_progress_fn *progress; /* blocks; NULL: none */
	void *opaque;
};

/* Copies what this image has into its parent. The image stays as it is, and the
 * chain reads the same at every moment. *sectors is what was copied. May be called
 * while others read the parent. Since 0.1. */
BLKTAP_API int blktap_vhd_coalesce(
	struct blktap_vhd *vhd,
	const struct blktap_vhd_coalesce_options *options, uint64_t *sectors,
	struct blktap_error **err);

/* ---- keys ----------------------------------------------------------------- */

struct blktap_vhd_key_hash {
	bool is_set;
	uint8_t nonce[32];
	uint8_t hash[32]; /* SHA-256 of nonce and key */
};

/* -ENOTSUP where the library was built without encryption. Since 0.1. */
BLKTAP_API int blktap_vhd_hash_key(const void *key, size_t size,
				   struct blktap_vhd_key_hash *hash,
				   struct blktap_error **err);

/* Since 0.1. */
BLKTAP_API void blktap_vhd_get_key_hash(struct blktap_vhd *vhd,
					struct blktap_vhd_key_hash *hash);

/* -EEXIST where another hash is set, or blocks are there that no key was used
 * for. Since 0.1. */
BLKTAP_API int blktap_vhd_set_key_hash(struct blktap_vhd *vhd,
				       const struct blktap_vhd_key_hash *hash,
				       struct blktap_error **err);

BLKTAP_END_DECLS

#endif
