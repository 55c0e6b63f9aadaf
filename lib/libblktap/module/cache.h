/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of a cache; only the cache*.c files include it. */
#ifndef BT_MODULE_CACHE_H
#define BT_MODULE_CACHE_H

#include "module/buffers.h"
#include "module/header.h"
#include "module/table.h"
#include "module/task.h"
#include "request/rangelock.h"

#define BT_CACHE_SLOT (64u << 10) /* bytes of the disk that share an entry */
#define BT_CACHE_BLOCK 4096u /* bytes that are in the store or not */
#define BT_CACHE_ENTRY 12u /* bytes in the table; 42 fill a sector */
#define BT_CACHE_PER_BLOCK (BT_TABLE_BYTES / BT_CACHE_ENTRY)
/* Sizes of the pools. Pieces: a request takes one for each chunk, and one for
 * each run of blocks that go the same way; where there is none it waits.
 * Buffers of a slot each are for blocks that are read in; where there is none,
 * a read passes by the cache. RUNS are the transfers of all jobs together. */
#define BT_CACHE_PIECES 64u
#define BT_CACHE_BUFFERS 16u
#define BT_CACHE_JOBS 4u
#define BT_CACHE_RUNS (BT_CACHE_JOBS * 8u) /* every other block is dirty */
#define BT_CACHE_STREAMS 8u
#define BT_CACHE_NONE UINT32_MAX

enum { BT_CACHE_ORIGIN, BT_CACHE_STORE }; /* ports */

/* 64 KiB of the store. Masks have a bit a block. */
struct bt_cache_slot {
	uint64_t chunk; /* which of the disk + 1; 0: free */
	uint32_t next; /* in the hash chain, + 1 */
	/* A block goes round like this: absent -> valid (read in, or written
	 * through) or valid and dirty (written back) -> cleaned (the job has
	 * written it to the origin) -> covered (a flush round has begun) ->
	 * neither, and only valid. dirty, cleaned and covered exclude each
	 * other. */
	uint16_t valid; /* reads may be served from it */
	uint16_t dirty; /* the origin has something older; all are valid */
	uint16_t cleaned; /* written back, no flush of the origin since */
	uint16_t covered; /* the same, and the flush is on its way */
	/* it cannot be given to another chunk while there are any */
	uint16_t busy; /* transfers that count on it */
	bool used; /* since the hand passed */
	bool marked; /* the durable table may call it dirty: not to be reused */
	bool cleaning;
};

struct bt_cache_stream {
	uint64_t next; /* where the next request would go on */
	uint64_t bytes;
};

enum bt_cache_state {
	BT_CACHE_RUNNING,
	BT_CACHE_CLOSING, /* the table is staged for that mark: nothing may change */
	BT_CACHE_CLEAN, /* marked clean: nothing may change before it is not */
	BT_CACHE_MARKING, /* the header that says so is on its way */
};

struct bt_cache_job { /* a chunk on its way to the origin */
	struct bt_cache *cache;
	struct bt_task task;
	/* the whole chunk, shared: reads go on, writes wait. Held from before
	 * `bits` is taken from the slot until these blocks are clean, so that
	 * no write comes in between. */
	struct bt_range range;
	uint32_t slot;
	/* what was dirty when the lock was had; only these are moved */
	uint16_t bits;
	uint64_t doubts; /* of the cache, when it was written */
	char *buffer;
	bool busy;
};

struct bt_cache {
	struct bt_node *node;
	struct bt_port *origin, *store;
	uint64_t size; /* of the disk */
	uint64_t data_at; /* of slot 0 in the store */
	/* arguments */
	bool writeback;
	uint64_t dirty_max; /* blocks */
	uint64_t bypass;
	uint64_t rate;
	/* the map */
	struct bt_cache_slot *slots;
	uint32_t slot_count;
	uint32_t *heads; /* of the hash chains: slot + 1 */
	uint32_t head_mask;
	uint64_t *dirty_map; /* a bit a slot */
	uint64_t dirty_blocks;
	/* counted for dirty_max from the moment that a write is sent to the
	 * store until it has ended: by then it is in dirty_blocks */
	uint64_t reserved; /* blocks that writes under way make dirty */
	/* slots that are; 0 is a condition for the clean mark */
	uint32_t marked;
	/* the slot that bt_cache_take looks at next */
	uint32_t hand;
	uint64_t epoch; /* what was read below in another one is not kept */
	/* bt_port_below of the origin; 0 until it was looked at */
	uint64_t below; /* what the origin stands on */
	uint64_t links; /* the env's, when that was looked at */
	uint64_t losses; /* the origin's, as last looked at, */
	uint64_t lost_all; /* and the env's */
	bool gone; /* it lost what the store has not got any more */
	uint64_t
		doubts; /* how often what was written back became dirty again */
	bool lost; /* the store failed: nothing new goes there */
	bool spoiled; /* a flush of the store failed: dirty data is in doubt */
	enum bt_cache_state state;
	/* The lists a request may be on, one at a time: held, before anything
	 * is done for it; then it waits in the range lock, by its frame; then
	 * on waiting, with a part of it under way perhaps, until a piece is
	 * free. A FLUSH is on flushes, then on round. */
	struct bt_list held; /* while the state is not RUNNING */
	/* requests */
	struct bt_rangelock lock;
	struct bt_pool *pool;
	struct bt_buffers buffers;
	struct bt_list waiting; /* for a piece */
	/* the last runs of requests; the oldest is given up for a new one */
	struct bt_cache_stream streams[BT_CACHE_STREAMS];
	uint32_t stream_next;
	/* the store */
	struct bt_header header;
	struct bt_header_writer writer;
	struct bt_table table;
	unsigned char *changed; /* a byte a block of it: CHANGED, STAGED */
	/* flush */
	struct bt_list flushes; /* for the next round */
	struct bt_list round;
	struct bt_pool *flush_pool;
	struct bt_table_wait wait;
	/* a round is under way, its draining included */
	bool flushing;
	bool tidy; /* a round is wanted, to free slots */
	/* the round has a LAST flush among its requests */
	bool last;
	bool with_store; /* the round's */
	uint64_t round_doubts; /* when its flushes went out */
	uint32_t flush_out;
	int origin_error, store_error, result;
	struct bt_node *failed;
	/* write-back */
	struct bt_cache_job jobs[BT_CACHE_JOBS];
	uint32_t jobs_busy;
	struct bt_pool *job_pool;
	struct bt_buffers job_buffers;
	struct bt_timer timer;
	struct bt_work work;
	/* Times of the loop's clock. Write-back begins at idle_until_ns (0:
	 * nothing is dirty), goes on at paid_until_ns because of the rate, and
	 * at retry_at_ns after an error. */
	uint64_t idle_until_ns, paid_until_ns, retry_at_ns;
	uint32_t clean_hand;
	/* the round waits until all is written back, and the rate does not
	 * count */
	bool draining;
	bool closing;
	/* of the last job that failed; while draining it is kept, and ends the
	 * round */
	int clean_error;
	/* figures, in blocks */
	uint64_t hits, misses, passed;
};

struct bt_cache_frame {
	struct bt_cache *cache;
	struct bt_request *req;
	struct bt_range range;
	uint64_t cursor; /* bytes for which pieces were begun */
	uint64_t length; /* BLOCK_STATUS: as it came */
	struct bt_node *failed;
	/* pieces that are out, and one while more are to be begun */
	uint32_t pending;
	int error;
	bool sequential;
};

struct bt_cache_piece {
	struct bt_request req; /* first: what the pool knows of it */
	struct bt_cache *cache;
	/* until it is detached, the piece is under its request's lock */
	struct bt_cache_frame *frame; /* NULL: the request has ended */
	struct bt_range range; /* where it has */
	struct iovec iov;
	/* a slot's worth, or NULL: it moves the guest's own memory */
	char *buffer;
	uint64_t at; /* in the request */
	uint64_t offset, length; /* of the disk */
	/* the cache's when it began: what was read in another one is not kept
	 */
	uint64_t epoch;
	uint32_t slot;
	/* blocks that it added to the cache's */
	uint32_t reserved;
	uint16_t bits;
};

/* The origin's chunk that lies at offset. */
static inline uint64_t bt_cache_slot_at(const struct bt_cache *cache,
					uint32_t slot)
{
	return cache->data_at + (uint64_t)slot * BT_CACHE_SLOT;
}

static inline uint16_t bt_cache_bits(uint32_t first, uint32_t count)
{
	return (uint16_t)(((1u << count) - 1) << first);
}

/* cache-map.c: which chunk is where, and what of it. */
int bt_cache_map_init(struct bt_cache *cache);
void bt_cache_map_fini(struct bt_cache *cache);
uint64_t bt_cache_map_memory(uint64_t slots);
uint32_t bt_cache_find(const struct bt_cache *cache, uint64_t chunk);
void bt_cache_insert(struct bt_cache *cache, uint32_t slot, uint64_t chunk);
/* A slot for a chunk that has none; NONE where none can be had now. */
uint32_t bt_cache_take(struct bt_cache *cache, uint64_t chunk);
void bt_cache_set_dirty(struct bt_cache *cache, uint32_t slot, uint16_t bits);
/* The origin has them as they are in the slot: still valid. */
void bt_cache_set_clean(struct bt_cache *cache, uint32_t slot, uint16_t bits);
/* Nothing is known of them any more but what the origin says. */
void bt_cache_drop(struct bt_cache *cache, uint32_t slot, uint16_t bits);
/* All that is not dirty. */
void bt_cache_drop_clean(struct bt_cache *cache);
/* Whether the origin is still what it was; else nothing read from it is. */
void bt_cache_look_below(struct bt_cache *cache);
/* Whether the origin lost what it had not flushed: that is dirty again then. */
void bt_cache_look_lost(struct bt_cache *cache);
bool bt_cache_is_sequential(struct bt_cache *cache,
			    const struct bt_request *req);
/* The store failed: says so once. */
void bt_cache_lose(struct bt_cache *cache, int error, bool spoiled);

/* cache-io.c: requests. */
void bt_cache_submit(struct bt_node *node, struct bt_request *req);
void bt_cache_start(struct bt_cache *cache, struct bt_request *req);
void bt_cache_complete(struct bt_node *node, struct bt_port *port,
		       struct bt_request *req);

/* cache-store.c: the layout, and what is in the table. */
uint64_t bt_cache_slots_for(uint64_t room);
int bt_cache_store_open(struct bt_cache *cache, uint64_t room,
			struct blktap_error **err);
/* Copies to the table what has changed in the map: dirty blocks, or with `all`
 * what is valid. */
void bt_cache_stage(struct bt_cache *cache, bool all);
/* What was staged is durable; or it is not, and with `again` what was written back
 * is not either. */
void bt_cache_staged(struct bt_cache *cache);
void bt_cache_unstage(struct bt_cache *cache, bool again);
/* Puts into the header what the origin is called and, where that is clean, what its
 * file is: between a last flush and the next write that stays so. */
void bt_cache_note_origin(struct bt_cache *cache);

/* cache-flush.c */
void bt_cache_flush(struct bt_cache *cache, struct bt_request *req);
/* A round for its own sake: slots that are marked become free. */
void bt_cache_tidy(struct bt_cache *cache);
/* Something ended that a last flush may wait for. */
void bt_cache_settled(struct bt_cache *cache);
bool bt_cache_is_quiet(const struct bt_cache *cache);
/* Starts the request when the store says "not clean". */
void bt_cache_hold(struct bt_cache *cache, struct bt_request *req);

/* cache-clean.c */
int bt_cache_clean_init(struct bt_cache *cache);
void bt_cache_clean_fini(struct bt_cache *cache);
void bt_cache_clean_kick(struct bt_cache *cache);

#endif
