/* SPDX-License-Identifier: BSD-3-Clause */
#include "flat.h"

#include "seed.h"
#include "util/bytes.h"

#define SECTOR ROUGH_SECTOR

uint64_t flat_random(struct flat *flat, uint64_t below)
{
	return seed_next(&flat->random) % below;
}

static void set_up(struct flat *flat)
{
	uint32_t i;

	flat->busy = 0;
	for (i = 0; i < FLAT_DEPTH; i++) {
		flat->ops[i].flat = flat;
		flat->ops[i].req = NULL;
		flat->ops[i].data = aligned_alloc(4096, FLAT_MAX);
		flat->ops[i].covers = calloc(flat->count, sizeof(uint32_t));
	}
}

void flat_init(struct flat *flat, struct rig *rig, uint64_t seed)
{
	memset(flat, 0, sizeof(*flat));
	flat->rig = rig;
	flat->random = seed * 2 + 1;
	flat->count = rig->root->limits.size / SECTOR;
	flat->align = rig->root->limits.block_size;
	if (flat->align < SECTOR)
		flat->align = SECTOR;
	flat->sectors = calloc(flat->count, sizeof(*flat->sectors));
	set_up(flat);
}

void flat_fini(struct flat *flat)
{
	uint32_t i;

	for (i = 0; i < FLAT_DEPTH; i++) {
		free(flat->ops[i].data);
		free(flat->ops[i].covers);
	}
	free(flat->sectors);
}

void flat_cut(const struct flat *flat, struct flat *to)
{
	uint64_t i;

	*to = *flat;
	to->sectors = calloc(flat->count, sizeof(*flat->sectors));
	memcpy(to->sectors, flat->sectors, flat->count * sizeof(*to->sectors));
	for (i = 0; i < flat->count; i++)
		to->sectors[i].lo = to->sectors[i].durable;
	set_up(to);
}

static void stamp(unsigned char *sector, uint64_t index, uint32_t version)
{
	uint32_t i;

	for (i = 0; i < SECTOR; i += 8) {
		bt_store_le32(sector + i, (uint32_t)index);
		bt_store_le32(sector + i + 4, version);
	}
}

static bool is_one_of(const struct flat_sector *s, uint64_t index,
		      const unsigned char *data, uint32_t *version)
{
	static const unsigned char zeroes[SECTOR];
	unsigned char expected[SECTOR];

	*version = s->zero;
	if (!memcmp(data, zeroes, SECTOR))
		return s->zero >= s->lo && s->zero <= s->hi;
	*version = bt_load_le32(data + 4);
	stamp(expected, index, *version);
	return !memcmp(data, expected, SECTOR) && *version >= s->lo &&
	       *version <= s->hi;
}

static void check_read(struct flat *flat, const struct flat_op *op)
{
	uint64_t i, first = op->req->offset / SECTOR;
	uint32_t version;

	for (i = 0; i < op->req->length / SECTOR; i++) {
		struct flat_sector *s = &flat->sectors[first + i];
		const unsigned char *data = op->data + i * SECTOR;

		ck_assert_msg(is_one_of(s, first + i, data, &version),
			      "sector %llu holds version %u (of sector %u), "
			      "not %u to %u (zero: %u, durable: %u)",
			      (unsigned long long)(first + i), version,
			      bt_load_le32(data), s->lo, s->hi, s->zero,
			      s->durable);
		s->lo = version;
		s->hi = version;
	}
}

static void end_write(struct flat *flat, const struct flat_op *op, int error)
{
	uint64_t i, first = op->req->offset / SECTOR;

	for (i = 0; i < op->req->length / SECTOR; i++) {
		struct flat_sector *s = &flat->sectors[first + i];

		if (error)
			continue;
		s->done = op->version;
		/* a discard may leave what was there */
		if (op->req->op == BLKTAP_OP_DISCARD)
			continue;
		s->lo = op->version;
		if (op->req->flags & BLKTAP_FUA)
			s->durable = op->version;
	}
}

static void done(struct bt_port *port, struct bt_request *req)
{
	struct flat_op *op = req->opaque;
	struct flat *flat = op->flat;
	uint64_t i;

	(void)port;
	ck_assert_uint_eq(req->offset, op->offset);
	ck_assert_uint_eq(req->length, op->length);
	ck_assert_msg(!req->error || flat->may_fail, "op %d at %llu+%llu: %d",
		      req->op, (unsigned long long)req->offset,
		      (unsigned long long)req->length, req->error);
	flat->errors += req->error != 0;
	if (bt_op_is_writing(req->op))
		end_write(flat, op, req->error);
	else if (req->op == BLKTAP_OP_READ && !req->error)
		check_read(flat, op);
	else if (req->op == BLKTAP_OP_FLUSH && !req->error)
		for (i = 0; i < flat->count; i++)
			if (op->covers[i] > flat->sectors[i].durable)
				flat->sectors[i].durable = op->covers[i];
	if (req->op == BLKTAP_OP_BLOCK_STATUS && !req->error)
		ck_assert_uint_gt(req->extent_count, 0);
	op->req = NULL;
	flat->busy--;
	bt_pool_give(req);
}

static bool overlaps(const struct flat *flat, uint64_t offset, uint64_t length)
{
	uint32_t i;

	for (i = 0; i < FLAT_DEPTH; i++) {
		const struct flat_op *op = &flat->ops[i];

		if (op->req && op->offset < offset + length &&
		    offset < op->offset + op->length)
			return true;
	}
	return false;
}

static enum blktap_op choose(struct flat *flat)
{
	uint64_t n = flat_random(flat, 100);

	if (n < 30)
		return BLKTAP_OP_READ;
	if (n < 78)
		return BLKTAP_OP_WRITE;
	if (n < 85)
		return BLKTAP_OP_WRITE_ZEROES;
	if (n < 89)
		return flat->no_discard ? BLKTAP_OP_WRITE : BLKTAP_OP_DISCARD;
	if (n < 92)
		return BLKTAP_OP_BLOCK_STATUS;
	if (n < 94)
		return BLKTAP_OP_PREFETCH;
	return BLKTAP_OP_FLUSH;
}

static void begin_write(struct flat *flat, struct flat_op *op)
{
	uint64_t i, first = op->req->offset / SECTOR;

	op->version = ++flat->version;
	for (i = 0; i < op->req->length / SECTOR; i++) {
		flat->sectors[first + i].hi = op->version;
		if (op->req->op == BLKTAP_OP_WRITE)
			stamp(op->data + i * SECTOR, first + i, op->version);
		else
			flat->sectors[first + i].zero = op->version;
	}
}

static void start(struct flat *flat, struct flat_op *op, enum blktap_op what,
		  uint64_t offset, uint64_t length)
{
	struct bt_request *req = bt_pool_take(flat->rig->pool);
	uint64_t i;

	op->req = req;
	req->op = what;
	req->offset = what == BLKTAP_OP_FLUSH ? 0 : offset;
	req->length = what == BLKTAP_OP_FLUSH ? 0 : length;
	op->offset = req->offset;
	op->length = req->length;
	op->iov = (struct iovec){ .iov_base = op->data, .iov_len = length };
	if (what == BLKTAP_OP_READ || what == BLKTAP_OP_WRITE)
		req->data = (struct bt_sgl){ .iov = &op->iov, .count = 1 };
	req->extents = op->extents;
	req->extent_max = 8;
	req->opaque = op;
	if (what == BLKTAP_OP_WRITE_ZEROES && flat_random(flat, 2))
		req->flags = BLKTAP_MAY_UNMAP;
	if (what == BLKTAP_OP_WRITE && flat->rig->root->limits.native_fua &&
	    !flat_random(flat, 8))
		req->flags = BLKTAP_FUA;
	if (bt_op_is_writing(what))
		begin_write(flat, op);
	for (i = 0; what == BLKTAP_OP_FLUSH && i < flat->count; i++)
		op->covers[i] = flat->sectors[i].done;
	flat->busy++;
	flat->rig->top.done = done;
	bt_port_submit(&flat->rig->top, req);
}

static struct flat_op *free_op(struct flat *flat)
{
	struct flat_op *op = flat->ops;

	while (op->req)
		op++;
	return op;
}

static void start_random(struct flat *flat)
{
	uint64_t blocks = flat->count * SECTOR / flat->align;
	uint64_t most = FLAT_MAX / flat->align;
	uint64_t offset = flat_random(flat, blocks) * flat->align;
	uint64_t length =
		(1 + flat_random(flat, flat_random(flat, 4) ? 4 : most)) *
		flat->align;

	if (length > flat->count * SECTOR - offset)
		length = flat->count * SECTOR - offset;
	if (length > FLAT_MAX)
		length = FLAT_MAX;
	if (!overlaps(flat, offset, length))
		start(flat, free_op(flat), choose(flat), offset, length);
}

static void wait_for(struct flat *flat, uint32_t most)
{
	while (flat->busy > most)
		ck_assert_int_eq(bt_loop_turn(flat->rig->env.loop, 100), 0);
}

void flat_run(struct flat *flat, uint32_t count)
{
	while (count--) {
		wait_for(flat, FLAT_DEPTH - 1);
		start_random(flat);
		/* now and then what was submitted may go on */
		if (!flat_random(flat, 3))
			bt_loop_turn(flat->rig->env.loop, 0);
	}
	wait_for(flat, 0);
}

void flat_wait(struct flat *flat)
{
	wait_for(flat, 0);
}

void flat_verify(struct flat *flat)
{
	uint64_t at, end = flat->count * SECTOR;
	bool may_fail = flat->may_fail;

	wait_for(flat, 0);
	flat->may_fail = false;
	for (at = 0; at < end; at += FLAT_MAX) {
		start(flat, free_op(flat), BLKTAP_OP_READ, at,
		      end - at < FLAT_MAX ? end - at : FLAT_MAX);
		wait_for(flat, 0);
	}
	flat->may_fail = may_fail;
}

int flat_flush(struct flat *flat)
{
	uint32_t before = flat->errors;

	wait_for(flat, 0);
	start(flat, free_op(flat), BLKTAP_OP_FLUSH, 0, 0);
	wait_for(flat, 0);
	return flat->errors == before ? 0 : -EIO;
}
