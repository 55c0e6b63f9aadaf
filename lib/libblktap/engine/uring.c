/* SPDX-License-Identifier: BSD-3-Clause */
/* The io_uring backend.
 *
 * One io_uring_enter takes a batch in. Completions are read from the shared
 * ring, without a system call, by the idle hook; the ring's descriptor in the
 * loop's epoll only ends a wait. COOP_TASKRUN spares the interrupts that would
 * push completions into a thread which comes to the kernel anyway.
 * SINGLE_ISSUER, and with it DEFER_TASKRUN, is not for us: a context may be
 * handed from one thread to another. */
#include "engine/private.h"

#ifdef HAVE_LIBURING
#include <errno.h>
#include <linux/fs.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define RETRY_NS 1000000ull

struct uring_state {
	struct io_uring ring;
	struct bt_loop *loop;
	struct bt_watch watch;
	struct bt_timer retry;
	bool *by_cmd; /* one a slot: its discard is tried the other way */
	bool cmd_works;
	struct bt_pace pace;
	void (*completed)(void *opaque, struct bt_slot *slot);
	void *opaque;
};

/* blkdev.h of Linux 6.12, where the mode of fallocate for it went away. */
#define DISCARD_CMD _IO(0x12, 0)

static const int needed_ops[] = {
	IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_READ,
	IORING_OP_WRITE, IORING_OP_FSYNC,  IORING_OP_FALLOCATE,
};

/* Newest first; the last is what every kernel takes. */
static const unsigned int setup_flags[] = {
#ifdef IORING_SETUP_SUBMIT_ALL
#ifdef IORING_SETUP_COOP_TASKRUN
	IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL |
		IORING_SETUP_COOP_TASKRUN,
#endif
	IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL,
#endif
	IORING_SETUP_CLAMP,
};

static bool uring_reap(void *state);

/* For completions that ended the wait; others were taken by the hook. */
static void on_readable(struct bt_watch *watch, uint32_t events)
{
	uring_reap(bt_list_entry(watch, struct uring_state, watch));
}

static int enter(struct uring_state *s);

/* What is in the submission ring already cannot be taken back, so it is offered
 * again until the kernel takes it. */
static void on_retry(struct bt_timer *timer)
{
	enter(bt_list_entry(timer, struct uring_state, retry));
}

/* -EINVAL: a flag that this kernel does not know. */
static int open_ring(struct uring_state *s, uint32_t queue_depth)
{
	int rc = -EINVAL;
	size_t i;

	for (i = 0; i < BT_ARRAY_SIZE(setup_flags) && rc == -EINVAL; i++) {
		struct io_uring_params params = { .flags = setup_flags[i] };

		rc = io_uring_queue_init_params(queue_depth, &s->ring, &params);
	}
	return rc;
}

/* A kernel may have the ring and lack an operation; found out now, libaio is
 * taken instead. */
static int probe(struct uring_state *s)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(&s->ring);
	int rc = 0;
	size_t i;

	if (!probe)
		return -ENOSYS;
	for (i = 0; i < BT_ARRAY_SIZE(needed_ops); i++)
		if (!io_uring_opcode_supported(probe, needed_ops[i]))
			rc = -ENOSYS;
	io_uring_free_probe(probe);
	return rc;
}

/* The watch is made here: a ring that cannot be waited for is of no use. */
static int set_up(struct uring_state *s, uint32_t queue_depth)
{
	int rc = open_ring(s, queue_depth);

	if (rc < 0)
		return rc;
	rc = probe(s);
	if (!rc)
		rc = bt_watch_add(s->loop, &s->watch, s->ring.ring_fd, EPOLLIN,
				  on_readable);
	if (rc < 0)
		io_uring_queue_exit(&s->ring);
	return rc;
}

/* queue_depth places are enough: a slot has one operation at a time, and there
 * are as many slots. */
static int uring_init(struct bt_loop *loop, uint32_t queue_depth,
		      void (*completed)(void *opaque, struct bt_slot *slot),
		      void *opaque, void **state)
{
	struct uring_state *s = calloc(1, sizeof(*s));
	int rc = -ENOMEM;

	if (!s)
		return rc;
	s->loop = loop;
	s->completed = completed;
	s->opaque = opaque;
	bt_timer_init(&s->retry, on_retry);
	s->by_cmd = calloc(queue_depth, sizeof(*s->by_cmd));
	if (s->by_cmd)
		rc = set_up(s, queue_depth);
	if (rc < 0) {
		free(s->by_cmd);
		free(s);
		return rc;
	}
	*state = s;
	return 0;
}

/* Nothing is under way. */
static void uring_fini(void *state)
{
	struct uring_state *s = state;

	bt_timer_cancel(&s->retry);
	bt_watch_del(&s->watch);
	io_uring_queue_exit(&s->ring);
	free(s->by_cmd);
	free(s);
}

/* One buffer goes without the kernel's copy of a vector. */
static void prep_transfer(struct io_uring_sqe *sqe, const struct bt_slot *slot)
{
	bool is_read = slot->op == BT_IO_READ;

	if (slot->iov_count == 1)
		io_uring_prep_rw(is_read ? IORING_OP_READ : IORING_OP_WRITE,
				 sqe, slot->fd, slot->iov->iov_base,
				 (unsigned int)slot->length, slot->offset);
	else
		io_uring_prep_rw(is_read ? IORING_OP_READV : IORING_OP_WRITEV,
				 sqe, slot->fd, slot->iov, slot->iov_count,
				 slot->offset);
	if (slot->flags & BT_IO_FUA)
		sqe->rw_flags = RWF_DSYNC;
	if (slot->flags & BT_SLOT_THREAD)
		io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
}

/* That of a file is fallocate's, and always has been. */
static bool is_device_discard(const struct bt_slot *slot)
{
	return slot->op == BT_IO_DISCARD && (slot->flags & BT_SLOT_BLOCK);
}

/* Fields as block/ioctl.c of the kernel reads them: addr and addr3, not off and
 * len. */
static void prep_discard_cmd(struct io_uring_sqe *sqe,
			     const struct bt_slot *slot)
{
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, slot->fd, NULL, 0, 0);
	sqe->cmd_op = DISCARD_CMD;
	sqe->addr = slot->offset;
	sqe->addr3 = slot->length;
}

/* fallocate first, then the command; the queue repeats what says -EAGAIN. */
static int64_t judge_discard(struct uring_state *s, const struct bt_slot *slot,
			     int64_t result)
{
	bool *by_cmd = &s->by_cmd[slot->index];

	if (result == -EOPNOTSUPP && !*by_cmd && !s->cmd_works) {
		*by_cmd = true;
		return -EAGAIN;
	}
	if (*by_cmd && result == 0)
		s->cmd_works = true;
	else if (*by_cmd && (result == -EINVAL || result == -ENOTTY))
		result = -EOPNOTSUPP;
	*by_cmd = false;
	return result;
}

/* The slot comes back as the completion's data. */
static void prep(struct uring_state *s, struct io_uring_sqe *sqe,
		 struct bt_slot *slot)
{
	if (is_device_discard(slot) &&
	    (s->cmd_works || s->by_cmd[slot->index])) {
		prep_discard_cmd(sqe, slot);
		io_uring_sqe_set_data(sqe, slot);
		return;
	}
	switch (slot->op) {
	case BT_IO_READ:
	case BT_IO_WRITE:
		prep_transfer(sqe, slot);
		break;
	case BT_IO_SYNC:
		io_uring_prep_fsync(sqe, slot->fd, IORING_FSYNC_DATASYNC);
		break;
	default:
		io_uring_prep_fallocate(
			sqe, slot->fd, bt_sync_fallocate_mode(slot),
			(off_t)slot->offset, (off_t)slot->length);
	}
	io_uring_sqe_set_data(sqe, slot);
}

/* What the kernel does not take stays in the ring and is tried again. */
static int enter(struct uring_state *s)
{
	int rc;

	do
		rc = io_uring_submit(&s->ring);
	while (rc == -EINTR || (rc > 0 && io_uring_sq_ready(&s->ring)));
	if (rc <= 0 && io_uring_sq_ready(&s->ring))
		bt_timer_arm(s->loop, &s->retry,
			     bt_loop_now(s->loop) + RETRY_NS);
	return rc;
}

/* A slot counts as taken when its entry is filled, whether or not the kernel
 * has come for it yet: the entry points to it. */
static int uring_submit(void *state, struct bt_slot **slots, uint32_t count)
{
	struct uring_state *s = state;
	uint32_t before = io_uring_cq_ready(&s->ring);
	uint32_t taken;

	for (taken = 0; taken < count; taken++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);

		if (!sqe)
			break;
		prep(s, sqe, slots[taken]);
	}
	enter(s);
	bt_pace_took(&s->pace, taken, io_uring_cq_ready(&s->ring) - before);
	return taken ? (int)taken : -EAGAIN;
}

/* The ring is handed back before the callbacks, which may submit. */
static bool uring_reap(void *state)
{
	struct uring_state *s = state;
	struct io_uring_cqe *cqes[BT_REAP_MAX];
	struct bt_slot *slots[BT_REAP_MAX];
	unsigned int count, i;

	count = io_uring_peek_batch_cqe(&s->ring, cqes, s->pace.reap_limit);
	for (i = 0; i < count; i++) {
		slots[i] = io_uring_cqe_get_data(cqes[i]);
		slots[i]->result = cqes[i]->res;
		if (bt_unlikely(is_device_discard(slots[i])))
			slots[i]->result =
				judge_discard(s, slots[i], cqes[i]->res);
	}
	io_uring_cq_advance(&s->ring, count);
	s->pace.in_kernel -= count;
	for (i = 0; i < count; i++)
		s->completed(s->opaque, slots[i]);
	return count > 0;
}

static const struct bt_pace *uring_pace(const void *state)
{
	const struct uring_state *s = state;

	return &s->pace;
}

const struct bt_backend bt_backend_uring = {
	.name = "io_uring",
	.init = uring_init,
	.fini = uring_fini,
	.submit = uring_submit,
	.reap = uring_reap,
	.pace = uring_pace,
	.takes_no_plain = true,
};
#endif
