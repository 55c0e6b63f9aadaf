/* SPDX-License-Identifier: BSD-3-Clause */
/* The requests of a mirror.
 *
 * A write: LOCKED (its range: legs may order writes that overlap in two ways, and
 *   would differ ever after; a copy holds a region's) -> words made durable
 *   where they are not -> SENT to every leg that has not failed -> (a leg failed:
 *   its words, made durable) -> done
 * A read: a piece that one leg is clean in -> SENT -> (it failed: the next leg, and
 *   the first is dirty there) -> the next piece -> done
 * A flush goes to all legs that have not failed; one that fails is dirty in whatever
 * was written since the last sweep. The LAST one goes when copies and sweeps are
 * over, and none begins until a write comes: who takes the mirror's place has its
 * legs and its log from then on. */
#include "module/mirror.h"

#include <errno.h>
#include <string.h>

#include "util/checked.h"

#define NS_PENALTY 100000000ull /* a failed read counts as so slow */

static struct bt_mirror *mirror_of(const struct bt_request *req)
{
	return req->top->node->data;
}

static struct bt_mirror_frame *frame_of(struct bt_mirror_fan *fan)
{
	return bt_container_of(fan, struct bt_mirror_frame, fan);
}

/* ---- to all legs ----------------------------------------------------------- */

static void serve_starved(struct bt_mirror *m);

static void fan_end(struct bt_mirror_fan *fan)
{
	if (--fan->pending == 0)
		fan->fn(fan);
}

/* A leg that cannot make zeroes here is no worse than the others for that: it is
 * written them. Where all of them were sent on to the core instead, those that can
 * would have them already, and differ. */
static bool writes_zeroes(struct bt_mirror_child *child)
{
	struct bt_request *req = &child->req;
	struct bt_port *port = child->fan->mirror->legs[child->leg].port;

	if (req->error == -ENOTSUP && req->op == BLKTAP_OP_WRITE_ZEROES) {
		child->zero_to = req->offset + req->length;
		req->op = BLKTAP_OP_WRITE;
		req->flags &= BLKTAP_FUA;
	} else if (!req->error && child->zero_to) {
		req->offset += req->length;
	} else {
		return false;
	}
	if (req->offset == child->zero_to)
		return false;
	req->error = 0;
	req->length = bt_min_u64(
		child->zero_to - req->offset,
		bt_min_u64(port->lower->limits.max_transfer, BT_ZEROES_MAX));
	req->data = bt_zeroes;
	bt_port_submit(port, req);
	return true;
}

static void child_done(struct bt_request *req)
{
	struct bt_mirror_child *child =
		bt_container_of(req, struct bt_mirror_child, req);
	struct bt_mirror_fan *fan = child->fan;
	struct bt_mirror *m = fan->mirror;

	if (bt_unlikely(req->error || child->zero_to) && writes_zeroes(child))
		return;
	if (req->error) {
		fan->failed |= 1u << child->leg;
		if (!fan->error) {
			fan->error = req->error;
			fan->node = req->failed;
		}
	} else {
		fan->ok |= 1u << child->leg;
	}
	bt_pool_give(req);
	fan_end(fan);
	serve_starved(m);
}

static uint32_t working_legs(const struct bt_mirror *m)
{
	uint32_t i, n = 0;

	for (i = 0; i < m->leg_count; i++)
		n += !m->legs[i].failed;
	return n;
}

static void fan_send(struct bt_mirror_fan *fan, struct bt_pool *pool,
		     const struct bt_request *like)
{
	struct bt_mirror *m = fan->mirror;
	uint32_t i;

	fan->ok = 0;
	fan->failed = 0;
	fan->error = 0;
	fan->node = NULL;
	fan->pending = 1;
	for (i = 0; i < m->leg_count; i++) {
		struct bt_request *req;
		struct bt_mirror_child *child;

		if (m->legs[i].failed)
			continue;
		req = bt_pool_take(pool);
		child = bt_container_of(req, struct bt_mirror_child, req);
		child->fan = fan;
		child->leg = i;
		child->zero_to = 0;
		req->op = like->op;
		req->flags = like->flags;
		req->offset = like->offset;
		req->length = like->length;
		req->data = like->data;
		req->done = child_done;
		/* what is discarded must read the same from every leg */
		if (req->op == BLKTAP_OP_DISCARD) {
			req->op = BLKTAP_OP_WRITE_ZEROES;
			req->flags |= BLKTAP_MAY_UNMAP;
		}
		fan->pending++;
		bt_port_submit(m->legs[i].port, req);
	}
	fan_end(fan);
}

void bt_mirror_fan_flush(struct bt_mirror_fan *fan, struct bt_pool *pool,
			 uint32_t flags)
{
	struct bt_request like = { .op = BLKTAP_OP_FLUSH, .flags = flags };

	fan_send(fan, pool, &like);
}

/* Sends a frame's request, or lets it wait for children. */
static bool try_send(struct bt_mirror *m, struct bt_mirror_frame *frame)
{
	uint32_t left = m->pool_size - bt_pool_in_use(m->pool);

	if (left < working_legs(m))
		return false;
	fan_send(&frame->fan, m->pool, frame->req);
	return true;
}

static void send(struct bt_mirror *m, struct bt_mirror_frame *frame)
{
	if (!bt_list_empty(&m->starved) || !try_send(m, frame))
		bt_list_add_tail(&m->starved, &frame->req->link);
}

static void serve_starved(struct bt_mirror *m)
{
	while (!bt_list_empty(&m->starved)) {
		struct bt_request *req =
			bt_list_first(&m->starved, struct bt_request, link);
		uint32_t left = m->pool_size - bt_pool_in_use(m->pool);

		if (left < working_legs(m))
			return;
		bt_list_del(&req->link);
		try_send(m, bt_request_frame(req));
	}
}

/* ---- writes ---------------------------------------------------------------- */

static void end_write(struct bt_mirror_frame *frame, int error)
{
	struct bt_request *req = frame->req;
	struct bt_mirror *m = mirror_of(req);

	bt_mirror_end_write(m, req->offset, req->length);
	/* the frame is gone when it is complete */
	bt_range_unlock(&m->lock, &frame->range);
	if (error)
		req->failed = frame->fan.node;
	bt_request_complete(req, error);
}

static void acknowledge(struct bt_mirror_frame *frame);

static void acknowledged(struct bt_table_wait *wait, int error)
{
	struct bt_mirror_frame *frame =
		bt_container_of(wait, struct bt_mirror_frame, wait);

	if (error) {
		end_write(frame, error);
		return;
	}
	acknowledge(frame);
}

/* Not before the log says who has missed something: a leg that failed since the
 * words of this write were durable. It is asked again behind each commit, since
 * a leg may fail during that one. */
static void acknowledge(struct bt_mirror_frame *frame)
{
	struct bt_mirror *m = mirror_of(frame->req);

	if (frame->epoch == m->epoch || !m->log) {
		end_write(frame, frame->result);
		return;
	}
	frame->epoch = m->epoch;
	frame->wait.fn = acknowledged;
	bt_table_commit(&m->table, &frame->wait);
}

/* Legs that failed, with what the others did; the error the guest gets. What
 * the guest gets of it is on_error's: with degrade, or for a copy, nothing as
 * long as a good leg has the data. */
static int judge(struct bt_mirror_fan *fan, uint64_t offset, uint64_t length)
{
	struct bt_mirror *m = fan->mirror;
	int result = 0, rc;
	uint32_t i;

	if (!fan->failed)
		return 0;
	if (!fan->ok)
		return fan->error;
	for (i = 0; i < m->leg_count; i++) {
		if (!(fan->failed >> i & 1u))
			continue;
		rc = bt_mirror_leg_failed(m, i, fan->ok, offset, length,
					  fan->error);
		if (rc)
			result = rc;
	}
	return m->node->on_error == BT_ON_ERROR_DEGRADE || m->copies
		       ? result
		       : fan->error;
}

/* All legs failed: each may hold old data or new, so one is chosen. The bits of
 * the others are durable before the guest is told of its error, by
 * acknowledge(): the epoch is another one. A crash before that leaves the
 * intent, which chooses the same leg. */
static void choose_one(struct bt_mirror *m, const struct bt_request *req)
{
	uint64_t r = req->offset / m->region_size;
	uint64_t end = (req->offset + req->length - 1) / m->region_size + 1;

	for (; r < end; r++) {
		uint32_t i, clean = bt_mirror_clean(m, r), first;

		if (!clean)
			continue;
		first = (uint32_t)__builtin_ctz(clean);
		for (i = first + 1; i < m->leg_count; i++)
			bt_mirror_set_dirty(m, i, r);
	}
	m->epoch++;
	bt_mirror_sync_kick(m);
}

/* After an error the clean leg may not have what the one that is copied to has,
 * which it may have been copied to before: that copy counts no more. */
static void written(struct bt_mirror_fan *fan)
{
	struct bt_mirror_frame *frame = frame_of(fan);
	struct bt_mirror *m = fan->mirror;
	struct bt_request *req = frame->req;

	frame->result = fan->ok || fan->failed
				? judge(fan, req->offset, req->length)
				: -EIO;
	if (!fan->ok)
		choose_one(m, req);
	if (frame->result)
		bt_mirror_sync_spoil(m, m->sync.target);
	acknowledge(frame);
}

static void write_sure(struct bt_table_wait *wait, int error)
{
	struct bt_mirror_frame *frame =
		bt_container_of(wait, struct bt_mirror_frame, wait);
	struct bt_request *req = frame->req;
	struct bt_mirror *m = mirror_of(req);

	if (error) {
		end_write(frame, error);
		return;
	}
	if (frame->epoch != m->epoch) { /* a leg failed meanwhile */
		frame->epoch = m->epoch;
		bt_mirror_begin_write(m, req->offset, req->length);
		bt_table_commit(&m->table, wait);
		return;
	}
	bt_mirror_set_sure(m, req->offset, req->length);
	send(m, frame);
}

static void write_locked(struct bt_range *range)
{
	struct bt_mirror_frame *frame =
		bt_container_of(range, struct bt_mirror_frame, range);
	struct bt_request *req = frame->req;
	struct bt_mirror *m = mirror_of(req);

	frame->fan.mirror = m;
	frame->fan.fn = written;
	frame->epoch = m->epoch;
	if (bt_mirror_begin_write(m, req->offset, req->length)) {
		frame->wait.fn = write_sure;
		bt_table_commit(&m->table, &frame->wait);
		return;
	}
	if (!m->log)
		bt_mirror_set_sure(m, req->offset, req->length);
	send(m, frame);
}

/* ---- flush ----------------------------------------------------------------- */

/* What the log stands on may have something to mark clean as well. The words are
 * what counts: neither the mark's error is the guest's nor that of the log. */
static void marked_clean(struct bt_header_writer *writer, int error)
{
	struct bt_request *req = writer->opaque;

	(void)error;
	bt_port_submit(mirror_of(req)->log, req);
}

static void log_settled(struct bt_table_wait *wait, int error)
{
	struct bt_mirror_frame *frame =
		bt_container_of(wait, struct bt_mirror_frame, wait);
	struct bt_request *req = frame->req;
	struct bt_mirror *m = mirror_of(req);

	if (!error)
		m->told = frame->losses;
	if (!error && !frame->result && req->flags & BT_REQUEST_LAST &&
	    !m->writer.busy) {
		bt_mirror_stamp(m, true);
		m->writer.opaque = req;
		bt_header_writer_go(&m->writer, marked_clean);
		return;
	}
	bt_request_complete(req, error ? error : frame->result);
}

static void flushed(struct bt_mirror_fan *fan)
{
	struct bt_mirror_frame *frame = frame_of(fan);
	struct bt_mirror *m = fan->mirror;
	struct bt_request *req = frame->req;
	bool last = req->flags & BT_REQUEST_LAST;

	bt_mirror_look(m);
	frame->losses = m->losses;
	frame->result = fan->ok || fan->failed ? judge(fan, 0, 0) : -EIO;
	req->failed = fan->node;
	if (last && !fan->failed && fan->ok)
		bt_mirror_clear_intents(m, true);
	if (m->log && !m->read_only &&
	    (last || fan->failed || m->told != m->losses)) {
		frame->wait.fn = log_settled;
		bt_table_commit(&m->table, &frame->wait);
		return;
	}
	bt_request_complete(req, frame->result);
}

void bt_mirror_rested(struct bt_mirror *m)
{
	struct bt_list *at;

	while (!m->sync.active && bt_mirror_is_quiet(m) &&
	       (at = bt_list_pop(&m->lasts)))
		send(m, bt_request_frame(
				bt_list_entry(at, struct bt_request, link)));
}

static void flush(struct bt_mirror *m, struct bt_mirror_frame *frame)
{
	frame->fan.mirror = m;
	frame->fan.fn = flushed;
	if (!(frame->req->flags & BT_REQUEST_LAST)) {
		send(m, frame);
		return;
	}
	bt_list_add_tail(&m->lasts, &frame->req->link);
	bt_mirror_rest(m);
}

/* ---- reads ----------------------------------------------------------------- */

static uint32_t cost(const struct bt_mirror *m, uint32_t leg)
{
	const struct bt_mirror_leg *l = &m->legs[leg];

	if (m->read == BT_MIRROR_SPREAD)
		return l->reading;
	return (uint32_t)bt_min_u64(l->latency_ns, UINT32_MAX);
}

/* One of the legs in the mask, which is not empty. Every 64th read looks at the
 * next leg, whatever it took, or a leg once slow would stay so. */
static uint32_t choose_leg(struct bt_mirror *m, uint32_t mask)
{
	bool look = m->read == BT_MIRROR_FASTEST && m->turn % 64 == 0;
	uint32_t i, best = m->leg_count, first;

	if (m->read == BT_MIRROR_FIRST)
		return (uint32_t)__builtin_ctz(mask);
	first = look ? m->turn / 64 : m->turn;
	m->turn++;
	for (i = 0; i < m->leg_count; i++) {
		uint32_t leg = (first + i) % m->leg_count;

		if (!(mask >> leg & 1u))
			continue;
		if (look)
			return leg;
		if (best == m->leg_count || cost(m, leg) < cost(m, best))
			best = leg;
	}
	return best;
}

/* The legs that may serve the first bytes at, and how many they all can. */
static uint32_t find_piece(const struct bt_mirror *m,
			   const struct bt_mirror_frame *frame, uint64_t at,
			   uint64_t left, uint64_t *length)
{
	uint64_t r = at / m->region_size, end = at + left, to;
	uint32_t i, failed = 0, mask;

	for (i = 0; i < m->leg_count; i++)
		failed |= (uint32_t)m->legs[i].failed << i;
	mask = bt_mirror_clean(m, r) & ~frame->tried;
	if (frame->req->copy) /* that one, or none */
		mask &= 1u << (frame->req->copy - 1);
	/* a leg that failed is read where it alone is clean */
	if (mask & ~failed)
		mask &= ~failed;
	to = (r + 1) * m->region_size;
	while (mask && to < end) {
		uint32_t both = mask & bt_mirror_clean(m, ++r);

		if (!both)
			break;
		mask = both;
		to += m->region_size;
	}
	*length = bt_min_u64(to, end) - at;
	return mask;
}

static void end_read(struct bt_mirror_frame *frame, int error)
{
	struct bt_request *req = frame->req;

	req->offset = frame->offset;
	req->length = frame->length;
	req->data = frame->data;
	bt_request_complete(req, error);
}

static void send_piece(struct bt_mirror *m, struct bt_mirror_frame *frame,
		       int error)
{
	struct bt_request *req = frame->req;
	uint64_t at = frame->offset + frame->at, length;
	uint32_t mask;

	bt_mirror_look(m);
	mask = find_piece(m, frame, at, frame->length - frame->at, &length);
	if (!mask) {
		end_read(frame, error ? error : -EIO);
		return;
	}
	frame->leg = choose_leg(m, mask);
	frame->losses = m->legs[frame->leg].losses;
	frame->started_ns = bt_loop_now(m->node->env->loop);
	m->legs[frame->leg].reading++;
	req->offset = at;
	req->length = length;
	req->data = frame->data;
	req->extent_count = 0; /* what a stale leg told, where it was asked */
	if (req->data.iov)
		bt_sgl_advance(&req->data, frame->at);
	bt_port_submit(m->legs[frame->leg].port, req);
}

/* Others could serve what these legs failed with: it is copied to them anew. */
static void mark_unread(struct bt_mirror *m, struct bt_mirror_frame *frame)
{
	uint64_t r = frame->req->offset / m->region_size;
	uint64_t end = frame->req->offset + frame->req->length;
	uint32_t i;

	for (; r * m->region_size < end; r++)
		for (i = 0; i < m->leg_count; i++)
			if (frame->tried >> i & 1u &&
			    bt_mirror_clean(m, r) & ~(1u << i))
				bt_mirror_set_dirty(m, i, r);
	bt_mirror_sync_kick(m);
}

/* The leg lost writes while it had the read, and may have answered without them. */
static bool is_stale(struct bt_mirror *m, const struct bt_mirror_frame *frame)
{
	const struct bt_request *req = frame->req;
	uint64_t r = req->offset / m->region_size;

	bt_mirror_look(m);
	if (bt_likely(frame->losses == m->legs[frame->leg].losses))
		return false;
	for (; r * m->region_size < req->offset + req->length; r++)
		if (!(bt_mirror_clean(m, r) >> frame->leg & 1u))
			return true;
	return false;
}

void bt_mirror_complete(struct bt_node *node, struct bt_port *port,
			struct bt_request *req)
{
	struct bt_mirror_frame *frame = bt_request_frame(req);
	struct bt_mirror *m = node->data;
	struct bt_mirror_leg *leg = &m->legs[frame->leg];
	uint64_t ns = bt_loop_now(node->env->loop) - frame->started_ns;

	if (port == m->log) { /* see marked_clean */
		bt_request_complete(req, 0);
		return;
	}
	leg->reading--;
	if (req->error || is_stale(m, frame)) {
		frame->tried |= 1u << frame->leg;
		leg->latency_ns += NS_PENALTY;
		send_piece(m, frame, req->error);
		return;
	}
	leg->latency_ns = leg->latency_ns - leg->latency_ns / 8 + ns / 8;
	if (frame->tried && req->op == BLKTAP_OP_READ)
		mark_unread(m, frame);
	frame->tried = 0;
	frame->at += req->length;
	/* of a question the first piece is an answer */
	if (frame->at == frame->length || req->op != BLKTAP_OP_READ) {
		end_read(frame, 0);
		return;
	}
	send_piece(m, frame, 0);
}

/* ---- all ------------------------------------------------------------------- */

void bt_mirror_submit(struct bt_node *node, struct bt_request *req)
{
	struct bt_mirror *m = node->data;
	struct bt_mirror_frame *frame = bt_request_frame(req);

	memset(frame, 0, sizeof(*frame));
	frame->req = req;
	bt_list_init(&frame->wait.link);
	bt_mirror_look(m);
	switch (req->op) {
	case BLKTAP_OP_WRITE:
	case BLKTAP_OP_WRITE_ZEROES:
	case BLKTAP_OP_DISCARD:
		bt_mirror_wake(m);
		if (bt_range_lock(&m->lock, &frame->range, req->offset,
				  req->length, true, write_locked))
			write_locked(&frame->range);
		return;
	case BLKTAP_OP_FLUSH:
		flush(m, frame);
		return;
	default:
		frame->offset = req->offset;
		frame->length = req->length;
		frame->data = req->data;
		send_piece(m, frame, 0);
	}
}
