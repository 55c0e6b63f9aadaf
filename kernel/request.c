// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The way of a request: from the block layer into a slot and its ring, and
 * from the completion ring back.
 *
 * A slot is the kernel's own record of a tag. busy says who may end the
 * request:
 *   false -> true    publish(), last of all, before the tag is in the ring
 *   true -> false    before the request is ended: by reap_one(), under the
 *                    queue's cq_lock and while the ring is not dead; or by
 *                    bt_request_fail_all(), once the ring is dead
 * so a request is ended exactly once, whatever the daemon writes. The
 * descriptor in shared memory is never read back; a completion is read once
 * and checked against the slot; gen tells an answer to the tag's last use
 * from one to this use.
 */
#include <linux/bio.h>
#include <linux/highmem.h>
#include <linux/jiffies.h>
#include <linux/nospec.h>

#include "blktap.h"
#include "compat.h"

/*
 * Physically contiguous pages are copied as one where they are mapped as one
 * and nothing has to be done page by page.
 */
#if defined(CONFIG_HIGHMEM) || ARCH_IMPLEMENTS_FLUSH_DCACHE_PAGE
#define for_each_part rq_for_each_segment
#else
#define for_each_part rq_for_each_bvec
#endif

/*
 * A copy of constant size is made in line, which on x86 is by the string
 * instructions; memcpy itself moves words where those are slow for few bytes.
 */
static void copy_bytes(u8 *to, const u8 *from, u32 n)
{
	for (; n >= PAGE_SIZE; n -= PAGE_SIZE) {
		memcpy(to, from, PAGE_SIZE);
		to += PAGE_SIZE;
		from += PAGE_SIZE;
	}
	if (n)
		memcpy(to, from, n);
}

/* Between a request's pages and its slot; whole requests only. */
static void copy_data(struct bt_area *a, u64 at, struct request *rq,
		      bool to_slot)
{
	struct req_iterator iter;
	struct bio_vec bv;
	u8 *slot = (u8 *)a->map + at;

	for_each_part(bv, rq, iter)
	{
		u8 *part = bvec_kmap_local(&bv);

		if (to_slot)
			copy_bytes(slot, part, bv.bv_len);
		else
			copy_bytes(part, slot, bv.bv_len);
		slot += bv.bv_len;
		if (!to_slot)
			flush_dcache_page(bv.bv_page);
		kunmap_local(part);
	}
}

/* Where a tag's slot lies in the area. */
static u64 slot_at(const struct bt_disk *d, const struct bt_ring *r, u32 queue,
		   u32 tag)
{
	return r->layout.data_offset +
	       ((u64)queue * d->par.depth + tag) * d->par.slot_bytes;
}

static struct blktap_desc desc_of(const struct bt_disk *d,
				  const struct bt_ring *r, u32 queue, u32 tag,
				  const struct bt_slot *slot)
{
	return (struct blktap_desc){
		.gen = slot->gen,
		.tag = tag,
		.op = slot->op,
		.flags = slot->flags,
		.bytes = slot->bytes,
		.offset = slot->offset,
		.data = slot->op <= BLKTAP_REQ_WRITE ? slot_at(d, r, queue, tag)
						     : 0,
	};
}

/* Requests of one queue that are ready to be handed to the daemon. */
struct batch {
	u32 queue;
	bool any; /* there was one: so there is a ring */
	u32 nr;
	u32 tags[32];
};

/*
 * Hands slots to the daemon. After a tag is in the ring the request may be
 * ended at any moment, so nothing of it is touched below that.
 */
static void publish(struct bt_disk *d, struct batch *b)
{
	struct bt_ring *r = d->ring;
	struct bt_queue *q = &r->queues[b->queue];
	u32 mask = r->layout.entries - 1, tail, i;

	spin_lock(&q->sq_lock);
	tail = q->sq_tail;
	for (i = 0; i < b->nr; i++) {
		u32 tag = b->tags[i];
		struct bt_slot *slot = &d->slots[b->queue * d->par.depth + tag];

		slot->gen = ++q->gen;
		q->desc[tag] = desc_of(d, r, b->queue, tag, slot);
		smp_store_release(&slot->busy, true);
		q->sq[tail++ & mask] = tag;
	}
	smp_store_release(&q->shared->sq_tail, tail);
	WRITE_ONCE(q->sq_tail, tail);
	q->requests += b->nr;
	spin_unlock(&q->sq_lock);
	b->nr = 0;
}

/* A slot that was described, with what is to be written. */
static void add(struct bt_disk *d, struct batch *b, u32 tag)
{
	struct bt_slot *slot = &d->slots[b->queue * d->par.depth + tag];

	if (slot->op == BLKTAP_REQ_WRITE)
		copy_data(d->ring->area, slot_at(d, d->ring, b->queue, tag),
			  slot->rq, true);
	b->any = true;
	b->tags[b->nr++] = tag;
	if (b->nr == ARRAY_SIZE(b->tags))
		publish(d, b);
}

/* Fills the slot from the request; false for what we do not serve. */
static blk_status_t describe(struct bt_disk *d, struct request *rq,
			     struct bt_slot *slot)
{
	bool writes = true;

	slot->flags = 0;
	switch (req_op(rq)) {
	case REQ_OP_READ:
		slot->op = BLKTAP_REQ_READ;
		writes = false;
		break;
	case REQ_OP_WRITE:
		slot->op = BLKTAP_REQ_WRITE;
		if (rq->cmd_flags & REQ_FUA)
			slot->flags |= BLKTAP_REQ_FUA;
		break;
	case REQ_OP_FLUSH:
		slot->op = BLKTAP_REQ_FLUSH;
		writes = false;
		break;
	case REQ_OP_DISCARD:
		slot->op = BLKTAP_REQ_DISCARD;
		break;
	case REQ_OP_WRITE_ZEROES:
		slot->op = BLKTAP_REQ_WRITE_ZEROES;
		if (rq->cmd_flags & REQ_NOUNMAP)
			slot->flags |= BLKTAP_REQ_NOUNMAP;
		break;
	default:
		return BLK_STS_NOTSUPP;
	}
	/* 6.1 only warns of a write to a read-only disk. */
	if (writes && (d->par.flags & BLKTAP_DISK_READ_ONLY))
		return BLK_STS_IOERR;
	slot->rq = rq;
	slot->offset = slot->op == BLKTAP_REQ_FLUSH
			       ? 0
			       : (u64)blk_rq_pos(rq) << SECTOR_SHIFT;
	slot->bytes = blk_rq_bytes(rq);
	slot->start = jiffies;
	/* The limits say so already; a slot is no place to take it on trust. */
	if (slot->op <= BLKTAP_REQ_WRITE && slot->bytes > d->par.slot_bytes)
		return BLK_STS_IOERR;
	return BLK_STS_OK;
}

static void begin_batch(struct batch *b, u32 queue)
{
	b->queue = queue;
	b->any = false;
	b->nr = 0;
}

static blk_status_t start(struct bt_disk *d, struct batch *b,
			  struct request *rq)
{
	u32 tag = rq->tag;
	blk_status_t status;

	if (unlikely(READ_ONCE(d->failed)))
		return BLK_STS_IOERR;
	status = describe(d, rq, &d->slots[b->queue * d->par.depth + tag]);
	if (unlikely(status))
		return status;
	blk_mq_start_request(rq);
	add(d, b, tag);
	return BLK_STS_OK;
}

static blk_status_t queue_rq(struct blk_mq_hw_ctx *hctx,
			     const struct blk_mq_queue_data *bd)
{
	struct bt_disk *d = hctx->queue->queuedata;
	struct batch b;
	blk_status_t status;

	begin_batch(&b, hctx->queue_num);
	status = start(d, &b, bd->rq);
	if (status)
		return status;
	publish(d, &b);
	if (bd->last)
		bt_ring_notify(d->ring, &d->ring->queues[b.queue]);
	return BLK_STS_OK;
}

/* A disk that has failed has no ring, and nothing was started on it. */
static void end_of_batch(struct bt_disk *d, struct batch *b)
{
	if (!b->any)
		return;
	if (b->nr)
		publish(d, b);
	bt_ring_notify(d->ring, &d->ring->queues[b->queue]);
}

/*
 * What one task submitted at once, to one disk, but maybe to several queues.
 * What cannot be started goes back, and the block layer gives it and the rest
 * to queue_rq, which says why.
 */
static void queue_rqs(bt_rq_list *list)
{
	struct bt_disk *d = NULL;
	struct request *rq;
	struct batch b;

	while ((rq = rq_list_pop(list))) {
		u32 queue = rq->mq_hctx->queue_num;

		if (d && b.queue != queue) {
			end_of_batch(d, &b);
			d = NULL;
		}
		if (!d) {
			d = rq->q->queuedata;
			begin_batch(&b, queue);
		}
		if (unlikely(start(d, &b, rq))) {
			bt_rq_list_push(list, rq);
			break;
		}
	}
	if (d)
		end_of_batch(d, &b);
}

/*
 * The end of a batch whose last request did not say that it was. A plug of several
 * queues comes here for a quiesced disk, too, which may have no ring: its requests
 * were put aside.
 */
static void commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	struct bt_disk *d = hctx->queue->queuedata;

	if (!READ_ONCE(d->failed) && !blk_queue_quiesced(hctx->queue))
		bt_ring_notify(d->ring, &d->ring->queues[hctx->queue_num]);
}

/*
 * A slow daemon is its owner's affair: counted and told, never punished.
 * The slot is read without a lock, good enough for a message.
 */
static enum blk_eh_timer_return timed_out(struct request *rq)
{
	struct bt_disk *d = rq->q->queuedata;
	u32 queue = rq->mq_hctx->queue_num;
	struct bt_slot *slot = &d->slots[queue * d->par.depth + rq->tag];

	atomic_inc(&d->slow);
	pr_notice_ratelimited("%s: queue %u tag %d unanswered for %u ms\n",
			      d->gd->disk_name, queue, rq->tag,
			      jiffies_to_msecs(jiffies - slot->start));
	return BLK_EH_RESET_TIMER;
}

const struct blk_mq_ops bt_mq_ops = {
	.queue_rq = queue_rq,
	.queue_rqs = queue_rqs,
	.commit_rqs = commit_rqs,
	.timeout = timed_out,
};

/* Errors a caller can act upon pass, the rest is EIO. */
static blk_status_t status_of(s32 result)
{
	switch (result) {
	case -ENOSPC:
		return BLK_STS_NOSPC;
	case -EOPNOTSUPP:
		return BLK_STS_NOTSUPP;
	case -ETIMEDOUT:
		return BLK_STS_TIMEOUT;
	default:
		return result < 0 ? BLK_STS_IOERR : BLK_STS_OK;
	}
}

/* One completion, already out of the daemon's reach. */
static const char *reap_one(struct bt_ring *r, u32 queue,
			    const struct blktap_cqe *cqe,
			    struct io_comp_batch *batch)
{
	struct bt_disk *d = r->disk;
	struct bt_slot *slot;
	struct request *rq;
	blk_status_t status;

	if (cqe->tag >= d->par.depth)
		return "no such tag";
	/* Checked above, and not to be speculated past. */
	slot = &d->slots[queue * d->par.depth +
			 array_index_nospec(cqe->tag, d->par.depth)];
	if (!smp_load_acquire(&slot->busy))
		return "tag not in flight";
	if (cqe->gen != slot->gen)
		return "wrong generation";
	if (cqe->reserved)
		return "reserved field set";
	if (cqe->result >= 0 ? (u32)cqe->result != slot->bytes
			     : cqe->result < -MAX_ERRNO)
		return "wrong result";

	rq = slot->rq;
	status = status_of(cqe->result);
	if (slot->op == BLKTAP_REQ_READ && !status)
		copy_data(r->area, slot_at(d, r, queue, cqe->tag), rq, false);
	WRITE_ONCE(slot->busy, false);
	if (!blk_mq_add_to_batch(rq, batch, status != BLK_STS_OK,
				 blk_mq_end_request_batch))
		blk_mq_end_request(rq, status);
	return NULL;
}

static void read_once(struct blktap_cqe *to, const struct blktap_cqe *from)
{
	to->tag = READ_ONCE(from->tag);
	to->gen = READ_ONCE(from->gen);
	to->result = READ_ONCE(from->result);
	to->reserved = READ_ONCE(from->reserved);
}

static void end_away(void *arg)
{
	struct bt_queue *q = arg;
	struct io_comp_batch batch = q->away;

	/* The ring may go from here on; the requests hold the disk. */
	smp_store_release(&q->is_away, false);
	batch.complete(&batch);
}

void bt_request_init_queue(struct bt_queue *q)
{
	INIT_CSD(&q->csd, end_away, q);
}

/*
 * Ends a batch on the CPU that it came from: there is the cache that what it
 * frees came from, and there is who waits for it. That does not pay for one
 * request. One batch at a time is on its way; another is ended here.
 */
static void end_batch(struct bt_queue *q, struct io_comp_batch *batch)
{
	struct request *rq = rq_list_peek(&batch->req_list);
	unsigned int cpu;

	if (!rq)
		return;
	cpu = blk_mq_rq_cpu(rq);
	if (rq->rq_next && cpu != raw_smp_processor_id() &&
	    !smp_load_acquire(&q->is_away)) {
		q->away = *batch;
		WRITE_ONCE(q->is_away, true);
		if (!smp_call_function_single_async(cpu, &q->csd))
			return;
		WRITE_ONCE(q->is_away, false); /* no such CPU any more */
	}
	batch->complete(batch);
}

/*
 * Takes what the daemon has answered, at most one ring full. 0, or what
 * ENTER says; EBADMSG leaves the reason in @why, and the caller fails the
 * disk once the lock is free.
 */
int bt_request_reap(struct bt_ring *r, struct bt_queue *q, char *why,
		    size_t len)
{
	DEFINE_IO_COMP_BATCH(batch);
	u32 queue = q - r->queues, n;
	struct blktap_cqe cqe = {};
	const char *bad = NULL;
	int err;

	mutex_lock(&q->cq_lock);
	q->enters++;
	err = q->dead;
	if (err)
		goto unlock;
	n = smp_load_acquire(&q->shared->cq_tail) - q->cq_head;
	if (n > r->layout.entries) {
		snprintf(why, len, "queue %u: %u completions in a ring of %u",
			 queue, n, r->layout.entries);
		err = -EBADMSG;
		goto unlock;
	}
	for (; n && !bad; n--) {
		read_once(&cqe, &q->cq[q->cq_head & (r->layout.entries - 1)]);
		q->cq_head++;
		bad = reap_one(r, queue, &cqe, &batch);
		/* A full ring can be a long copy. */
		cond_resched();
	}
	end_batch(q, &batch);
	if (bad) {
		snprintf(why, len,
			 "queue %u: bad completion: %s "
			 "(tag %u, result %d)",
			 queue, bad, cqe.tag, cqe.result);
		err = -EBADMSG;
	}
unlock:
	mutex_unlock(&q->cq_lock);
	return err;
}

/* A new daemon's ring gets every request that the old one left unanswered. */
void bt_request_replay(struct bt_disk *d)
{
	struct batch b = {};
	u32 tag;

	for (b.queue = 0; b.queue < d->par.queues; b.queue++) {
		for (tag = 0; tag < d->par.depth; tag++) {
			if (d->slots[b.queue * d->par.depth + tag].busy)
				add(d, &b, tag);
			cond_resched();
		}
		publish(d, &b);
	}
}

static void fail_queue(struct bt_disk *d, u32 queue)
{
	struct bt_slot *slot = &d->slots[queue * d->par.depth];
	u32 tag;

	for (tag = 0; tag < d->par.depth; tag++, slot++) {
		if (!slot->busy)
			continue;
		slot->busy = false;
		blk_mq_end_request(slot->rq, BLK_STS_IOERR);
	}
}

/*
 * Every request now and later fails. Quiescing waits for those who are just
 * publishing; the lock for those who are just reaping.
 */
void bt_request_fail_all(struct bt_disk *d)
{
	u32 queue;

	WRITE_ONCE(d->failed, true);
	if (!d->quiesced)
		blk_mq_quiesce_queue(d->gd->queue);
	if (d->ring)
		bt_ring_kill(d->ring, -ESHUTDOWN);
	for (queue = 0; queue < d->par.queues; queue++)
		fail_queue(d, queue);
	d->quiesced = false;
	blk_mq_unquiesce_queue(d->gd->queue);
}
