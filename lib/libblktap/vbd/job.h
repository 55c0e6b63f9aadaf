/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of a job; only vbd/job*.c include it.
 *
 *   PREPARE -> [edit: base opened for writing] -> COPY -> [SETTLE] -> FLUSH
 *     -> [edit: the chain gets its new shape] -> ENDED
 *
 * What is cancelled or fails before the last edit goes by UNDO, where base becomes
 * read-only again. A pause of the disk takes a job from wherever it is to WAIT,
 * and from there to PREPARE. */
#ifndef BT_VBD_JOB_H
#define BT_VBD_JOB_H

#include <blktap/job.h>

#include "vbd/edit.h"

#define BT_JOB_EXTENTS 128u
#define BT_JOB_GRAIN_BITS 16u /* of the map of what is to be done */

enum bt_job_phase {
	BT_JOB_WAIT,
	BT_JOB_PREPARE,
	BT_JOB_COPY,
	BT_JOB_SETTLE, /* commit: in rounds that hold writers off */
	BT_JOB_FLUSH,
	BT_JOB_EDIT, /* an edit is under way or waits */
	BT_JOB_UNDO,
	BT_JOB_ENDED
};

struct bt_job_lane {
	struct blktap_job *job;
	struct bt_list link; /* idle */
	struct bt_range range; /* stream: the lock */
	unsigned char *buffer;
	struct iovec iov;
	uint64_t offset;
	uint64_t length;
	bool zero;
	bool busy;
};

/* A piece of the disk that is to be copied. */
struct bt_job_run {
	uint64_t from, to;
	bool zero;
};

struct blktap_job {
	struct blktap_disk *disk; /* NULL: has ended */
	struct blktap_job_options options;
	char *base; /* resolved */
	char *state; /* the file that says how far it is; or NULL */
	blktap_job_fn *fn;
	void *opaque;
	enum bt_job_phase phase;
	bool paused;
	bool failed; /* or cancelled: goes no further */
	bool closing; /* so is the disk */
	bool stirred; /* the pass over the disk found something */
	bool pass_over;
	bool cancelled;
	bool finishing; /* the last edit: it is not taken back */
	bool no_zeroes; /* the target cannot */
	bool ready; /* base is open for writing */
	uint64_t losses; /* of what is written to, when that began */
	int error;
	char message[256];
	struct blktap_job_info info; /* what is left when it has ended */

	struct bt_work work;
	struct bt_edit edit;
	void (*edited)(struct blktap_job *job, int error);
	struct bt_timer rate_timer;
	uint64_t free_at_ns; /* when the rate allows the next chunk */

	/* the images: numbers in the chain, the leaf being 0 */
	uint32_t at; /* stream: base or 0; commit: base; coalesce: base */
	struct bt_node *incoming; /* opened for the next edit */
	struct bt_node *outgoing; /* destroyed behind it */
	char *new_spec; /* commit: the disk's, behind the last edit */
	char *leaf_path; /* commit */
	char *away_path; /* what it is renamed to */

	struct bt_port source, target; /* edges of its own */
	struct bt_port *from, *to; /* one of those, or the disk's top */
	struct bt_pool *pool;
	struct bt_job_lane *lanes;
	struct bt_list idle;
	uint32_t under_way; /* requests and waits for locks */

	/* A bit a grain: not looked at, or changed since. */
	uint8_t *todo;
	uint64_t size; /* of the disk */
	uint64_t grains;
	uint64_t left; /* bits that are set */
	uint64_t cursor; /* grain */
	uint32_t passes; /* over the whole disk */
	uint64_t budget; /* grains that this round may take */
	uint64_t align; /* of every request */

	/* The window: one BLOCK_STATUS. */
	struct blktap_extent extents[BT_JOB_EXTENTS];
	struct bt_job_run runs[BT_JOB_EXTENTS + 1];
	uint32_t run_count;
	uint32_t run; /* the one handed out next */
	uint64_t window_from, window_to;
	bool asking;
	/* job-resume.c */
	char *paths; /* of the images, while the disk is paused */
	char *looked; /* what they were when they had been closed */
	bool kept; /* they are the same: so is the map */
	bool behind; /* something below the cursor is to be done yet */
	bool saving; /* the flush before the place is written down */
	uint64_t saved; /* the place */
	uint64_t skipped; /* bytes that an earlier job had done */

	bool locked; /* whole is held */
	bool locking; /* or waited for */
	struct bt_range whole;
};

/* ---- job.c ---------------------------------------------------------------- */
/* Goes on from the loop. */
void bt_job_wake(struct blktap_job *job);
void bt_job_fail(struct blktap_job *job, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* All is over; nothing is under way. */
void bt_job_end(struct blktap_job *job);

/* Through the held gate, with a request of the disk's; false where the job writes
 * to no image of its own. */
bool bt_job_flush_target(struct blktap_job *job,
			 void (*done)(struct bt_request *req));

/* ---- job-copy.c ----------------------------------------------------------- */
int bt_job_copy_init(struct blktap_job *job);
void bt_job_copy_fini(struct blktap_job *job);
/* Hands out what can be handed out. */
void bt_job_copy_go(struct blktap_job *job);
/* The graph is drained and held: takes back what waits at its edges. */
void bt_job_copy_abort(struct blktap_job *job);
void bt_job_flush(struct blktap_job *job, void (*done)(struct bt_request *req));
/* Whether what is written to may have lost writes, and says that all is well. */
bool bt_job_has_lost(const struct blktap_job *job);
/* Everything below is handed out. */
uint64_t bt_job_reached(const struct blktap_job *job);
void bt_job_lock_whole(struct blktap_job *job);
void bt_job_unlock_whole(struct blktap_job *job);

/* ---- job-map.c ------------------------------------------------------------ */
bool bt_job_is_marked(const struct blktap_job *job, uint64_t grain);
/* Bytes from..to - 1 are to be looked at. */
void bt_job_mark(struct blktap_job *job, uint64_t from, uint64_t to);
/* Everything is to be looked at. */
void bt_job_mark_all(struct blktap_job *job);
/* Grains first..last - 1 are not. */
void bt_job_unmark(struct blktap_job *job, uint64_t first, uint64_t last);
/* All below the place is done: the grains that end there, or before. Returns the
 * place, rounded. */
uint64_t bt_job_skip(struct blktap_job *job, uint64_t place);
/* The next grain that is marked, from cursor on; false where there is none. */
bool bt_job_next_marked(const struct blktap_job *job, uint64_t *at);

/* ---- job-resume.c --------------------------------------------------------- */
/* The disk is paused: keeps what there is to know, where the target is flushed. */
void bt_job_keep(struct blktap_job *job, bool flushed);
/* The job begins, or goes on: marks what is to be done. True: it goes on. */
bool bt_job_place(struct blktap_job *job);
/* Nothing may be handed out until the place is written down; nothing else is
 * under way any more, that begins. */
bool bt_job_must_save(struct blktap_job *job);
/* It has ended. */
void bt_job_forget(struct blktap_job *job);

/* ---- job-chain.c ---------------------------------------------------------- */
/* Whether the disk's chain is one that the job can work on. */
int bt_job_check(struct blktap_job *job, struct blktap_error **err);
/* The number of the lowest image that it is about. */
uint32_t bt_job_last(const struct blktap_job *job);
/* PREPARE: ends in COPY, or in a failure. */
void bt_job_prepare(struct blktap_job *job);
/* The last edit. */
void bt_job_finish(struct blktap_job *job);
void bt_job_undo(struct blktap_job *job);
void bt_job_port_done(struct bt_port *port, struct bt_request *req);
/* The job's own edges lead nowhere any more. */
void bt_job_unlink(struct blktap_job *job);

#endif
