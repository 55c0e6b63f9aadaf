// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The memory a ring shares with its daemon.
 *
 * Ordinary pages, in compounds of up to 16, each compound with a reference of
 * ours and one per user mapping of a page of it: that makes O_DIRECT from a slot
 * work, and makes it safe to let go of the area while somebody else still uses a
 * page. Pages come zeroed and go back to the system; none ever passes from one
 * daemon to the next.
 */
#include <linux/gfp.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "blktap.h"

static unsigned int max_area_mb = 256;
module_param(max_area_mb, uint, 0644);
MODULE_PARM_DESC(max_area_mb, "largest data area of one disk, in MiB");

static unsigned int max_total_mb;
module_param(max_total_mb, uint, 0644);
MODULE_PARM_DESC(max_total_mb,
		 "data areas of all disks, in MiB (0: a quarter of memory)");

static atomic_long_t pages_used;

u64 bt_area_limit(void)
{
	return (u64)max_area_mb << 20;
}

/*
 * Counted in pages over all disks, against a module parameter that may be
 * changed at any time; what is there stays.
 */
static unsigned long total_limit(void)
{
	if (!max_total_mb)
		return totalram_pages() / 4;
	return (unsigned long)max_total_mb << (20 - PAGE_SHIFT);
}

/* Bounds were checked by bt_disk_check: nothing here can overflow. */
void bt_layout_of(struct bt_layout *l, const struct blktap_create *par)
{
	u64 at = sizeof(struct blktap_queue);

	l->entries = roundup_pow_of_two(par->depth);
	l->sq_offset = at;
	at = ALIGN(at + l->entries * sizeof(u32), SMP_CACHE_BYTES);
	l->desc_offset = at;
	at += (u64)par->depth * sizeof(struct blktap_desc);
	at = ALIGN(at, SMP_CACHE_BYTES);
	l->cq_offset = at;
	at += (u64)l->entries * sizeof(struct blktap_cqe);
	l->queue_stride = PAGE_ALIGN(at);
	l->data_offset = (u64)l->queue_stride * par->queues;
	l->bytes = l->data_offset +
		   (u64)par->queues * par->depth * par->slot_bytes;
}

/*
 * Compounds where they are to be had: fewer segments when user space does
 * O_DIRECT from a slot, and since 6.12 gup_fast takes no single page that has no
 * mapping, for it might be secret.
 */
static int fill(struct bt_area *a, unsigned long want)
{
	const gfp_t gfp =
		GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN | __GFP_COMP;
	unsigned int order = 4, i;
	struct page *page;

	while (a->nr < want) {
		if (fatal_signal_pending(current))
			return -EINTR;
		while (order && a->nr + (1UL << order) > want)
			order--;
		/* without a fight for compounds; single pages are worth some */
		page = alloc_pages(
			gfp | (order ? __GFP_NORETRY : __GFP_RETRY_MAYFAIL),
			order);
		if (!page) {
			if (!order--)
				return -ENOMEM;
			continue;
		}
		for (i = 0; i < 1U << order; i++)
			a->pages[a->nr++] = page + i;
		cond_resched();
	}
	return 0;
}

/*
 * Counted before it is allocated, so that two at once cannot both fit what only
 * one may have.
 */
int bt_area_create(struct bt_area **out, const struct bt_layout *l)
{
	unsigned long want = l->bytes >> PAGE_SHIFT;
	struct bt_area *a;
	int err = -ENOMEM;

	if (atomic_long_add_return(want, &pages_used) > total_limit()) {
		atomic_long_sub(want, &pages_used);
		return -ENOSPC;
	}
	a = kzalloc(sizeof(*a), GFP_KERNEL);
	if (!a)
		goto uncount;
	a->ring_nr = l->data_offset >> PAGE_SHIFT;
	a->pages = kvcalloc(want, sizeof(*a->pages), GFP_KERNEL);
	if (!a->pages)
		goto destroy;
	/* no compound reaches from one part into the other */
	err = fill(a, a->ring_nr);
	if (!err)
		err = fill(a, want);
	if (err)
		goto destroy;
	a->map = vmap(a->pages, a->nr, VM_MAP, PAGE_KERNEL);
	if (!a->map) {
		err = -ENOMEM;
		goto destroy;
	}
	*out = a;
	return 0;
destroy:
	/* bt_area_destroy gives back what was filled; the rest is ours to */
	want -= a->nr;
	bt_area_destroy(a);
uncount:
	atomic_long_sub(want, &pages_used);
	return err;
}

void bt_area_unmap(struct bt_area *a)
{
	vunmap(a->map);
	a->map = NULL;
}

/*
 * Pages that somebody else has a reference to stay until he lets go of them;
 * they count no more.
 */
void bt_area_destroy(struct bt_area *a)
{
	unsigned long i, n;

	if (!a)
		return;
	vunmap(a->map);
	for (i = 0; i < a->nr; i += n) {
		n = compound_nr(a->pages[i]); /* while it is ours */
		put_page(a->pages[i]);
	}
	atomic_long_sub(a->nr, &pages_used);
	kvfree(a->pages);
	kfree(a);
}

/*
 * With all mappings gone, a reference that is not ours is I/O under way, and
 * it may still write old data to an image.
 */
bool bt_area_is_pinned(const struct bt_area *a)
{
	unsigned long i;

	for (i = a->ring_nr; i < a->nr; i += compound_nr(a->pages[i]))
		if (page_count(a->pages[i]) > 1)
			return true;
	return false;
}
