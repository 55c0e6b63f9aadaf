/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of a disk; only the room's own files include it. */
#ifndef BT_VBD_PRIVATE_H
#define BT_VBD_PRIVATE_H

#include "core/log.h"
#include "mason/run.h"
#include "request/rangelock.h"
#include "util/checked.h"
#include "vbd/vbd.h"

#define BT_PARTS 64u /* parts of split requests under way */
struct blktap_job;

#define BT_NS_PER_MS 1000000ull

struct blktap_context {
	struct bt_log log;
	struct bt_loop *loop;
	struct bt_engine *engine;
	struct bt_env env;
	struct bt_list disks;
	const struct blktap_modules *modules; /* or NULL */
	struct bt_list runs; /* Block Mason's graphs in use, see graph.c */
	struct bt_run_ops run_ops;
};

enum bt_vbd_state {
	BT_VBD_RUNNING,
	BT_VBD_DRAINING, /* the gate is held, requests are still out */
	BT_VBD_FLUSHING, /* drained; the last flush is out */
	BT_VBD_PAUSED, /* the image is closed */
};

/* A piece of a request that is too large or badly aligned. */
struct bt_part {
	struct bt_request req; /* first: what the pool knows of it */
	struct bt_request *parent;
	uint64_t at; /* bytes of the parent before it */
	uint64_t bytes; /* of the parent that it covers */
	bool padded; /* goes through the bounce block */
	bool writing_back; /* padded write: the read is done */
	uint32_t index; /* of its bounce block */
	struct iovec bounce;
};

struct bt_pool_entry {
	struct bt_list link;
	struct bt_pool *pool;
};

struct bt_edit;

/* Where a request of a disk is, from bt_vbd_submit to req->done. By req->link it is
 * on one list at the most:
 *
 *   disk->splits       its parts stand for it; it waits for a free one of them
 *   disk->top.held     at the gate of a pause or an edit
 *   disk->parked       failed for a reason that may pass; the timer sends it again
 *   a node's list      in the graph (req->top says where)
 *   none               in the trampoline, or waiting for its range
 *
 * Beside that every request that goes down by itself, whole or part, is on
 * disk->life from its admission to its end, and one that writes has its range on
 * disk->ranges, held or waited for. A request that was split is on neither: its
 * parts are. So who ends requests (bt_vbd_cancel, bt_vbd_shut) has to look at
 * splits, parked, held, and at what waits in ranges, in this order: the end of one
 * may set another free that comes later in it. */
struct blktap_disk {
	struct bt_list link; /* in the context */
	struct blktap_context *context;
	char *spec;
	char *shown; /* in place of it; or NULL */
	char *name;
	uint32_t open_flags;
	uint64_t deadline_ns;
	enum blktap_error_policy on_io_error;
	enum blktap_error_policy on_no_space;

	struct bt_node *root;
	struct bt_front front; /* in a graph that is shared; or none */
	uint64_t size_before; /* that graph's last change */
	uint32_t outlives; /* who asked for it: bt_vbd_set_outlive */
	struct bt_limits
		wants; /* of a graph that needs narrower ones, narrow.c */
	struct bt_limits wide; /* those before */
	bool is_narrow;
	struct bt_port top;
	struct bt_port *tops[3]; /* for the gate: see bt_disk_get_tops */
	struct bt_limits limits; /* operations: what is emulated included */
	uint32_t graph_operations; /* what the graph itself has */
	struct bt_gate gate;
	enum bt_vbd_state state;
	bool closing;
	bool ending; /* its last flush is under way: nothing begins any more */
	int close_error; /* of the last flush */
	struct bt_timer give_up; /* when a close waits for others' nodes */

	struct bt_list life; /* admitted requests, oldest first */
	struct bt_timer sweep; /* looks for late ones */
	struct bt_list *sweep_next; /* the next on life, while it does */
	struct bt_rangelock ranges;

	struct bt_list pools; /* of bt_pool_entry */
	struct bt_pool *internal; /* one: the flush of a pause or close */
	struct bt_pool *parts;
	/* BT_PARTS blocks of bounce_size, which is limits.block_size at least:
	 * one for every part, so that a part never waits for one. */
	char *bounces;
	char *old_bounces; /* of parts that were out when the blocks grew */
	uint32_t bounce_size;
	uint32_t bounces_free[BT_PARTS];
	uint32_t bounces_left;
	struct bt_list splits; /* requests that wait for a part, oldest first */

	struct bt_list parked; /* requests that are tried again later */
	struct bt_timer unpark;

	struct bt_pool *users; /* requests of blktap_disk_submit */
	struct bt_list results; /* done, callback due */
	struct bt_list polled; /* done, for blktap_disk_poll */
	struct bt_work deliver;
	bool submitting;
	uint32_t in_a_row; /* callbacks since the last delivery */

	struct bt_list clients;

	struct blktap_job *job; /* or NULL */
	bool snapshotting; /* no job may begin */

	struct bt_edit *edit; /* the one at work */
	struct bt_list edits; /* those that wait, oldest first */
	struct bt_work edit_work;
	bool pause_waits; /* for the edit at work */
	uint32_t pause_timeout_ms;

	char *replace_spec; /* the pause ends with a swing to this; or NULL */
	int flush_error; /* of a pause's flush */
	int target_error; /* of the flush of what a job writes to */
	struct bt_work close_work;
	blktap_pause_fn *pause_fn;
	void *pause_opaque;
	uint64_t pause_began_ns;

	struct blktap_disk_stats stats;
	blktap_event_fn *event_fn;
	void *event_opaque;
	blktap_free_fn *event_free;
};

/* Whether a request that is back, of one with flags, needs a flush of the graph
 * before it is answered: for FUA, or to outlive the process. */
bool bt_admit_needs_flush(const struct blktap_disk *disk,
			  const struct bt_request *req, uint32_t flags);

/* admit.c */
/* Sends an admitted request, whole or part, into the graph. */
void bt_admit_run(struct blktap_disk *disk, struct bt_request *req);
/* The top edge's done. */
void bt_admit_done(struct bt_port *port, struct bt_request *req);
/* Ends a request of a frontend: statistics, then req->done. */
void bt_admit_finish(struct blktap_disk *disk, struct bt_request *req,
		     int error);
/* Fails what waits at the gate; pool NULL: all of it. */
void bt_admit_fail_held(struct blktap_disk *disk, const struct bt_pool *pool,
			int error);

/* split.c */
bool bt_split_is_needed(const struct blktap_disk *disk,
			const struct bt_request *req);
void bt_split_start(struct blktap_disk *disk, struct bt_request *req);
void bt_split_part_done(struct blktap_disk *disk, struct bt_request *req);
/* Fails the requests of pool (NULL: all) that wait for a part. */
void bt_split_cancel(struct blktap_disk *disk, const struct bt_pool *pool,
		     int error);
/* Makes bounce blocks of that size, or larger. Parts may be out; where some were the
 * last time, too, it is -EBUSY. */
int bt_split_set_block_size(struct blktap_disk *disk, uint32_t block_size);

/* retry.c */
/* True where the failed request was parked for another try. */
bool bt_retry_take(struct blktap_disk *disk, struct bt_request *req);
void bt_retry_init(struct blktap_disk *disk);
/* Fails all that is parked. */
void bt_retry_fail_all(struct blktap_disk *disk, int error);

/* late.c */
void bt_late_init(struct blktap_disk *disk);
/* The disk has a request on life that may come to be late. */
void bt_late_arm(struct blktap_disk *disk);
/* The timer is armed for the oldest request; it finds out itself who is next. So
 * the data path arms it at most once a deadline. */
static inline void bt_late_watch(struct blktap_disk *disk)
{
	if (bt_unlikely(!disk->sweep.loop))
		bt_late_arm(disk);
}
/* Takes req off life, also from under a sweep: an event of one that is late may end
 * it, or others. */
static inline void bt_late_forget(struct blktap_disk *disk,
				  struct bt_request *req)
{
	if (bt_unlikely(disk->sweep_next == &req->life))
		disk->sweep_next = req->life.next;
	bt_list_del(&req->life);
}

/* stats.c */
void bt_stats_count(struct blktap_disk *disk, const struct bt_request *req);

/* front.c: see struct bt_run_ops */
int bt_front_check(struct bt_front *front, struct blktap_error **err);
int bt_front_prepare(struct bt_front *front, const struct bt_node *root,
		     bool read_only, uint32_t flags, struct blktap_error **err);
void bt_front_commit(struct bt_front *front, struct bt_node *root);
void bt_front_gone(struct bt_front *front);
void bt_front_done(struct bt_front *front, uint64_t pause_ns, const char *text);
const char *bt_front_where(const struct bt_front *front);
void bt_front_round(struct bt_limits *limits);

/* narrow.c: see struct bt_run_ops */
/* Whether limits allow all that those of the disk do. */
bool bt_narrow_is_needed(const struct blktap_disk *disk,
			 const struct bt_limits *limits);
int bt_front_narrow(struct bt_front *front, uint32_t timeout_ms,
		    struct blktap_error **err);
void bt_front_widen(struct bt_front *front);

/* graph.c */
void bt_graphs_init(struct blktap_context *context);
/* Opens what spec names: an image with its parents, or a disk of a file. */
int bt_graph_open(struct blktap_disk *disk, const char *spec,
		  struct bt_node **root, struct blktap_error **err);
/* After bt_disk_adopt, and before the last flush. */
void bt_graph_linked(struct blktap_disk *disk);
void bt_graph_leaving(struct blktap_disk *disk);
/* Closes what bt_graph_open opened; the top leads nowhere. */
void bt_graph_close(struct blktap_disk *disk, struct bt_node *root);

/* disk.c, pause.c */
/* Takes spec over. */
void bt_disk_set_spec(struct blktap_disk *disk, char *spec);
/* What requests are cut for above that graph. */
struct bt_limits bt_disk_limits_on(const struct blktap_disk *disk,
				   const struct bt_node *root);
void bt_disk_take_limits(struct blktap_disk *disk, const struct bt_node *root);
/* Tells clients and events of the disk's new size. */
void bt_disk_tell_resized(struct blktap_disk *disk);
/* Takes over the limits of a newly opened graph and makes room for its frames.
 */
int bt_disk_adopt(struct blktap_disk *disk, struct bt_node *root,
		  struct blktap_error **err);
/* Makes room for frames of a graph that is not the disk's yet. */
int bt_disk_reserve(struct blktap_disk *disk, const struct bt_node *root);
/* Fills disk->tops with the edges that lead into the graph; how many. */
uint32_t bt_disk_get_tops(struct blktap_disk *disk);
void bt_disk_event(struct blktap_disk *disk, enum blktap_event_type type,
		   int error, const struct bt_request *req, const char *node,
		   const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* snapshot.c */
/* Whether the name of an image leads to the file that the node has open: who is about
 * to rename it, or to open it once more, may take another one for it. -ESTALE. */
int bt_snapshot_check_name(const struct bt_node *image,
			   struct blktap_error **err);

/* pause.c */
void bt_pause_init(struct blktap_disk *disk);
/* Begins the pause that was asked for during an edit. */
void bt_pause_start(struct blktap_disk *disk);
/* Whether a request that was cut for other limits can go on with these. */
bool bt_pause_fits(const struct bt_request *req,
		   const struct bt_limits *limits);
/* Of whatever was admitted and is not over, whole requests and parts alike. */
bool bt_pause_all_fit(const struct blktap_disk *disk,
		      const struct bt_limits *limits);
/* The node that keeps the graph from draining, "" where none does; and that as a
 * sentence. */
const char *bt_pause_where(const struct blktap_disk *disk);
void bt_pause_name_stuck(const struct blktap_disk *disk, char *text,
			 size_t size);
/* Flushes through a held gate; flags are the request's, beside that. done is
 * called with the result. */
void bt_pause_flush(struct blktap_disk *disk, uint32_t flags,
		    void (*done)(struct bt_request *req));

/* job.c, job-copy.c: what a disk tells its job, where it has one. */
void bt_job_wrote(struct blktap_disk *disk, uint64_t offset, uint64_t length);
/* A write is over, and holds its range still. */
static inline void bt_job_note(struct blktap_disk *disk,
			       const struct bt_range *range)
{
	if (bt_unlikely(disk->job != NULL) && range->held)
		bt_job_wrote(disk, range->offset, range->length);
}
/* The graph is drained, flushed and about to be closed. */
void bt_job_disk_paused(struct blktap_disk *disk);
void bt_job_disk_closed(struct blktap_disk *disk);
/* It is about to be opened again, as spec. */
void bt_job_disk_opening(struct blktap_disk *disk, const char *spec);
void bt_job_disk_resumed(struct blktap_disk *disk);
/* The disk is about to be closed: the job ends, from the loop. */
void bt_job_close(struct blktap_disk *disk);

/* io.c */
int bt_io_init(struct blktap_disk *disk, uint32_t depth);
void bt_io_fini(struct blktap_disk *disk);

#endif
