/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MOVE that waits, and what may happen meanwhile. The file is a second disk of
 * this program, so a move waits until the program answers there. Then: one request
 * moved by several threads at once, at random.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tapcheck.h"

#define LEN 4096
#define MANY 4

/* The disk whose requests are moved, and the one they are moved to. */
static struct dev a, b;

struct mover {
	struct blktap_move m[MANY];
	uint32_t count;
	int rc;
	pthread_t thread;
};

static void *move_thread(void *arg)
{
	struct mover *v = arg;

	v->rc = tap_move(a.r.fd, v->m, v->count);
	return NULL;
}

static void start_mover(struct mover *v)
{
	pthread_create(&v->thread, NULL, move_thread, v);
}

/* A request of the first disk that is being moved, and that of the second for which
 * the move waits. */
struct waiting {
	struct io *io;
	struct mover v;
	struct blktap_desc at, below;
};

static void begin(struct waiting *w, bool write)
{
	w->io = ask(&a, write, 0, LEN, &w->at);
	w->v.m[0] = move_of(&w->at, b.disk, 8192);
	w->v.count = 1;
	start_mover(&w->v);
	take_next(&b.r, &b.q, &w->below);
	check(w->below.op == w->at.op && w->below.offset == 8192,
	      write ? "a WRITE waits for its file"
		    : "a READ waits for its file");
	memset(slot_of(&b, &w->below), write ? 0 : 0x44, LEN);
}

static void let_go(struct waiting *w, long result)
{
	answer(&b.r, &b.q, &w->below, 0);
	pthread_join(w->v.thread, NULL);
	want(w->v.m[0].result, LEN, "the move ends with its file");
	want(end_io(w->io), result, "and so does the request");
}

static bool is_waiting(struct io *io)
{
	usleep(100000);
	return !pthread_tryjoin_np(io->thread, NULL) ? !(io->joined = true)
						     : true;
}

/* ---- the disk lives -------------------------------------------------------- */

static void test_second_mover(void)
{
	struct waiting w;

	begin(&w, false);
	want(move(&a, &w.at, b.disk, 0), -EINVAL, "nobody else moves it");
	want(tap_enter(a.r.fd, 0, 0, 0), 0, "and the ring is not held up");
	answer(&b.r, &b.q, &w.below, 0);
	pthread_join(w.v.thread, NULL);
	want(w.v.m[0].result, LEN, "it is moved");
	answer(&a.r, &a.q, &w.at, 0);
	wait_io(w.io);
	check(w.io->buf[0] == 0x44 && w.io->buf[LEN - 1] == 0x44,
	      "with what the file has");
	want(end_io(w.io), LEN, "and ends well");
}

static void test_error_below(void)
{
	struct waiting w;

	begin(&w, true);
	answer(&b.r, &b.q, &w.below, -ENOSPC);
	pthread_join(w.v.thread, NULL);
	want(w.v.m[0].result, -ENOSPC, "what the file says is told");
	want(move(&a, &w.at, -1, 0), LEN, "and the data fetched");
	check(slot_of(&a, &w.at)[7] == 0x5a, "into the slot");
	answer(&a.r, &a.q, &w.at, -ENOSPC);
	want(end_io(w.io), -ENOSPC, "before it is given up");
}

/* ---- it fails -------------------------------------------------------------- */

/* Each leaves the disk failed, or on its way out. */
static void answer_early(struct waiting *w)
{
	struct blktap_cqe cqe = { .tag = w->at.tag,
				  .gen = w->at.gen,
				  .result = LEN };

	tap_answer(&a.r, &a.q, &cqe);
	want(tap_enter(a.r.fd, 0, 0, 0), -EBADMSG, "an answer comes early");
}

static void remove_now(struct waiting *w)
{
	(void)w;
	want(tap_remove(a.r.fd, BLKTAP_REMOVE_NOW), 0, "REMOVE now");
}

static void free_force(struct waiting *w)
{
	(void)w;
	/* it waits for the disk to go, so it is somebody else who does */
	if (!fork()) {
		tap_free(a.minor, BLKTAP_FREE_FORCE);
		_exit(0);
	}
	while (tap_enter(a.r.fd, 0, BLKTAP_ENTER_WAIT, 100) >= 0)
		;
	check(true, "FREE by force");
}

static void remove_late(struct waiting *w)
{
	(void)w;
	want(tap_remove(a.r.fd, 0), 0, "REMOVE, and its time is over");
	while (tap_enter(a.r.fd, 0, BLKTAP_ENTER_WAIT, 100) != -ESHUTDOWN)
		;
}

static void close_file(struct waiting *w)
{
	(void)w;
	leave_ring(&a);
	check(true, "the daemon's file is closed");
}

static void (*const ends[])(struct waiting *w) = { answer_early, remove_now,
						   free_force, remove_late,
						   close_file };

static void test_end(size_t how, bool write)
{
	struct waiting w;
	struct blktap_desc other;
	struct io *beside;

	make_dev(&a, BLKTAP_FEATURES, 0);
	tap_defer(a.r.fd, write);
	begin(&w, write);
	beside = ask(&a, true, 65536, LEN, &other);
	ends[how](&w);
	if (ends[how] != close_file) {
		want(end_io(beside), -EIO, "what is not moved fails at once");
		check(is_waiting(w.io), "what is moved has its pages still");
		check(move(&a, &w.at, b.disk, 0) < 0, "and is moved no more");
		let_go(&w, -EIO);
		leave_ring(&a);
	} else { /* which is the mover's file, too */
		check(is_waiting(w.io) && is_waiting(beside),
		      "which the mover has still");
		let_go(&w, -EIO);
		want(end_io(beside), -EIO, "then it is nobody's");
	}
	close(a.disk);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	check(is_gone(a.minor), "the disk goes");
}

/* ---- it dies --------------------------------------------------------------- */

/* Whether it ends by itself; else it is helped, so that this comes to an end. */
static bool is_dead(pid_t pid)
{
	struct blktap_desc below;
	bool alone = true;

	while (waitpid(pid, NULL, WNOHANG) != pid) {
		usleep(10000);
		if (!tap_take(&b.r, &b.q, &below))
			continue;
		alone = false;
		answer(&b.r, &b.q, &below, 0);
	}
	return alone;
}

/* The daemon is a child, which has what it moves in one call. */
static pid_t start_child(int to)
{
	pid_t pid = fork();
	struct blktap_desc at;
	struct mover v = { .count = MANY };
	int i;

	if (pid)
		return pid;
	map_ring(&a);
	close(b.r.fd);
	for (i = 0; i < MANY; i++) {
		take_next(&a.r, &a.q, &at);
		v.m[i] = move_of(&at, b.disk, at.offset);
	}
	if (write(to, "", 1) != 1)
		_exit(1);
	move_thread(&v);
	_exit(0);
}

/* As it would be with pread: what has begun is waited for, what has not is left. */
static void test_killed(void)
{
	struct blktap_desc at, below;
	struct io *io[MANY];
	int i, fds[2];
	pid_t pid;
	char c;

	must(!pipe(fds), "pipe");
	make_dev(&a, BLKTAP_FEATURES, 60000);
	munmap(a.r.map, a.r.info.map_bytes);
	pid = start_child(fds[1]);
	close(a.r.fd);
	for (i = 0; i < MANY; i++)
		io[i] = start_io(a.disk, false, i * LEN, LEN);
	must(read(fds[0], &c, 1) == 1, "child");
	take_next(&b.r, &b.q, &below);
	kill(pid, SIGKILL);
	check(is_waiting(io[0]), "a mover is killed");
	a.r.fd = tap_open(a.minor);
	want(tap_attach(a.r.fd, BLKTAP_FEATURES), -EBUSY,
	     "nobody takes over while it waits");
	answer(&b.r, &b.q, &below, 0);
	check(is_dead(pid), "it ends with its file, and begins nothing more");
	want(tap_attach(a.r.fd, BLKTAP_FEATURES), BLKTAP_STATE_LIVE,
	     "then the next one comes");
	map_ring(&a);
	for (i = 0; i < MANY; i++) {
		take_next(&a.r, &a.q, &at);
		memset(slot_of(&a, &at), 0x66, LEN);
		answer(&a.r, &a.q, &at, 0);
	}
	for (i = 0; i < MANY; i++) {
		wait_io(io[i]);
		check(io[i]->buf[0] == 0x66 && io[i]->buf[LEN - 1] == 0x66,
		      "and has all that was asked for");
		want(end_io(io[i]), LEN, "which ends well");
	}
	drop_dev(&a, "the disk goes");
}

/* ---- at random ------------------------------------------------------------- */

/* What one thread has taken two move, and whoever else guesses. */
static struct blktap_move shared_move;
static bool over;

static void *guesser(void *arg)
{
	unsigned seed = (uintptr_t)arg;
	struct blktap_move m[3];
	int i;

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		for (i = 0; i < 3; i++) {
			m[i] = (struct blktap_move){
				.queue = rand_r(&seed) % 3,
				.tag = rand_r(&seed) % 40,
				.gen = rand_r(&seed) | 1u << 30,
				.fd = rand_r(&seed) % 20 - 2,
				.offset = rand_r(&seed),
			};
		}
		tap_move(a.r.fd, m, 1 + rand_r(&seed) % 3);
	}
	return NULL;
}

static pthread_barrier_t both;

static void *second(void *arg)
{
	struct blktap_move m;
	long *went = arg;

	for (;;) {
		pthread_barrier_wait(&both);
		if (over)
			return NULL;
		m = shared_move;
		tap_move(a.r.fd, &m, 1);
		*went = m.result;
		pthread_barrier_wait(&both);
	}
}

static void *client(void *arg)
{
	unsigned seed = (uintptr_t)arg;
	uint8_t *buf = mmap(NULL, 128 << 10, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	off_t base = (uintptr_t)arg << 20;
	long bad = 0;
	int i;

	for (i = 0; i < 150; i++) {
		size_t len = 512 * (1 + rand_r(&seed) % 256);
		off_t at = base + 512 * (rand_r(&seed) % 1024);

		memset(buf, i, len);
		bad += pwrite(a.disk, buf, len, at) != (ssize_t)len;
		memset(buf, ~i, len);
		bad += pread(a.disk, buf, len, at) != (ssize_t)len;
		bad += buf[0] != (uint8_t)i || memcmp(buf, buf + 1, len - 1);
	}
	return (void *)bad;
}

/* Serves so many requests, each of them moved twice. */
static long serve_twice(int fd, int count)
{
	struct blktap_desc at;
	long went = 0, bad = 0, twice = 0;
	struct blktap_move m;
	pthread_t t;

	pthread_barrier_init(&both, NULL, 2);
	pthread_create(&t, NULL, second, &went);
	while (count--) {
		take_next(&a.r, &a.q, &at);
		m = shared_move = move_of(&at, fd, at.offset);
		pthread_barrier_wait(&both);
		tap_move(a.r.fd, &m, 1);
		pthread_barrier_wait(&both);
		bad += m.result != (int)at.bytes && went != at.bytes;
		bad += m.result != (int)at.bytes && m.result != -EINVAL;
		bad += went != at.bytes && went != -EINVAL;
		twice += m.result == went;
		answer(&a.r, &a.q, &at, 0);
	}
	over = true;
	pthread_barrier_wait(&both);
	pthread_join(t, NULL);
	printf("# %ld requests were moved by both\n", twice);
	return bad;
}

static void test_random(void)
{
	int fd = open("/tmp/disk.race", O_RDWR | O_CREAT, 0600), i;
	pthread_t clients[3], guessers[2];
	void *bad;
	long all = 0;

	must(fd >= 0 && !ftruncate(fd, DEV_BYTES), "file");
	make_dev(&a, BLKTAP_FEATURES, 0);
	tap_defer(a.r.fd, true);
	for (i = 0; i < 3; i++)
		pthread_create(&clients[i], NULL, client, (void *)(long)i);
	for (i = 0; i < 2; i++)
		pthread_create(&guessers[i], NULL, guesser, (void *)(long)i);
	want(serve_twice(fd, 3 * 150 * 2), 0,
	     "what two threads move at once goes at least once");
	for (i = 0; i < 3; i++) {
		pthread_join(clients[i], &bad);
		all += (long)bad;
	}
	want(all, 0, "and its data is right, whatever others guess");
	for (i = 0; i < 2; i++)
		pthread_join(guessers[i], NULL);
	close(fd);
	drop_dev(&a, "the disk goes");
}

int main(void)
{
	size_t i;

	begin_suite("race");
	make_dev(&b, BLKTAP_FEATURES, 0);
	make_dev(&a, BLKTAP_FEATURES, 0);
	test_second_mover();
	test_error_below();
	drop_dev(&a, "the disk goes");
	for (i = 0; i < 2 * sizeof(ends) / sizeof(*ends); i++)
		test_end(i / 2, i % 2);
	test_killed();
	test_random();
	drop_dev(&b, "the other disk goes");
	return failures ? 1 : 0;
}
