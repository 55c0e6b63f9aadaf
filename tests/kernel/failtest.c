/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every allocation that a call of the ABI makes fails once. A disk lives through
 * all calls again and again; in each life one of them has its n-th allocation
 * refused by the kernel's fault injection (/proc/self/fail-nth), for n from 1 on
 * until the call makes no n-th. A call that fails for it is called again, with
 * the next n, and the life goes on to its end, where nothing may fail: so what a
 * failure leaves behind shows as a call that fails later.
 *
 * Runs in the test machine, as the only user of the module (t_nomem of
 * guest-tests, which looks for what was leaked); single-threaded, for the
 * injection is a task's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tapring.h"

/* Far beyond what any call allocates: the most were some hundred. */
#define NTH_MAX 20000

struct life {
	int minor;
	int epoll;
	struct tapring ring;
	uint64_t capacity;
};

/* ---- the calls --------------------------------------------------------- */

static int do_alloc(struct life *l)
{
	int n = tap_alloc(-1);

	if (n < 0)
		return n;
	l->minor = n;
	return 0;
}

static int do_open(struct life *l)
{
	int fd = tap_open(l->minor);

	if (fd < 0)
		return fd;
	l->ring.fd = fd;
	return 0;
}

static int do_attach(struct life *l)
{
	int n = tap_attach(l->ring.fd, BLKTAP_FEATURES);

	return n < 0 ? n : 0;
}

/* An area of 1 MiB and its rings: t_nomem allows one such, not two. */
static int do_create(struct life *l)
{
	struct blktap_create c;

	tap_create_defaults(&c, l->capacity);
	c.queues = 2;
	c.depth = 2;
	c.slot_bytes = 256 << 10;
	c.recovery_ms = 3600 * 1000;
	return tap_create(l->ring.fd, &c);
}

static int do_info(struct life *l)
{
	return tap_info(l->ring.fd, &l->ring.info);
}

static int do_map(struct life *l)
{
	int err = tap_map(&l->ring);

	if (err)
		l->ring.map = NULL;
	return err;
}

static int do_poll(struct life *l)
{
	struct pollfd p = { .fd = l->ring.fd, .events = POLLIN };

	return poll(&p, 1, 0) < 0 ? -errno : 0;
}

static int do_watch(struct life *l)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->ring.fd, &ev) ? -errno : 0;
}

static int do_enter(struct life *l)
{
	return tap_enter(l->ring.fd, BLKTAP_ALL_QUEUES, BLKTAP_ENTER_WAIT, 1);
}

static int do_enter_fd(struct life *l)
{
	return tap_enter_fd(l->ring.fd, l->epoll, 1);
}

static int do_use(struct life *l)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), DEV_DIR "/tapdev%d", l->minor);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* To another size each time: the same would be nothing to do. */
static int do_resize(struct life *l)
{
	int err = tap_resize(l->ring.fd, l->capacity + (1 << 20));

	if (!err)
		l->capacity += 1 << 20;
	return err;
}

static int do_remove(struct life *l)
{
	return tap_remove(l->ring.fd, 0);
}

static int do_await(struct life *l)
{
	struct pollfd p = { .fd = l->ring.fd, .events = POLLIN };

	if (poll(&p, 1, 60000) < 0)
		return -errno;
	return p.revents & POLLHUP ? 0 : -ETIME;
}

static int do_leave(struct life *l)
{
	struct tapring *r = &l->ring;

	if (r->map && munmap(r->map, r->info.map_bytes))
		return -errno;
	r->map = NULL;
	return close(r->fd) ? -errno : 0;
}

static int do_free(struct life *l)
{
	return tap_free(l->minor, 0);
}

static int do_free_force(struct life *l)
{
	return tap_free(l->minor, BLKTAP_FREE_FORCE);
}

/* A step of a life. */
struct step {
	const char *name; /* NULL: its allocations do not fail */
	int (*call)(struct life *l);
	/* what it may say instead of ENOMEM, as the kernel's functions have it */
	int other;
	bool again; /* may be called once more when it has succeeded */
};

/* A daemon hands its disk over, and the next takes it away. */
static const struct step whole[] = {
	{ "alloc", do_alloc, 0, false },
	{ "open", do_open, 0, false },
	{ "attach", do_attach, 0, false },
	{ "create", do_create, EINVAL, false }, /* a device without its name */
	{ "info", do_info, 0, true },
	{ "map", do_map, EFAULT, false }, /* a page table that is not there */
	{ "poll", do_poll, 0, true },
	{ "watch", do_watch, 0, false },
	{ "enter", do_enter, 0, true },
	{ "enter for a descriptor", do_enter_fd, 0, true },
	{ "open the disk", do_use, 0, true },
	{ "resize", do_resize, 0, true },
	{ "leave", do_leave, 0, false },
	{ "open again", do_open, 0, false },
	{ "take over", do_attach, 0, false },
	{ "map again", do_map, EFAULT, false },
	{ "remove", do_remove, 0, false },
	{ NULL, do_await, 0, false },
	{ "leave the removed", do_leave, 0, false },
	{ "free", do_free, 0, false },
};

/* A disk is taken from its daemon. */
static const struct step forced[] = {
	{ NULL, do_alloc, 0, false },
	{ NULL, do_open, 0, false },
	{ NULL, do_attach, 0, false },
	{ NULL, do_create, 0, false },
	{ NULL, do_map, 0, false },
	{ "free by force", do_free_force, 0, false },
	{ NULL, do_await, 0, false },
	{ NULL, do_leave, 0, false },
};

static const struct plan {
	const struct step *steps;
	size_t nr;
} plans[] = {
	{ whole, sizeof(whole) / sizeof(whole[0]) },
	{ forced, sizeof(forced) / sizeof(forced[0]) },
};

/* ---- faults ------------------------------------------------------------ */

static int nth_fd;

static void die(const char *what, int err)
{
	printf("%s: %s\n", what, strerror(err));
	exit(1);
}

static void set_nth(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	if (pwrite(nth_fd, text, len, 0) != len)
		die("fail-nth", errno);
}

/* Whether the n-th allocation came, and so failed. */
static bool end_nth(void)
{
	char text[16] = "";

	if (pread(nth_fd, text, sizeof(text) - 1, 0) <= 0)
		die("fail-nth", errno);
	set_nth(0);
	return atoi(text) == 0;
}

/* What is counted over all lives of one step. */
struct tally {
	unsigned int nth; /* the next to fail */
	unsigned int lives;
	unsigned int others; /* failures that were not ENOMEM */
	bool done; /* no n-th came */
};

static int state_of(const struct life *l)
{
	struct blktap_info i;

	return l->ring.fd < 0 || tap_info(l->ring.fd, &i) ? -1 : (int)i.state;
}

static void bad(const struct step *s, unsigned int nth, const char *what,
		int err)
{
	printf("%s, allocation %u: %s", s->name, nth, what);
	if (err)
		printf(": %s", strerror(-err));
	printf("\n");
	exit(1);
}

/* Again and again, until it cannot be called once more, or has no n-th allocation. */
static void fail_step(const struct step *s, struct life *l, struct tally *t)
{
	int err, before;
	bool failed;

	for (;;) {
		before = state_of(l);
		set_nth(t->nth);
		err = s->call(l);
		failed = end_nth();
		if (!failed) {
			t->done = true;
			if (err < 0)
				bad(s, t->nth, "fails without a fault", err);
			return;
		}
		if (++t->nth > NTH_MAX)
			bad(s, t->nth, "has no end", 0);
		if (err >= 0 && !s->again)
			return; /* it did without that one */
		if (err >= 0)
			continue;
		if (err != -ENOMEM && err != -s->other)
			bad(s, t->nth - 1, "fails with the wrong error", err);
		t->others += err != -ENOMEM;
		if (state_of(l) != before)
			bad(s, t->nth - 1, "leaves another state", 0);
	}
}

static void live(const struct plan *p, const struct step *victim,
		 struct tally *t)
{
	struct life l = { .minor = -1, .ring.fd = -1, .capacity = 64 << 20 };
	const struct step *s;
	int err;

	l.epoll = epoll_create1(EPOLL_CLOEXEC);
	for (s = p->steps; s < p->steps + p->nr; s++) {
		if (s == victim) {
			fail_step(victim, &l, t);
			continue;
		}
		err = s->call(&l);
		if (err < 0) {
			printf("after allocation %u of %s had failed: ",
			       t->nth - 1, victim->name);
			die(s->name ? s->name : "what follows", -err);
		}
	}
	close(l.epoll);
	t->lives++;
}

static void fail_plan(const struct plan *p)
{
	const struct step *s;

	for (s = p->steps; s < p->steps + p->nr; s++) {
		struct tally t = { .nth = 1 };

		if (!s->name)
			continue;
		while (!t.done)
			live(p, s, &t);
		printf("# %s: each of %u allocations failed, in %u lives",
		       s->name, t.nth - 1, t.lives);
		if (t.others)
			printf("; %u times %s", t.others, strerror(s->other));
		printf("\n");
	}
}

int main(void)
{
	size_t i;

	setvbuf(stdout, NULL, _IONBF, 0);
	nth_fd = open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC);
	if (nth_fd < 0)
		die("/proc/self/fail-nth", errno);
	/* Our own pages are not among the allocations. */
	if (mlockall(MCL_CURRENT))
		die("mlockall", errno);
	for (i = 0; i < sizeof(plans) / sizeof(plans[0]); i++)
		fail_plan(&plans[i]);
	return 0;
}
