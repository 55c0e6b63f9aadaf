/* SPDX-License-Identifier: BSD-3-Clause */
/* Admission: what a frontend submits is checked, split or padded where it must
 * be, locked against whoever changes the same blocks, and sent into the graph;
 * what comes back is tried again, flushed for FUA, or finished.
 *
 *   bt_vbd_submit -> check -> (split.c) -> range lock -> top port
 *   bt_admit_done <- ... -> (retry.c) -> (flush for FUA) -> bt_admit_finish */
#include "vbd/private.h"

#include <errno.h>

/* NBD's document asks for these two: a write past the end is lack of space, any
 * other request past the end is invalid. */
static int check_range(const struct blktap_disk *disk, enum blktap_op op,
		       uint64_t offset, uint64_t length)
{
	uint64_t end;

	if (!length || !bt_checked_add(offset, length, &end))
		return -EINVAL;
	if (end <= disk->limits.size)
		return 0;
	return op == BLKTAP_OP_WRITE || op == BLKTAP_OP_WRITE_ZEROES ? -ENOSPC
								     : -EINVAL;
}

int bt_vbd_check(const struct blktap_disk *disk, enum blktap_op op,
		 uint32_t flags, uint64_t offset, uint64_t length)
{
	if ((unsigned int)op >= BLKTAP_OP_COUNT)
		return -EINVAL;
	if (bt_op_is_writing(op) && disk->limits.read_only)
		return -EPERM;
	if (!(disk->limits.operations >> op & 1u))
		return -ENOTSUP;
	if (op == BLKTAP_OP_FLUSH)
		return 0;
	/* limits.operations has zeroing always, since data can stand for it; but
	 * that is what FAST_ONLY says no to. */
	if (flags & BLKTAP_FAST_ONLY && op == BLKTAP_OP_WRITE_ZEROES &&
	    !(disk->graph_operations >> op & 1u))
		return -ENOTSUP;
	return check_range(disk, op, offset, length);
}

/* What a frontend got wrong. From here on length, range and memory are believed:
 * no node below looks at them again. */
static int check(const struct blktap_disk *disk, const struct bt_request *req)
{
	int rc = bt_vbd_check(disk, req->op, req->flags, req->offset,
			      req->length);

	if (rc < 0)
		return rc;
	if ((req->op == BLKTAP_OP_READ || req->op == BLKTAP_OP_WRITE) &&
	    !bt_sgl_holds(&req->data, req->length))
		return -EINVAL;
	if (req->op == BLKTAP_OP_BLOCK_STATUS &&
	    (!req->extents || !req->extent_max))
		return -EINVAL;
	return 0;
}

/* Prefetching is a hint: where the graph has come to be one that has none, it is done
 * at once. */
static bool is_idle_hint(const struct blktap_disk *disk,
			 const struct bt_request *req)
{
	return req->op == BLKTAP_OP_PREFETCH &&
	       !(disk->graph_operations >> BLKTAP_OP_PREFETCH & 1u);
}

/* Whatever the graph keeps now: the write may wait at a gate for another graph. */
static bool is_to_outlive(const struct blktap_disk *disk,
			  const struct bt_request *req)
{
	return disk->outlives && (req->op == BLKTAP_OP_WRITE ||
				  req->op == BLKTAP_OP_WRITE_ZEROES);
}

void bt_vbd_set_outlive(struct blktap_disk *disk, bool on)
{
	if (on)
		disk->outlives++;
	else
		disk->outlives--;
}

bool bt_vbd_get_outlive(const struct blktap_disk *disk)
{
	return disk->outlives > 0;
}

/* Parts have windows on its data, which has to be there. */
static void cut(struct blktap_disk *disk, struct bt_request *req)
{
	int rc = bt_request_bring(req);

	if (rc < 0)
		bt_admit_finish(disk, req, rc);
	else
		bt_split_start(disk, req);
}

bool bt_vbd_moves(const struct blktap_disk *disk)
{
	return disk->top.lower && disk->top.lower->moves;
}

_Static_assert(BLKTAP_OP_READ == 0 && BLKTAP_OP_WRITE == 1, "is_plain");

/* Nearly all there is, in one condition: a read or write that is neither refused nor
 * cut. */
static inline bool is_plain(const struct blktap_disk *disk,
			    const struct bt_request *req)
{
	const struct bt_limits *limits = &disk->limits;
	uint64_t offset = req->offset, length = req->length;

	return req->op <= BLKTAP_OP_WRITE && !disk->closing &&
	       !(req->op & limits->read_only) &&
	       limits->operations >> req->op & 1u && length &&
	       length <= limits->max_transfer && length <= limits->size &&
	       offset <= limits->size - length &&
	       !((offset | length) & (limits->block_size - 1)) &&
	       bt_sgl_holds(&req->data, length);
}

static void admit_other(struct blktap_disk *disk, struct bt_request *req)
{
	int rc = check(disk, req);

	/* A wrong request gets its own error also while the disk closes. */
	if (!rc && disk->closing)
		rc = -ESHUTDOWN;
	if (rc < 0 || is_idle_hint(disk, req))
		bt_admit_finish(disk, req, rc);
	else if (bt_split_is_needed(disk, req))
		cut(disk, req);
	else
		bt_admit_run(disk, req);
}

void bt_vbd_submit(struct blktap_disk *disk, struct bt_request *req)
{
	req->error = 0;
	req->failed = NULL;
	req->extent_count = 0;
	req->attempts = 0;
	req->late = false;
	req->was_written = false;
	req->emulated = false;
	req->unflushed = false;
	req->told = false;
	/* The loop's time, not the clock's: one reading a turn serves all of a
	 * batch. */
	req->admitted_ns = bt_loop_now(disk->context->loop);
	if (bt_unlikely(is_to_outlive(disk, req)))
		req->flags |= BT_REQUEST_OUTLIVE;
	disk->stats.outstanding++;
	if (bt_likely(is_plain(disk, req)))
		bt_admit_run(disk, req);
	else
		admit_other(disk, req);
}

/* Later, when who changed the same blocks has unlocked them. */
static void granted(struct bt_range *range)
{
	struct bt_request *req =
		bt_container_of(range, struct bt_request, range);
	struct blktap_disk *disk = req->range.owner;

	bt_port_submit(&disk->top, req);
}

void bt_admit_run(struct blktap_disk *disk, struct bt_request *req)
{
	/* first: a request that waits for its range can be late, too */
	bt_list_add_tail(&disk->life, &req->life);
	bt_late_watch(disk);
	req->range.owner = disk;
	if (!bt_op_is_writing(req->op) ||
	    bt_range_lock(&disk->ranges, &req->range, req->offset, req->length,
			  false, granted))
		bt_port_submit(&disk->top, req);
}

bool bt_admit_needs_flush(const struct blktap_disk *disk,
			  const struct bt_request *req, uint32_t flags)
{
	bool is_write = req->op == BLKTAP_OP_WRITE;

	if (!bt_op_is_writing(req->op))
		return false;
	if (flags & BLKTAP_FUA && !(is_write && disk->limits.native_fua))
		return true;
	return flags & BT_REQUEST_OUTLIVE &&
	       disk->limits.keeps >=
		       (is_write ? BT_KEEPS_ALL : BT_KEEPS_TABLES);
}

/* Not for a part: one flush behind the last part serves all of them (split.c). */
static bool needs_flush(const struct blktap_disk *disk,
			const struct bt_request *req)
{
	return !req->was_written && !req->error && req->pool != disk->parts &&
	       bt_admit_needs_flush(disk, req, req->flags);
}

/* The job is told while the range is held: a commit that looks at the range after
 * its unlock must find it marked. */
static void unlock(struct blktap_disk *disk, struct bt_request *req)
{
	bt_late_forget(disk, req);
	bt_job_note(disk, &req->range);
	bt_range_unlock(&disk->ranges, &req->range);
}

/* WRITE_ZEROES that the image turned out not to have is written as data. */
static bool falls_back(struct bt_request *req)
{
	return req->error == -ENOTSUP && req->op == BLKTAP_OP_WRITE_ZEROES &&
	       !(req->flags & BLKTAP_FAST_ONLY) && !req->emulated;
}

void bt_admit_done(struct bt_port *port, struct bt_request *req)
{
	struct blktap_disk *disk = port->opaque;

	/* A flush of a pause or edit, or a job's request: it was never admitted,
	 * so there is no range, no place in life and nothing to count. */
	if (bt_unlikely(req->flags & BT_REQUEST_CORE)) {
		req->done(req);
		return;
	}
	/* what came back is the flush behind it: it is a write again */
	if (req->was_written)
		req->op = (enum blktap_op)req->pending;
	if (bt_unlikely(req->error) && bt_retry_take(disk, req))
		return;
	if (bt_unlikely(needs_flush(disk, req))) {
		req->was_written = true;
		req->pending = req->op;
		req->op = BLKTAP_OP_FLUSH;
		bt_port_submit(&disk->top, req);
		return;
	}
	if (req->pool == disk->parts) {
		bt_split_part_done(disk, req);
		return;
	}
	unlock(disk, req);
	/* The parts lock anew. Another write of the same bytes may come in
	 * between: both are under way at once, and either order is right. */
	if (bt_unlikely(falls_back(req))) {
		req->error = 0;
		req->failed = NULL;
		req->emulated = true;
		bt_split_start(disk, req);
		return;
	}
	bt_admit_finish(disk, req, req->error);
}

void bt_admit_finish(struct blktap_disk *disk, struct bt_request *req,
		     int error)
{
	req->error = error;
	if (bt_unlikely(error != 0 && !req->told))
		bt_disk_event(disk, BLKTAP_EVENT_ERROR, error, req,
			      req->failed ? req->failed->name : "",
			      "request failed");
	disk->stats.outstanding--;
	bt_stats_count(disk, req);
	req->done(req);
}

/* A part belongs to whom its parent belongs to: the pool of parts is the disk's. */
static bool is_of(const struct blktap_disk *disk, const struct bt_request *req,
		  const struct bt_pool *pool)
{
	if (req->pool == disk->parts)
		req = ((const struct bt_part *)req)->parent;
	return !pool || req->pool == pool;
}

/* Takes those of pool out of list, the order of the others is kept. */
static void pick(const struct blktap_disk *disk, struct bt_list *list,
		 const struct bt_pool *pool, struct bt_list *out)
{
	struct bt_list *pos, *tmp;

	bt_list_for_each_safe (pos, tmp, list) {
		if (!is_of(disk, bt_list_entry(pos, struct bt_request, link),
			   pool))
			continue;
		bt_list_del(pos);
		bt_list_add_tail(out, pos);
	}
}

/* Ends an admitted request that is on no list of the graph's. */
static void fail_one(struct blktap_disk *disk, struct bt_request *req,
		     int error)
{
	req->error = error;
	if (req->pool == disk->parts) {
		bt_split_part_done(disk, req);
		return;
	}
	/* what waits may be the flush behind it */
	if (req->was_written)
		req->op = (enum blktap_op)req->pending;
	unlock(disk, req);
	bt_admit_finish(disk, req, error);
}

/* The end of one part or lock may send others to the gate. */
void bt_admit_fail_held(struct blktap_disk *disk, const struct bt_pool *pool,
			int error)
{
	struct bt_list held, *node;

	bt_list_init(&held);
	for (;;) {
		pick(disk, &disk->top.held, pool, &held);
		node = bt_list_pop(&held);
		if (!node)
			return;
		do
			fail_one(disk,
				 bt_list_entry(node, struct bt_request, link),
				 error);
		while ((node = bt_list_pop(&held)));
	}
}

/* Ends one request of pool that waits for a range that another holds, who may
 * wait at the gate himself; false where there is none. */
static bool fail_locked_out(struct blktap_disk *disk,
			    const struct bt_pool *pool, int error)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &disk->life) {
		struct bt_request *req =
			bt_list_entry(pos, struct bt_request, life);

		if (bt_list_empty(&req->range.link) || req->range.held ||
		    !is_of(disk, req, pool))
			continue;
		fail_one(disk, req, error);
		return true;
	}
	return false;
}

void bt_vbd_cancel(struct blktap_disk *disk, const struct bt_pool *pool,
		   int error)
{
	struct bt_list parked, *node;

	bt_split_cancel(disk, pool, error);
	bt_list_init(&parked);
	pick(disk, &disk->parked, pool, &parked);
	while ((node = bt_list_pop(&parked))) {
		struct bt_request *req =
			bt_list_entry(node, struct bt_request, link);

		fail_one(disk, req, req->error);
	}
	while (fail_locked_out(disk, pool, error))
		;
	bt_admit_fail_held(disk, pool, error);
}
