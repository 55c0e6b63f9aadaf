/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests, from the submission ring to the disk, and their answers.
 *
 * A request's buffer is its slot: the image reads and writes there. Answers are
 * put into the completion ring as they come, and one ENTER before the loop waits
 * tells of all of them. The wait is an ENTER, too, where the module can wait for the
 * loop's other descriptors: of all rings of a loop, in the one that was served last;
 * the others are among those descriptors. */
#include "frontend/ring.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "util/checked.h"

static const enum blktap_op ops[] = {
	[BLKTAP_REQ_READ] = BLKTAP_OP_READ,
	[BLKTAP_REQ_WRITE] = BLKTAP_OP_WRITE,
	[BLKTAP_REQ_FLUSH] = BLKTAP_OP_FLUSH,
	[BLKTAP_REQ_DISCARD] = BLKTAP_OP_DISCARD,
	[BLKTAP_REQ_WRITE_ZEROES] = BLKTAP_OP_WRITE_ZEROES,
};

void bt_ring_stop(struct blktap_ring *ring, enum bt_ring_stage stage)
{
	ring->stage = stage;
	ring->answered = 0;
	/* A dead ring is always ready: it must not be waited for. */
	bt_watch_del(&ring->watch);
	bt_loop_drop_waiter(ring->loop, &ring->waiter);
}

/* The module, or who plays it, broke the rules: nothing it says counts. */
static void distrust(struct blktap_ring *ring, const char *what, uint32_t queue,
		     uint32_t tag)
{
	bt_log(ring->log, BLKTAP_LOG_ERROR,
	       "%s: failed: queue %u, tag %u: %s in the ring", ring->path,
	       (unsigned int)queue, (unsigned int)tag, what);
	bt_ring_stop(ring, BT_RING_FAILED);
	bt_ring_remove(ring, BLKTAP_REMOVE_NOW);
}

/* ---- answers -------------------------------------------------------------- */

static int32_t result_of(const struct bt_ring_request *item)
{
	int error = item->req.error;

	if (!error)
		return (int32_t)item->bytes;
	return error < 0 && error >= -4095 ? error : -EIO;
}

/* There is always room: no more answers than tags, and cq has as many places.
 * The tail is stored by commit, behind all of them. */
static void answer(struct blktap_ring *ring, struct bt_ring_queue *q,
		   uint32_t tag, uint32_t gen, int32_t result)
{
	q->cq[q->cq_tail++ & (ring->info.cq_entries - 1)] =
		(struct blktap_cqe){ .tag = tag, .gen = gen, .result = result };
	ring->answered++;
}

/* One that has failed while the device is handed over waits for the next daemon, who
 * gets it again: it was cancelled, or would have been tried again here. */
static bool is_for_us(const struct blktap_ring *ring,
		      const struct bt_request *req)
{
	return ring->stage == BT_RING_SERVE ||
	       (ring->stage == BT_RING_HOLD && !req->error);
}

/* The tag is the module's again with the answer, so busy is cleared before. */
static void done(struct bt_request *req)
{
	struct bt_ring_request *item = (struct bt_ring_request *)req;
	struct blktap_ring *ring = item->ring;
	struct bt_ring_queue *q = item->queue;

	q->busy[item->tag] = NULL;
	ring->in_flight--;
	if (is_for_us(ring, req))
		answer(ring, q, item->tag, item->gen, result_of(item));
	bt_pool_give(req);
}

/* Whoever waited for the last answers may be about to ask again: the module looks
 * for that within the call, as long as it has paid of late. */
static uint32_t look(const struct blktap_ring *ring)
{
	return !ring->in_flight && ring->stage == BT_RING_SERVE &&
			       bt_loop_lets_wait(ring->loop, &ring->waiter)
		       ? BLKTAP_ENTER_LOOK
		       : 0;
}

bool bt_ring_commit(struct blktap_ring *ring)
{
	struct blktap_enter enter = { .size = sizeof(enter),
				      .flags = look(ring),
				      .queue = BLKTAP_ALL_QUEUES };
	char text[BT_STRERROR_MAX];
	uint32_t i;
	int rc;

	if (!ring->answered)
		return false;
	ring->answered = 0;
	for (i = 0; i < ring->info.queues; i++)
		/* RELEASE: entries before their tail */
		__atomic_store_n(&ring->queues[i].shared->cq_tail,
				 ring->queues[i].cq_tail, __ATOMIC_RELEASE);
	ring->enters++;
	/* Whoever waited for these answers may be about to ask again. */
	if (!ring->in_flight)
		bt_loop_expect(ring->loop);
	rc = bt_ring_call(ring, BLKTAP_RING_ENTER, &enter);
	if (rc >= 0)
		return true;
	/* Somebody removed the device, or the module failed it. */
	if (rc != -ENODEV)
		bt_log(ring->log, BLKTAP_LOG_ERROR, "%s: failed: %s",
		       ring->path, bt_strerror(rc, text));
	bt_ring_stop(ring, rc == -ENODEV ? BT_RING_GONE : BT_RING_FAILED);
	return true;
}

/* Whatever goes wrong here shows in the descriptor of the ring, which is one of
 * the loop's. */
int bt_ring_wait(struct bt_waiter *waiter, int loop_fd, int timeout_ms)
{
	struct blktap_ring *ring =
		bt_container_of(waiter, struct blktap_ring, waiter);
	struct blktap_enter enter = { .size = sizeof(enter),
				      .flags = BLKTAP_ENTER_WAIT |
					       BLKTAP_ENTER_FD,
				      .queue = BLKTAP_ALL_QUEUES,
				      .timeout_ms = timeout_ms,
				      .fd = loop_fd };
	int rc;

	ring->enters++;
	rc = bt_ring_call(ring, BLKTAP_RING_ENTER, &enter);
	if (rc >= 0 || rc == -EINTR)
		return rc > 0 ? 1 : rc;
	/* it waits by epoll from now on */
	ring->can_wait = false;
	bt_loop_drop_waiter(ring->loop, waiter);
	return 0;
}

/* ---- requests ------------------------------------------------------------- */

/* Reads a descriptor once: the compiler may not fetch a field again. */
static void read_once(struct blktap_desc *to, const struct blktap_desc *from)
{
	memcpy(to, from, sizeof(*to));
	__asm__ volatile("" ::: "memory");
}

/* The flags were checked to be the operation's own. */
static uint32_t flags_of(const struct blktap_desc *desc)
{
	uint32_t flags = desc->flags & BLKTAP_REQ_FUA ? BLKTAP_FUA : 0;

	if (desc->op == BLKTAP_REQ_WRITE_ZEROES &&
	    !(desc->flags & BLKTAP_REQ_NOUNMAP))
		flags |= BLKTAP_MAY_UNMAP;
	return flags;
}

/* offset and length are what was checked: the descriptor is our copy. */
static void submit(struct blktap_ring *ring, struct bt_ring_queue *q,
		   const struct blktap_desc *desc, uint64_t slot)
{
	/* There are as many as tags, and this tag is not busy. */
	struct bt_ring_request *item =
		(struct bt_ring_request *)bt_pool_take(ring->pool);
	struct bt_request *req = &item->req;

	item->ring = ring;
	item->queue = q;
	item->tag = desc->tag;
	item->gen = desc->gen;
	item->bytes = desc->bytes;
	req->op = ops[desc->op];
	req->flags = flags_of(desc);
	req->offset = desc->op == BLKTAP_REQ_FLUSH ? 0 : desc->offset;
	req->length = desc->bytes;
	req->done = done;
	item->deferred = desc->flags & BLKTAP_REQ_DEFERRED &&
			 desc->op == BLKTAP_REQ_WRITE;
	if (desc->op <= BLKTAP_REQ_WRITE) {
		item->move.mover = &ring->mover;
		if (ring->moves || item->deferred)
			req->move = &item->move;
		item->iov.iov_base = ring->map + slot;
		item->iov.iov_len = desc->bytes;
		req->data.iov = &item->iov;
		req->data.count = 1;
		req->data.skip = 0;
	}
	q->busy[desc->tag] = item;
	ring->in_flight++;
	ring->requests++;
	bt_vbd_submit(ring->disk, req);
}

/* The tag is read once and bounded before it is used; so is the descriptor, as
 * a copy. */
static bool take_one(struct blktap_ring *ring, struct bt_ring_queue *q)
{
	uint32_t at = q->sq_head++ & (ring->info.sq_entries - 1);
	uint32_t tag = __atomic_load_n(&q->sq[at], __ATOMIC_RELAXED);
	uint64_t slot = q->slots + (uint64_t)tag * ring->info.slot_bytes;
	struct blktap_desc desc;
	const char *wrong;

	if (tag >= ring->info.depth) {
		distrust(ring, "no such tag", q->index, tag);
		return false;
	}
	if (q->busy[tag]) {
		distrust(ring, "tag of a request that is out", q->index, tag);
		return false;
	}
	read_once(&desc, &q->desc[tag]);
	wrong = bt_ring_check_desc(&ring->info, &desc, tag, slot);
	if (wrong) {
		distrust(ring, wrong, q->index, tag);
		return false;
	}
	if (desc.flags & BLKTAP_REQ_DEFERRED && !ring->can_move &&
	    desc.op == BLKTAP_REQ_WRITE) {
		distrust(ring, "data that is held back, unasked", q->index,
			 tag);
		return false;
	}
	if (bt_op_is_writing(ops[desc.op]) &&
	    ring->info.flags & BLKTAP_DISK_READ_ONLY)
		answer(ring, q, tag, desc.gen, -EPERM);
	else
		submit(ring, q, &desc, slot);
	return ring->stage == BT_RING_SERVE;
}

/* sq_head is stored before the answers can be: the module looks at it only when
 * it is asked to wait, so that an older one costs a wake-up at most. */
static bool take_queue(struct blktap_ring *ring, struct bt_ring_queue *q)
{
	/* ACQUIRE: the entries that the tail tells of are there */
	uint32_t tail = __atomic_load_n(&q->shared->sq_tail, __ATOMIC_ACQUIRE);
	uint32_t n = tail - q->sq_head;

	if (!n)
		return false;
	if (n > ring->info.sq_entries) {
		distrust(ring, "more requests than there is room for", q->index,
			 0);
		return false;
	}
	while (n-- && take_one(ring, q))
		;
	__atomic_store_n(&q->shared->sq_head, q->sq_head, __ATOMIC_RELEASE);
	return true;
}

/* Who had work last is asked to wait for the loop: that is the ring which most
 * likely has the next. */
bool bt_ring_take(struct blktap_ring *ring)
{
	bool any = false;
	uint32_t i;

	bt_ring_choose_moves(ring);
	for (i = 0; i < ring->info.queues && ring->stage == BT_RING_SERVE; i++)
		any |= take_queue(ring, &ring->queues[i]);
	if (any && ring->can_wait && ring->stage == BT_RING_SERVE)
		bt_loop_set_waiter(ring->loop, &ring->waiter);
	return any;
}
