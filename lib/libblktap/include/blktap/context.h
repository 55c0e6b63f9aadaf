/* SPDX-License-Identifier: BSD-3-Clause */
/* The context: owner of everything the library keeps.
 *
 * A context belongs to one thread at a time; several contexts on several
 * threads do not know of each other. Only blktap_context_wake may be called
 * from another thread. Work happens inside blktap_context_process or
 * blktap_context_run, and in the calls that say that they wait; callbacks come from
 * there, except where a function says that it may complete before it returns. A
 * disk's events may come from any call that is about the disk.
 *
 * A callback may call whatever is about its disk or another one, but for what waits:
 * that is refused with -EDEADLK.
 *
 * All descriptors are close-on-exec. The child of a fork shares them, and the kernel's
 * queues behind them, with its parent: it must leave the context alone, and not
 * destroy it either. */
#ifndef BLKTAP_CONTEXT_H
#define BLKTAP_CONTEXT_H

#include <blktap/error.h>

BLKTAP_BEGIN_DECLS

struct blktap_context;

enum blktap_engine {
	BLKTAP_ENGINE_AUTO, /* io_uring, else libaio, else sync */
	BLKTAP_ENGINE_IO_URING,
	BLKTAP_ENGINE_LIBAIO,
	BLKTAP_ENGINE_SYNC
};

enum blktap_log_level {
	BLKTAP_LOG_ERROR,
	BLKTAP_LOG_WARNING,
	BLKTAP_LOG_INFO,
	BLKTAP_LOG_DEBUG
};

struct blktap_context_options {
	size_t size; /* sizeof(struct blktap_context_options) */
	enum blktap_engine engine;
	uint32_t queue_depth; /* operations in the kernel at once; 0: 256 */
	/* Microseconds, at most 1000, for which blktap_context_run looks for a
	 * client's next request before it sleeps; 0: not at all. It adapts: less
	 * where looking does not help. */
	uint32_t poll_us;
};

/* One line of log without a newline; text lives for the call only. It may come from
 * inside of any call, and so must not call the library. */
typedef void blktap_log_fn(void *opaque, enum blktap_log_level level,
			   const char *text);
/* Called once with what was given beside it, when the library is done with that. */
typedef void blktap_free_fn(void *opaque);

/* Creates a context. options may be NULL. An engine asked for by name that is
 * not to be had is -ENOTSUP; BLKTAP_ENGINE_AUTO falls back without a word.
 * Returns 0 or a negative errno. Since 0.1. */
BLKTAP_API int blktap_context_create(
	const struct blktap_context_options *options,
	struct blktap_context **out, struct blktap_error **err);

/* Closes every disk and server that is left, waiting as blktap_disk_close does, and
 * frees the context; NULL is fine. What a disk's last flush fails with is not told:
 * who wants to know closes the disk himself. From inside a callback it does nothing
 * but log that. Where a disk cannot be closed, since somebody has closed the context's
 * descriptors, the context stays, and that is logged. Since 0.1. */
BLKTAP_API void blktap_context_destroy(struct blktap_context *context);

/* The engine in use: "io_uring", "libaio" or "sync"; static text. Since 0.1. */
BLKTAP_API const char *blktap_context_get_engine(
	const struct blktap_context *context);

/* Sends log lines up to level to fn, or to nobody where fn is NULL. free, which
 * may be NULL, is called exactly once with opaque: when another callback takes
 * its place or the context ends. Since 0.1. */
BLKTAP_API void blktap_context_set_log(struct blktap_context *context,
				       enum blktap_log_level level,
				       blktap_log_fn *fn, void *opaque,
				       blktap_free_fn *free);

/* A descriptor that is readable (POLLIN) when the context has work: for the
 * caller's own poll, epoll or event library. It stays the context's. Since 0.1.
 */
BLKTAP_API int blktap_context_get_fd(const struct blktap_context *context);

/* Milliseconds until blktap_context_process should be called even where the
 * descriptor is silent: 0 at once, -1 never. Ask anew before each poll, and after the
 * last call about the context or a disk of it, as that may have made work.
 * Since 0.1. */
BLKTAP_API int blktap_context_get_timeout(struct blktap_context *context);

/* Does all work that is ready and returns without blocking: 0 or a negative
 * errno. Not from inside a callback (-EDEADLK). Since 0.1. */
BLKTAP_API int blktap_context_process(struct blktap_context *context);

/* Waits for work at most timeout_ms (-1: for ever) and does it, once. Returns 0
 * or a negative errno. A signal ends the wait, and so may the end of an
 * operation: look at what you wait for, and call again. Not from inside a
 * callback (-EDEADLK). Since 0.1. */
BLKTAP_API int blktap_context_run(struct blktap_context *context,
				  int timeout_ms);

/* Makes a blktap_context_run that waits return. Any thread, and
 * async-signal-safe. Since 0.1. */
BLKTAP_API void blktap_context_wake(struct blktap_context *context);

BLKTAP_END_DECLS

#endif
