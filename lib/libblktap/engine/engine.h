/* SPDX-License-Identifier: BSD-3-Clause */
/* Byte I/O on files: batches in, completions out.
 *
 * A driver embeds a bt_io in its request's frame, fills it, and submits it. The
 * engine collects what is submitted during a turn of the loop, merges neighbours
 * (same file, same operation, adjacent offsets), and hands the batch to the
 * kernel before the loop waits. It continues short reads and writes, repeats
 * EINTR and EAGAIN, and bounces memory that O_DIRECT cannot take; so an io
 * completes whole or with an error. Where a merged transfer fails, its ios are
 * tried again one by one, so that only those fail that the fault concerns. It
 * allocates nothing after creation but bounce buffers, which are kept and
 * bounded.
 *
 * A read that meets the end of the file is completed with zeroes where `eof_ok`
 * is set on the file (an image whose tail block is short), and with -EIO
 * otherwise: old bytes of the buffer are never passed off as data. */
#ifndef BT_ENGINE_ENGINE_H
#define BT_ENGINE_ENGINE_H

#include <blktap/context.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/list.h"
#include "util/move.h"
#include "util/sgl.h"

struct bt_engine;
struct bt_log;
struct bt_loop;

enum bt_io_op {
	BT_IO_READ,
	BT_IO_WRITE,
	BT_IO_SYNC, /* fdatasync */
	BT_IO_PUNCH, /* free the range; it reads as zeroes after */
	BT_IO_ZERO, /* the range reads as zeroes; space stays allocated */
	BT_IO_DISCARD, /* free the range; contents undefined (block devices) */
	BT_IO_OP_COUNT
};

#define BT_IO_FUA 0x1u /* WRITE: durable when it completes (RWF_DSYNC) */
#define BT_IO_MOVE 0x2u /* READ, WRITE: bt_io.move is set; see bt_file_moves */

/* An open file as the engine sees it. The fd stays its owner's, who closes it
 * after bt_file_fini. */
struct bt_file {
	struct bt_engine *engine;
	int fd;
	bool direct; /* O_DIRECT is on: offset, length and memory aligned */
	bool eof_ok;
	uint32_t offset_align; /* 1 where not direct */
	uint32_t memory_align; /* 1 where not direct */
	bool is_block; /* a block device */
	bool in_memory; /* on tmpfs or ramfs */
	bool streams; /* the owner's to set: plain.c */
	int lost; /* what every sync fails with, or 0: transfer.c */
	uint64_t behind_from, behind_to; /* cached, not yet begun with, */
	uint64_t behind_bytes; /* so many of it */
	uint64_t plain_from_ns; /* when plain writes may be tried again */
	uint64_t plain_pause_ns; /* how long they rested last */
	const char *name; /* for log lines; the owner's */
	uint32_t in_flight;
};

/* The caller's, who fills file to done; data and what it names stay valid and as they
 * are until done. It may be submitted again from inside of that. */
struct bt_io {
	struct bt_list link;
	struct bt_file *file;
	enum bt_io_op op;
	uint32_t flags;
	uint64_t offset;
	uint64_t length;
	struct bt_sgl data;
	/* With BT_IO_MOVE: another way for the data. Where it goes that way, `data`
	 * is neither read nor written. */
	struct bt_move *move;
	/* error: 0 or a negative errno. The io is the caller's again. */
	void (*done)(struct bt_io *io, int error);
	/* the engine's own */
	uint64_t progress;
};

/* queue_depth: operations in the kernel at once, 0 for 256, at most 4096; ios
 * beyond wait in the order of their submission. kind AUTO falls back from
 * io_uring to libaio to sync without a word; another kind that is not to be had
 * gives -ENOTSUP and a text. */
int bt_engine_create(struct bt_loop *loop, const struct bt_log *log,
		     enum blktap_engine kind, uint32_t queue_depth,
		     struct bt_engine **out, struct blktap_error **err);
/* No io may be in flight. */
void bt_engine_destroy(struct bt_engine *engine);

/* "io_uring", "libaio", "sync". */
const char *bt_engine_name(const struct bt_engine *engine);

/* Takes an open fd. direct says whether it was opened with O_DIRECT; the
 * alignments are found out (statx, BLKSSZGET, else a probing read). */
int bt_file_init(struct bt_file *file, struct bt_engine *engine, int fd,
		 bool direct, const char *name);
/* Nothing may be in flight. */
void bt_file_fini(struct bt_file *file);
/* Whether an io on it may have BT_IO_MOVE. */
bool bt_file_moves(const struct bt_file *file);

/* io->done comes later, from the loop, never inside this call. An offset or
 * length that is not a multiple of file->offset_align completes with -EINVAL:
 * the core pads requests before they come here. */
void bt_engine_submit(struct bt_io *io);

/* Hands what was submitted to the kernel now, not at the end of the turn. No
 * io->done is called inside. */
void bt_engine_kick(struct bt_engine *engine);

/* Since the engine was made; of what was asked for, and what it took. */
struct bt_engine_stats {
	uint64_t submitted[BT_IO_OP_COUNT];
	uint64_t merged; /* ios that went along in another's system call */
	uint64_t batches; /* submission system calls */
	uint64_t short_transfers;
	uint64_t retries;
	uint64_t bounced;
};

/* The engine's own, and counting. */
const struct bt_engine_stats *bt_engine_get_stats(const struct bt_engine *e);

/* ---- a backend: how bytes get to the kernel -------------------------------
 * One const descriptor a file (engine/uring.c, libaio.c, sync.c); tests give
 * one of their own that fails, shortens and delays. The queue above (queue.c)
 * owns slots, merging, continuation and bouncing; a backend moves one prepared
 * operation per slot. */
#define BT_SLOT_BLOCK 0x80000000u /* in bt_slot.flags: fd is a block device */
#define BT_SLOT_THREAD 0x40000000u /* in a thread of the kernel's */

struct bt_slot {
	struct bt_list link;
	uint32_t index; /* 0 .. queue_depth - 1 */
	enum bt_io_op op;
	uint32_t flags;
	int fd;
	uint64_t offset;
	uint64_t length;
	struct iovec *iov; /* what is left to move: length bytes */
	uint32_t iov_count;
	int64_t result; /* bytes moved or a negative errno; set by the backend */
	struct bt_list ios; /* the ios it carries, by offset */
	void *bounce;
};

/* A backend's account of what it handed over. */
struct bt_pace {
	uint32_t in_kernel;
	uint32_t reap_limit; /* completions to deliver before what they submit
			      * goes out */
	bool has_device; /* most of the last batch was not done at once */
};

struct bt_backend {
	const char *name;
	/* The state goes to *state; -ENOSYS, -EPERM and the like where the
	 * kernel does not offer it. completed(opaque, slot) is called for each
	 * slot that is done. */
	int (*init)(struct bt_loop *loop, uint32_t queue_depth,
		    void (*completed)(void *opaque, struct bt_slot *slot),
		    void *opaque, void **state);
	void (*fini)(void *state);
	/* Takes as many as it can in one system call; returns how many, in
	 * order, or a negative errno where it could take none: -EAGAIN, -EINTR,
	 * -EBUSY and -ENOMEM mean later, another is the first slot's result.
	 * May call completed at once; no io->done is called inside. */
	int (*submit)(void *state, struct bt_slot **slots, uint32_t count);
	/* Reaps of what is ready, without blocking; true where there was any. */
	bool (*reap)(void *state);
	/* What is under way; NULL where submit does all there is to do. */
	const struct bt_pace *(*pace)(const void *state);
	/* The queue itself does what a plain call does best: see plain.c. */
	bool takes_no_plain;
};

/* As bt_engine_create, on a backend of the caller's. */
int bt_engine_create_backend(struct bt_loop *loop, const struct bt_log *log,
			     const struct bt_backend *backend,
			     uint32_t queue_depth, struct bt_engine **out,
			     struct blktap_error **err);

#endif
