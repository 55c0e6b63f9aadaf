/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tapcheck.h"

static const char *suite;
int failures;

void begin_suite(const char *name)
{
	suite = name;
	/* A broken wait would be for ever; a debug kernel that gets a tenth of a CPU
	 * takes more than five minutes for what a quick one does in ten seconds. */
	alarm(1200);
}

void check(int good, const char *name)
{
	printf("%s - %s: %s\n", good ? "ok" : "not ok", suite, name);
	fflush(stdout);
	failures += !good;
}

void want(long got, long wanted, const char *name)
{
	if (got != wanted)
		printf("# got %ld (%s), wanted %ld\n", got,
		       got < 0 ? strerror(-got) : "", wanted);
	check(got == wanted, name);
}

static void *io_thread(void *arg)
{
	struct io *io = arg;
	ssize_t n = io->write ? pwrite(io->fd, io->buf, io->len, io->at)
			      : pread(io->fd, io->buf, io->len, io->at);

	io->result = n < 0 ? -errno : n;
	return NULL;
}

struct io *start_io(int fd, bool write, off_t at, size_t len)
{
	struct io *io = calloc(1, sizeof(*io));

	io->fd = fd;
	io->write = write;
	io->at = at;
	io->len = len;
	if (posix_memalign((void **)&io->buf, 4096, len))
		abort();
	memset(io->buf, 0x5a, len);
	pthread_create(&io->thread, NULL, io_thread, io);
	return io;
}

long wait_io(struct io *io)
{
	if (!io->joined)
		pthread_join(io->thread, NULL);
	io->joined = true;
	return io->result;
}

long end_io(struct io *io)
{
	long n = wait_io(io);

	free(io->buf);
	free(io);
	return n;
}

void take_next(struct tapring *r, struct tapqueue *q, struct blktap_desc *d)
{
	while (!tap_take(r, q, d))
		tap_enter(r->fd, 0, BLKTAP_ENTER_WAIT, 1000);
}

void answer(struct tapring *r, struct tapqueue *q, const struct blktap_desc *d,
	    int result)
{
	struct blktap_cqe cqe = { .tag = d->tag,
				  .gen = d->gen,
				  .result = result ? result : (int)d->bytes };

	tap_answer(r, q, &cqe);
	tap_enter(r->fd, 0, 0, 0);
}

void answer_next(struct tapring *r, struct tapqueue *q, struct blktap_desc *d,
		 int result)
{
	take_next(r, q, d);
	answer(r, q, d, result);
}

void must(bool good, const char *what)
{
	if (good)
		return;
	printf("not ok - %s: cannot test: %s: %s\n", suite, what,
	       strerror(errno));
	exit(1);
}

int open_disk(int minor, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), DEV_DIR "/tapdev%d", minor);
	fd = open(path, flags | O_CLOEXEC);
	must(fd >= 0, path);
	return fd;
}

void map_ring(struct dev *d)
{
	must(!tap_map(&d->r), "mmap");
	tap_queue(&d->r, 0, &d->q);
}

void make_dev(struct dev *d, uint64_t features, uint32_t recovery_ms)
{
	struct blktap_create c;

	d->minor = tap_alloc(-1);
	d->r.fd = tap_open(d->minor);
	must(d->r.fd >= 0, "open");
	must(!tap_attach(d->r.fd, features), "ATTACH");
	tap_create_defaults(&c, DEV_BYTES);
	c.recovery_ms = recovery_ms;
	must(!tap_create(d->r.fd, &c), "CREATE");
	map_ring(d);
	d->disk = open_disk(d->minor, O_RDWR | O_DIRECT);
}

void leave_ring(struct dev *d)
{
	munmap(d->r.map, d->r.info.map_bytes);
	close(d->r.fd);
}

bool is_gone(int minor)
{
	int i, rc = -EBUSY;

	for (i = 0; i < 600 && rc == -EBUSY; i++) {
		rc = tap_free(minor, 0);
		if (rc == -EBUSY)
			usleep(100000);
	}
	return !rc || rc == -ENODEV || rc == -ENOENT;
}

void drop_dev(struct dev *d, const char *name)
{
	close(d->disk);
	tap_remove(d->r.fd, BLKTAP_REMOVE_NOW);
	leave_ring(d);
	check(is_gone(d->minor), name);
}

uint8_t *slot_of(struct dev *d, const struct blktap_desc *at)
{
	return d->r.map + at->data;
}

struct blktap_move move_of(const struct blktap_desc *at, int fd,
			   uint64_t offset)
{
	return (struct blktap_move){
		.tag = at->tag, .gen = at->gen, .fd = fd, .offset = offset
	};
}

long move(struct dev *d, const struct blktap_desc *at, int fd, uint64_t offset)
{
	struct blktap_move m = move_of(at, fd, offset);
	int err = tap_move(d->r.fd, &m, 1);

	return err ? err : m.result;
}

struct io *ask(struct dev *d, bool write, off_t at, size_t len,
	       struct blktap_desc *out)
{
	struct io *io = start_io(d->disk, write, at, len);

	take_next(&d->r, &d->q, out);
	return io;
}
