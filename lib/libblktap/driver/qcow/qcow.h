/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of the qcow and qcow2 drivers; only driver/qcow*.c include it.
 *
 * A request is cut into runs: pieces whose clusters are mapped alike, within one
 * page of an L2 table. The first run lives in the request's frame, further ones
 * come from a pool of the node, as do those that have to read before they write.
 *
 * What makes a crash harmless:
 *   - an L2 entry is changed in memory when the data it names is written;
 *   - a new table is written as zeroes before anything points to it;
 *   - meta/ writes refcount blocks, refcount table, L2 and L1 in that order,
 *     with a sync between them;
 *   - a cluster whose last pointer is gone is free only after the commit that
 *     took the pointer off the disk (free.c), and reused only when no request
 *     that may have seen the pointer is left.
 *
 * Everything runs in the thread of the loop. What stands with "blocking" below
 * is for opening, closing and work on an image at rest, when nothing is in
 * flight. */
#ifndef BT_DRIVER_QCOW_H
#define BT_DRIVER_QCOW_H

#include "driver/file.h"
#include "libqcow/compress.h"
#include "libqcow/crypt.h"
#include "libqcow/entry.h"
#include "libqcow/extension.h"
#include "libqcow/refcount.h"
#include "meta/meta.h"
#include "port/port.h"

/* The kinds of metadata block, which are also their ranks. */
enum { QCOW_REFBLOCK, QCOW_REFTABLE, QCOW_L2, QCOW_L1, QCOW_KINDS };

#define QCOW_RUNS 32u /* in a node's pool */
#define QCOW_BOUNCE 65536u /* a run's buffer */
#define QCOW_L1_PAGE 4096u
#define QCOW_L1_SMALL 65536u /* bytes of a table that is kept in one piece */
#define QCOW_EXTENTS 4096u /* dropped or free, kept in memory */
#define QCOW_FOUND 64u /* extents found in one turn */

struct bt_qcow;
struct bt_qcow_frame;
struct bt_qcow_run;

/* What a piece of the disk is mapped to: a copy of what the tables said at one
 * moment. Only a run on q->allocs keeps one over a wait, as nobody else changes
 * the entries of its clusters. */
struct bt_qcow_map {
	enum bt_qcow_kind kind;
	bool copied;
	bool no_table; /* there is no L2 table */
	uint64_t host; /* of the first byte asked for; COMPRESSED: the stream */
	uint64_t length; /* bytes that are mapped alike */
	uint32_t bytes; /* COMPRESSED: of the stream */
};

/* A wish for clusters. It lies in who wishes, and is on allocator.wishes until
 * fn is called. */
struct bt_qcow_want {
	struct bt_list link;
	uint32_t count; /* clusters */
	bool fresh; /* they have to read as zeroes */
	bool whole; /* all of them or nothing: an L2 table */
	bool searched; /* the allocator's: has had its turn of looking */
	uint64_t host; /* the answer */
	uint32_t got; /* at least 1 */
	bool zero; /* they read as zeroes */
	void (*fn)(struct bt_qcow_want *want, int error);
};

/* Someone who waits for a compressed cluster. */
struct bt_qcow_inflate {
	struct bt_list link;
	uint64_t host;
	uint32_t bytes;
	/* data: the whole cluster, for the call only. */
	void (*fn)(struct bt_qcow_inflate *wait, const char *data, int error);
};

/* What every read needs comes first, behind the first members of the frame. */
struct bt_qcow_run {
	struct bt_io io;
	struct bt_qcow *q;
	struct bt_qcow_frame *frame;
	struct bt_request *child; /* the pool's; NULL in a frame */
	struct bt_sgl data; /* from at on */
	uint64_t at, length; /* of the guest, not yet written */
	struct bt_list link; /* q->allocs */
	struct bt_meta_wait wait;
	struct bt_qcow_want want;
	struct bt_qcow_inflate inflate;
	uint64_t first, end; /* the clusters that hold it, in guest bytes */
	uint64_t piece; /* bytes that the clusters got so far will hold */
	struct bt_qcow_map old; /* what it copies from */
	bool copy; /* through the bounce buffer, one cluster */
	uint32_t done; /* bytes of the cluster that are copied */
	uint32_t step; /* of them, the piece in the bounce buffer */
	struct iovec bounce;
};

/* Writes that are answered when the tables which show their data are in the file. */
#define BT_QCOW_COMMITS (BLKTAP_FUA | BT_REQUEST_OUTLIVE)

/* The members up to run, and the first ones of that, are all that a read of data
 * touches: five lines of the processor's cache, where the requests of a deep
 * queue do not find their frames in the nearest one. */
struct bt_qcow_frame {
	struct bt_request *req;
	uint32_t pending; /* runs, and the cutting itself */
	int error; /* the first one; no new runs after it */
	uint64_t at, end;
	struct bt_sgl data; /* from at on */
	uint8_t phase; /* reclaimer.phase when it came */
	bool run_used; /* run was taken once: further ones are the pool's */
	bool needs_commit; /* FUA, OUTLIVE */
	bool late; /* FLUSH: the round under way may lack what it is to free */
	struct bt_list link; /* waits for an allocation, a table, a run */
	struct bt_meta_wait wait;
	struct bt_qcow_run run;
	struct bt_meta_commit commit;
	struct bt_work work;
	uint64_t offset, length; /* BLOCK_STATUS: as the request came */
	struct blktap_extent *extents;
	uint32_t extent_max, extent_count;
};

/* The first member is what the pool knows of it. */
struct bt_qcow_pooled {
	struct bt_request req;
	struct bt_qcow_run run;
};

/* Clusters whose pointer is gone, or that are free. */
struct bt_qcow_extent {
	uint64_t host;
	uint64_t bytes;
	bool zero;
};

struct bt_qcow_extents {
	struct bt_qcow_extent *list;
	uint32_t count;
};

/* Makes L2 tables, one at a time. */
struct bt_qcow_maker {
	struct bt_list waiting; /* frames */
	struct bt_qcow_want want;
	struct bt_io io;
	struct bt_meta_wait wait;
	uint32_t l1_index; /* the table that is made is for this entry */
	bool busy; /* from the wish for clusters to the L1 entry */
};

/* Gives out clusters, one wish at a time; makes refcount blocks. */
struct bt_qcow_allocator {
	struct bt_list wishes;
	struct bt_io io;
	struct bt_meta_wait wait;
	uint64_t block; /* of the refcount block being made */
	bool busy;
	bool running; /* the loop over wishes */
	bool told; /* that the refcount table is as large as can be */
};

/* Moves the refcount table to a larger place. */
struct bt_qcow_grower {
	struct bt_qcow_growth plan;
	struct bt_meta_commit commit;
	struct bt_io io;
	struct bt_work work;
	void (*next)(struct bt_qcow *q); /* behind the commit */
	struct iovec iov;
	unsigned char *area; /* what is written, and a place for the header */
	int error; /* of the commit */
};

/* Looks for clusters that earlier sessions freed. */
struct bt_qcow_finder {
	struct bt_meta_wait wait;
	struct bt_io io;
	struct bt_qcow_extent found[QCOW_FOUND];
	uint32_t count, next;
	uint64_t at; /* looked at up to here; */
	uint64_t end; /* of the file when it was opened */
};

/* Frees clusters behind commits. */
struct bt_qcow_reclaimer {
	struct bt_qcow_extents dropped;
	uint32_t covered; /* of dropped: by the commit that runs */
	struct bt_meta_commit commit;
	struct bt_meta_wait wait;
	struct bt_io io;
	struct bt_work step; /* the next piece, in a turn of its own */
	struct bt_list flushes; /* frames that wait for the end */
	uint32_t next; /* extent that is being freed */
	uint64_t at; /* in it */
	uint64_t users[2]; /* requests, by phase */
	uint8_t phase;
	bool busy;
	bool in_grace; /* waits for users of the old phase */
	bool no_punch; /* the file system cannot */
	bool told; /* that space leaks */
};

struct bt_qcow_unpacker {
	struct bt_list waiting;
	struct bt_qcow_inflater *inflater;
	struct bt_io io;
	struct iovec iov;
	char *in, *out;
	/* Its place and length name a stream. One that is dropped is forgotten
	 * by them, since the place may hold another one later. */
	uint64_t host; /* of what is in out, or is being read */
	uint32_t bytes;
	/* out holds it; it is read; it was dropped meanwhile */
	bool valid, busy, stale;
};

/* The clusters that hold tables, which no entry may lead a write to. */
struct bt_qcow_guard {
	uint64_t *slots; /* offsets of tables, hashed; 0 is a free slot */
	uint64_t mask, count; /* slots, less 1; tables in it */
};

struct bt_qcow {
	struct bt_image_file f; /* first, see driver/file.h */
	struct bt_node *node;
	struct bt_qcow_header header;
	struct bt_qcow_geometry geo;
	struct bt_meta *meta;
	/* bytes: what the cache has of a table in one block */
	uint32_t l2_page, ref_page;
	unsigned char *l1; /* all of it, of a small image that is read-only */
	uint64_t file_end; /* what an entry may name is below */
	uint64_t base_size; /* 0: stands alone */
	char *parent; /* spec */
	/* entries are in the order of the machine that wrote them */
	bool native_l1;
	bool discard; /* clusters that lose their pointer become holes */
	bool l1_changed; /* Xen's checksum is to be written at closing */
	/* a write of it failed, and so did putting it back: nobody knows what it
	 * says, so it is not written again */
	bool header_lost;
	uint32_t complaints; /* logged */
	/* A frame that waits is on one list, by frame->link: short_of_runs, blocked,
	 * maker.waiting or reclaimer.flushes; or a table block's waiters have it, by
	 * frame->wait. When it goes on it looks everything up again: what it found
	 * out before may not be true any more, nor (FUA) that no table is dirty. */
	struct bt_pool *pool; /* of struct bt_qcow_pooled */
	char *bounces; /* of the pooled runs */
	/* how many of the pool's items have their buffer */
	uint32_t bounces_used;
	struct bt_list short_of_runs; /* frames */
	struct bt_list allocs; /* runs that give clusters to the guest */
	struct bt_list blocked; /* frames that meet one of them */
	struct bt_qcow_extents free;
	struct bt_qcow_maker maker;
	struct bt_qcow_allocator allocator;
	struct bt_qcow_grower grower;
	struct bt_qcow_finder finder;
	struct bt_qcow_reclaimer reclaimer;
	struct bt_qcow_unpacker unpacker;
	struct bt_qcow_guard guard;
	struct bt_qcow_cipher *cipher; /* NULL: not encrypted */
};

static inline uint32_t bt_qcow_cluster(const struct bt_qcow *q)
{
	return q->geo.cluster_bytes;
}

/* ---- open.c, parent.c ------------------------------------------- */
int bt_qcow_open(struct bt_node *node, const struct bt_args *args,
		 uint32_t flags, struct blktap_error **err);
void bt_qcow_close(struct bt_node *node);
int bt_qcow_fault(const struct bt_qcow *q, int rc, const struct bt_fault *fault,
		  struct blktap_error **err);
/* Blocking. Rewrites the fixed header, and syncs. */
int bt_qcow_write_header(struct bt_qcow *q);
/* Blocking. The beginning of the file, at most a sector, which is old now. */
int bt_qcow_put_head(struct bt_qcow *q, const void *old, const void *head,
		     size_t bytes);
int bt_qcow_find_parent(struct bt_qcow *q, const struct bt_args *args,
			const unsigned char *head, size_t length,
			struct blktap_error **err);

/* ---- xen.c: blocking -------------------------------------------------- */
int bt_qcow_xen_check(struct bt_qcow *q, struct blktap_error **err);
int bt_qcow_xen_convert(struct bt_qcow *q, const struct bt_args *args,
			struct blktap_error **err);
int bt_qcow_xen_close(struct bt_qcow *q);

/* ---- crypt.c --------------------------------------------------------- */
int bt_qcow_crypt_open(struct bt_qcow *q, const struct bt_args *args,
		       uint32_t flags, struct blktap_error **err);
int bt_qcow_decrypt_data(struct bt_qcow *q, uint64_t guest,
			 const struct bt_sgl *data, uint64_t length);
int bt_qcow_encrypt_data(struct bt_qcow_run *run, uint64_t guest,
			 const struct bt_sgl *data, uint64_t length);

/* ---- repair.c: blocking, at open ------------------------------------- */
/* Sets low refcounts right and finds the end of what is used. */
int bt_qcow_scan(struct bt_qcow *q, bool repair, uint64_t *used_end,
		 struct blktap_error **err);

/* ---- map.c ----------------------------------------------------------- */
/* 1: found, 0: wait->fn is called later and the caller asks again, or a negative
 * errno. */
int bt_qcow_get_l1(struct bt_qcow *q, struct bt_meta_wait *wait, uint32_t index,
		   struct bt_qcow_l1 *l1);
int bt_qcow_get_l2_page(struct bt_qcow *q, struct bt_meta_wait *wait,
			uint64_t table, uint32_t index,
			struct bt_meta_block **block);
int bt_qcow_lookup(struct bt_qcow *q, struct bt_meta_wait *wait, uint64_t at,
		   uint64_t end, struct bt_qcow_map *map);
uint64_t bt_qcow_file_bytes(const struct bt_qcow *q);
int bt_qcow_complain(struct bt_qcow *q, uint64_t guest,
		     const struct bt_fault *fault, int rc);
/* Where an L2 page ends that covers `at`. */
uint64_t bt_qcow_page_end(const struct bt_qcow *q, uint64_t at);

/* Harmless where nothing was loaded. */
void bt_qcow_guard_fini(struct bt_qcow *q);
/* The tables of the image as it is on disk. Blocks: at a writable open, before anybody
 * has entries in memory. */
int bt_qcow_guard_load(struct bt_qcow *q, struct blktap_error **err);
/* A table has its place, and nothing on disk names it yet. */
void bt_qcow_guard_add(struct bt_qcow *q, uint64_t host);
/* Whether a table lies in the bytes. */
bool bt_qcow_guard_hits(const struct bt_qcow *q, uint64_t host, uint64_t bytes);

/* ---- run.c ----------------------------------------------------------- */
void bt_qcow_start(struct bt_qcow *q, struct bt_request *req);
void bt_qcow_go(struct bt_qcow_frame *frame);
void bt_qcow_go_list(struct bt_list *waiting);
/* The frame's own run where it is free and pooled is not asked for; NULL: the
 * frame waits for one, and goes on later. */
struct bt_qcow_run *bt_qcow_take_run(struct bt_qcow_frame *frame, bool pooled);
void bt_qcow_run_done(struct bt_qcow_run *run, int error);
void bt_qcow_advance(struct bt_qcow_frame *frame, uint64_t bytes);
void bt_qcow_finish(struct bt_qcow_frame *frame);
void bt_qcow_submit_io(struct bt_qcow_run *run, enum bt_io_op op, uint64_t host,
		       const struct bt_sgl *data, uint64_t length,
		       void (*done)(struct bt_io *io, int error));

/* ---- steps: 1 went on, 0 waits, 2 the request is not ours any more, or a
 * negative errno ------------------------------------------------------------ */
int bt_qcow_step_read(struct bt_qcow_frame *frame);
int bt_qcow_step_write(struct bt_qcow_frame *frame);
/* The piece that map covers, from frame->data. */
int bt_qcow_write_mapped(struct bt_qcow_frame *frame, struct bt_qcow_map *map);
int bt_qcow_step_unmap(struct bt_qcow_frame *frame);
int bt_qcow_step_status(struct bt_qcow_frame *frame);
void bt_qcow_status_back(struct bt_qcow_frame *frame, struct bt_request *req);
/* The base's answer to a copy. */
void bt_qcow_child_done(struct bt_request *child);
void bt_qcow_copy_back(struct bt_qcow_run *run, int error);
/* The first allocation that meets the cluster of `at`: true, and the frame waits
 * for it. Otherwise *end is cut to where the next one begins. */
bool bt_qcow_is_blocked(struct bt_qcow_frame *frame, uint64_t *end);

/* ---- alloc.c, table.c ------------------------------------------- */
void bt_qcow_alloc(struct bt_qcow *q, struct bt_qcow_want *want);
void bt_qcow_alloc_go(struct bt_qcow *q);
int bt_qcow_get_refblock(struct bt_qcow *q, struct bt_meta_wait *wait,
			 uint64_t host, uint64_t *block);
int bt_qcow_get_ref_page(struct bt_qcow *q, struct bt_meta_wait *wait,
			 uint64_t block, uint64_t host,
			 struct bt_meta_block **page, uint32_t *index);
void bt_qcow_write_zeroes(struct bt_qcow *q, struct bt_io *io, uint64_t host,
			  uint64_t bytes,
			  void (*done)(struct bt_io *io, int error));
/* The frame goes on when the L2 table is there, or has failed. */
void bt_qcow_make_table(struct bt_qcow_frame *frame, uint32_t l1_index);

/* The wish that the allocator was about has failed. */
void bt_qcow_alloc_failed(struct bt_qcow *q, int error);
/* How many bytes the file may come to have. */
uint64_t bt_qcow_limit(const struct bt_qcow *q);

/* ---- grow.c ---------------------------------------------------------- */
void bt_qcow_grow_init(struct bt_qcow *q);
/* Starts it, for the wish that is first: 0, or a negative errno. */
int bt_qcow_grow(struct bt_qcow *q);

/* ---- count.c: blocking; nothing else uses the image ------------------ */
/* The clusters between are counted so often, on disk. */
int bt_qcow_set_counts(struct bt_qcow *q, uint64_t from, uint64_t to,
		       uint64_t value);
/* Counts what lies from `from` to *end, behind all that is used, and what it takes
 * to count it, which comes to lie behind that: *end moves. */
int bt_qcow_count_new(struct bt_qcow *q, uint64_t from, uint64_t *end);
/* A larger refcount table at *end, which moves; it counts itself. */
int bt_qcow_grow_reftable(struct bt_qcow *q, uint64_t *end);

/* ---- find.c ---------------------------------------------------------- */
/* One turn for the wish that is first; false where there is nothing to look at.
 */
bool bt_qcow_find(struct bt_qcow *q);
/* These clusters are free now, and as far as the search does not come past them
 * yet they are listed. */
void bt_qcow_is_free(struct bt_qcow *q, uint64_t host, uint64_t bytes,
		     bool zero);

/* ---- free.c ---------------------------------------------------------- */
void bt_qcow_enter(struct bt_qcow_frame *frame);
void bt_qcow_leave(struct bt_qcow_frame *frame);
/* A pointer to these clusters is gone from memory. */
void bt_qcow_drop(struct bt_qcow *q, uint64_t host, uint64_t bytes);
/* The same, of what an entry named that mapped the guest's byte. */
void bt_qcow_drop_entry(struct bt_qcow *q, uint64_t guest,
			const struct bt_qcow_mapping *old);
bool bt_qcow_can_drop(const struct bt_qcow *q);
void bt_qcow_flush(struct bt_qcow_frame *frame);
void bt_qcow_reclaim_init(struct bt_qcow *q);
bool bt_qcow_extent_add(struct bt_qcow_extents *to, uint64_t host,
			uint64_t bytes, bool zero);

/* ---- unpack.c -------------------------------------------------------- */
int bt_qcow_unpack_init(struct bt_qcow *q);
void bt_qcow_unpack_fini(struct bt_qcow *q);
void bt_qcow_unpack(struct bt_qcow *q, struct bt_qcow_inflate *wait);
void bt_qcow_unpack_forget(struct bt_qcow *q, uint64_t host);

/* ---- relink.c -------------------------------------------------------- */
int bt_qcow_set_parent(struct bt_node *node, const char *name,
		       const char *format, struct blktap_error **err);

/* ---- resize.c -------------------------------------------------------- */
int bt_qcow_resize(struct bt_node *node, uint64_t size,
		   struct blktap_error **err);

/* ---- create.c -------------------------------------------------------- */
int bt_qcow_create_v1(const struct bt_create *create,
		      struct blktap_error **err);
int bt_qcow_create_v2(const struct bt_create *create,
		      struct blktap_error **err);

#endif
