/* SPDX-License-Identifier: BSD-3-Clause */
/* The libaio backend: one io_submit a batch, an eventfd to end the wait, and
 * completions read from the ring that the kernel maps into the process, as long
 * as its header is one we know.
 *
 * The eventfd is watched edge-triggered and never read: each completion is an
 * edge of its own, and the hook reaps most of them before the wait. What the
 * kernel's interface lacks (hole punching; fdatasync and RWF_DSYNC on some file
 * systems) is done inside the submission. */
#include <errno.h>
#include <libaio.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/private.h"

#define RING_MAGIC 0xa10a10a1u

/* What the kernel maps at the address that io_setup returns. */
struct aio_ring {
	uint32_t id;
	uint32_t nr;
	uint32_t head; /* ours */
	uint32_t tail; /* the kernel's */
	uint32_t magic;
	uint32_t compat_features;
	uint32_t incompat_features;
	uint32_t header_length;
	struct io_event events[];
};

struct libaio_state {
	io_context_t ctx;
	struct aio_ring *ring; /* NULL: ask the kernel for events */
	struct bt_watch watch;
	int event_fd;
	struct bt_pace pace;
	struct iocb *iocbs; /* one a slot */
	struct iocb **batch;
	void (*completed)(void *opaque, struct bt_slot *slot);
	void *opaque;
};

static bool libaio_reap(void *state);

/* For completions that ended the wait; others were taken by the hook. */
static void on_readable(struct bt_watch *watch, uint32_t events)
{
	libaio_reap(bt_list_entry(watch, struct libaio_state, watch));
}

/* Also of what init made in part. io_destroy waits for what is under way, of
 * which there is nothing. */
static void libaio_fini(void *state)
{
	struct libaio_state *s = state;

	if (s->event_fd >= 0) {
		bt_watch_del(&s->watch);
		close(s->event_fd);
	}
	if (s->ctx)
		io_destroy(s->ctx);
	free(s->batch);
	free(s->iocbs);
	free(s);
}

/* The ring is an ABI of the kernel's that few rely on: it is read only where
 * its header is the one that we know. */
static int open_context(struct libaio_state *s, struct bt_loop *loop,
			uint32_t queue_depth)
{
	struct aio_ring *ring;
	int rc = io_setup((int)queue_depth, &s->ctx);

	if (rc < 0)
		return rc;
	ring = (struct aio_ring *)s->ctx;
	if (ring->magic == RING_MAGIC && !ring->incompat_features &&
	    ring->header_length == sizeof(*ring))
		s->ring = ring;
	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->event_fd < 0)
		return -errno;
	return bt_watch_add(loop, &s->watch, s->event_fd, EPOLLIN | EPOLLET,
			    on_readable);
}

static int libaio_init(struct bt_loop *loop, uint32_t queue_depth,
		       void (*completed)(void *opaque, struct bt_slot *slot),
		       void *opaque, void **state)
{
	struct libaio_state *s = calloc(1, sizeof(*s));
	int rc = -ENOMEM;

	if (!s)
		return rc;
	s->event_fd = -1;
	s->completed = completed;
	s->opaque = opaque;
	s->iocbs = calloc(queue_depth, sizeof(*s->iocbs));
	s->batch = calloc(queue_depth, sizeof(struct iocb *));
	if (s->iocbs && s->batch)
		rc = open_context(s, loop, queue_depth);
	if (rc < 0) {
		libaio_fini(s);
		return rc;
	}
	*state = s;
	return 0;
}

/* The interface has no such operations. */
static bool is_inline(const struct bt_slot *slot)
{
	return slot->op == BT_IO_PUNCH || slot->op == BT_IO_ZERO ||
	       slot->op == BT_IO_DISCARD;
}

/* It holds the loop up for as long as it takes: the price of an old kernel. */
static void perform(struct libaio_state *s, struct bt_slot *slot)
{
	slot->result = bt_sync_perform(slot);
	s->completed(s->opaque, slot);
}

/* An iocb a slot: one that the kernel has is not filled again. */
static struct iocb *prep(struct libaio_state *s, struct bt_slot *slot)
{
	struct iocb *iocb = &s->iocbs[slot->index];
	int count = (int)slot->iov_count;
	long long offset = (long long)slot->offset;

	if (slot->op == BT_IO_READ)
		io_prep_preadv(iocb, slot->fd, slot->iov, count, offset);
	else if (slot->op == BT_IO_WRITE)
		io_prep_pwritev(iocb, slot->fd, slot->iov, count, offset);
	else
		io_prep_fdsync(iocb, slot->fd);
	if (slot->flags & BT_IO_FUA)
		iocb->aio_rw_flags = RWF_DSYNC;
	io_set_eventfd(iocb, s->event_fd);
	iocb->data = slot;
	return iocb;
}

/* The first slot was refused for what it is; plain calls may do it. */
static bool is_for_plain_calls(const struct bt_slot *slot, int rc)
{
	return (rc == -EINVAL || rc == -EOPNOTSUPP) &&
	       (slot->op == BT_IO_SYNC || (slot->flags & BT_IO_FUA));
}

/* Completions that wait in the ring. */
static uint32_t count_done(const struct libaio_state *s)
{
	const struct aio_ring *ring = s->ring;

	if (!ring)
		return 0;
	return (__atomic_load_n(&ring->tail, __ATOMIC_RELAXED) + ring->nr -
		ring->head) %
	       ring->nr;
}

/* A run of slots of one sort: those for plain calls, or those for the kernel.
 * What follows is the next call's, so slots begin in their order. */
static int libaio_submit(void *state, struct bt_slot **slots, uint32_t count)
{
	struct libaio_state *s = state;
	uint32_t i, before;
	int rc;

	for (i = 0; i < count && is_inline(slots[i]); i++)
		perform(s, slots[i]);
	if (i)
		return (int)i;
	for (i = 0; i < count && !is_inline(slots[i]); i++)
		s->batch[i] = prep(s, slots[i]);
	before = count_done(s);
	rc = io_submit(s->ctx, (long)i, s->batch);
	if (is_for_plain_calls(slots[0], rc)) {
		perform(s, slots[0]);
		return 1;
	}
	if (rc > 0)
		bt_pace_took(&s->pace, (uint32_t)rc, count_done(s) - before);
	return rc;
}

/* No system call: the tail is the kernel's, the head ours. ACQUIRE: the events
 * are there before the tail that tells of them; RELEASE: they have been read
 * before their places are given back. */
static uint32_t reap_ring(struct libaio_state *s, struct bt_slot **slots)
{
	struct aio_ring *ring = s->ring;
	uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	uint32_t head = ring->head;
	uint32_t count;

	for (count = 0; head != tail && count < s->pace.reap_limit; count++) {
		struct io_event *event = &ring->events[head];

		slots[count] = event->data;
		slots[count]->result = (int64_t)event->res;
		head = head + 1 == ring->nr ? 0 : head + 1;
	}
	__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
	return count;
}

/* For a ring that is not known. */
static uint32_t reap_call(struct libaio_state *s, struct bt_slot **slots)
{
	struct io_event events[BT_REAP_MAX];
	struct timespec zero = { 0, 0 };
	int rc = io_getevents(s->ctx, 0, s->pace.reap_limit, events, &zero);
	int i;

	for (i = 0; i < rc; i++) {
		slots[i] = events[i].data;
		slots[i]->result = (int64_t)events[i].res;
	}
	return rc > 0 ? (uint32_t)rc : 0;
}

/* The events are given back before the callbacks, which may submit. */
static bool libaio_reap(void *state)
{
	struct libaio_state *s = state;
	struct bt_slot *slots[BT_REAP_MAX];
	uint32_t count, i;

	if (!s->pace.in_kernel)
		return false;
	count = s->ring ? reap_ring(s, slots) : reap_call(s, slots);
	s->pace.in_kernel -= count;
	for (i = 0; i < count; i++)
		s->completed(s->opaque, slots[i]);
	return count > 0;
}

static const struct bt_pace *libaio_pace(const void *state)
{
	const struct libaio_state *s = state;

	return &s->pace;
}

const struct bt_backend bt_backend_libaio = {
	.name = "libaio",
	.init = libaio_init,
	.fini = libaio_fini,
	.submit = libaio_submit,
	.reap = libaio_reap,
	.pace = libaio_pace,
	.takes_no_plain = true,
};
