/* SPDX-License-Identifier: BSD-3-Clause */
/* Image files: made here, and served as disks by blktap_disk_open. */
#ifndef BLKTAP_IMAGE_H
#define BLKTAP_IMAGE_H

#include <blktap/base.h>
#include <blktap/error.h>

BLKTAP_BEGIN_DECLS

/* Replaces a file that is there. */
#define BLKTAP_CREATE_OVERWRITE 0x1u
/* All space of the image is taken, and all its tables filled, from the start. */
#define BLKTAP_CREATE_RESERVE 0x2u

/* done of total bytes; other than 0 ends the work with -ECANCELED, and nothing is
 * left. It is called where the work may take long. */
typedef int blktap_image_progress_fn(void *opaque, uint64_t done,
				     uint64_t total);

struct blktap_image_options {
	/* sizeof(struct blktap_image_options) */
	size_t struct_size;
	uint32_t flags; /* BLKTAP_CREATE_* */
	uint64_t length; /* bytes the disk has; 0: as many as the backing's */
	/* What the new image stands on, as it is recorded: a relative name is
	 * found from the new image's directory. NULL: nothing. */
	const char *backing;
	/* The class that opens backing; needed with it, and never guessed. */
	const char *backing_format;
	uint64_t cluster_size; /* bytes; 0: what suits the format */
	/* What only one format has, "name=value,name=value": see the class. */
	const char *extra;
	blktap_image_progress_fn *progress; /* NULL: none */
	void *opaque; /* its own */
};

/* Fills options with the defaults, struct_size included: as many bytes as the
 * caller's headers have. Since 0.1. */
BLKTAP_API void blktap_image_options_init_sized(
	struct blktap_image_options *options, size_t size);
static inline void blktap_image_options_init(
	struct blktap_image_options *options)
{
	blktap_image_options_init_sized(options, sizeof(*options));
}

/* Makes the file path an empty image of format, the name of a class. It is
 * written under another name and renamed when it is whole and on disk, so no
 * other program ever sees half of it. A VHD may also be made on a block device,
 * with BLKTAP_CREATE_OVERWRITE, and is written there. -EEXIST where path is there
 * and may not be replaced, -EBUSY where it may and somebody has it open as an
 * image, -ENOTSUP for a class that has no files. Blocks. Since 0.1. */
BLKTAP_API int blktap_image_create(const char *format, const char *path,
				   const struct blktap_image_options *options,
				   struct blktap_error **err);

/* Makes the image that spec names (`qcow2:/img/a.qcow2`) larger; what is new reads
 * as zeroes. A crash at any point leaves it whole, with the one size or the other.
 * -EINVAL for a smaller size, -EBUSY where somebody has it open: see
 * blktap_disk_resize. -ENOTSUP where its tables have no room. Blocks. Since 0.1.
 */
BLKTAP_API int blktap_image_resize(const char *spec, uint64_t length,
				   struct blktap_error **err);

BLKTAP_END_DECLS

#endif
