/* SPDX-License-Identifier: BSD-3-Clause */
#include "guest.h"

#include <string.h>

void guest_fill(unsigned char *sector, uint32_t number, uint32_t tag)
{
	uint32_t i, words[2] = { number, tag };

	for (i = 0; i < 512; i += 8)
		if (tag)
			memcpy(sector + i, words, 8);
		else
			memset(sector + i, 0, 8);
}

void guest_init(struct guest *g, struct rig *rig, uint32_t sectors,
		uint32_t align)
{
	memset(g, 0, sizeof(*g));
	ck_assert_uint_le(sectors, GUEST_SECTORS);
	g->rig = rig;
	g->port = &rig->top;
	g->sectors = sectors;
	g->align = align;
	g->next_tag = 1;
	g->operations = BT_OPS_ALL;
}

void guest_wait(struct rig *rig, const bool *done)
{
	int idle = 0;

	while (!*done) {
		if (platter_turn())
			idle = 0;
		else if (bt_loop_turn(rig->env.loop, 0) == 0)
			ck_assert_msg(++idle < 1000, "a request never ended");
	}
}

uint32_t guest_tag(const struct guest *g, uint32_t sector)
{
	uint32_t n = g->versions[sector];

	return n ? g->history[sector][n - 1].tag : 0;
}

static void add(struct guest *g, const struct guest_op *op, uint64_t completed)
{
	uint32_t i;

	for (i = 0; i < op->count; i++) {
		uint32_t sector = op->first + i;
		uint32_t n = g->versions[sector]++;

		ck_assert_uint_lt(n, GUEST_VERSIONS);
		g->history[sector][n] =
			(struct guest_version){ op->tag, op->submitted,
						completed };
	}
}

/* With failed writes about, any version since the last good one may be there. */
static bool is_possible(struct guest *g, uint32_t sector,
			const unsigned char *bytes)
{
	unsigned char want[512];
	uint32_t n = g->versions[sector];

	for (;;) {
		guest_fill(want, sector, n ? g->history[sector][n - 1].tag : 0);
		if (!memcmp(want, bytes, 512))
			return true;
		if (!n || g->history[sector][n - 1].completed)
			return false;
		n--;
	}
}

static void check_read(struct guest *g, const struct guest_op *op)
{
	uint32_t i;

	for (i = 0; i < op->count; i++) {
		const unsigned char *bytes = op->data + i * 512;
		uint32_t words[2];

		memcpy(words, bytes, sizeof(words));
		ck_assert_msg(is_possible(g, op->first + i, bytes),
			      "sector %u is %u/%u, not version %u",
			      op->first + i, words[0], words[1],
			      guest_tag(g, op->first + i));
	}
}

/* What the sector is now is what it is; a discard may do anything to what is
 * there, but bring back nothing else. */
static void settle(struct guest *g, struct guest_op *op)
{
	uint64_t now = ++platters.now;
	int error = op->req->error;

	bt_pool_give(op->req);
	op->busy = false;
	if (error) {
		ck_assert_msg(g->may_fail, "op %d at %u+%u: %d", op->op,
			      op->first, op->count, error);
		g->errors++;
	}
	if (op->op == BLKTAP_OP_READ && !error)
		check_read(g, op);
	else if (op->op == BLKTAP_OP_FLUSH && !error)
		g->flushes[g->flush_count++] =
			(struct guest_flush){ op->submitted, now };
	else if (bt_op_is_writing(op->op))
		add(g, op, error ? 0 : now);
}

static bool overlaps(const struct guest *g, uint32_t first, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < GUEST_DEPTH; i++)
		if (g->ops[i].busy && g->ops[i].first < first + count &&
		    first < g->ops[i].first + g->ops[i].count)
			return true;
	return false;
}

static enum blktap_op choose(const struct guest *g)
{
	uint64_t n = platter_random(100);
	enum blktap_op op = n < 25   ? BLKTAP_OP_READ
			    : n < 80 ? BLKTAP_OP_WRITE
			    : n < 90 ? BLKTAP_OP_WRITE_ZEROES
				     : BLKTAP_OP_FLUSH;

	return g->operations >> op & 1u ? op : BLKTAP_OP_WRITE;
}

static void submit(struct guest *g, struct guest_op *op)
{
	struct bt_request *req = bt_pool_take(g->rig->pool);
	uint32_t i;

	if (op->op == BLKTAP_OP_FLUSH)
		op->first = op->count = 0;
	op->tag = op->op == BLKTAP_OP_WRITE ? g->next_tag++ : 0;
	for (i = 0; op->op == BLKTAP_OP_WRITE && i < op->count; i++)
		guest_fill(op->data + i * 512, op->first + i, op->tag);
	op->busy = true;
	op->done = false;
	op->req = req;
	op->submitted = ++platters.now;
	op->iov.iov_base = op->data;
	op->iov.iov_len = op->count * 512;
	req->op = op->op;
	req->offset = (uint64_t)op->first * 512;
	req->length = (uint64_t)op->count * 512;
	req->data = (struct bt_sgl){ .iov = &op->iov, .count = 1 };
	req->opaque = &op->done;
	bt_port_submit(g->port, req);
}

static void start(struct guest *g)
{
	uint32_t units = g->sectors / g->align;
	struct guest_op *op = g->ops;
	uint32_t max = GUEST_MAX / g->align;

	while (op->busy)
		op++;
	op->op = choose(g);
	op->first = (uint32_t)platter_random(units) * g->align;
	if (platter_random(4))
		max = max > 8 ? 8 : max;
	op->count = (1 + (uint32_t)platter_random(max)) * g->align;
	if (op->count > g->sectors - op->first)
		op->count = g->sectors - op->first;
	if (overlaps(g, op->first, op->count))
		return;
	submit(g, op);
}

static void collect(struct guest *g, uint32_t most)
{
	uint32_t i, busy, idle = 0;

	for (;;) {
		for (i = busy = 0; i < GUEST_DEPTH; i++) {
			if (g->ops[i].busy && g->ops[i].done)
				settle(g, &g->ops[i]);
			busy += g->ops[i].busy;
		}
		if (busy <= most)
			return;
		if (platter_turn()) {
			idle = 0;
			continue;
		}
		ck_assert_int_eq(bt_loop_turn(g->rig->env.loop, 0), 0);
		ck_assert_msg(++idle < 1000, "a request never ended");
	}
}

void guest_run(struct guest *g, uint32_t count)
{
	while (count--) {
		collect(g, (uint32_t)platter_random(GUEST_DEPTH));
		start(g);
	}
	collect(g, 0);
}

void guest_verify(struct guest *g)
{
	struct guest_op *op = g->ops;
	uint32_t at;

	for (at = 0; at < g->sectors; at += op->count) {
		op->op = BLKTAP_OP_READ;
		op->first = at;
		op->count = g->sectors - at < GUEST_MAX ? g->sectors - at
							: GUEST_MAX;
		submit(g, op);
		collect(g, 0);
	}
}

/* The version that the last flush before the cut promises: index + 1, 0 for the
 * zeroes the disk began with. */
static uint32_t promised(const struct guest *g, uint32_t sector, uint64_t at)
{
	uint64_t flushed = 0;
	uint32_t n, i;

	for (i = 0; i < g->flush_count; i++)
		if (g->flushes[i].completed <= at &&
		    g->flushes[i].submitted > flushed)
			flushed = g->flushes[i].submitted;
	for (n = g->versions[sector]; n; n--) {
		const struct guest_version *v = &g->history[sector][n - 1];

		if (v->completed && v->completed < flushed)
			break;
	}
	return n;
}

void guest_check_cut(struct guest *g, const unsigned char *bytes, uint64_t at,
		     const char *what)
{
	unsigned char want[512];
	uint32_t sector, n, words[2];

	for (sector = 0; sector < g->sectors; sector++, bytes += 512) {
		n = promised(g, sector, at);
		for (; n <= g->versions[sector]; n++) {
			const struct guest_version *v =
				&g->history[sector][n ? n - 1 : 0];

			if (n && v->submitted > at) {
				n = g->versions[sector];
				continue;
			}
			guest_fill(want, sector, n ? v->tag : 0);
			if (!memcmp(want, bytes, 512))
				break;
		}
		memcpy(words, bytes, sizeof(words));
		ck_assert_msg(n <= g->versions[sector],
			      "%s: after a cut at %llu sector %u is %u/%u; "
			      "flushed: version %u of %u",
			      what, (unsigned long long)at, sector, words[0],
			      words[1], promised(g, sector, at),
			      g->versions[sector]);
	}
}
