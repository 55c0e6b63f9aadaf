/* SPDX-License-Identifier: BSD-3-Clause */
/* Clusters that lost their pointer:
 *
 *   dropped -> a commit takes the pointer off the disk -> every request that may
 *   have seen the pointer is over -> count - 1 -> (0:) hole -> free
 *
 * Requests are told apart by two phases: they enter in the present one, and when
 * it is turned, those of the old one are waited for.
 *
 * A FLUSH ends when the round is over that was under way or that it began, and the
 * counts are on disk. What was dropped too late for a round under way is the next
 * flush's to free; the last one there is (BT_REQUEST_LAST) sees to that itself, so
 * that a closed image has lost nothing.
 *
 * dropped.list has two parts: the first `covered` extents are those whose
 * pointers are off the disk with the commit that runs, or has run; behind them
 * is what was dropped since. One round works at a time (busy): commit, grace,
 * then one piece of one extent a turn of the loop. A round that fails leaves
 * all of it dropped for the next.
 *
 * What a crash leaves: before the commit, the old pointers, all as before;
 * behind it, clusters that are counted and nobody's, which leak until they are
 * checked for. */
#include <errno.h>
#include <string.h>

#include "core/log.h"
#include "driver/qcow/qcow.h"
#include "util/checked.h"

static void reclaim_start(struct bt_qcow *q);
static void go_on(struct bt_qcow *q);

/* ---- extents -------------------------------------------------------------- */

/* Neighbours become one extent, but never across `from`: the first part belongs
 * to a round that has begun. False where the list is full: then the cluster
 * stays counted. */
static bool add_behind(struct bt_qcow_extents *to, uint32_t from, uint64_t host,
		       uint64_t bytes, bool zero)
{
	struct bt_qcow_extent *last = &to->list[to->count];

	if (to->count > from && last[-1].zero == zero &&
	    last[-1].host + last[-1].bytes == host) {
		last[-1].bytes += bytes;
		return true;
	}
	if (to->count == QCOW_EXTENTS)
		return false;
	to->count++;
	*last = (struct bt_qcow_extent){ .host = host,
					 .bytes = bytes,
					 .zero = zero };
	return true;
}

/* False where there is no room, and the extent is not remembered. */
bool bt_qcow_extent_add(struct bt_qcow_extents *to, uint64_t host,
			uint64_t bytes, bool zero)
{
	return add_behind(to, 0, host, bytes, zero);
}

/* ---- dropping ------------------------------------------------------------- */

/* Room for one extent more, and a spare one. Who cannot drop keeps what it has:
 * a discard does nothing, which it may. */
bool bt_qcow_can_drop(const struct bt_qcow *q)
{
	return q->reclaimer.dropped.count + 1 < QCOW_EXTENTS;
}

/* Called in the turn in which the pointer goes from memory. A round is begun
 * before the list is full, as only flushes begin one otherwise. */
void bt_qcow_drop(struct bt_qcow *q, uint64_t host, uint64_t bytes)
{
	struct bt_qcow_reclaimer *r = &q->reclaimer;

	if (!add_behind(&r->dropped, r->covered, host, bytes, false) &&
	    !r->told) {
		r->told = true;
		bt_log(q->node->env->log, BLKTAP_LOG_WARNING,
		       "%s: too many clusters are freed between two flushes: "
		       "some stay in use until a check",
		       q->node->name);
	}
	if (r->dropped.count > QCOW_EXTENTS * 3 / 4)
		reclaim_start(q);
}

/* A cluster that holds a table stays counted, though the entry that led there goes:
 * freed, it would become a hole, and then somebody's data. */
void bt_qcow_drop_entry(struct bt_qcow *q, uint64_t guest,
			const struct bt_qcow_mapping *old)
{
	struct bt_fault fault = { .field = "L2 entry",
				  .value = old->offset,
				  .reason = "points to a table" };
	uint64_t first = old->offset, end = old->offset + old->bytes;

	if (!old->offset)
		return;
	if (old->kind == BT_QCOW_COMPRESSED) {
		/* whoever reads the place later must not get the old stream */
		bt_qcow_unpack_forget(q, old->offset);
		/* streams share clusters, and version 1 counts nothing */
		if (q->geo.version == 1)
			return;
		first = bt_align_down(first, bt_qcow_cluster(q));
		end = bt_align_down(end - 1, bt_qcow_cluster(q)) +
		      bt_qcow_cluster(q);
	}
	if (bt_unlikely(bt_qcow_guard_hits(q, first, end - first)))
		bt_qcow_complain(q, guest, &fault, 0);
	else
		bt_qcow_drop(q, first, end - first);
}

/* ---- phases --------------------------------------------------------------- */

/* A request is of the phase in which it came, until it leaves; a round waits
 * for those of the phase that it has ended. */
void bt_qcow_enter(struct bt_qcow_frame *frame)
{
	struct bt_qcow_reclaimer *r = &frame->run.q->reclaimer;

	frame->phase = r->phase;
	r->users[r->phase]++;
}

/* The last one of the old phase wakes the round, in a turn of its own. */
void bt_qcow_leave(struct bt_qcow_frame *frame)
{
	struct bt_qcow *q = frame->run.q;
	struct bt_qcow_reclaimer *r = &q->reclaimer;

	r->users[frame->phase]--;
	if (bt_unlikely(r->in_grace) && !r->users[!r->phase]) {
		r->in_grace = false;
		bt_loop_defer(q->node->env->loop, &r->step);
	}
}

/* ---- reclaiming ----------------------------------------------------------- */

static struct bt_qcow *qcow_of(struct bt_qcow_reclaimer *r)
{
	return bt_container_of(r, struct bt_qcow, reclaimer);
}

static void flush_again(struct bt_qcow_frame *frame);

/* Flushes that waited are answered behind one more commit, which puts the
 * counts on disk; but the last one there is waits for a round more where this one
 * left something. */
static void ended(struct bt_qcow *q)
{
	struct bt_qcow_reclaimer *r = &q->reclaimer;
	struct bt_list now, *node;

	r->dropped.count -= r->covered;
	memmove(r->dropped.list, r->dropped.list + r->covered,
		r->dropped.count * sizeof(*r->dropped.list));
	r->covered = 0;
	r->next = 0;
	r->at = 0;
	r->busy = false;
	bt_list_init(&now);
	bt_list_splice_tail(&now, &r->flushes);
	while ((node = bt_list_pop(&now))) {
		struct bt_qcow_frame *frame =
			bt_list_entry(node, struct bt_qcow_frame, link);

		if (frame->late && r->dropped.count) {
			frame->late = false;
			bt_list_add_tail(&r->flushes, &frame->link);
		} else {
			flush_again(frame);
		}
	}
	if (!bt_list_empty(&r->flushes))
		reclaim_start(q);
}

/* The hole is made before the place is known to be free, so nobody's new data
 * can be in it. Where the file system cannot, the place holds old bytes, and is
 * marked so. */
static void punched(struct bt_io *io, int error)
{
	struct bt_qcow *q =
		qcow_of(bt_container_of(io, struct bt_qcow_reclaimer, io));

	if (error == -EOPNOTSUPP)
		q->reclaimer.no_punch = true;
	bt_qcow_is_free(q, io->offset, io->length, !error);
	go_on(q);
}

static void free_clusters(struct bt_qcow *q, uint64_t host, uint64_t bytes)
{
	struct bt_io *io = &q->reclaimer.io;

	if (!q->discard || q->reclaimer.no_punch || q->f.is_device) {
		bt_qcow_is_free(q, host, bytes, false);
		go_on(q);
		return;
	}
	memset(io, 0, sizeof(*io));
	io->file = &q->f.file;
	io->op = BT_IO_PUNCH;
	io->offset = host;
	io->length = bytes;
	io->done = punched;
	bt_engine_submit(io);
}

/* Counts one less for the clusters from host on, until one of them is free and
 * the next is not, or the page ends; returns how many were counted. A count of
 * 0 of something that was dropped is damage, and is left: freeing it twice
 * would give it out twice. */
static uint32_t count_down(struct bt_qcow *q, struct bt_meta_block *page,
			   uint32_t index, uint32_t max, uint32_t *freed)
{
	uint32_t order = q->geo.refcount_order, n = 0;
	uint32_t left = ((q->ref_page << 3) >> order) - index;

	if (max > left)
		max = left;
	for (*freed = 0; n < max; n++) {
		uint64_t count =
			bt_qcow_refcount_get(page->data, order, index + n);

		if (count > 1 && *freed)
			break;
		if (count)
			bt_qcow_refcount_set(page->data, order, index + n,
					     count - 1);
		if (count == 1)
			(*freed)++;
		else
			return n + 1;
	}
	return n;
}

/* step looks for the page again. */
static void have_page(struct bt_meta_wait *wait, struct bt_meta_block *block,
		      int error)
{
	struct bt_qcow_reclaimer *r =
		bt_container_of(wait, struct bt_qcow_reclaimer, wait);

	if (block)
		bt_meta_put(block);
	if (error) /* its clusters stay counted: they leak */
		r->at = r->dropped.list[r->next].bytes;
	go_on(qcow_of(r));
}

/* The next clusters of the first extent: 1 counted, 0 waits, or an errno. The
 * counts change in memory and go to disk with the next commit; a place may be
 * given out before, as its pointer is off the disk already. */
static int count_extent(struct bt_qcow *q, const struct bt_qcow_extent *extent,
			uint64_t *counted, uint64_t *freed)
{
	struct bt_qcow_reclaimer *r = &q->reclaimer;
	uint64_t host = extent->host + r->at, block;
	uint64_t left = (extent->bytes - r->at) >> q->geo.cluster_bits;
	struct bt_meta_block *page;
	uint32_t index, n, f;
	int rc;

	if (q->geo.version == 1) {
		*counted = *freed = extent->bytes - r->at;
		return 1;
	}
	r->wait.fn = have_page;
	rc = bt_qcow_get_refblock(q, &r->wait, host, &block);
	if (rc == 1 && !block)
		rc = -EIO;
	if (rc == 1)
		rc = bt_qcow_get_ref_page(q, &r->wait, block, host, &page,
					  &index);
	if (rc <= 0)
		return rc;
	n = count_down(q, page, index, (uint32_t)bt_min_u64(left, UINT32_MAX),
		       &f);
	bt_meta_dirty(page, 0, q->ref_page);
	bt_meta_put(page);
	*counted = (uint64_t)n << q->geo.cluster_bits;
	*freed = (uint64_t)f << q->geo.cluster_bits;
	return 1;
}

static void go_on(struct bt_qcow *q)
{
	bt_loop_defer(q->node->env->loop, &q->reclaimer.step);
}

/* One piece of one extent a turn of the work: nothing nests. A piece ends in
 * count_extent's wait, in punched, or in another turn. */
static void step(struct bt_work *work)
{
	struct bt_qcow_reclaimer *r =
		bt_container_of(work, struct bt_qcow_reclaimer, step);
	struct bt_qcow *q = qcow_of(r);
	struct bt_qcow_extent *extent;
	uint64_t counted, freed, host;
	int rc;

	while (r->next < r->covered &&
	       r->at >= r->dropped.list[r->next].bytes) {
		r->at = 0;
		r->next++;
	}
	if (r->next == r->covered) {
		ended(q);
		return;
	}
	extent = &r->dropped.list[r->next];
	host = extent->host + r->at;
	rc = count_extent(q, extent, &counted, &freed);
	if (rc == 0)
		return;
	if (rc < 0) {
		r->at = extent->bytes;
		go_on(q);
		return;
	}
	r->at += counted;
	if (freed)
		free_clusters(q, host, freed);
	else
		go_on(q);
}

/* The pointers are off the disk. Requests that looked at a table before that
 * are in the phase that ends here; those that come now see the new entries. */
static void committed(struct bt_meta_commit *commit, int error)
{
	struct bt_qcow_reclaimer *r =
		bt_container_of(commit, struct bt_qcow_reclaimer, commit);
	struct bt_qcow *q = qcow_of(r);

	if (error) { /* all of it again, with the next flush */
		r->covered = 0;
		ended(q);
		return;
	}
	r->phase = !r->phase;
	if (r->users[!r->phase])
		r->in_grace = true;
	else
		go_on(q);
}

/* Nothing happens where a round is under way: whoever waits for the end of it
 * (flushed) comes here again with what was dropped meanwhile. */
static void reclaim_start(struct bt_qcow *q)
{
	struct bt_qcow_reclaimer *r = &q->reclaimer;

	if (r->busy || !r->dropped.count)
		return;
	r->busy = true;
	r->covered = r->dropped.count;
	r->next = 0;
	r->at = 0;
	r->commit.fn = committed;
	bt_meta_commit(q->meta, &r->commit);
}

void bt_qcow_reclaim_init(struct bt_qcow *q)
{
	bt_list_init(&q->reclaimer.flushes);
	bt_work_init(&q->reclaimer.step, step);
}

/* ---- FLUSH ---------------------------------------------------------------- */

static void tell(struct bt_work *work)
{
	struct bt_qcow_frame *frame =
		bt_container_of(work, struct bt_qcow_frame, work);

	bt_request_complete(frame->req, frame->error);
}

/* Later: whoever gets the answer may close the image, and with it the cache that
 * is calling. */
static void answer(struct bt_qcow_frame *frame, int error)
{
	frame->error = error;
	bt_work_init(&frame->work, tell);
	bt_loop_defer(frame->run.q->node->env->loop, &frame->work);
}

static void flushed_again(struct bt_meta_commit *commit, int error)
{
	answer(bt_container_of(commit, struct bt_qcow_frame, commit), error);
}

/* Once more a commit: the counts of what became free. */
static void flush_again(struct bt_qcow_frame *frame)
{
	frame->commit.fn = flushed_again;
	bt_meta_commit(frame->run.q->meta, &frame->commit);
}

/* Ends at once where nothing was dropped: one commit, as without discards. */
static void flushed(struct bt_meta_commit *commit, int error)
{
	struct bt_qcow_frame *frame =
		bt_container_of(commit, struct bt_qcow_frame, commit);
	struct bt_qcow_reclaimer *r = &frame->run.q->reclaimer;

	if (error || (!r->busy && !r->dropped.count)) {
		answer(frame, error);
		return;
	}
	bt_list_add_tail(&r->flushes, &frame->link);
	reclaim_start(frame->run.q);
}

/* The commit that makes the data durable takes the pointers off the disk as
 * well. */
void bt_qcow_flush(struct bt_qcow_frame *frame)
{
	struct bt_qcow *q = frame->run.q;

	frame->late = frame->req->flags & BT_REQUEST_LAST && q->reclaimer.busy;
	reclaim_start(q); /* goes along in the same commit */
	frame->commit.fn = flushed;
	bt_meta_commit(q->meta, &frame->commit);
}
