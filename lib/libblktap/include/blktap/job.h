/* SPDX-License-Identifier: BSD-3-Clause */
/* Jobs: long work on the chain of a running disk, while its requests go on.
 *
 *   stream    what lower images hold is copied into the leaf, which then stands
 *             on nothing any more, or on the image `base`
 *   commit    what the disk shows is copied into the image `base` below it, and
 *             the disk stands on that from then on. The leaf's file is renamed to
 *             FILE.committed; the disk's spec is that of base
 *   coalesce  what the inner image `base` holds is copied into the one that it
 *             stands on, and what stood on base stands on that
 *
 * At every moment the disk shows what its clients have written, and a crash at
 * any point leaves a chain that does; a job that ended early may be started again.
 * A job waits while its disk is paused, and goes on when it is resumed; where
 * somebody has changed the images meanwhile, it begins anew. It ends when the disk
 * is closed. */
#ifndef BLKTAP_JOB_H
#define BLKTAP_JOB_H

#include <blktap/disk.h>

BLKTAP_BEGIN_DECLS

struct blktap_job;

enum blktap_job_kind {
	BLKTAP_JOB_STREAM,
	BLKTAP_JOB_COMMIT,
	BLKTAP_JOB_COALESCE
};

enum blktap_job_state {
	BLKTAP_JOB_RUNNING,
	BLKTAP_JOB_PAUSED, /* by blktap_job_pause */
	BLKTAP_JOB_WAITING, /* its disk is paused */
	BLKTAP_JOB_DONE,
	BLKTAP_JOB_FAILED,
	BLKTAP_JOB_CANCELLED
};

struct blktap_job_options {
	size_t size; /* sizeof(struct blktap_job_options) */
	enum blktap_job_kind kind;
	/* The path of an image of the chain, found from the leaf's directory.
	 * NULL: stream: none; commit, coalesce: the one that the leaf stands on.
	 */
	const char *base;
	uint64_t rate; /* bytes of data a second; 0: no limit */
	uint32_t depth; /* chunks under way; 0: 4, at most 64 */
	uint32_t chunk; /* bytes, a power of two; 0: 1 MiB, at most 8 MiB */
	/* coalesce: a file that keeps how far it is, so that the same job, if it
	 * was killed, goes on there; it goes when the job is done. NULL: none. */
	const char *state;
};

/* Fills options with the defaults, size included: as many bytes as the caller's
 * headers have. Since 0.1. */
BLKTAP_API void blktap_job_options_init_sized(
	struct blktap_job_options *options, size_t size);
static inline void blktap_job_options_init(struct blktap_job_options *options)
{
	blktap_job_options_init_sized(options, sizeof(*options));
}

/* Called once: with 0 when all is done, -ECANCELED where it was cancelled or the
 * disk closed, or the negative errno of what failed, which message names. The
 * job may be destroyed inside. */
typedef void blktap_job_fn(void *opaque, int error, const char *message);

/* Starts a job. A disk has one at a time, and no snapshots meanwhile (-EBUSY). fn
 * may be NULL. Since 0.1. */
BLKTAP_API int blktap_job_start(struct blktap_disk *disk,
				const struct blktap_job_options *options,
				blktap_job_fn *fn, void *opaque,
				struct blktap_job **out,
				struct blktap_error **err);

struct blktap_job_info {
	size_t size; /* sizeof(struct blktap_job_info), set by the caller */
	enum blktap_job_kind kind;
	enum blktap_job_state state;
	uint64_t total; /* bytes to look at; the disk's */
	uint64_t done; /* of them; goes back where a client writes */
	uint64_t copied; /* bytes of data written */
	uint64_t rate;
	uint64_t
		pause_ns; /* the longest time that the disk stood still for it */
	int error; /* of a job that has ended */
	uint64_t skipped; /* bytes that were done when it began */
};

/* Fills at most info->size bytes of *info. Since 0.1. */
BLKTAP_API void blktap_job_get_info(const struct blktap_job *job,
				    struct blktap_job_info *info);

/* What has become of it, a sentence, "" while it is at work; the job's. Since
 * 0.1. */
BLKTAP_API const char *blktap_job_get_text(const struct blktap_job *job);

/* "stream", "running": for people and JSON. Since 0.1. */
BLKTAP_API const char *blktap_job_kind_name(enum blktap_job_kind kind);
BLKTAP_API const char *blktap_job_state_name(enum blktap_job_state state);

/* Changes the limit; 0: none. Since 0.1. */
BLKTAP_API void blktap_job_set_rate(struct blktap_job *job, uint64_t rate);

/* Starts nothing more until blktap_job_resume. Since 0.1. */
BLKTAP_API void blktap_job_pause(struct blktap_job *job);
/* Since 0.1. */
BLKTAP_API void blktap_job_resume(struct blktap_job *job);

/* The job ends when what is under way has ended, and the chain is as it was. One
 * that has come to its last step finishes. Since 0.1. */
BLKTAP_API void blktap_job_cancel(struct blktap_job *job);

/* Runs the context until the job has ended; then returns 0 or its error. -1: no
 * limit; -ETIMEDOUT. Not from inside a callback (-EDEADLK). Since 0.1. */
BLKTAP_API int blktap_job_wait(struct blktap_job *job, int timeout_ms);

/* Frees a job that has ended; NULL is fine. -EBUSY before. Since 0.1. */
BLKTAP_API int blktap_job_destroy(struct blktap_job *job);

BLKTAP_END_DECLS

#endif
