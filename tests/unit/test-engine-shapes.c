/* SPDX-License-Identifier: BSD-3-Clause */
/* Vectors of any shape through O_DIRECT: pieces that it takes and pieces that it does
 * not, neighbours that are merged, transfers that come back short, and a file that
 * ends in the middle of a read. BLKTAP_SEED repeats a run. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/private.h"
#include "faulty.h"
#include "seed.h"

#define ALIGN 512u
#define BYTES (2u << 20)
#define OPS 24u
#define PIECES 8u
#define STRIDE (516096u + 4096u) /* more than the longest io, in pages */
#define ROUNDS 800u

static struct bt_loop *loop;
static struct bt_engine *engine;
static struct bt_file file;
static int fd = -1;
static unsigned char model[BYTES + (1u << 20)];
static uint64_t state, size;

struct op {
	struct bt_io io;
	struct iovec iov[PIECES];
	unsigned char *memory; /* a place for each piece */
	uint32_t calls;
	int error;
};

static struct op ops[OPS];

static uint64_t below(uint64_t n)
{
	return seed_next(&state) % n;
}

static void on_done(struct bt_io *io, int error)
{
	struct op *op = bt_list_entry(io, struct op, io);

	op->calls++;
	op->error = error;
}

static void setup(void)
{
	char path[] = "/var/tmp/blktap-shapes-XXXXXX";
	uint32_t i;

	state = seed_take();
	faulty_reset();
	ck_assert_int_eq(bt_loop_create(BT_CLOCK_VIRTUAL, NULL, &loop), 0);
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	unlink(path);
	size = BYTES - ALIGN * below(64);
	for (i = 0; i < size; i++)
		model[i] = (unsigned char)below(256);
	ck_assert_int_eq(pwrite(fd, model, size, 0), (ssize_t)size);
	ck_assert_int_eq(bt_engine_create_backend(loop, NULL, &faulty_backend,
						  OPS / 2, &engine, NULL),
			 0);
	ck_assert_int_eq(bt_file_init(&file, engine, fd, false, "file"), 0);
	/* what the queue believes of it */
	file.direct = true;
	file.offset_align = ALIGN;
	file.memory_align = ALIGN;
	file.eof_ok = true;
	for (i = 0; i < OPS; i++)
		ops[i].memory = aligned_alloc(4096, PIECES * STRIDE);
}

static void teardown(void)
{
	uint32_t i;

	ck_assert_uint_eq(file.in_flight, 0);
	/* every buffer came back */
	ck_assert_uint_eq(engine->bounces.free_count, engine->bounces.made);
	bt_file_fini(&file);
	bt_engine_destroy(engine);
	bt_loop_destroy(loop);
	close(fd);
	for (i = 0; i < OPS; i++)
		free(ops[i].memory);
}

/* Pieces whose places and lengths suit O_DIRECT, or one of the two, or none. */
static void cut(struct op *op)
{
	uint64_t left = op->io.length, part;
	uint32_t n = 0;

	while (left) {
		part = 1 + below(left);
		if (below(2))
			part = (part + ALIGN - 1) / ALIGN * ALIGN;
		if (n + 1 == PIECES || part > left)
			part = left;
		op->iov[n].iov_base =
			op->memory + n * STRIDE + (below(3) ? 0 : below(ALIGN));
		op->iov[n].iov_len = part;
		memset(op->iov[n].iov_base, (int)below(256), part);
		left -= part;
		n++;
	}
	op->io.data = (struct bt_sgl){ .iov = op->iov, .count = n };
}

static void move(struct op *op, bool out)
{
	unsigned char *at = model + op->io.offset;
	uint32_t i;

	for (i = 0; i < op->io.data.count; i++) {
		if (out)
			memcpy(at, op->iov[i].iov_base, op->iov[i].iov_len);
		else
			ck_assert(!memcmp(at, op->iov[i].iov_base,
					  op->iov[i].iov_len));
		at += op->iov[i].iov_len;
	}
}

/* They lie behind each other, with a gap now and then, in ascending order: so many are
 * merged. A write does not reach behind the end of the file. */
static uint32_t begin(void)
{
	uint64_t at = ALIGN * below(64), length;
	bool writes = below(2);
	uint32_t n;

	for (n = 0; n < OPS && at < size; n++, at += length) {
		struct op *op = &ops[n];

		length = ALIGN * (1 + below(below(4) ? 16 : 1000));
		if ((writes || n + 1 < OPS) && length > size - at)
			length = size - at;
		memset(&op->io, 0, sizeof(op->io));
		op->io.file = &file;
		op->io.op = writes ? BT_IO_WRITE : BT_IO_READ;
		op->io.offset = at;
		op->io.length = length;
		op->io.done = on_done;
		op->calls = 0;
		cut(op);
		if (writes)
			move(op, true);
		bt_engine_submit(&op->io);
		if (!below(8))
			at += ALIGN;
	}
	return n;
}

/* Now and then a transfer comes back short: of whole blocks, as O_DIRECT does it. */
static void make_trouble(void)
{
	faulty_reset();
	faulty.take_max = (uint32_t)below(4);
	if (below(3))
		faulty_add((struct faulty_rule){
			.op = FAULTY_ANY,
			.nth = 1 + (uint32_t)below(8),
			.times = 1 + (uint32_t)below(8),
			.shorten = true,
			.max_length = ALIGN * (1 + below(200)) });
	if (!below(4))
		faulty_add((struct faulty_rule){ .op = FAULTY_ANY,
						 .nth = 1 + (uint32_t)below(8),
						 .error = -EINTR });
}

START_TEST(bytes_are_right_whatever_the_shape_of_a_vector)
{
	uint32_t round, i, n, turns;

	for (round = 0; round < seed_rounds(ROUNDS); round++) {
		make_trouble();
		n = begin();
		for (turns = 0; file.in_flight && turns < 100000; turns++) {
			bt_loop_turn(loop, 0);
			bt_loop_advance(loop, 1000000);
		}
		ck_assert_uint_eq(file.in_flight, 0);
		for (i = 0; i < n; i++) {
			ck_assert_uint_eq(ops[i].calls, 1);
			ck_assert_int_eq(ops[i].error, 0);
			if (ops[i].io.op == BT_IO_READ)
				move(&ops[i], false);
		}
	}
	ck_assert_uint_gt(bt_engine_get_stats(engine)->bounced, 0);
	ck_assert_uint_gt(bt_engine_get_stats(engine)->merged, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("engine shapes");
	TCase *tc = tcase_create("shapes");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, bytes_are_right_whatever_the_shape_of_a_vector);
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
