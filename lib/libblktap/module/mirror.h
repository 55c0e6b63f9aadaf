/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of a mirror; only its own files include it.
 *
 * The disk is cut in regions. Each has a 16-bit word: bit n is set where leg n does
 * not hold the data of the region (dirty), bit 15 where a write may have reached
 * some legs and not others (intent). A leg is in sync where none of its bits is set;
 * a region is read from legs that are clean in it, and from no other. So there is
 * no state of a leg beside its bits, but "failed": it gets nothing until a copy to
 * it worked.
 *
 * With a log, the words are kept in it. A bit that is set is durable before what it
 * tells of can happen (intent: before the write goes down; dirty: before a write
 * that the leg has missed is acknowledged); a bit is cleared in memory when it is
 * no longer true on stable storage, and in the log some time later. So the log never
 * claims more than is true. At the next opening, intent means that the first clean
 * leg is believed and all others are dirty in that region.
 *
 * The log has no say over what happens while it is not there. So a last flush puts
 * into it what each leg's file was then (a stamp), and an opening takes that out. Where
 * a leg's file is another one at the next opening, somebody may have written to it, or
 * put another in its place: the mirror warns, and goes by its log all the same, since
 * it cannot know which leg has the data. After a crash nothing of that is noticed, and
 * where the node went on behind a last flush, a crash makes it warn for nothing. */
#ifndef BT_MODULE_MIRROR_H
#define BT_MODULE_MIRROR_H

#include "module/header.h"
#include "module/table.h"
#include "util/bytes.h"

#define BT_MIRROR_LEGS 15u
#define BT_MIRROR_INTENT 0x8000u
#define BT_MIRROR_NAME 48u
#define BT_MIRROR_LANES 4u
#define BT_MIRROR_BATCH 64u
#define BT_MIRROR_CHUNK (256u << 10)

/* Beside a region's word, in memory alone. */
#define BT_MIRROR_SURE 0x1u /* the word's intent is durable */
#define BT_MIRROR_OLD 0x2u /* nothing was written since the sweep began */

struct bt_mirror;

/* A request that goes to all legs, and what came back. */
struct bt_mirror_fan {
	struct bt_mirror *mirror;
	void (*fn)(struct bt_mirror_fan *fan);
	/* children that are out, and one while they are being sent; fn is
	 * called when it is 0, and may use the fan anew */
	uint32_t pending;
	uint32_t ok; /* 1u << index of the leg */
	/* ok and failed together are the legs it was sent to; neither has a leg
	 * that was left out */
	uint32_t failed;
	int error; /* the first */
	struct bt_node *node; /* where it came from */
};

struct bt_mirror_child {
	struct bt_request req;
	struct bt_mirror_fan *fan;
	uint32_t leg;
	uint64_t zero_to; /* 0, or it is written zeroes up to there */
};

struct bt_mirror_frame {
	struct bt_mirror_fan fan;
	/* exclusive, until the write has ended */
	struct bt_range range; /* WRITE and its like */
	/* one commit at a time: before the write goes down, and again where a
	 * leg failed, before it is answered */
	struct bt_table_wait wait;
	struct bt_request *req;
	uint64_t epoch; /* of the mirror, when the words were durable */
	uint64_t losses; /* READ: the leg's; FLUSH: the mirror's */
	/* what the request ends with when the log is durable */
	int result;
	/* READ and questions: piece by piece, from one leg at a time */
	uint64_t offset, length;
	struct bt_sgl data;
	uint64_t at; /* bytes that are read */
	uint32_t tried; /* legs that failed with the piece */
	uint32_t leg;
	uint64_t started_ns;
};

struct bt_mirror_leg {
	struct bt_port *port;
	uint32_t bit; /* in the words */
	/* no write and no flush goes to it, and a read only where no other leg
	 * is clean; so whatever is written makes it dirty */
	bool failed;
	bool fresh; /* never was in sync */
	uint64_t dirty; /* regions */
	uint64_t latency_ns; /* of reads, smoothed */
	/* reads that it has, the copy's among them */
	uint32_t reading;
	uint64_t retry_at_ns; /* no copy to it before; it failed one */
	uint64_t backoff_ns; /* 0: its last batch was copied */
	uint64_t losses; /* of bt_port_losses, as last looked at */
};

/* Which leg a bit belongs to; those that are not linked keep theirs. */
struct bt_mirror_record {
	char name[BT_MIRROR_NAME]; /* "": free */
	/* a hash of the class and the path of the leaf below the leg */
	uint64_t identity;
	uint64_t stamp; /* bt_port_stamp when it was left; or one of these: */
};

#define BT_MIRROR_UNKNOWN 0u
#define BT_MIRROR_RUNNING 1u /* it was not left, or not as it should be */

struct bt_mirror_lane {
	struct bt_mirror *mirror;
	/* held until the region is copied; its owner is the mirror, by which
	 * the sweep tells it from a write's */
	struct bt_range range; /* the region, exclusive */
	struct bt_request *req; /* NULL: idle */
	unsigned char *buffer;
	struct iovec iov;
	uint64_t region;
	/* what is copied lies before `at` */
	uint64_t at, end; /* bytes of the disk */
	uint64_t length; /* of the chunk */
	uint32_t source;
	bool busy;
};

/* Copies to one leg at a time, a batch of regions between two flushes. */
struct bt_mirror_sync {
	struct bt_mirror_lane lanes[BT_MIRROR_LANES];
	struct bt_pool *pool;
	struct bt_timer timer; /* the rate, or the next try */
	struct bt_work work;
	/* their bits stand until the flush behind them has succeeded */
	uint64_t batch[BT_MIRROR_BATCH]; /* regions that were copied */
	uint32_t batch_count;
	uint32_t picked; /* regions taken for the batch */
	uint32_t target; /* leg */
	uint64_t cursor; /* region to look at next */
	uint64_t free_at_ns; /* when the rate allows more */
	/* a target is chosen, and stays until end_batch */
	bool active; /* a batch is under way */
	bool spoiled; /* the target failed meanwhile: nothing is cleared */
	bool flushing;
};

struct bt_mirror {
	struct bt_node *node;
	struct bt_mirror_leg legs[BT_MIRROR_LEGS];
	uint32_t leg_count;
	/* by bit; a leg that is not linked keeps its record, and so its place,
	 * until a new leg finds no free one */
	struct bt_mirror_record records[BT_MIRROR_LEGS];
	/* set in the word of whatever is written: those legs miss it */
	uint32_t absent; /* bits of legs that are not linked */
	struct bt_port *log; /* NULL: nothing is kept */
	struct bt_header header;
	struct bt_header_writer writer;
	struct bt_table table;
	/* 2 bytes a region, little-endian, as they lie in the table */
	unsigned char *words; /* the table's, or our own */
	unsigned char *flags; /* BT_MIRROR_SURE, _OLD */
	uint64_t regions;
	uint64_t region_size;
	uint64_t size;
	uint64_t epoch; /* goes on when a leg fails */
	uint64_t losses; /* the env's, as last looked at, */
	uint64_t told; /* and as far as the log has what came of them */
	/* Where a request is: a write in this lock, then in a commit of the
	 * table by frame->wait, then on starved until there are children for
	 * all legs, then with them. A read is at one leg at a time. A LAST
	 * flush is on lasts, then as a write that has its lock. */
	struct bt_rangelock lock;
	struct bt_pool *pool;
	/* children for DEPTH requests to all legs; a request takes all of its
	 * children at once, so two never hold half of what they need */
	uint32_t pool_size;
	struct bt_list starved; /* frames that wait for children */
	struct bt_mirror_sync sync;
	/* the sweep: intents whose writes are flushed are cleared */
	struct bt_mirror_fan sweep;
	/* its own, so that a sweep is never behind writes that wait for it */
	struct bt_pool *sweep_pool;
	struct bt_timer sweep_timer;
	bool sweeping;
	bool intents; /* some may be set */
	struct bt_table_wait tidy; /* a commit that nobody waits for */
	bool tidying;
	/* It may be about to go: from a LAST flush to the next write it begins
	 * nothing of its own, since another node may have its legs and log. */
	bool resting;
	struct bt_list lasts; /* such flushes, until its own work is done */
	/* arguments */
	enum { BT_MIRROR_FIRST, BT_MIRROR_FASTEST, BT_MIRROR_SPREAD } read;
	bool background;
	bool copies; /* a copy: the legs are never the same to begin with */
	uint64_t source; /* the leg that has the data of a new mirror */
	uint64_t rate;
	uint32_t turn; /* of reads, to look at slow legs now and then */
	bool read_only;
};

/* ---- mirror.c: what copy.c shares ------------------------------------------- */

/* Nothing of its own is under way. */
bool bt_mirror_is_quiet(const struct bt_mirror *m);

/* All edges are legs, but that of a store, the last, which is the log. */
int bt_mirror_open(struct bt_node *node, const struct bt_args *args,
		   uint32_t flags, uint64_t source, struct blktap_error **err);
void bt_mirror_close(struct bt_node *node);
void bt_mirror_limits(struct bt_node *node, struct bt_limits *limits);
uint64_t bt_mirror_memory(const struct bt_args *args, uint64_t size,
			  uint32_t edges);
int bt_mirror_check_args(const struct bt_args *args, struct blktap_error **err);

/* ---- mirror-map.c ---------------------------------------------------------- */

static inline uint32_t bt_mirror_word(const struct bt_mirror *m,
				      uint64_t region)
{
	return bt_load_le16(m->words + 2 * region);
}

/* Legs (1u << index) that are clean in the region. */
uint32_t bt_mirror_clean(const struct bt_mirror *m, uint64_t region);
void bt_mirror_set_dirty(struct bt_mirror *m, uint32_t leg, uint64_t region);
void bt_mirror_clear_dirty(struct bt_mirror *m, uint32_t leg, uint64_t region);
/* A write of the range begins: intent, and dirty for those who miss it. True where
 * the log has to be committed first. */
bool bt_mirror_begin_write(struct bt_mirror *m, uint64_t offset,
			   uint64_t length);
/* The words of the range are durable as of the epoch. */
void bt_mirror_set_sure(struct bt_mirror *m, uint64_t offset, uint64_t length);
void bt_mirror_end_write(struct bt_mirror *m, uint64_t offset, uint64_t length);
/* Commits in the background what has changed. */
void bt_mirror_tidy(struct bt_mirror *m);
/* A leg failed what others did, in the range (length 0: since the last sweep). 0, or
 * the error where the data is good on no other leg. */
int bt_mirror_leg_failed(struct bt_mirror *m, uint32_t leg, uint32_t ok,
			 uint64_t offset, uint64_t length, int error);
/* Whether a leg lost what it had not flushed: it is dirty in that then. */
void bt_mirror_look(struct bt_mirror *m);
void bt_mirror_start_sweep(struct bt_mirror *m);
void bt_mirror_sweep_fired(struct bt_timer *timer);
/* Intents that no write stands behind are cleared, all (LAST) or the OLD ones. */
void bt_mirror_clear_intents(struct bt_mirror *m, bool all);

/* ---- mirror-log.c ---------------------------------------------------------- */

/* Makes the words: from the log, or for legs that are trusted or not. */
int bt_mirror_open_words(struct bt_mirror *m, const struct bt_args *args,
			 struct blktap_error **err);
void bt_mirror_close_words(struct bt_mirror *m);
/* Puts what the legs' files are into the header that is written next, or that they are
 * in use. */
void bt_mirror_stamp(struct bt_mirror *m, bool stamped);

/* ---- mirror-io.c ----------------------------------------------------------- */

void bt_mirror_submit(struct bt_node *node, struct bt_request *req);
void bt_mirror_complete(struct bt_node *node, struct bt_port *port,
			struct bt_request *req);
/* Its own work may be done: sends the flushes that wait for that. */
void bt_mirror_rested(struct bt_mirror *m);
/* Sends a FLUSH to every leg that has not failed. */
void bt_mirror_fan_flush(struct bt_mirror_fan *fan, struct bt_pool *pool,
			 uint32_t flags);

/* ---- mirror-sync.c --------------------------------------------------------- */

/* Where it fails the fini is harmless, and right. */
int bt_mirror_sync_init(struct bt_mirror *m);
/* Nothing is under way. */
void bt_mirror_sync_fini(struct bt_mirror *m);
/* Something is dirty, or an argument has changed. */
void bt_mirror_sync_kick(struct bt_mirror *m);
/* The class's start. */
void bt_mirror_start(struct bt_node *node);
/* Begins nothing any more; and does again. */
void bt_mirror_rest(struct bt_mirror *m);
void bt_mirror_wake(struct bt_mirror *m);
/* The leg failed with something: what was copied to it counts no longer. */
void bt_mirror_sync_spoil(struct bt_mirror *m, uint32_t leg);

#endif
