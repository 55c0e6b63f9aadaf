/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernel module, played by the test: a mapping in memory, system calls as
 * functions, and a pipe that is readable when a request is there. Whatever it
 * says can be spoiled before it is said. */
#ifndef BT_TESTS_FAKE_RING_H
#define BT_TESTS_FAKE_RING_H

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/ring.h"

#define FAKE_QUEUES 2
#define FAKE_DEPTH 8
#define FAKE_SLOT 65536u
#define FAKE_ENTRIES 8

struct fake_queue {
	uint32_t sq_tail, cq_head, gen;
	uint32_t gens[FAKE_DEPTH];
	int32_t results[FAKE_DEPTH];
	uint32_t answers[FAKE_DEPTH]; /* how often the tag was answered */
	bool moved[FAKE_DEPTH]; /* a read's data is in its caller's memory */
};

struct fake {
	int fds[2]; /* [0] is the ring's */
	uint8_t *map;
	uint8_t *
		callers; /* their memory, where moves go: a slot's for each tag */
	struct blktap_info info;
	struct blktap_create create;
	struct blktap_resize resize;
	struct fake_queue queues[FAKE_QUEUES];
	uint32_t state; /* enum blktap_state */
	int attach_errors; /* so many times attach_error */
	int attach_error;
	int create_error;
	int enter_error;
	uint64_t has; /* features of the module */
	uint64_t features; /* that ATTACH asked for */
	unsigned int waits; /* ENTERs that might have slept */
	unsigned int looks; /* ENTERs that might have looked */
	void (*in_wait)(struct fake *f); /* what happens meanwhile */
	unsigned int attaches, creates, enters, resizes, removes, closes;
	uint32_t remove_flags;
	bool defers;
	unsigned int defer_calls, moves, fetches;
	int move_error; /* of the call */
	int move_result; /* of each move to a file, but for 0 */
	int fetch_error;
	int openers;
	bool keeps_serving; /* REMOVE does not hang up at once */
};

static inline void fake_init(struct fake *f)
{
	struct blktap_info *i = &f->info;

	memset(f, 0, sizeof(*f));
	f->has = BLKTAP_FEATURES;
	ck_assert_int_eq(pipe2(f->fds, O_CLOEXEC | O_NONBLOCK), 0);
	i->logical_block = 512;
	i->recovery_ms = 30000;
	i->queues = FAKE_QUEUES;
	i->depth = FAKE_DEPTH;
	i->slot_bytes = FAKE_SLOT;
	i->sq_entries = i->cq_entries = FAKE_ENTRIES;
	i->queue_stride = 4096;
	i->sq_offset = 128;
	i->desc_offset = 256;
	i->cq_offset = 1024;
	i->data_offset = (uint64_t)FAKE_QUEUES * 4096;
	i->map_bytes =
		i->data_offset + (uint64_t)FAKE_QUEUES * FAKE_DEPTH * FAKE_SLOT;
	f->map = aligned_alloc(4096, i->map_bytes);
	f->callers = calloc(FAKE_QUEUES * FAKE_DEPTH, FAKE_SLOT);
	ck_assert(f->map && f->callers);
	memset(f->map, 0, i->map_bytes);
}

static inline void fake_fini(struct fake *f)
{
	close(f->fds[1]);
	free(f->callers);
	free(f->map);
}

static inline struct blktap_desc *fake_desc(struct fake *f, uint32_t q,
					    uint32_t tag)
{
	return (struct blktap_desc *)(f->map + (size_t)q * 4096 + 256) + tag;
}

static inline uint8_t *fake_slot(struct fake *f, uint32_t q, uint32_t tag)
{
	return f->map + f->info.data_offset +
	       ((size_t)q * FAKE_DEPTH + tag) * FAKE_SLOT;
}

static inline uint8_t *fake_caller(struct fake *f, uint32_t q, uint32_t tag)
{
	return f->callers + ((size_t)q * FAKE_DEPTH + tag) * FAKE_SLOT;
}

/* ---- what the daemon calls ------------------------------------------------ */

static inline int fake_open(void *opaque, uint32_t minor)
{
	struct fake *f = opaque;

	f->info.minor = minor;
	return f->fds[0];
}

static inline struct blktap_queue *fake_shared(struct fake *f, uint32_t q)
{
	return (void *)(f->map + (size_t)q * 4096);
}

static inline bool fake_is_pending(struct fake *f)
{
	bool any = false;
	uint32_t i;

	for (i = 0; i < FAKE_QUEUES; i++)
		any |= fake_shared(f, i)->sq_tail != fake_shared(f, i)->sq_head;
	return any;
}

/* A request, or the other descriptor, ends the sleep. */
static inline int fake_wait(struct fake *f, const struct blktap_enter *e)
{
	struct pollfd fds[] = { { e->fd, POLLIN, 0 },
				{ f->fds[0], POLLIN, 0 } };

	ck_assert(f->features & BLKTAP_FEATURE_WAIT_FD);
	ck_assert(e->flags & BLKTAP_ENTER_FD);
	f->waits++;
	if (f->in_wait)
		f->in_wait(f);
	if (!fake_is_pending(f))
		ck_assert_int_ge(poll(fds, 2, e->timeout_ms), 0);
	return fake_is_pending(f);
}

/* A read that was answered well, and not moved, is in its slot. */
static inline void fake_take_data(struct fake *f, uint32_t q, uint32_t tag)
{
	const struct blktap_desc *d = fake_desc(f, q, tag);

	if (d->op == BLKTAP_REQ_READ && !f->queues[q].moved[tag] &&
	    f->queues[q].results[tag] == (int32_t)d->bytes)
		memcpy(fake_caller(f, q, tag), fake_slot(f, q, tag), d->bytes);
}

static inline int fake_move_one(struct fake *f, const struct blktap_move *m)
{
	const struct blktap_desc *d = fake_desc(f, m->queue, m->tag);
	uint8_t *at = fake_caller(f, m->queue, m->tag);
	ssize_t n;

	ck_assert_uint_lt(m->queue, FAKE_QUEUES);
	ck_assert_uint_lt(m->tag, FAKE_DEPTH);
	ck_assert_uint_eq(m->gen, f->queues[m->queue].gens[m->tag]);
	ck_assert_uint_eq(m->reserved, 0);
	if (m->fd == -1) {
		ck_assert_uint_eq(d->op, BLKTAP_REQ_WRITE);
		f->fetches++;
		if (f->fetch_error)
			return f->fetch_error;
		memcpy(fake_slot(f, m->queue, m->tag), at, d->bytes);
		return (int)d->bytes;
	}
	f->moves++;
	if (f->move_result)
		return f->move_result;
	n = d->op == BLKTAP_REQ_READ
		    ? pread(m->fd, at, d->bytes, (off_t)m->offset)
		    : pwrite(m->fd, at, d->bytes, (off_t)m->offset);
	f->queues[m->queue].moved[m->tag] = n == (ssize_t)d->bytes;
	return n < 0 ? -errno : (int)n;
}

static inline int fake_move(struct fake *f, const struct blktap_moves *moves)
{
	struct blktap_move *m = (void *)(uintptr_t)moves->moves;
	uint32_t i;

	ck_assert(f->features & BLKTAP_FEATURE_MOVE);
	ck_assert_uint_gt(moves->count, 0);
	if (f->move_error)
		return f->move_error;
	for (i = 0; i < moves->count; i++)
		m[i].result = fake_move_one(f, &m[i]);
	return 0;
}

static inline int fake_defer(struct fake *f, const struct blktap_defer *d)
{
	ck_assert(f->features & BLKTAP_FEATURE_MOVE);
	f->defer_calls++;
	f->defers = d->on;
	return 0;
}

/* Takes answers as the module does, and counts what is wrong with them. */
static inline int fake_enter(struct fake *f, const struct blktap_enter *enter)
{
	char bytes[64];
	uint32_t i;

	f->enters++;
	if (!(f->features & BLKTAP_FEATURE_LOOK))
		ck_assert_uint_eq(enter->flags, 0);
	while (read(f->fds[0], bytes, sizeof(bytes)) > 0)
		;
	if (f->enter_error)
		return f->enter_error;
	for (i = 0; i < FAKE_QUEUES; i++) {
		struct fake_queue *q = &f->queues[i];
		struct blktap_cqe *cq =
			(void *)(f->map + (size_t)i * 4096 + 1024);
		uint32_t tail = fake_shared(f, i)->cq_tail;

		ck_assert_uint_le(tail - q->cq_head, FAKE_ENTRIES);
		for (; q->cq_head != tail; q->cq_head++) {
			struct blktap_cqe *e =
				&cq[q->cq_head & (FAKE_ENTRIES - 1)];

			ck_assert_uint_lt(e->tag, FAKE_DEPTH);
			ck_assert_uint_eq(e->gen, q->gens[e->tag]);
			ck_assert_uint_eq(e->reserved, 0);
			q->results[e->tag] = e->result;
			q->answers[e->tag]++;
			fake_take_data(f, i, e->tag);
		}
	}
	f->looks += !!(enter->flags & BLKTAP_ENTER_LOOK);
	return enter->flags & BLKTAP_ENTER_WAIT ? fake_wait(f, enter) : 0;
}

static inline int fake_attach(struct fake *f, struct blktap_attach *a)
{
	if (a->features & ~f->has)
		return -EOPNOTSUPP;
	f->attaches++;
	f->features = a->features;
	a->state = f->state;
	if (f->attach_errors) {
		f->attach_errors--;
		return f->attach_error;
	}
	return 0;
}

static inline int fake_create(struct fake *f, const struct blktap_create *c)
{
	f->creates++;
	f->create = *c;
	if (f->create_error)
		return f->create_error;
	f->state = BLKTAP_STATE_LIVE;
	f->info.capacity = c->capacity;
	f->info.flags = c->flags;
	return 0;
}

static inline void fake_hang_up(struct fake *f)
{
	f->enter_error = -ENODEV;
	close(f->fds[1]);
	f->fds[1] = -1;
}

static inline int fake_remove(struct fake *f, const struct blktap_remove *r)
{
	f->removes++;
	f->remove_flags = r->flags;
	if (r->flags & BLKTAP_REMOVE_IF_UNUSED && f->openers) {
		f->openers--;
		return -EBUSY;
	}
	if (!f->keeps_serving)
		fake_hang_up(f);
	return 0;
}

static inline int fake_ioctl(void *opaque, int fd, unsigned long cmd, void *arg)
{
	struct fake *f = opaque;

	ck_assert_int_eq(fd, f->fds[0]);
	switch (cmd) {
	case BLKTAP_RING_ATTACH:
		return fake_attach(f, arg);
	case BLKTAP_RING_CREATE:
		return fake_create(f, arg);
	case BLKTAP_RING_INFO:
		f->info.state = f->state;
		memcpy(arg, &f->info, sizeof(f->info));
		return 0;
	case BLKTAP_RING_RESIZE:
		f->resizes++;
		f->resize = *(struct blktap_resize *)arg;
		return 0;
	case BLKTAP_RING_REMOVE:
		return fake_remove(f, arg);
	case BLKTAP_RING_ENTER:
		return fake_enter(f, arg);
	case BLKTAP_RING_MOVE:
		return fake_move(f, arg);
	case BLKTAP_RING_DEFER:
		return fake_defer(f, arg);
	}
	ck_abort_msg("ioctl %lx", cmd);
}

static inline int fake_map(void *opaque, int fd, size_t bytes, void **out)
{
	struct fake *f = opaque;

	ck_assert_uint_eq(bytes, f->info.map_bytes);
	*out = f->map;
	return 0;
}

static inline void fake_unmap(void *opaque, void *map, size_t bytes)
{
}

static inline void fake_close(void *opaque, int fd)
{
	struct fake *f = opaque;

	f->closes++;
	close(fd);
}

static const struct bt_ring_ops fake_ops = {
	fake_open, fake_ioctl, fake_map, fake_unmap, fake_close,
};

/* ---- what the module does ------------------------------------------------- */

/* Fills a descriptor that is right in every way. */
static inline struct blktap_desc *fake_fill(struct fake *f, uint32_t q,
					    uint32_t tag, uint8_t op,
					    uint64_t offset, uint32_t bytes)
{
	struct blktap_desc *d = fake_desc(f, q, tag);

	*d = (struct blktap_desc){
		.gen = ++f->queues[q].gen,
		.tag = tag,
		.op = op,
		.bytes = bytes,
		.offset = offset,
	};
	if (op <= BLKTAP_REQ_WRITE)
		d->data = (uint64_t)(fake_slot(f, q, tag) - f->map);
	f->queues[q].gens[tag] = d->gen;
	f->queues[q].moved[tag] = false;
	return d;
}

/* Puts a tag into the submission ring, and wakes the daemon. */
static inline void fake_ring(struct fake *f, uint32_t q, uint32_t tag)
{
	uint32_t *sq = (void *)(f->map + (size_t)q * 4096 + 128);

	sq[f->queues[q].sq_tail++ & (FAKE_ENTRIES - 1)] = tag;
	__atomic_store_n(&fake_shared(f, q)->sq_tail, f->queues[q].sq_tail,
			 __ATOMIC_RELEASE);
	ck_assert_int_eq(write(f->fds[1], "", 1), 1);
}

/* ---- a disk on it ---------------------------------------------------------- */

#define MIB (1u << 20)

static struct blktap_context *context;
static struct blktap_disk *disk;
static struct blktap_ring *ring;
static struct fake fake;
static char path[64];

static inline void setup(void)
{
	struct blktap_context_options options = { .size = sizeof(options),
						  .engine =
							  BLKTAP_ENGINE_SYNC };

	ck_assert_int_eq(blktap_context_create(&options, &context, NULL), 0);
	fake_init(&fake);
	ring = NULL;
	path[0] = '\0';
}

static inline void teardown(void)
{
	if (ring)
		blktap_ring_destroy(ring, BLKTAP_RING_END_FORCE);
	blktap_context_destroy(context);
	fake_fini(&fake);
	if (path[0])
		unlink(path);
}

static inline void open_disk(const char *spec)
{
	struct blktap_error *err = NULL;
	int rc = blktap_disk_open(context, spec, NULL, &disk, &err);

	ck_assert_msg(!rc, "%s", err ? blktap_error_get_message(err) : "");
}

static inline int create_with(const struct blktap_ring_options *options,
			      struct blktap_error **err)
{
	return bt_ring_create_on(disk, options, &fake_ops, &fake, &ring, err);
}

static inline int create_ring(struct blktap_error **err)
{
	struct blktap_ring_options options;

	blktap_ring_options_init(&options);
	options.minor = 3;
	return create_with(&options, err);
}

static inline int create_read_only(void)
{
	struct blktap_ring_options options;

	blktap_ring_options_init(&options);
	options.minor = 3;
	options.read_only = true;
	return create_with(&options, NULL);
}

static inline void serve(const char *spec)
{
	open_disk(spec);
	ck_assert_int_eq(create_ring(NULL), 0);
}

static inline void turns(void)
{
	int i;

	for (i = 0; i < 20; i++)
		ck_assert_int_eq(blktap_context_process(context), 0);
}

static inline enum blktap_ring_state state(void)
{
	struct blktap_ring_info info = { .size = sizeof(info) };

	blktap_ring_get_info(ring, &info);
	return info.state;
}

/* One request, to its answer. */
static inline int32_t run(uint32_t q, uint32_t tag, uint8_t op, uint16_t flags,
			  uint64_t offset, uint32_t bytes)
{
	uint32_t before = fake.queues[q].answers[tag];

	fake_fill(&fake, q, tag, op, offset, bytes)->flags = flags;
	fake_ring(&fake, q, tag);
	turns();
	ck_assert_uint_eq(fake.queues[q].answers[tag], before + 1);
	return fake.queues[q].results[tag];
}

static inline void on_paused(void *opaque, int error, const char *message)
{
	*(bool *)opaque = true;
	ck_assert_int_eq(error, 0);
}

static inline void pause_disk(void)
{
	bool paused = false;

	ck_assert_int_eq(blktap_disk_pause(disk, 0, on_paused, &paused), 0);
	turns();
	ck_assert(paused);
}

#endif
