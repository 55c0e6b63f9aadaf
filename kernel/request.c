// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/*
 * The way of a request: from the block layer into a slot and its ring, and
 * from the completion ring back.
 *
 * A slot is the kernel's own record of a tag. Its state says who may end the
 * request:
 *   FREE -> OUT        publish(), last of all, before the tag is in the ring
 *   OUT -> FREE        before the request is ended: by take_answer(), under the
 *                      queue's cq_lock and while the ring is not dead; or by
 *                      bt_request_fail_all(), once the ring is dead
 *   OUT -> MOVING      bt_request_begin_move(), as take_answer()
 *   MOVING -> OUT      bt_request_end_move(): its file has been read or written
 *   MOVING -> DOOMED   bt_request_fail_all(); the pages are in use, so it is left
 *                      to bt_request_end_move() to end the request
 * so a request is ended exactly once, whatever the daemon writes. The
 * descriptor in shared memory is never read back; a completion is read once
 * and checked against the slot; gen tells an answer to the tag's last use
 * from one to this use.
 */
#include <linux/jiffies.h>
#include <linux/nospec.h>

#include "blktap.h"
#include "compat.h"

/* A full ring can be a long copy: bytes after which others may have the CPU. */
#define COPY_AT_ONCE (128U << 10)

/* Requests of one queue on their way to the daemon. */
struct batch {
	struct bt_ring *ring; /* NULL: the disk has failed, and nothing goes */
	struct bt_queue *q;
	u32 nr;
	u16 tags[32]; /* below BLKTAP_MAX_DEPTH */
};

/*
 * While one is being made the ring stays: whoever takes it away has set failed
 * and waits for us (bt_request_fail_all), or has quiesced the queue.
 */
static void begin_batch(struct batch *b, struct bt_disk *d, u32 queue)
{
	b->nr = 0;
	b->ring = READ_ONCE(d->failed) ? NULL : d->ring;
	if (likely(b->ring))
		b->q = &b->ring->queues[queue];
}

/*
 * Hands slots to the daemon. After a tag is in the ring the request may be
 * ended at any moment, so nothing of it is touched below that. A tag is stored
 * before the tail, and the tail released, so a daemon that sees the tail sees
 * tag, descriptor and data.
 */
static void publish(struct batch *b)
{
	struct bt_queue *q = b->q;
	u32 mask = b->ring->layout.entries - 1, tail, i;

	spin_lock(&q->sq_lock);
	tail = q->sq_tail;
	for (i = 0; i < b->nr; i++) {
		u32 tag = b->tags[i];

		smp_store_release(&q->slots[tag].state, BT_SLOT_OUT);
		q->sq[tail++ & mask] = tag;
	}
	smp_store_release(&q->shared->sq_tail, tail);
	WRITE_ONCE(q->sq_tail, tail);
	q->requests += b->nr;
	spin_unlock(&q->sq_lock);
	b->nr = 0;
}

/*
 * A request that is described in its slot and in the ring: nobody else has the tag,
 * so that may be done before the tag is there.
 */
static __always_inline void add(struct batch *b, const struct bt_slot *slot,
				struct request *rq, int op)
{
	if (op == BLKTAP_REQ_WRITE && likely(!slot->deferred))
		bt_copy_in((u8 *)b->ring->area->map + slot->data, rq);
	b->tags[b->nr++] = rq->tag;
	if (b->nr == ARRAY_SIZE(b->tags))
		publish(b);
}

/* What the daemon is asked for; negative: what we do not serve. */
static int op_of(const struct request *rq)
{
	switch (req_op(rq)) {
	case REQ_OP_FLUSH:
		return BLKTAP_REQ_FLUSH;
	case REQ_OP_DISCARD:
		return BLKTAP_REQ_DISCARD;
	case REQ_OP_WRITE_ZEROES:
		return BLKTAP_REQ_WRITE_ZEROES;
	default:
		return -EOPNOTSUPP;
	}
}

static __always_inline blk_status_t check(const struct bt_disk *d,
					  const struct request *rq, int op)
{
	if (unlikely(op < 0))
		return BLK_STS_NOTSUPP;
	/* 6.1 only warns of a write to a read-only disk. */
	if (op != BLKTAP_REQ_READ && op != BLKTAP_REQ_FLUSH &&
	    unlikely(d->par.flags & BLKTAP_DISK_READ_ONLY))
		return BLK_STS_IOERR;
	/* The limits say so already; a slot is no place to take it on trust. */
	if (op <= BLKTAP_REQ_WRITE && blk_rq_bytes(rq) > d->par.slot_bytes)
		return BLK_STS_IOERR;
	return BLK_STS_OK;
}

u64 bt_request_offset(const struct request *rq, u32 op)
{
	return op == BLKTAP_REQ_FLUSH ? 0 : blk_rq_pos(rq) << SECTOR_SHIFT;
}

/*
 * For the daemon, in shared memory, and what an answer is checked by in the slot. A
 * request does not change while it is under way, so this may be done again.
 */
static __always_inline void describe(const struct batch *b,
				     struct bt_slot *slot,
				     const struct request *rq, int op,
				     bool deferred)
{
	struct blktap_desc *desc = &b->q->desc[rq->tag];
	u32 bytes = blk_rq_bytes(rq), gen = slot->gen + 1;
	u16 flags = 0;

	if (op == BLKTAP_REQ_WRITE)
		flags = (rq->cmd_flags & REQ_FUA ? BLKTAP_REQ_FUA : 0) |
			(deferred ? BLKTAP_REQ_DEFERRED : 0);
	else if (unlikely(op == BLKTAP_REQ_WRITE_ZEROES) &&
		 rq->cmd_flags & REQ_NOUNMAP)
		flags = BLKTAP_REQ_NOUNMAP;
	slot->gen = gen;
	slot->bytes = bytes;
	slot->op = op;
	slot->deferred = deferred;
	slot->moved = false;
	desc->gen = gen;
	desc->tag = rq->tag;
	desc->op = op;
	desc->pad = 0;
	desc->flags = flags;
	desc->bytes = bytes;
	desc->offset = bt_request_offset(rq, op);
	desc->data = op <= BLKTAP_REQ_WRITE ? slot->data : 0;
}

static __always_inline blk_status_t start_as(struct batch *b,
					     struct request *rq, int op)
{
	struct bt_slot *slot;
	blk_status_t status;

	if (unlikely(!b->ring))
		return BLK_STS_IOERR;
	status = check(b->ring->disk, rq, op);
	if (unlikely(status))
		return status;
	slot = &b->q->slots[rq->tag];
	slot->rq = rq;
	WRITE_ONCE(slot->start, jiffies);
	describe(b, slot, rq, op,
		 op == BLKTAP_REQ_WRITE && READ_ONCE(b->ring->defers));
	blk_mq_start_request(rq);
	add(b, slot, rq, op);
	return BLK_STS_OK;
}

static noinline blk_status_t start_other(struct batch *b, struct request *rq)
{
	return start_as(b, rq, op_of(rq));
}

/* Made once for each of the two that nearly all are. */
static __always_inline blk_status_t start(struct batch *b, struct request *rq)
{
	if (req_op(rq) == REQ_OP_READ)
		return start_as(b, rq, BLKTAP_REQ_READ);
	if (req_op(rq) == REQ_OP_WRITE)
		return start_as(b, rq, BLKTAP_REQ_WRITE);
	return start_other(b, rq);
}

static blk_status_t queue_rq(struct blk_mq_hw_ctx *hctx,
			     const struct blk_mq_queue_data *bd)
{
	struct batch b;
	blk_status_t status;

	begin_batch(&b, hctx->queue->queuedata, hctx->queue_num);
	status = start(&b, bd->rq);
	if (status)
		return status;
	publish(&b);
	if (bd->last)
		bt_ring_notify(b.ring, b.q);
	return BLK_STS_OK;
}

/* On a disk that has failed nothing was started. */
static void end_batch_of(struct batch *b)
{
	if (unlikely(!b->ring))
		return;
	if (b->nr)
		publish(b);
	bt_ring_notify(b->ring, b->q);
}

/*
 * What one task submitted at once, to one disk, but maybe to several queues.
 * What cannot be started goes back, and the block layer gives it and the rest
 * to queue_rq, which says why.
 */
static void queue_rqs(bt_rq_list *list)
{
	struct blk_mq_hw_ctx *hctx = NULL;
	struct request *rq;
	struct batch b;

	while ((rq = rq_list_pop(list))) {
		if (hctx != rq->mq_hctx) {
			if (hctx)
				end_batch_of(&b);
			hctx = rq->mq_hctx;
			begin_batch(&b, rq->q->queuedata, hctx->queue_num);
		}
		if (unlikely(start(&b, rq))) {
			bt_rq_list_push(list, rq);
			break;
		}
	}
	if (hctx)
		end_batch_of(&b);
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
static blk_status_t status_of(s32 error)
{
	switch (error) {
	case -ENOSPC:
		return BLK_STS_NOSPC;
	case -EOPNOTSUPP:
		return BLK_STS_NOTSUPP;
	case -ETIMEDOUT:
		return BLK_STS_TIMEOUT;
	default:
		return BLK_STS_IOERR;
	}
}

/* Answers of one queue that are being taken. */
struct answers {
	const struct bt_queue *q;
	u8 *map; /* of the area */
	u32 depth;
	u32 copied; /* since others had the CPU */
};

static __always_inline void take_data(struct answers *a, struct bt_slot *slot)
{
	bt_copy_out(a->map + slot->data, slot->rq);
	a->copied += slot->bytes;
	if (a->copied >= COPY_AT_ONCE) {
		a->copied = 0;
		cond_resched();
	}
}

/* What is wrong with a completion, which is out of the daemon's reach already. */
static __always_inline const char *check_answer(const struct answers *a,
						const struct blktap_cqe *cqe,
						struct bt_slot **out)
{
	struct bt_slot *slot;

	if (cqe->tag >= a->depth)
		return "no such tag";
	/* Checked above, and not to be speculated past. */
	slot = &a->q->slots[array_index_nospec(cqe->tag, a->depth)];
	if (unlikely(smp_load_acquire(&slot->state) != BT_SLOT_OUT))
		return slot->state == BT_SLOT_FREE ? "tag not in flight"
						   : "its data is being moved";
	if (cqe->gen != slot->gen)
		return "wrong generation";
	if (cqe->reserved)
		return "reserved field set";
	if (cqe->result >= 0 ? (u32)cqe->result != slot->bytes
			     : cqe->result < -MAX_ERRNO)
		return "wrong result";
	*out = slot;
	return NULL;
}

static noinline void take_error(struct bt_slot *slot, s32 error)
{
	struct request *rq = slot->rq;

	WRITE_ONCE(slot->state, BT_SLOT_FREE);
	blk_mq_end_request(rq, status_of(error));
}

/* One that is in order. */
static __always_inline void take_answer(struct answers *a, struct bt_slot *slot,
					s32 result, struct io_comp_batch *done)
{
	struct request *rq = slot->rq;

	if (unlikely(result < 0)) {
		take_error(slot, result);
		return;
	}
	if (slot->op == BLKTAP_REQ_READ && !slot->moved)
		take_data(a, slot);
	WRITE_ONCE(slot->state, BT_SLOT_FREE);
	if (!blk_mq_add_to_batch(rq, done, false, blk_mq_end_request_batch))
		blk_mq_end_request(rq, BLK_STS_OK);
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
 * request. One batch at a time is on its way; another is ended here. So are all
 * where spinlocks sleep (PREEMPT_RT): whose bio ends may take one, and the other
 * CPU is called by an interrupt.
 */
static void end_batch(struct bt_queue *q, struct io_comp_batch *batch)
{
	struct request *rq = rq_list_peek(&batch->req_list);
	unsigned int cpu;

	if (!rq)
		return;
	cpu = blk_mq_rq_cpu(rq);
	if (!IS_ENABLED(CONFIG_PREEMPT_RT) && rq->rq_next &&
	    cpu != raw_smp_processor_id() && !smp_load_acquire(&q->is_away)) {
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
	u32 queue = q - r->queues, mask = r->layout.entries - 1, head, n;
	struct answers a = { .q = q };
	struct io_comp_batch done = {};
	struct blktap_cqe cqe;
	struct bt_slot *slot;
	const char *bad;
	int err;

	mutex_lock(&q->cq_lock);
	q->enters++;
	err = q->dead;
	if (err)
		goto unlock;
	head = q->cq_head;
	n = smp_load_acquire(&q->shared->cq_tail) - head;
	if (n > r->layout.entries) {
		snprintf(why, len, "queue %u: %u completions in a ring of %u",
			 queue, n, r->layout.entries);
		err = -EBADMSG;
		goto unlock;
	}
	a.depth = r->disk->par.depth;
	a.map = r->area->map;
	for (; n; n--) {
		read_once(&cqe, &q->cq[head++ & mask]);
		bad = check_answer(&a, &cqe, &slot);
		if (unlikely(bad)) {
			snprintf(why, len,
				 "queue %u: bad completion: %s "
				 "(tag %u, result %d)",
				 queue, bad, cqe.tag, cqe.result);
			err = -EBADMSG;
			break;
		}
		take_answer(&a, slot, cqe.result, &done);
	}
	WRITE_ONCE(q->cq_head, head);
	end_batch(q, &done);
unlock:
	mutex_unlock(&q->cq_lock);
	return err;
}

/*
 * A slot whose data MOVE is about to read or write, which nobody else ends until
 * bt_request_end_move; NULL: the daemon has no such request, or has it moved just
 * now. Under cq_lock, and while the ring is not dead.
 */
struct bt_slot *bt_request_begin_move(struct bt_ring *r, struct bt_queue *q,
				      u32 tag, u32 gen)
{
	u32 depth = r->disk->par.depth;
	struct bt_slot *slot;

	if (tag >= depth)
		return NULL;
	slot = &q->slots[array_index_nospec(tag, depth)];
	if (smp_load_acquire(&slot->state) != BT_SLOT_OUT || slot->gen != gen ||
	    slot->op > BLKTAP_REQ_WRITE)
		return NULL;
	WRITE_ONCE(slot->state, BT_SLOT_MOVING);
	return slot;
}

/* Without a lock: the disk may be on its way out, and waits for this request. */
void bt_request_end_move(struct bt_slot *slot)
{
	struct request *rq = slot->rq;

	if (cmpxchg_release(&slot->state, BT_SLOT_MOVING, BT_SLOT_OUT) ==
	    BT_SLOT_MOVING)
		return;
	WRITE_ONCE(slot->state, BT_SLOT_FREE);
	blk_mq_end_request(rq, BLK_STS_IOERR);
}

/* Who comes next may know nothing of deferring. */
static void add_again(struct batch *b, struct bt_slot *slot)
{
	describe(b, slot, slot->rq, slot->op, false);
	add(b, slot, slot->rq, slot->op);
}

/* A new daemon's ring gets every request that the old one left unanswered. */
void bt_request_replay(struct bt_disk *d)
{
	struct batch b;
	u32 queue, tag;

	for (queue = 0; queue < d->par.queues; queue++) {
		begin_batch(&b, d, queue);
		for (tag = 0; tag < d->par.depth; tag++) {
			if (b.q->slots[tag].state)
				add_again(&b, &b.q->slots[tag]);
			cond_resched();
		}
		publish(&b);
	}
}

/* False: there is no request, or MOVE has it, who ends it. */
static bool take_failed(struct bt_slot *slot)
{
	switch (cmpxchg(&slot->state, BT_SLOT_MOVING, BT_SLOT_DOOMED)) {
	case BT_SLOT_OUT:
		WRITE_ONCE(slot->state, BT_SLOT_FREE);
		/* After a move that has just ended, and all that it did. */
		smp_mb();
		return true;
	default:
		return false;
	}
}

static void fail_queue(struct bt_disk *d, u32 queue)
{
	struct bt_slot *slot = &d->slots[queue * d->par.depth];
	u32 tag;

	for (tag = 0; tag < d->par.depth; tag++, slot++)
		if (take_failed(slot))
			blk_mq_end_request(slot->rq, BLK_STS_IOERR);
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
	for (queue = 0; queue < d->par.queues; queue++) {
		fail_queue(d, queue);
		cond_resched();
	}
	d->quiesced = false;
	blk_mq_unquiesce_queue(d->gd->queue);
}

/*
 * How long the oldest unanswered request has waited, in jiffies; 0 where there is
 * none. A slot may be given to another request meanwhile, which is younger: then
 * this is too little, never too much.
 */
unsigned long bt_request_oldest(const struct bt_disk *d)
{
	u32 i, nr = d->par.queues * d->par.depth;
	unsigned long now = jiffies, start, most = 0;

	for (i = 0; i < nr; i++) {
		if (!smp_load_acquire(&d->slots[i].state))
			continue;
		start = READ_ONCE(d->slots[i].start);
		if (time_before(start, now))
			most = max(most, now - start);
	}
	return most;
}
