/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared by the files of the room; its door is engine.h. */
#ifndef BT_ENGINE_PRIVATE_H
#define BT_ENGINE_PRIVATE_H

#include "engine/engine.h"
#include "loop/loop.h"

/* Entries of a slot's vector, and bytes up to which neighbours are merged. */
#define BT_SLOT_IOV 64
#define BT_MERGE_BYTES (1u << 20)
/* Of a file that streams: reads that are worth a thread, and no merging beyond. */
#define BT_STREAM_BYTES 131072u
/* One pass of a large io; the kernel moves less than 2 GiB a call. */
#define BT_PASS_BYTES (1u << 30)

#define BT_BOUNCE_BYTES (256u << 10)
#define BT_BOUNCE_MAX 64

#define BT_REAP_MAX 32

struct bt_engine_slot {
	struct bt_slot pub;
	struct bt_file *file;
	uint32_t attempts; /* without progress */
	int doubt; /* an error that may be another write's; it is tried again */
	bool closed; /* nothing may be merged; a pass need not be the whole */
	struct iovec iov[BT_SLOT_IOV];
};

/* Aligned buffers, made when first needed and kept. */
struct bt_bounce_pool {
	void *free[BT_BOUNCE_MAX];
	uint32_t free_count;
	uint32_t made;
};

struct bt_engine {
	struct bt_loop *loop;
	const struct bt_log *log;
	const struct bt_backend *backend;
	void *state;
	struct bt_idle idle;
	struct bt_timer retry;
	struct bt_engine_stats stats;

	/* Where an io is: */
	struct bt_list refused; /* ended before a slot; progress is the error */
	struct bt_list moving; /* for their movers (move.c); never in a slot */
	struct bt_list moved; /* by them, whole */
	struct bt_list alone; /* of a merged slot that failed, before pending */
	struct bt_list pending; /* in the order of submission */
	uint32_t pending_runs; /* of neighbours, each one transfer */

	/* Where a slot is, but for those in the kernel: */
	struct bt_engine_slot *slots;
	uint32_t depth;
	struct bt_list free; /* last in, first out: few stay warm */
	struct bt_slot **ready; /* for the next submission, in order */
	uint32_t ready_count;
	struct bt_list streaming; /* writes of a copy, one a turn (plain.c) */
	struct bt_list delayed; /* until the retry timer */
	struct bt_list finished; /* completed inside a submission */

	bool submitting; /* the backend's submit is on the stack */
	struct bt_bounce_pool bounces;
};

/* queue.c: ios to slots to the kernel. */
void bt_queue_make_ready(struct bt_engine *engine, struct bt_engine_slot *slot);
void bt_queue_free_slot(struct bt_engine *engine, struct bt_engine_slot *slot);
void bt_queue_drop_bounce(struct bt_engine *engine,
			  struct bt_engine_slot *slot);
void bt_queue_retry_soon(struct bt_engine *engine);
bool bt_queue_flush(struct bt_engine *engine);
/* Slots and ios that ended where they could not be completed at once. */
bool bt_queue_deliver(struct bt_engine *engine);

/* After a system call that took so many, of which done_inside were done when it
 * returned. */
void bt_pace_took(struct bt_pace *pace, uint32_t taken, uint32_t done_inside);

/* transfer.c: what to move next, and what became of it. Sets up a pass over
 * the slot's ios from their progress; false where there is no bounce buffer. */
bool bt_transfer_prepare(struct bt_engine *engine, struct bt_engine_slot *slot);
void bt_transfer_complete(struct bt_engine *engine, struct bt_io *io,
			  int error);
void bt_transfer_finish(struct bt_engine *engine, struct bt_engine_slot *slot);

/* plain.c: does the ready slots that need no asynchrony, and takes them from
 * the list; true where there were any. What streams is put on a list of its own,
 * from which bt_plain_stream does one. */
bool bt_plain_perform(struct bt_engine *engine);
bool bt_plain_stream(struct bt_engine *engine);

/* move.c: true where there was anything. What is not moved is pending then. */
void bt_move_add(struct bt_engine *engine, struct bt_io *io);
bool bt_move_run(struct bt_engine *engine);

/* queue.c: ends it later, from the hook. */
void bt_queue_refuse(struct bt_engine *engine, struct bt_io *io, int error);

/* bounce.c. NULL where all are in use, or there is no memory. */
void *bt_bounce_get(struct bt_bounce_pool *pool);
void bt_bounce_put(struct bt_bounce_pool *pool, void *buffer);
bool bt_bounce_is_idle(const struct bt_bounce_pool *pool);
void bt_bounce_fini(struct bt_bounce_pool *pool);

/* sync.c: does the slot's operation now; bytes moved or a negative errno. */
int64_t bt_sync_perform(const struct bt_slot *slot);
/* The mode for fallocate(2) of a slot that is PUNCH, ZERO or DISCARD. */
int bt_sync_fallocate_mode(const struct bt_slot *slot);

extern const struct bt_backend bt_backend_uring;
extern const struct bt_backend bt_backend_libaio;
extern const struct bt_backend bt_backend_sync;

#endif
