/* SPDX-License-Identifier: BSD-3-Clause */
/* Ways a daemon can lie to the kernel. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hostile.h"

static bool is(const char *mode, const char *name)
{
	return !strcmp(mode, name);
}

void hostile_answer(struct tapring *r, struct tapqueue *q, const char *mode,
		    const struct blktap_desc *d, struct blktap_cqe *cqe)
{
	if (is(mode, "tag-huge"))
		cqe->tag = 0xffffffff;
	else if (is(mode, "tag-free"))
		cqe->tag = (d->tag + 1) % r->info.depth;
	else if (is(mode, "gen"))
		cqe->gen--;
	else if (is(mode, "short"))
		cqe->result -= 512;
	else if (is(mode, "long"))
		cqe->result += 512;
	else if (is(mode, "errno"))
		cqe->result = -5000;
	else if (is(mode, "min-int"))
		cqe->result = -0x7fffffff - 1;
	else if (is(mode, "reserved"))
		cqe->reserved = 1;
	else if (is(mode, "twice"))
		tap_answer(r, q, cqe);
	else if (is(mode, "overrun"))
		q->tail += r->info.cq_entries;
	else if (is(mode, "backwards"))
		q->tail -= 2;
	else if (is(mode, "corrupt") && d->op == BLKTAP_REQ_READ)
		r->map[d->data + d->bytes / 2] ^= 1;
	else if (is(mode, "close"))
		_exit(0);
	else if (is(mode, "never"))
		return;
	else if (is(mode, "unmap")) {
		munmap(r->map, r->info.map_bytes);
		pause();
	} else if (is(mode, "dontneed")) {
		madvise(r->map, r->info.map_bytes, MADV_DONTNEED);
		/* Dies of SIGBUS at its next look. */
	}
	tap_answer(r, q, cqe);
}

/* Flips everything shared, for ever; the queue threads serve meanwhile. */
static void *scribble(void *arg)
{
	struct tapring *r = arg;
	uint64_t x = 88172645463325252ull;
	size_t n = r->info.data_offset / 4;

	for (;;) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		((volatile uint32_t *)r->map)[x % n] = x >> 32;
	}
	return NULL;
}

/* ENTER that would sleep with reason does not; some sleep for a moment, with a
 * descriptor that is anything. */
static void garbage_enter(void *buf, unsigned i, unsigned *seed)
{
	struct blktap_enter *e = buf;

	e->timeout_ms = 0;
	if (i % 5 == 0)
		*e = (struct blktap_enter){ .size = sizeof(*e),
					    .flags = BLKTAP_ENTER_LOOK };
	if (i % 4)
		return;
	*e = (struct blktap_enter){ .size = sizeof(*e),
				    .flags =
					    BLKTAP_ENTER_WAIT | BLKTAP_ENTER_FD,
				    .queue = i % 8 ? 0 : BLKTAP_ALL_QUEUES,
				    .timeout_ms = 1,
				    .fd = (int)(rand_r(seed) % 16) - 2 };
}

/* Moves to and from anything, of requests that may be there in another life. */
static void garbage_move(void *buf, unsigned i, unsigned *seed)
{
	static struct blktap_move m[64];
	struct blktap_moves *a = buf;
	unsigned j;

	for (j = 0; j < 64; j++)
		m[j] = (struct blktap_move){
			.queue = rand_r(seed) % 3,
			.tag = rand_r(seed) % 40,
			.gen = rand_r(seed) | 1u << 30,
			.fd = (int)(rand_r(seed) % 16) - 2,
			.offset = rand_r(seed),
		};
	if (i % 2)
		*a = (struct blktap_moves){ .size = sizeof(*a),
					    .count = rand_r(seed) % 80,
					    .moves = (uintptr_t)m };
}

/* Every number of our magic and around it, every kind of argument. */
static void *garbage(void *arg)
{
	struct tapring *r = arg;
	static uint8_t buf[8192];
	unsigned i, j, seed = 1;

	for (i = 0; i < 40000; i++) {
		unsigned nr = rand_r(&seed) % 0x30;
		uintptr_t p = (uintptr_t)buf;

		for (j = 0; j < 256; j++)
			buf[j] = rand_r(&seed);
		if (i % 3)
			*(uint32_t *)buf = rand_r(&seed) % 300;
		if (i % 7 == 0)
			p = i % 2 ? 0 : p + sizeof(buf) - 8;
		/* A removal or a resize may be asked for by its owner. */
		if (nr == 0x23 || nr == 0x24)
			continue;
		if (nr == 0x25)
			garbage_enter(buf, i, &seed);
		if (nr == 0x26)
			garbage_move(buf, i, &seed);
		ioctl(r->fd, _IO(BLKTAP_IOC_MAGIC, nr), p);
		ioctl(r->fd, rand_r(&seed), p);
	}
	return NULL;
}

/* Any descriptor but those of what we print: a move makes a file of gigabytes of it,
 * which whoever reads it has no memory for. */
static int any_fd(unsigned *seed)
{
	int fd = (int)(rand_r(seed) % 16);

	return fd <= STDERR_FILENO ? -1 - fd : fd;
}

/* Moves what the queue threads serve meanwhile, from and to whatever is open: a file
 * of its own, too, which there is room for. */
static void *mover(void *arg)
{
	struct tapring *r = arg;
	struct blktap_move m;
	struct tapqueue q;
	unsigned seed = 1;

	if (open("/tmp/disk.mover", O_RDWR | O_CREAT, 0600) < 0)
		abort();
	tap_queue(r, 0, &q);
	for (;;) {
		m = (struct blktap_move){
			.tag = rand_r(&seed) % r->info.depth,
			.fd = any_fd(&seed),
			.offset = rand_r(&seed) % 4 ? 0 : rand_r(&seed) >> 8,
		};
		m.gen = ((volatile struct blktap_desc *)q.desc)[m.tag].gen;
		tap_move(r->fd, &m, 1);
	}
	return NULL;
}

/* Until the test says so; not for ever, should it forget. */
static void wait_for_go(void)
{
	int i;

	for (i = 0; i < 6000 && access("/tmp/disk.go", F_OK); i++)
		usleep(20000);
}

/* A child that keeps pages of the area alive through a pipe. */
static void keep_pages(struct tapring *r)
{
	struct iovec iov = { r->map + r->info.data_offset, 4096 };
	int fds[2];

	if (pipe(fds) || vmsplice(fds[1], &iov, 1, 0) != 4096)
		abort();
	if (fork())
		return;
	close(r->fd);
	wait_for_go();
	_exit(0);
}

bool hostile_start(struct tapring *r, const char *mode)
{
	pthread_t t;

	if (is(mode, "scribble"))
		pthread_create(&t, NULL, scribble, r);
	else if (is(mode, "mover"))
		pthread_create(&t, NULL, mover, r);
	else if (is(mode, "garbage"))
		pthread_create(&t, NULL, garbage, r);
	else if (is(mode, "pin"))
		keep_pages(r);
	else if (is(mode, "fork") && !fork()) {
		/* The child has the file but no mapping. */
		wait_for_go();
		_exit(0);
	} else if (is(mode, "exit")) {
		return false;
	}
	return true;
}
