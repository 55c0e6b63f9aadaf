/* SPDX-License-Identifier: BSD-3-Clause */
/* Those who use one disk at once: two rings, whose writes may be held back, and
 * others beside them, as an export is. Each tag, and each of the others, has a region
 * of the disk, and a model says what each block of it may hold: never what lies in a
 * slot that nobody filled, nor what another request has. */
#ifndef BT_TESTS_RING_LIFE_H
#define BT_TESTS_RING_LIFE_H

#include "fake-ring.h"
#include "seed.h"

#define RINGS 2u
#define TAGS ((uint32_t)(FAKE_QUEUES * FAKE_DEPTH))
#define BESIDE 4u
#define REGIONS (RINGS * TAGS + BESIDE)
#define BLOCK 512u
#define BLOCKS (FAKE_SLOT / BLOCK) /* of a region */
#define SIZE (REGIONS * FAKE_SLOT)
#define MAYBE 6
#define POISON 0xeeeeeeeeu
#define STAMPS 64u /* a word says by this whose region it was written to */

_Static_assert(REGIONS < STAMPS, "and it is less than these");
_Static_assert(POISON % STAMPS > REGIONS, "which no region has");

/* What a block holds: the same word all over. */
struct block {
	/* the first is what it was; others may have gone */
	uint32_t maybe[MAYBE];
	uint32_t count;
};

struct client {
	bool busy, answered; /* the last by those beside the rings */
	int error;
	uint8_t op;
	uint32_t region; /* its own; a read's may be another's */
	uint32_t first, count, stamp; /* blocks of the region */
	uint32_t era; /* when it began */
	uint8_t *data; /* of those beside the rings */
	struct iovec iov;
};

static struct block blocks[REGIONS][BLOCKS];
static struct client clients[REGIONS];
static struct fake second;
static struct blktap_ring *second_ring;
static uint64_t seed;
static uint32_t stamp;
static uint32_t era; /* of the graph: each change begins one */
/* Regions that were written to in this era. */
static bool changed[REGIONS];

static inline uint32_t draw(uint32_t n)
{
	return (uint32_t)(seed_next(&seed) % n);
}

static inline void fill(uint8_t *at, uint32_t word, size_t bytes)
{
	size_t i;

	for (i = 0; i < bytes; i += sizeof(word))
		memcpy(at + i, &word, sizeof(word));
}

/* ---- where they are ---------------------------------------------------------- */

static inline bool is_beside(uint32_t i)
{
	return i >= RINGS * TAGS;
}

static inline struct fake *fake_at(uint32_t ring_index)
{
	return ring_index ? &second : &fake;
}

static inline struct fake *fake_of(uint32_t i)
{
	return fake_at(i / TAGS);
}

static inline uint32_t queue_of(uint32_t i)
{
	return i % TAGS / FAKE_DEPTH;
}

static inline uint32_t tag_of(uint32_t i)
{
	return i % FAKE_DEPTH;
}

static inline uint8_t *slot_of(uint32_t i)
{
	return fake_slot(fake_of(i), queue_of(i), tag_of(i));
}

static inline uint8_t *memory_of(uint32_t i)
{
	return is_beside(i) ? clients[i].data
			    : fake_caller(fake_of(i), queue_of(i), tag_of(i));
}

static inline uint64_t offset_of(const struct client *c)
{
	return (uint64_t)c->region * FAKE_SLOT + c->first * BLOCK;
}

/* ---- requests ---------------------------------------------------------------- */

static inline bool is_write(const struct client *c)
{
	return c->op == BLKTAP_REQ_WRITE || c->op == BLKTAP_REQ_WRITE_ZEROES;
}

static inline void answered(void *opaque, int error)
{
	struct client *c = opaque;

	ck_assert(!c->answered);
	c->answered = true;
	c->error = error;
}

static inline void send_beside(struct client *c)
{
	static const enum blktap_op ops[] = {
		[BLKTAP_REQ_READ] = BLKTAP_OP_READ,
		[BLKTAP_REQ_WRITE] = BLKTAP_OP_WRITE,
		[BLKTAP_REQ_FLUSH] = BLKTAP_OP_FLUSH,
		[BLKTAP_REQ_WRITE_ZEROES] = BLKTAP_OP_WRITE_ZEROES,
	};
	bool flush = c->op == BLKTAP_REQ_FLUSH;
	struct blktap_io io = {
		.size = sizeof(io),
		.op = ops[c->op],
		.offset = flush ? 0 : offset_of(c),
		.length = flush ? 0 : c->count * BLOCK,
		.iov = &c->iov,
		.iov_count = 1,
		.callback = answered,
		.opaque = c,
	};

	fill(c->data, is_write(c) ? c->stamp : POISON, FAKE_SLOT);
	c->iov = (struct iovec){ c->data, c->count * BLOCK };
	c->answered = false;
	ck_assert_int_eq(blktap_disk_submit(disk, &io), 0);
}

/* The data of a write is in its slot, or held back; POISON is in all else. */
static inline void put_data(uint32_t i, struct blktap_desc *d)
{
	struct client *c = &clients[i];
	bool held = c->op == BLKTAP_REQ_WRITE && fake_of(i)->defers;

	fill(slot_of(i), POISON, FAKE_SLOT);
	fill(memory_of(i), POISON, FAKE_SLOT);
	if (c->op != BLKTAP_REQ_WRITE)
		return;
	fill(held ? memory_of(i) : slot_of(i), c->stamp, d->bytes);
	d->flags = (held ? BLKTAP_REQ_DEFERRED : 0) |
		   (draw(8) ? 0 : BLKTAP_REQ_FUA);
}

static inline void send_client(uint32_t i)
{
	struct client *c = &clients[i];
	bool flush = c->op == BLKTAP_REQ_FLUSH;

	c->busy = true;
	c->era = era;
	if (is_beside(i)) {
		send_beside(c);
		return;
	}
	put_data(i, fake_fill(fake_of(i), queue_of(i), tag_of(i), c->op,
			      flush ? 0 : offset_of(c),
			      flush ? 0 : c->count * BLOCK));
	fake_of(i)->queues[queue_of(i)].answers[tag_of(i)] = 0;
	fake_ring(fake_of(i), queue_of(i), tag_of(i));
}

static inline bool has_room(const struct client *c)
{
	uint32_t b;

	for (b = c->first; b < c->first + c->count; b++)
		if (blocks[c->region][b].count == MAYBE)
			return false;
	return true;
}

static inline void begin(uint32_t i)
{
	static const uint8_t ops[] = { BLKTAP_REQ_READ,	       BLKTAP_REQ_READ,
				       BLKTAP_REQ_WRITE,       BLKTAP_REQ_WRITE,
				       BLKTAP_REQ_WRITE,       BLKTAP_REQ_FLUSH,
				       BLKTAP_REQ_WRITE_ZEROES };
	struct client *c = &clients[i];
	struct block *block;
	uint32_t b;

	if (c->busy)
		return;
	c->op = ops[draw(sizeof(ops))];
	c->region = i;
	c->first = draw(2) ? 0 : draw(BLOCKS);
	c->count = 1 + draw(BLOCKS - c->first);
	if (!has_room(c))
		c->op = BLKTAP_REQ_READ;
	if (c->op == BLKTAP_REQ_READ && !draw(3))
		c->region = draw(REGIONS);
	c->stamp = c->op == BLKTAP_REQ_WRITE ? ++stamp * STAMPS + i : 0;
	for (b = c->first; is_write(c) && b < c->first + c->count; b++) {
		block = &blocks[i][b];
		block->maybe[block->count++] = c->stamp;
	}
	send_client(i);
}

/* ---- answers ----------------------------------------------------------------- */

static inline void settle(struct block *b, uint32_t word)
{
	b->maybe[0] = word;
	b->count = 1;
}

/* One of its own holds what was written last, or what may have been; of another's, who
 * is writing, it is known that only he writes there. */
static inline void check_block(uint32_t i, uint32_t b, uint32_t word)
{
	const struct client *c = &clients[i];
	struct block *block = &blocks[c->region][b];
	uint32_t n;

	if (c->region != i) {
		ck_assert_msg(!word || word % STAMPS == c->region,
			      "%x in region %u", word, c->region);
		return;
	}
	for (n = 0; n < block->count && block->maybe[n] != word; n++)
		;
	ck_assert_msg(n < block->count,
		      "client %u block %u of %u+%u holds %x, may be %x of %u",
		      i, b, c->first, c->count, word, block->maybe[0],
		      block->count);
	settle(block, word);
}

static inline void check_read(uint32_t i)
{
	const struct client *c = &clients[i];
	const uint8_t *at = memory_of(i);
	uint32_t b, word;

	for (b = c->first; b < c->first + c->count; b++, at += BLOCK) {
		memcpy(&word, at, sizeof(word));
		ck_assert_int_eq(memcmp(at, at + 4, BLOCK - 4), 0);
		check_block(i, b, word);
	}
}

static inline bool take_answer(uint32_t i)
{
	struct fake_queue *q;
	struct client *c = &clients[i];

	if (is_beside(i))
		return c->answered;
	q = &fake_of(i)->queues[queue_of(i)];
	if (!q->answers[tag_of(i)])
		return false;
	ck_assert_uint_eq(q->answers[tag_of(i)], 1);
	c->error = q->results[tag_of(i)] < 0 ? q->results[tag_of(i)] : 0;
	return true;
}

static inline void end(uint32_t i)
{
	struct client *c = &clients[i];
	uint32_t b;

	if (!c->busy || !take_answer(i))
		return;
	c->busy = false;
	if (c->error) {
		/* there was no data */
		ck_assert_int_eq(c->op, BLKTAP_REQ_WRITE);
		ck_assert(!is_beside(i));
		return;
	}
	if (c->op == BLKTAP_REQ_READ)
		check_read(i);
	if (!is_write(c))
		return;
	changed[i] |= c->era == era;
	for (b = c->first; b < c->first + c->count; b++)
		settle(&blocks[i][b], c->stamp);
}

static inline void end_all(void)
{
	uint32_t i;

	for (i = 0; i < REGIONS; i++)
		end(i);
}

static inline void process(uint32_t n)
{
	while (n--) {
		ck_assert_int_eq(blktap_context_process(context), 0);
		end_all();
	}
}

static inline bool are_busy(void)
{
	uint32_t i, n = 0;

	for (i = 0; i < REGIONS; i++)
		n += clients[i].busy;
	return n;
}

/* ---- the module -------------------------------------------------------------- */

static inline int make_ring(uint32_t r)
{
	struct blktap_ring_options options;

	blktap_ring_options_init(&options);
	options.minor = 3 + (int)r;
	return bt_ring_create_on(disk, &options, &fake_ops, fake_at(r),
				 r ? &second_ring : &ring, NULL);
}

/* The next daemon gets all that was not answered, and the data in its slots, as it
 * may not know of any other way. */
static inline void replay(uint32_t i)
{
	struct blktap_desc *d = fake_desc(fake_of(i), queue_of(i), tag_of(i));

	if (d->flags & BLKTAP_REQ_DEFERRED)
		fill(slot_of(i), clients[i].stamp, d->bytes);
	d->flags &= (uint16_t)~BLKTAP_REQ_DEFERRED;
	d->gen = ++fake_of(i)->queues[queue_of(i)].gen;
	fake_of(i)->queues[queue_of(i)].gens[tag_of(i)] = d->gen;
	fake_ring(fake_of(i), queue_of(i), tag_of(i));
}

/* A daemon has left the device, and the next comes. */
static inline void inherit(uint32_t r)
{
	struct fake *f = fake_at(r);
	uint32_t i;

	close(f->fds[1]);
	ck_assert_int_eq(pipe2(f->fds, O_CLOEXEC | O_NONBLOCK), 0);
	f->defers = false;
	for (i = 0; i < FAKE_QUEUES; i++) {
		memset(fake_shared(f, i), 0, sizeof(struct blktap_queue));
		f->queues[i].sq_tail = f->queues[i].cq_head = 0;
	}
	end_all();
	for (i = r * TAGS; i < (r + 1) * TAGS; i++)
		if (clients[i].busy)
			replay(i);
	ck_assert_int_eq(make_ring(r), 0);
}

#endif
