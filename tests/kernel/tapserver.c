/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk server for the tests: memory, a file, or nothing behind it; one
 * thread per queue; honest, or hostile in one chosen way.
 *
 *   tapserver alloc [N]            prints the minor
 *   tapserver free N [force]
 *   tapserver serve N [opt=value ...]
 *
 * serve prints its pid once the disk is there and goes on in the background.
 * SIGTERM removes the disk and ends; SIGUSR1 resizes to resize=.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hostile.h"
#include "tapring.h"

static struct {
	int minor;
	struct blktap_create c;
	const char *file; /* survives the server */
	bool direct; /* O_DIRECT between file and slots */
	bool move; /* by MOVE, past the slots */
	bool attach; /* take a disk over */
	bool null; /* answer at once */
	bool epoll; /* sleep in epoll_wait, not in ENTER */
	unsigned delay_us;
	const char *mode; /* how to be hostile */
	unsigned after; /* honest requests first */
	uint64_t resize;
	unsigned enospc; /* every write from this one on */
	int tries; /* to attach, ten a second */
} opt = { .tries = 600 };

static struct tapring ring;
static uint8_t *store;
static int store_fd = -1;
static volatile sig_atomic_t stop, resize_now;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		resize_now = 1;
	else
		stop = 1;
}

static void die(const char *what, int err)
{
	fprintf(stderr, "tapserver: %s: %s\n", what, strerror(-err));
	exit(1);
}

static uint64_t size_of(const char *s)
{
	char *end;
	uint64_t n = strtoull(s, &end, 0);

	switch (*end) {
	case 'G':
		n <<= 10; /* fall through */
	case 'M':
		n <<= 10; /* fall through */
	case 'K':
		n <<= 10;
	}
	return n;
}

static uint32_t flag_of(const char *name)
{
	static const char *const names[] = { "ro",	"flush",  "fua",
					     "discard", "zeroes", "rotational",
					     "partscan" };
	uint32_t i;

	for (i = 0; i < 7; i++)
		if (!strcmp(name, names[i]))
			return 1u << i;
	die(name, -EINVAL);
	return 0;
}

static uint32_t flags_of(char *list)
{
	uint32_t flags = 0;
	const char *name;

	while ((name = strsep(&list, ",")))
		flags |= flag_of(name);
	return flags;
}

static void set_option(char *arg)
{
	char *v = strchr(arg, '=');
	struct blktap_create *c = &opt.c;

	if (!v)
		die(arg, -EINVAL);
	*v++ = 0;
	if (!strcmp(arg, "size"))
		c->capacity = size_of(v);
	else if (!strcmp(arg, "block"))
		c->logical_block = atoi(v);
	else if (!strcmp(arg, "queues"))
		c->queues = atoi(v);
	else if (!strcmp(arg, "depth"))
		c->depth = atoi(v);
	else if (!strcmp(arg, "slot"))
		c->slot_bytes = size_of(v);
	else if (!strcmp(arg, "flags"))
		c->flags = flags_of(v);
	else if (!strcmp(arg, "recovery"))
		c->recovery_ms = strtoul(v, NULL, 0);
	else if (!strcmp(arg, "file"))
		opt.file = v;
	else if (!strcmp(arg, "direct"))
		opt.direct = atoi(v);
	else if (!strcmp(arg, "move"))
		opt.direct = opt.move = atoi(v);
	else if (!strcmp(arg, "attach"))
		opt.attach = atoi(v);
	else if (!strcmp(arg, "null"))
		opt.null = atoi(v);
	else if (!strcmp(arg, "epoll"))
		opt.epoll = atoi(v);
	else if (!strcmp(arg, "delay"))
		opt.delay_us = atoi(v);
	else if (!strcmp(arg, "mode"))
		opt.mode = v;
	else if (!strcmp(arg, "after"))
		opt.after = atoi(v);
	else if (!strcmp(arg, "resize"))
		opt.resize = size_of(v);
	else if (!strcmp(arg, "enospc"))
		opt.enospc = atoi(v);
	else if (!strcmp(arg, "tries"))
		opt.tries = atoi(v);
	else
		die(arg, -EINVAL);
}

static void open_store(void)
{
	uint64_t size = opt.resize > ring.info.capacity ? opt.resize
							: ring.info.capacity;

	if (opt.null)
		return;
	if (opt.file) {
		store_fd =
			open(opt.file,
			     O_RDWR | O_CREAT | O_CLOEXEC |
				     (opt.direct && !opt.move ? O_DIRECT : 0),
			     0600);
		if (store_fd < 0)
			die(opt.file, -errno);
	}
	if (opt.direct)
		return;
	if (store_fd >= 0 && ftruncate(store_fd, size))
		die(opt.file, -errno);
	store = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     store_fd >= 0 ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS,
		     store_fd, 0);
	if (store == MAP_FAILED)
		die("store", -errno);
}

static int transfer(const struct blktap_desc *d)
{
	uint8_t *slot = ring.map + d->data;
	ssize_t n;

	if (opt.direct) {
		n = d->op == BLKTAP_REQ_READ
			    ? pread(store_fd, slot, d->bytes, d->offset)
			    : pwrite(store_fd, slot, d->bytes, d->offset);
		return n < 0 ? -errno : (int)n;
	}
	if (d->op == BLKTAP_REQ_READ)
		memcpy(slot, store + d->offset, d->bytes);
	else
		memcpy(store + d->offset, slot, d->bytes);
	return d->bytes;
}

/* What an honest server answers. */
static int serve_one(const struct blktap_desc *d)
{
	static unsigned writes;

	if (opt.delay_us)
		usleep(opt.delay_us);
	if (opt.null)
		return d->bytes;
	if (d->bytes > ring.info.capacity ||
	    d->offset > ring.info.capacity - d->bytes)
		return -EIO;
	switch (d->op) {
	case BLKTAP_REQ_WRITE:
		if (opt.enospc && ++writes >= opt.enospc)
			return -ENOSPC;
		return transfer(d);
	case BLKTAP_REQ_READ:
		return transfer(d);
	case BLKTAP_REQ_FLUSH:
		return 0;
	case BLKTAP_REQ_DISCARD:
	case BLKTAP_REQ_WRITE_ZEROES:
		if (opt.direct)
			return -EOPNOTSUPP;
		memset(store + d->offset, 0, d->bytes);
		return d->bytes;
	}
	return -EOPNOTSUPP;
}

static void answer(struct tapqueue *q, const struct blktap_move *m, int result)
{
	struct blktap_cqe cqe = { .tag = m->tag,
				  .gen = m->gen,
				  .result = result };

	tap_answer(&ring, q, &cqe);
}

/* What could not be moved goes the ordinary way; behind the end of a file there is
 * nothing, which is zeroes. */
static int move_failed(const struct blktap_desc *d, struct blktap_move *m)
{
	int err;

	if (d->flags & BLKTAP_REQ_DEFERRED) {
		m->fd = -1;
		m->offset = 0;
		if (tap_move(ring.fd, m, 1) || m->result != (int)d->bytes)
			die("fetch", m->result);
	} else if (d->op == BLKTAP_REQ_READ) {
		memset(ring.map + d->data, 0, d->bytes);
	}
	err = transfer(d);
	return err < 0 ? err : (int)d->bytes;
}

static void move_all(struct tapqueue *q, const struct blktap_desc *d,
		     struct blktap_move *m, unsigned n)
{
	unsigned i;

	if (n && tap_move(ring.fd, m, n))
		return; /* the disk has gone or failed */
	for (i = 0; i < n; i++) {
		if (m[i].result != (int)d[i].bytes)
			m[i].result = move_failed(&d[i], &m[i]);
		answer(q, &m[i], m[i].result);
	}
}

/* The same with moves: one call for all that there is. */
static unsigned move_queue(struct tapqueue *q, uint32_t queue)
{
	struct blktap_desc d[BLKTAP_MAX_DEPTH];
	struct blktap_move m[BLKTAP_MAX_DEPTH];
	unsigned n = 0, all = 0;

	while (tap_take(&ring, q, &d[n])) {
		m[n] = (struct blktap_move){ .queue = queue,
					     .tag = d[n].tag,
					     .gen = d[n].gen,
					     .fd = store_fd,
					     .offset = d[n].offset };
		all++;
		if (d[n].op > BLKTAP_REQ_WRITE)
			answer(q, &m[n], serve_one(&d[n]));
		else if (++n == BLKTAP_MAX_DEPTH)
			break;
	}
	move_all(q, d, m, n);
	return all;
}

/* As the ABI has it: the indices are stored once for all that was there. */
static unsigned serve_batch(struct tapqueue *q)
{
	uint32_t to = __atomic_load_n(&q->shared->sq_tail, __ATOMIC_ACQUIRE);
	uint32_t sq_mask = ring.info.sq_entries - 1;
	uint32_t cq_mask = ring.info.cq_entries - 1;
	uint32_t head = q->head, tail = q->tail;
	bool at_once = opt.null && !opt.delay_us;

	for (; head != to; head++, tail++) {
		const struct blktap_desc *d = &q->desc[q->sq[head & sq_mask]];
		struct blktap_cqe *cqe = &q->cq[tail & cq_mask];

		cqe->tag = d->tag;
		cqe->gen = d->gen;
		cqe->result = at_once ? (int)d->bytes : serve_one(d);
		cqe->reserved = 0;
	}
	__atomic_store_n(&q->shared->sq_head, head, __ATOMIC_RELEASE);
	__atomic_store_n(&q->shared->cq_tail, tail, __ATOMIC_RELEASE);
	to = head - q->head;
	q->head = head;
	q->tail = tail;
	return to;
}

/* One pass over a queue: take all, answer all. */
static unsigned serve_queue(struct tapqueue *q, uint32_t queue)
{
	static unsigned count;
	struct blktap_desc d;
	unsigned n = 0;

	if (opt.move)
		return move_queue(q, queue);
	if (!opt.mode)
		return serve_batch(q);
	while (tap_take(&ring, q, &d)) {
		struct blktap_cqe cqe = { .tag = d.tag,
					  .gen = d.gen,
					  .result = serve_one(&d) };

		n++;
		if (count++ >= opt.after)
			hostile_answer(&ring, q, opt.mode, &d, &cqe);
		else
			tap_answer(&ring, q, &cqe);
	}
	return n;
}

static void housekeeping(void)
{
	int err;

	if (resize_now) {
		resize_now = 0;
		err = tap_resize(ring.fd, opt.resize);
		if (err)
			die("resize", err);
		ring.info.capacity = opt.resize;
	}
	if (stop == 1) {
		err = tap_remove(ring.fd, 0);
		/* Somebody is just opening or closing it: ask again. */
		if (err == -EBUSY)
			return;
		if (err)
			die("remove", err);
		stop = 2;
	}
}

/* Until the disk has gone. */
static void enter_loop(uint32_t queue)
{
	struct tapqueue q;
	int n;

	tap_queue(&ring, queue, &q);
	for (;;) {
		serve_queue(&q, queue);
		/* A signal just before the sleep is seen a second late. */
		n = tap_enter(ring.fd, queue, BLKTAP_ENTER_WAIT,
			      opt.null ? -1 : 1000);
		if (n < 0 && n != -EINTR)
			break;
		if (queue == 0)
			housekeeping();
	}
}

/* The same in an embedder's loop: sleep in epoll, ENTER only commits. */
static void epoll_loop(void)
{
	struct tapqueue q[BLKTAP_MAX_QUEUES];
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	uint32_t i;

	for (i = 0; i < ring.info.queues; i++)
		tap_queue(&ring, i, &q[i]);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, ring.fd, &ev))
		die("epoll", -errno);
	for (;;) {
		unsigned n = 0;

		if (epoll_wait(ep, &ev, 1, 1000) == 1 &&
		    ev.events & (EPOLLHUP | EPOLLERR))
			break;
		for (i = 0; i < ring.info.queues; i++)
			n += serve_queue(&q[i], i);
		if (n && tap_enter(ring.fd, BLKTAP_ALL_QUEUES, 0, 0) < 0)
			break;
		housekeeping();
	}
	close(ep);
}

/* Signals are the first thread's. */
static void *queue_thread(void *arg)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	enter_loop((uintptr_t)arg);
	return NULL;
}

static void serve(void)
{
	pthread_t t[BLKTAP_MAX_QUEUES];
	uint32_t i;

	if (opt.epoll) {
		epoll_loop();
		return;
	}
	for (i = 1; i < ring.info.queues; i++)
		pthread_create(&t[i], NULL, queue_thread, (void *)(uintptr_t)i);
	enter_loop(0);
	for (i = 1; i < ring.info.queues; i++)
		pthread_join(t[i], NULL);
}

static void set_up(void)
{
	int err = -EAGAIN, tries;

	ring.fd = tap_open(opt.minor);
	if (ring.fd < 0)
		die("open", ring.fd);
	/* A dying owner may take a moment. */
	for (tries = 0; tries < opt.tries; tries++) {
		err = tap_attach(ring.fd, BLKTAP_FEATURES);
		if (err != -EBUSY && err != -EAGAIN)
			break;
		usleep(100000);
	}
	if (err < 0)
		die("attach", err);
	if (!opt.attach) {
		err = tap_create(ring.fd, &opt.c);
		if (err)
			die("create", err);
	} else if (err != BLKTAP_STATE_LIVE) {
		die("no disk to take over", -ENODEV);
	}
	err = tap_map(&ring);
	if (err)
		die("mmap", err);
	open_store();
	err = opt.move ? tap_defer(ring.fd, true) : 0;
	if (err)
		die("defer", err);
}

/* Forks first: neither mapping nor ownership would survive it. */
static int do_serve(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	int ready[2], i;
	pid_t pid;
	char ok;

	opt.minor = atoi(argv[0]);
	tap_create_defaults(&opt.c, 64 << 20);
	for (i = 1; i < argc; i++)
		set_option(argv[i]);
	if (pipe(ready))
		return 1;
	pid = fork();
	if (pid) {
		close(ready[1]);
		if (read(ready[0], &ok, 1) != 1)
			return 1;
		printf("%d\n", pid);
		return 0;
	}
	close(ready[0]);
	setsid();
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	set_up();
	close(0);
	close(1);
	i = !opt.mode || hostile_start(&ring, opt.mode);
	if (write(ready[1], "", 1) != 1)
		return 1;
	close(ready[1]);
	if (i)
		serve();
	return 0;
}

int main(int argc, char **argv)
{
	int n = -EINVAL;

	if (argc >= 2 && !strcmp(argv[1], "alloc")) {
		n = tap_alloc(argc > 2 ? atoi(argv[2]) : -1);
		if (n >= 0)
			printf("%d\n", n);
	} else if (argc >= 3 && !strcmp(argv[1], "free")) {
		n = tap_free(atoi(argv[2]), argc > 3 ? BLKTAP_FREE_FORCE : 0);
	} else if (argc >= 3 && !strcmp(argv[1], "serve")) {
		return do_serve(argc - 2, argv + 2);
	}
	if (n < 0)
		die(argc > 1 ? argv[1] : "usage", n);
	return 0;
}
