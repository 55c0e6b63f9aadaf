/* SPDX-License-Identifier: BSD-3-Clause */
#include "model.h"

#include <errno.h>
#include <string.h>

#include "seed.h"
#include "unit.h"

#define SECTOR 512u

static void start(struct model *m);

uint64_t model_random(struct model *m, uint64_t below)
{
	return seed_next(&m->random) % below;
}

void model_init(struct model *m, struct blktap_context *context, uint64_t size,
		uint32_t align, uint64_t seed)
{
	uint32_t i;

	memset(m, 0, sizeof(*m));
	m->context = context;
	m->size = size;
	m->align = align;
	m->random = seed * 2 + 1;
	m->flat = calloc(1, size);
	ck_assert_ptr_nonnull(m->flat);
	for (i = 0; i < MODEL_DEPTH; i++) {
		m->ops[i].model = m;
		m->ops[i].data = aligned_alloc(4096, MODEL_MAX);
		ck_assert_ptr_nonnull(m->ops[i].data);
		m->ops[i].wanted = malloc(MODEL_MAX);
		ck_assert_ptr_nonnull(m->ops[i].wanted);
	}
}

void model_fini(struct model *m)
{
	uint32_t i;

	for (i = 0; i < MODEL_DEPTH; i++) {
		free(m->ops[i].data);
		free(m->ops[i].wanted);
	}
	free(m->flat);
}

static void compare(const struct model *m, const struct model_op *op)
{
	uint64_t i;

	if (!memcmp(op->data, m->flat + op->offset, op->length))
		return;
	for (i = 0; op->data[i] == m->flat[op->offset + i]; i++)
		;
	ck_abort_msg("byte %llu is 0x%02x, not 0x%02x",
		     (unsigned long long)(op->offset + i), op->data[i],
		     m->flat[op->offset + i]);
}

static void set_flat(struct model *m, uint64_t offset, const void *data,
		     uint64_t length)
{
	memcpy(m->flat + offset, data, length);
	if (m->changed)
		m->changed(m, offset, length);
}

/* Each sector is what it was, or what was to be there. */
static void adopt(struct model *m, const struct model_op *op)
{
	uint64_t i, n;

	for (i = 0; i < op->length; i += n) {
		const unsigned char *old = m->flat + op->offset + i;

		n = op->length - i < SECTOR ? op->length - i : SECTOR;
		if (!memcmp(op->data + i, old, n))
			continue;
		ck_assert_msg(!memcmp(op->data + i, op->wanted + i, n),
			      "foreign bytes at %llu",
			      (unsigned long long)(op->offset + i));
		set_flat(m, op->offset + i, op->data + i, n);
	}
}

/* What the operation leaves where it does its work. */
static void remember(struct model_op *op)
{
	if (op->op == BLKTAP_OP_WRITE)
		memcpy(op->wanted, op->data, op->length);
	else if (op->op != BLKTAP_OP_READ)
		memset(op->wanted, 0, op->length);
}

static void check_status(const struct model *m, const struct model_op *op)
{
	uint64_t at = op->offset, i;
	uint32_t n;

	ck_assert_uint_gt(op->extent_count, 0);
	for (n = 0; n < op->extent_count; n++) {
		const struct blktap_extent *e = &op->extents[n];

		ck_assert_uint_gt(e->length, 0);
		ck_assert_uint_le(at + e->length, op->offset + op->length);
		for (i = 0; e->flags & BLKTAP_EXTENT_ZERO && i < e->length; i++)
			if (m->flat[at + i])
				ck_abort_msg("no zeroes at %llu",
					     (unsigned long long)(at + i));
		at += e->length;
	}
}

static void submit(struct model_op *op);

static void done(void *opaque, int error)
{
	struct model_op *op = opaque;
	struct model *m = op->model;

	if (error) {
		ck_assert_msg(m->may_fail, "op %d at %llu+%llu: %d", op->op,
			      (unsigned long long)op->offset,
			      (unsigned long long)op->length, error);
		m->errors++;
	}
	if (op->raw)
		ck_assert_int_eq(error, 0);
	else if (op->op == BLKTAP_OP_READ && !error && !op->verify)
		compare(m, op);
	else if (op->op == BLKTAP_OP_READ && !error)
		adopt(m, op);
	else if (op->op == BLKTAP_OP_WRITE && !error)
		set_flat(m, op->offset, op->data, op->length);
	else if (op->op == BLKTAP_OP_WRITE_ZEROES && !error)
		set_flat(m, op->offset, op->wanted, op->length);
	else if (op->op == BLKTAP_OP_BLOCK_STATUS && !error)
		check_status(m, op);
	if (op->op == BLKTAP_OP_DISCARD ||
	    (error &&
	     (op->op == BLKTAP_OP_WRITE || op->op == BLKTAP_OP_WRITE_ZEROES)) ||
	    (error && op->verify)) {
		op->op = BLKTAP_OP_READ;
		op->flags = 0;
		op->verify = true;
		submit(op);
		return;
	}
	op->busy = false;
	m->busy--;
}

/* One piece, or several: they begin and end anywhere, as those of an embedder may,
 * or where O_DIRECT takes them. */
static uint32_t cut(struct model_op *op)
{
	uint32_t n = 0, most = 1 + (uint32_t)model_random(op->model, 2) *
					   (MODEL_PIECES - 1);
	uint64_t at = 0, length;

	for (; at < op->length && n < most; at += length, n++) {
		length = 1 + model_random(op->model, op->length - at);
		if (model_random(op->model, 2))
			length = (at | 511) + 1 - at;
		if (n + 1 == most || length > op->length - at)
			length = op->length - at;
		op->iov[n].iov_base = op->data + at;
		op->iov[n].iov_len = length;
	}
	return n;
}

static void submit(struct model_op *op)
{
	struct blktap_io io = {
		.size = sizeof(io),
		.op = op->op,
		.flags = op->flags,
		.offset = op->offset,
		.length = op->length,
		.iov = op->iov,
		.iov_count = cut(op),
		.extents = op->extents,
		.extent_max = 1 + (uint32_t)model_random(op->model, 64),
		.extent_count = &op->extent_count,
		.callback = done,
		.opaque = op,
	};

	ck_assert_int_eq(blktap_disk_submit(op->model->disk, &io), 0);
}

static bool overlaps(const struct model *m, uint64_t offset, uint64_t length)
{
	uint32_t i;

	for (i = 0; i < MODEL_DEPTH; i++)
		if (m->ops[i].busy && m->ops[i].offset < offset + length &&
		    offset < m->ops[i].offset + m->ops[i].length)
			return true;
	return false;
}

static enum blktap_op choose(struct model *m)
{
	uint64_t n = model_random(m, 100);

	if (n < 25)
		return BLKTAP_OP_READ;
	if (n < 75)
		return BLKTAP_OP_WRITE;
	if (n < 83)
		return BLKTAP_OP_WRITE_ZEROES;
	if (n < 90)
		return m->no_discard ? BLKTAP_OP_WRITE : BLKTAP_OP_DISCARD;
	if (n < 95)
		return BLKTAP_OP_BLOCK_STATUS;
	return m->no_flush ? BLKTAP_OP_READ : BLKTAP_OP_FLUSH;
}

static void start(struct model *m)
{
	uint64_t length, offset, i;
	struct model_op *op = m->ops;

	while (op->busy)
		op++;
	length = m->align * (1 + model_random(m, 16));
	if (!model_random(m, 6))
		length = m->align * (1 + model_random(m, MODEL_MAX / m->align));
	offset = model_random(m, m->size / m->align) * m->align;
	if (length > m->size - offset)
		length = m->size - offset;
	if (overlaps(m, offset, length))
		return;
	op->op = choose(m);
	op->offset = offset;
	op->length = length;
	op->flags = 0;
	op->verify = false;
	if (op->op == BLKTAP_OP_WRITE_ZEROES && model_random(m, 2))
		op->flags |= BLKTAP_MAY_UNMAP;
	if (op->op == BLKTAP_OP_WRITE && !model_random(m, 10))
		op->flags |= BLKTAP_FUA;
	for (i = 0; op->op == BLKTAP_OP_WRITE && i < length; i += 8) {
		uint64_t v = model_random(m, UINT64_MAX);

		memcpy(op->data + i, &v, length - i < 8 ? length - i : 8);
	}
	if (op->op != BLKTAP_OP_FLUSH)
		remember(op);
	op->busy = true;
	m->busy++;
	submit(op);
}

static void wait_for(struct model *m, uint32_t most)
{
	while (m->busy > most)
		ck_assert_int_eq(blktap_context_run(m->context, 5000), 0);
}

void model_run(struct model *m, uint32_t count)
{
	while (count--) {
		wait_for(m, MODEL_DEPTH - 1);
		start(m);
	}
	wait_for(m, 0);
}

void model_begin(struct model *m)
{
	if (m->busy < MODEL_DEPTH)
		start(m);
}

void model_wait(struct model *m)
{
	wait_for(m, 0);
}

void model_verify(struct model *m)
{
	struct model_op *op = m->ops;
	uint64_t at;

	for (at = 0; at < m->size; at += op->length) {
		op->op = BLKTAP_OP_READ;
		op->flags = 0;
		op->verify = false;
		op->offset = at;
		op->length =
			m->size - at < MODEL_MAX ? m->size - at : MODEL_MAX;
		op->busy = true;
		m->busy++;
		submit(op);
		wait_for(m, 0);
	}
}

void model_read(struct model *m, uint64_t offset)
{
	struct model_op *op = m->ops;

	op->op = BLKTAP_OP_READ;
	op->flags = 0;
	op->verify = true;
	op->offset = offset;
	op->length =
		m->size - offset < MODEL_MAX ? m->size - offset : MODEL_MAX;
	op->raw = true;
	op->busy = true;
	m->busy++;
	submit(op);
	wait_for(m, 0);
	op->raw = false;
}

int model_flush(struct model *m)
{
	uint32_t before = m->errors;
	struct model_op *op = m->ops;

	op->op = BLKTAP_OP_FLUSH;
	op->flags = 0;
	op->verify = false;
	op->busy = true;
	m->busy++;
	submit(op);
	wait_for(m, 0);
	return m->errors == before ? 0 : -EIO;
}
