/* SPDX-License-Identifier: BSD-3-Clause */
/* Clusters that earlier sessions freed, or that a crash left behind: nothing
 * counts them, and nothing lists them. A wish that comes when no free cluster is
 * known has one page of refcounts looked at, and what is free in it gets known.
 * So the search costs a wish one page, the open nothing, and it comes past each
 * page once a session.
 *
 * Below `at` a free cluster is in the list of free ones, from there to `end` it is
 * the search's to find, and from `end` on the clusters are new: no cluster is
 * known twice. That includes what is freed meanwhile (bt_qcow_is_free), which
 * is why nothing is looked at while the reclaimer is between counting a cluster
 * down and making a hole of it. */
#include <errno.h>
#include <string.h>

#include "driver/qcow/qcow.h"
#include "util/checked.h"

static void find(struct bt_qcow *q);
static void add_found(struct bt_qcow *q);

/* Cut in three: below `at` listed, from there to `end` left for the search to
 * find, from `end` on, which is new in this session, listed. */
void bt_qcow_is_free(struct bt_qcow *q, uint64_t host, uint64_t bytes,
		     bool zero)
{
	const struct bt_qcow_finder *f = &q->finder;
	uint64_t end = host + bytes;

	/* where there is no room to remember it, it is free all the same */
	if (host < f->at)
		bt_qcow_extent_add(&q->free, host,
				   bt_min_u64(end, f->at) - host, zero);
	host = bt_max_u64(host, f->end);
	if (host < end)
		bt_qcow_extent_add(&q->free, host, end - host, zero);
}

/* The search of this turn has ended, whatever it found; the wish is served from
 * what is known. */
static void found(struct bt_qcow *q)
{
	q->allocator.busy = false;
	bt_qcow_alloc_go(q);
}

/* A list that is full forgets the place: it stays free on disk, for another
 * session. */
static void add(struct bt_qcow *q, bool zero)
{
	const struct bt_qcow_extent *extent = &q->finder.found[q->finder.next];

	bt_qcow_extent_add(&q->free, extent->host, extent->bytes, zero);
	q->finder.next++;
}

static void punched(struct bt_io *io, int error)
{
	struct bt_qcow *q = bt_container_of(io, struct bt_qcow, finder.io);

	if (error == -EOPNOTSUPP)
		q->reclaimer.no_punch = true;
	add(q, !error);
	add_found(q);
}

/* As holes they can be used without being filled. One extent at a time: the
 * allocator is busy meanwhile, so none of them is given out with its hole on
 * the way. */
static void add_found(struct bt_qcow *q)
{
	struct bt_qcow_finder *f = &q->finder;
	bool punch = q->discard && !q->reclaimer.no_punch && !q->f.is_device;

	while (f->next < f->count && !punch)
		add(q, false);
	if (f->next == f->count) {
		found(q);
		return;
	}
	memset(&f->io, 0, sizeof(f->io));
	f->io.file = &q->f.file;
	f->io.op = BT_IO_PUNCH;
	f->io.offset = f->found[f->next].host;
	f->io.length = f->found[f->next].bytes;
	f->io.done = punched;
	bt_engine_submit(&f->io);
}

/* No error for the wish: it gets clusters from the end of the file. */
static void give_up(struct bt_qcow *q)
{
	q->finder.at = q->finder.end;
	found(q);
}

static void have_page(struct bt_meta_wait *wait, struct bt_meta_block *block,
		      int error)
{
	struct bt_qcow *q = bt_container_of(wait, struct bt_qcow, finder.wait);

	if (block)
		bt_meta_put(block);
	if (error) /* what cannot be read is not searched */
		give_up(q);
	else
		find(q);
}

/* A count of 0 is no proof in an image that is damaged; where a table lies is
 * known for certain. Without that a table whose count a crash lost would be
 * made a hole. */
static bool is_table(const struct bt_qcow *q, uint64_t host)
{
	return bt_qcow_guard_hits(q, host, bt_qcow_cluster(q)) ||
	       bt_qcow_region_hit(&q->geo, host, bt_qcow_cluster(q));
}

/* The runs of free clusters in the page, as many as are taken in one turn. at
 * moves past what was looked at, so each cluster is looked at once, and the
 * rest of the page is the next turn's. */
static void look(struct bt_qcow *q, const struct bt_meta_block *page,
		 uint32_t index)
{
	struct bt_qcow_finder *f = &q->finder;
	uint32_t order = q->geo.refcount_order;
	uint32_t entries = (q->ref_page << 3) >> order;
	struct bt_qcow_extents to = { f->found, 0 };

	f->next = 0;
	while (index < entries && f->at < f->end && to.count < QCOW_FOUND) {
		if (!bt_qcow_refcount_get(page->data, order, index) &&
		    !is_table(q, f->at))
			bt_qcow_extent_add(&to, f->at, bt_qcow_cluster(q),
					   false);
		index++;
		f->at += bt_qcow_cluster(q);
	}
	f->count = to.count;
}

/* Clusters without a block are free as well, but there is no end to them where
 * somebody made the file long: they are passed over. */
static void pass_block(struct bt_qcow *q)
{
	uint64_t span = UINT64_C(1)
			<< (q->geo.refblock_bits + q->geo.cluster_bits);

	q->finder.at = bt_min_u64(q->finder.end,
				  bt_align_down(q->finder.at, span) + span);
	found(q);
}

/* While it waits for a page the reclaimer can begin a round. It cannot
 * overtake: to count a cluster down it needs the same pages, and is behind the
 * search in their queues. */
static void find(struct bt_qcow *q)
{
	struct bt_qcow_finder *f = &q->finder;
	struct bt_meta_block *page;
	uint64_t block;
	uint32_t index;
	int rc;

	f->wait.fn = have_page;
	if (bt_qcow_refcount_locate(&q->geo, f->at).table_index >=
	    q->geo.reftable_entries) {
		give_up(q);
		return;
	}
	rc = bt_qcow_get_refblock(q, &f->wait, f->at, &block);
	if (rc == 1 && !block) {
		pass_block(q);
		return;
	}
	if (rc == 1)
		rc = bt_qcow_get_ref_page(q, &f->wait, block, f->at, &page,
					  &index);
	if (rc < 0)
		give_up(q);
	if (rc <= 0)
		return;
	look(q, page, index);
	bt_meta_put(page);
	add_found(q);
}

/* The search is worth a look only where no free place is known. */
bool bt_qcow_find(struct bt_qcow *q)
{
	struct bt_qcow_finder *f = &q->finder;

	if (bt_likely(f->at >= f->end) || q->free.count || q->reclaimer.busy)
		return false;
	q->allocator.busy = true;
	find(q);
	return true;
}
