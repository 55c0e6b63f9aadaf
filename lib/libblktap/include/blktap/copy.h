/* SPDX-License-Identifier: BSD-3-Clause */
/* Copying one disk to another: many requests at once, holes stay holes, with
 * progress, a rate limit, and an end at any moment. */
#ifndef BLKTAP_COPY_H
#define BLKTAP_COPY_H

#include <blktap/disk.h>

BLKTAP_BEGIN_DECLS

struct blktap_copy;

/* The target reads as zeroes already: zeroes need not be written. */
#define BLKTAP_COPY_TARGET_IS_ZERO 0x1u
/* Do not look for zeroes in data that the source calls allocated. */
#define BLKTAP_COPY_NO_DETECT 0x2u

struct blktap_copy_options {
	size_t size; /* sizeof(struct blktap_copy_options) */
	uint32_t flags; /* BLKTAP_COPY_* */
	uint32_t depth; /* chunks under way; 0: 16, at most 64 */
	uint32_t chunk; /* bytes, a power of two; 0: 1 MiB, at most 32 MiB */
	uint64_t rate; /* bytes of data a second; 0: no limit */
	uint64_t offset; /* where to begin */
	uint64_t length; /* 0: to the end of the source */
};

/* Fills options with the defaults, size included: as many bytes as the caller's
 * headers have. Since 0.1. */
BLKTAP_API void blktap_copy_options_init_sized(
	struct blktap_copy_options *options, size_t size);
static inline void blktap_copy_options_init(struct blktap_copy_options *options)
{
	blktap_copy_options_init_sized(options, sizeof(*options));
}

/* Called once: with 0 when all is copied and flushed, -ECANCELED after
 * blktap_copy_cancel, or the negative errno of what failed, which message names.
 * message is "" on success and lives for the call. The copy may be destroyed
 * inside. */
typedef void blktap_copy_fn(void *opaque, int error, const char *message);

/* Starts to copy. options may be NULL. Both disks belong to one context and must
 * outlive the copy; the target must be writable and as long as what is copied
 * (-ENOSPC). Requests of others go on meanwhile; what they write to the source is
 * not followed. Since 0.1. */
BLKTAP_API int blktap_copy_start(struct blktap_disk *source,
				 struct blktap_disk *target,
				 const struct blktap_copy_options *options,
				 blktap_copy_fn *fn, void *opaque,
				 struct blktap_copy **out,
				 struct blktap_error **err);

struct blktap_copy_progress {
	size_t size; /* sizeof(struct blktap_copy_progress), set by the caller */
	uint64_t total; /* bytes to go through */
	uint64_t done; /* bytes that are dealt with, zeroes included */
	uint64_t data; /* bytes written as data */
	bool finished;
};

/* Fills at most progress->size bytes of *progress. Since 0.1. */
BLKTAP_API void blktap_copy_get_progress(const struct blktap_copy *copy,
					 struct blktap_copy_progress *progress);

/* Changes the limit; 0: none. Since 0.1. */
BLKTAP_API void blktap_copy_set_rate(struct blktap_copy *copy, uint64_t rate);

/* Starts nothing more; fn is called when what is under way has ended. Harmless
 * where the copy has finished. Since 0.1. */
BLKTAP_API void blktap_copy_cancel(struct blktap_copy *copy);

/* Frees a copy that has finished; NULL is fine. -EBUSY while it runs. Since 0.1.
 */
BLKTAP_API int blktap_copy_destroy(struct blktap_copy *copy);

BLKTAP_END_DECLS

#endif
