/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks: open one, submit requests, watch it, pause it.
 *
 * A disk is named by a spec: `type:path` (`raw:/img/a.raw`, `ram:64M`) or a
 * description `class(arguments)` (`raw("/img/a.raw", ro=true)`), see
 * blktap_class_next. Offsets and lengths are bytes. */
#ifndef BLKTAP_DISK_H
#define BLKTAP_DISK_H

#include <blktap/context.h>

BLKTAP_BEGIN_DECLS

struct blktap_disk;

enum blktap_op {
	BLKTAP_OP_READ,
	BLKTAP_OP_WRITE,
	BLKTAP_OP_FLUSH, /* all writes completed before are durable */
	BLKTAP_OP_DISCARD, /* contents become undefined */
	BLKTAP_OP_WRITE_ZEROES,
	BLKTAP_OP_BLOCK_STATUS, /* fills extents */
	BLKTAP_OP_PREFETCH, /* a hint; reads into a cache where there is one */
	BLKTAP_OP_COUNT /* of these headers; the library may know more */
};

/* Room for operations to come, in structs that both sides have. Never changes. */
#define BLKTAP_OP_MAX 16

/* Flags of one request. */
#define BLKTAP_FUA 0x1u /* durable when it completes */
#define BLKTAP_MAY_UNMAP 0x2u /* WRITE_ZEROES may leave a hole */
#define BLKTAP_FAST_ONLY 0x4u /* WRITE_ZEROES: -ENOTSUP rather than slow */

/* Flags of an extent. */
#define BLKTAP_EXTENT_HOLE 0x1u /* no space is taken */
#define BLKTAP_EXTENT_ZERO 0x2u /* reads as zeroes */

struct blktap_extent {
	uint64_t length;
	uint32_t flags;
	uint32_t depth; /* 0: the image itself, 1: its parent, ... */
};

#define BLKTAP_OPEN_READ_ONLY 0x1u
/* Opens in spite of another's lock on the image: two writers destroy it. */
#define BLKTAP_OPEN_FORCE 0x2u
/* Through the page cache, even where O_DIRECT would do. */
#define BLKTAP_OPEN_BUFFERED 0x4u
/* With BUFFERED, for whoever copies all of it and has nobody else to serve: large
 * reads go on beside the writes, writes are calls that may block, and the device
 * begins with what is written before a flush asks for it. */
#define BLKTAP_OPEN_STREAM 0x8u

enum blktap_error_policy {
	BLKTAP_POLICY_REPORT, /* the request fails */
	BLKTAP_POLICY_RETRY /* retried until it succeeds or its deadline */
};

struct blktap_disk_options {
	size_t size; /* sizeof(struct blktap_disk_options) */
	uint32_t flags; /* BLKTAP_OPEN_* */
	uint32_t queue_depth; /* requests of blktap_disk_submit; 0: 128 */
	uint32_t deadline_ms; /* for a request to be reported late or a retry
			       * to end; 0: 120000 */
	enum blktap_error_policy on_io_error; /* EIO */
	enum blktap_error_policy on_no_space; /* ENOSPC, EDQUOT */
	const char *name; /* in logs, events and statistics; NULL: the spec */
	uint32_t busy_ms; /* so long is an image waited for that another
			   * program has open (EBUSY), turning the loop; one
			   * that was killed has it until its last I/O ends */
};

/* Fills options with the defaults, size included: as many bytes as the caller's
 * headers have. Since 0.1. */
BLKTAP_API void blktap_disk_options_init_sized(
	struct blktap_disk_options *options, size_t size);
static inline void blktap_disk_options_init(struct blktap_disk_options *options)
{
	blktap_disk_options_init_sized(options, sizeof(*options));
}

/* Opens the disk that spec names. options may be NULL. Returns 0 or a negative
 * errno, and blocks no longer than the opening of its files does, or as long as
 * busy_ms says; from inside a callback it does not wait for that. The disk belongs
 * to context. Since 0.1. */
BLKTAP_API int blktap_disk_open(struct blktap_context *context,
				const char *spec,
				const struct blktap_disk_options *options,
				struct blktap_disk **out,
				struct blktap_error **err);

/* Waits for the requests in flight, flushes, and frees the disk; NULL is fine.
 * Returns 0, or the negative errno of the flush: then data acknowledged but
 * never flushed may be lost. Callbacks run meanwhile. The disk stays while
 * a server has it (-EBUSY), and from inside a callback (-EDEADLK). Since 0.1. */
BLKTAP_API int blktap_disk_close(struct blktap_disk *disk);

struct blktap_disk_info {
	size_t size; /* sizeof(struct blktap_disk_info), set by the caller */
	uint64_t length; /* bytes */
	uint32_t block_size; /* smaller requests cost a read and a write */
	uint32_t preferred_block_size;
	uint64_t max_transfer; /* larger requests are split */
	uint64_t discard_granularity;
	uint32_t operations; /* 1u << enum blktap_op */
	bool read_only;
	bool paused;
	bool native_fua; /* FUA costs less than a flush */
};

/* Fills at most info->size bytes of *info. Since 0.1. */
BLKTAP_API void blktap_disk_get_info(const struct blktap_disk *disk,
				     struct blktap_disk_info *info);

/* The spec and the name the disk was opened with; owned by disk. A resume or
 * replace with another one, and a job that commits, give it another spec, and the
 * old text is gone then. Since 0.1. */
BLKTAP_API const char *blktap_disk_get_spec(const struct blktap_disk *disk);
BLKTAP_API const char *blktap_disk_get_name(const struct blktap_disk *disk);

/* Whether the disk has the file at path open, by whatever name and however deep
 * below it, and in *writes whether to write to it. Since 0.1. */
BLKTAP_API bool blktap_disk_stands_on(const struct blktap_disk *disk,
				      const char *path, bool *writes);

/* error is 0 or a negative errno, and final. The request's place is free again: its
 * callback may submit the next one. */
typedef void blktap_io_fn(void *opaque, int error);

struct blktap_io {
	size_t size; /* sizeof(struct blktap_io) */
	enum blktap_op op;
	uint32_t flags;
	uint64_t offset;
	uint64_t length;
	const struct iovec *iov; /* READ, WRITE: length bytes at least */
	uint32_t iov_count;
	struct blktap_extent *extents; /* BLOCK_STATUS: room for the answer */
	uint32_t extent_max;
	uint32_t *extent_count; /* BLOCK_STATUS: entries filled */
	blktap_io_fn *callback; /* NULL: reported by blktap_disk_poll */
	void *opaque;
};

/* Submits one request. *io is copied; iov, the memory it names and extents stay
 * valid and untouched until completion. Completion comes exactly once, never
 * inside this call. Returns 0, or a negative errno and then no completion
 * comes: -EAGAIN queue_depth requests are under way, -EINVAL a malformed
 * request (of no bytes, or of more than iov holds, ...) or one past the end
 * (-ENOSPC for a write), -EPERM a write to a
 * read-only disk, -ENOTSUP an operation the disk does not have, -ESHUTDOWN where
 * the disk is being closed. Since 0.1. */
BLKTAP_API int blktap_disk_submit(struct blktap_disk *disk,
				  const struct blktap_io *io);

struct blktap_io_result {
	void *opaque;
	int error;
};

/* Takes up to max completions of requests that had no callback, in the order in
 * which they completed; returns how many. Does no work: see
 * blktap_context_process. Since 0.1. */
BLKTAP_API uint32_t blktap_disk_poll(struct blktap_disk *disk,
				     struct blktap_io_result *results,
				     uint32_t max);

/* Called once with 0 when the disk is paused, or with a negative errno when it
 * is running as before: -ETIMEDOUT names in message the node that did not
 * finish its requests. message is "" on success and lives for the call. */
typedef void blktap_pause_fn(void *opaque, int error, const char *message);

/* Holds new requests, waits until those under way have finished, flushes, and
 * closes the image's files, so that other programs may change them. Requests
 * submitted meanwhile wait. timeout_ms 0: no limit. Any other answer than 0 says
 * that fn is not called: -EALREADY where it is pausing or paused, -EBUSY while its
 * graph is being changed, -ESHUTDOWN at the end of a close. Since 0.1. */
BLKTAP_API int blktap_disk_pause(struct blktap_disk *disk, uint32_t timeout_ms,
				 blktap_pause_fn *fn, void *opaque);

/* Opens the image again, the one that spec names where it is not NULL, and lets
 * the held requests go on. On failure the disk stays paused. A size smaller
 * than before is refused. -EINVAL where it is not paused, -ESHUTDOWN where it is
 * being closed. Since 0.1. */
BLKTAP_API int blktap_disk_resume(struct blktap_disk *disk, const char *spec,
				  struct blktap_error **err);

/* Swings the disk to the image that spec names, all or nothing: holds new
 * requests, waits for those under way, flushes and closes the image, opens spec,
 * and goes on. Where spec cannot be opened the old image is opened again. fn is
 * called once, with 0 or with why the disk is on its old image still; only where
 * that could not be opened either the disk is paused after. A size smaller than
 * before is refused. Answers as blktap_disk_pause, or -ENOMEM. Since 0.1. */
BLKTAP_API int blktap_disk_replace(struct blktap_disk *disk, const char *spec,
				   uint32_t timeout_ms, blktap_pause_fn *fn,
				   void *opaque);

/* Takes a snapshot of a running qcow2, qcow or vhd disk. The image's file gets a
 * further name (name, found from its directory; NULL: FILE.snapN), an empty child
 * of that takes the file's place, and the disk is swung to it as by
 * blktap_disk_replace. All or nothing; a crash at any point leaves FILE naming an
 * image with all flushed data. *path, where path is not NULL, is the snapshot's
 * file, for the caller to free. The pause is last_pause_ns of the statistics.
 * Where a callback pauses the disk meanwhile, the snapshot is taken all the same, and
 * the disk may be paused when this returns. Waits; not from inside a callback
 * (-EDEADLK). Since 0.1. */
BLKTAP_API int blktap_disk_snapshot(struct blktap_disk *disk, const char *name,
				    uint32_t timeout_ms, char **path,
				    struct blktap_error **err);

/* Makes a running disk larger: it is paused, its image is resized as by
 * blktap_image_resize, and it is resumed; its clients are told. Where that fails
 * it goes on with the size it had. Waits; not from inside a callback (-EDEADLK).
 * Since 0.1. */
BLKTAP_API int blktap_disk_resize(struct blktap_disk *disk, uint64_t length,
				  uint32_t timeout_ms,
				  struct blktap_error **err);

/* Counters since the disk was opened. */
struct blktap_disk_stats {
	size_t size; /* sizeof(struct blktap_disk_stats), set by the caller */
	/* by enum blktap_op */
	uint64_t completed[BLKTAP_OP_MAX];
	uint64_t bytes[BLKTAP_OP_MAX];
	uint64_t errors[BLKTAP_OP_MAX];
	uint64_t outstanding;
	uint64_t retries;
	uint64_t late; /* requests that passed their deadline */
	uint64_t last_pause_ns; /* from the hold to the release */
	/* latency_log2_ns[op][n]: completed in less than 2^n ns */
	uint64_t latency_log2_ns[BLKTAP_OP_MAX][40];
};

/* Fills at most stats->size bytes of *stats. Since 0.1. */
BLKTAP_API void blktap_disk_get_stats(const struct blktap_disk *disk,
				      struct blktap_disk_stats *stats);

/* The statistics of the disk and of every node of its graph as a JSON object,
 * one line; the caller frees it. NULL where memory is short. legacy: the keys
 * that `tap-ctl stats` has always had, and no others. Since 0.1. */
BLKTAP_API char *blktap_disk_get_stats_json(const struct blktap_disk *disk,
					    bool legacy);

enum blktap_event_type {
	BLKTAP_EVENT_REQUEST_LATE, /* text names the node that has it */
	BLKTAP_EVENT_ERROR, /* a request failed for good */
	BLKTAP_EVENT_PARKED, /* requests wait, e.g. for space */
	BLKTAP_EVENT_UNPARKED,
	BLKTAP_EVENT_PAUSED,
	BLKTAP_EVENT_RESUMED,
	BLKTAP_EVENT_RESIZED,
	BLKTAP_EVENT_CHANGED /* other images or nodes, by a snapshot, a job or a
			      * change of its graph: text says how */
};

struct blktap_event {
	size_t size;
	enum blktap_event_type type;
	int error; /* 0 or a negative errno */
	uint64_t offset;
	uint64_t length;
	const char *node; /* "" where none is meant */
	const char *text;
};

/* event and what it points to live for the call only. It may come from inside of any
 * call about the disk, also of a submission. That of an error comes before the request's
 * completion. */
typedef void blktap_event_fn(void *opaque, struct blktap_disk *disk,
			     const struct blktap_event *event);

/* Reports events of the disk to fn (NULL: to nobody). free as in
 * blktap_context_set_log. Since 0.1. */
BLKTAP_API void blktap_disk_set_event(struct blktap_disk *disk,
				      blktap_event_fn *fn, void *opaque,
				      blktap_free_fn *free);

BLKTAP_END_DECLS

#endif
