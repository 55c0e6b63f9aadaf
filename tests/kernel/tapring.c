/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring ABI from the daemon's side: plain wrappers. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tapring.h"

static int call(int fd, unsigned long cmd, void *arg)
{
	int n = ioctl(fd, cmd, arg);

	return n < 0 ? -errno : n;
}

static int control(unsigned long cmd, void *arg)
{
	int fd = open(DEV_DIR "/control", O_RDWR | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = call(fd, cmd, arg);
	close(fd);
	return err;
}

int tap_alloc(int minor)
{
	struct blktap_alloc a = { .size = sizeof(a), .minor = minor };
	int err = control(BLKTAP_CTL_ALLOC, &a);

	return err ? err : a.minor;
}

int tap_free(int minor, unsigned flags)
{
	struct blktap_free f = { .size = sizeof(f),
				 .minor = minor,
				 .flags = flags };

	return control(BLKTAP_CTL_FREE, &f);
}

int tap_open(int minor)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), DEV_DIR "/blktap%d", minor);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int tap_attach(int fd, uint64_t features)
{
	struct blktap_attach a = { .size = sizeof(a), .features = features };
	int err = call(fd, BLKTAP_RING_ATTACH, &a);

	return err ? err : (int)a.state;
}

int tap_info(int fd, struct blktap_info *info)
{
	memset(info, 0xaa, sizeof(*info));
	info->size = sizeof(*info);
	return call(fd, BLKTAP_RING_INFO, info);
}

int tap_remove(int fd, unsigned flags)
{
	struct blktap_remove v = { .size = sizeof(v), .flags = flags };

	return call(fd, BLKTAP_RING_REMOVE, &v);
}

int tap_resize(int fd, uint64_t capacity)
{
	struct blktap_resize s = { .size = sizeof(s), .capacity = capacity };

	return call(fd, BLKTAP_RING_RESIZE, &s);
}

int tap_enter(int fd, uint32_t queue, unsigned flags, int timeout_ms)
{
	struct blktap_enter e = { .size = sizeof(e),
				  .flags = flags,
				  .queue = queue,
				  .timeout_ms = timeout_ms };

	return call(fd, BLKTAP_RING_ENTER, &e);
}

int tap_enter_fd(int fd, int other, int timeout_ms)
{
	struct blktap_enter e = { .size = sizeof(e),
				  .flags = BLKTAP_ENTER_WAIT | BLKTAP_ENTER_FD,
				  .queue = BLKTAP_ALL_QUEUES,
				  .timeout_ms = timeout_ms,
				  .fd = other };

	return call(fd, BLKTAP_RING_ENTER, &e);
}

int tap_move(int fd, struct blktap_move *moves, uint32_t count)
{
	struct blktap_moves m = { .size = sizeof(m),
				  .count = count,
				  .moves = (uintptr_t)moves };

	return call(fd, BLKTAP_RING_MOVE, &m);
}

int tap_defer(int fd, bool on)
{
	struct blktap_defer d = { .size = sizeof(d), .on = on };

	return call(fd, BLKTAP_RING_DEFER, &d);
}

int tap_map(struct tapring *r)
{
	int err = tap_info(r->fd, &r->info);

	if (err)
		return err;
	r->map = mmap(NULL, r->info.map_bytes, PROT_READ | PROT_WRITE,
		      MAP_SHARED, r->fd, 0);
	return r->map == MAP_FAILED ? -errno : 0;
}

void tap_create_defaults(struct blktap_create *c, uint64_t capacity)
{
	*c = (struct blktap_create){
		.size = sizeof(*c),
		.flags = BLKTAP_DISK_FLUSH | BLKTAP_DISK_FUA |
			 BLKTAP_DISK_DISCARD | BLKTAP_DISK_WRITE_ZEROES,
		.capacity = capacity,
		.logical_block = 512,
		.queues = 1,
		.depth = 32,
		.slot_bytes = 128 << 10,
		.name = "test",
	};
}

int tap_create(int fd, struct blktap_create *c)
{
	return call(fd, BLKTAP_RING_CREATE, c);
}

void tap_queue(const struct tapring *r, uint32_t q, struct tapqueue *out)
{
	uint8_t *at = r->map + (size_t)q * r->info.queue_stride;

	memset(out, 0, sizeof(*out));
	out->shared = (void *)at;
	out->sq = (void *)(at + r->info.sq_offset);
	out->desc = (void *)(at + r->info.desc_offset);
	out->cq = (void *)(at + r->info.cq_offset);
}

bool tap_take(struct tapring *r, struct tapqueue *q, struct blktap_desc *d)
{
	uint32_t tag;

	if (q->head == __atomic_load_n(&q->shared->sq_tail, __ATOMIC_ACQUIRE))
		return false;
	tag = q->sq[q->head & (r->info.sq_entries - 1)];
	*d = q->desc[tag];
	q->head++;
	__atomic_store_n(&q->shared->sq_head, q->head, __ATOMIC_RELEASE);
	return true;
}

void tap_answer(struct tapring *r, struct tapqueue *q,
		const struct blktap_cqe *cqe)
{
	q->cq[q->tail & (r->info.cq_entries - 1)] = *cqe;
	q->tail++;
	__atomic_store_n(&q->shared->cq_tail, q->tail, __ATOMIC_RELEASE);
}
