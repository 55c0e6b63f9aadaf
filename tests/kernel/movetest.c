/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What uapi/blktap.h promises of MOVE and DEFER, one line of "ok" or "not ok" per
 * promise. Runs in the test machine; wants the module loaded and no minor in use.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tapcheck.h"

#define SLOT (128 << 10)
#define ALL_BUT_MOVE (BLKTAP_FEATURES & ~BLKTAP_FEATURE_MOVE)
#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static int file = -1; /* of DEV_BYTES bytes, each word its own place */

/* ---- tools ----------------------------------------------------------------- */

static bool is_all(const void *at, int byte, size_t n)
{
	const uint8_t *p = at;

	while (n && *p == byte) {
		p++;
		n--;
	}
	return !n;
}

static bool is_file(const void *at, off_t from, size_t n)
{
	char *is = malloc(n);
	bool same =
		pread(file, is, n, from) == (ssize_t)n && !memcmp(is, at, n);

	free(is);
	return same;
}

static long fetch(struct dev *d, const struct blktap_desc *at)
{
	return move(d, at, -1, 0);
}

static long call(int fd, unsigned long cmd, void *arg)
{
	return ioctl(fd, cmd, arg) ? -errno : 0;
}

/* Two pages, the second of which is not there. */
static uint8_t *edge_of_memory(void)
{
	uint8_t *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(p + 4096, 4096);
	return p + 4096;
}

static void make_file(void)
{
	uint32_t i, words[1024];
	off_t at;

	file = open("/tmp/disk.move", O_RDWR | O_CREAT | O_TRUNC, 0600);
	must(file >= 0, "file");
	for (at = 0; at < DEV_BYTES; at += sizeof(words)) {
		for (i = 0; i < COUNT(words); i++)
			words[i] = (uint32_t)at + i * 4 + 1;
		must(pwrite(file, words, sizeof(words), at) == sizeof(words),
		     "file");
	}
}

/* ---- arguments ------------------------------------------------------------- */

static void test_structs(struct dev *d)
{
	struct {
		struct blktap_moves m;
		uint64_t tail;
	} m = { .m.size = sizeof(m) };
	struct {
		struct blktap_defer d;
		uint64_t tail;
	} f = { .d.size = sizeof(f) };
	struct blktap_move one = { .fd = -1 };
	int fd = d->r.fd;

	m.m.moves = (uintptr_t)&one;
	m.m.count = 1;
	want(call(fd, BLKTAP_RING_MOVE, &m), 0, "a longer MOVE is taken");
	want(one.result, -EINVAL, "of nothing is EINVAL");
	m.tail = 1;
	want(call(fd, BLKTAP_RING_MOVE, &m), -E2BIG,
	     "a longer MOVE that says something is E2BIG");
	m.m.size = sizeof(m.m) - 1;
	want(call(fd, BLKTAP_RING_MOVE, &m), -EINVAL, "a short MOVE");
	m.m.size = sizeof(m.m);
	m.m.count = 0;
	want(call(fd, BLKTAP_RING_MOVE, &m), -EINVAL, "MOVE of none");
	m.m.count = BLKTAP_MAX_DEPTH + 1;
	want(call(fd, BLKTAP_RING_MOVE, &m), -EINVAL, "MOVE of too many");
	m.m.count = 1;
	m.m.moves = 0;
	want(call(fd, BLKTAP_RING_MOVE, &m), -EFAULT, "MOVE of NULL");
	m.m.moves = ~0ull;
	want(call(fd, BLKTAP_RING_MOVE, &m), -EFAULT, "MOVE of no address");
	want(call(fd, BLKTAP_RING_MOVE, NULL), -EFAULT, "MOVE by NULL");
	want(call(fd, BLKTAP_RING_DEFER, &f), 0, "a longer DEFER is taken");
	f.tail = 1;
	want(call(fd, BLKTAP_RING_DEFER, &f), -E2BIG,
	     "a longer DEFER that says something is E2BIG");
	f.d.size = 4;
	want(call(fd, BLKTAP_RING_DEFER, &f), -EINVAL, "a short DEFER");
	f.d.size = sizeof(f.d);
	f.d.on = 2;
	want(call(fd, BLKTAP_RING_DEFER, &f), -EINVAL, "DEFER of 2");
	want(call(fd, BLKTAP_RING_DEFER, NULL), -EFAULT, "DEFER by NULL");
}

static void test_feature(void)
{
	struct blktap_desc at;
	struct io *io;
	struct dev d;
	int minor = tap_alloc(-1), fd = tap_open(minor);

	want(tap_defer(fd, true), -ENODEV, "DEFER before ATTACH");
	tap_attach(fd, BLKTAP_FEATURES);
	want(tap_defer(fd, true), -ENODEV, "DEFER before CREATE");
	want(tap_move(fd, NULL, 1), -ENODEV, "MOVE before CREATE");
	close(fd);
	tap_free(minor, 0);
	make_dev(&d, ALL_BUT_MOVE, 0);
	want(tap_defer(d.r.fd, true), -EINVAL, "DEFER without the feature");
	io = ask(&d, false, 0, 4096, &at);
	want(move(&d, &at, file, 0), -EINVAL, "MOVE without the feature");
	answer(&d.r, &d.q, &at, 0);
	want(end_io(io), 4096, "and the request is as it was");
	drop_dev(&d, "a disk without moves goes");
}

/* What is asked for half in memory that is not there. */
static void test_faults(struct dev *d)
{
	struct blktap_move *m = (struct blktap_move *)edge_of_memory() - 1;
	struct blktap_desc at;
	struct io *io = ask(d, false, 4096, 4096, &at);

	m[0] = move_of(&at, file, 4096);
	want(tap_move(d->r.fd, m, 2), -EFAULT, "half of an array is EFAULT");
	m -= 16;
	memset(m, 0, 17 * sizeof(*m));
	m[15] = move_of(&at, file, 4096);
	want(tap_move(d->r.fd, m, 20), -EFAULT, "a longer array likewise");
	want(m[15].result, 4096, "what was moved before is told");
	mprotect((void *)((uintptr_t)m & ~4095ul), 4096, PROT_READ);
	want(tap_move(d->r.fd, m, 16), -EFAULT, "results that find no place");
	answer(&d->r, &d->q, &at, 0);
	check(is_file(io->buf, 4096, 0), "the file can be read");
	want(end_io(io), 4096,
	     "a request that was moved three times ends once");
	munmap((void *)((uintptr_t)m & ~4095ul), 4096);
}

static const struct {
	struct blktap_move more; /* added to the right one */
	const char *name;
} wrong[] = {
	{ { .queue = 1 }, "no such queue" },
	{ { .queue = ~0u }, "no queue at all" },
	{ { .tag = 32 }, "a tag past the depth" },
	{ { .tag = 1 }, "a tag that is free" },
	{ { .tag = ~0u - 100 }, "a huge tag" },
	{ { .gen = 1 }, "a generation to come" },
	{ { .gen = ~0u }, "an old generation" },
	{ { .reserved = 1 }, "a reserved field" },
	{ { .offset = LLONG_MAX - 4095 }, "an offset whose end is too far" },
	{ { .offset = 1ull << 63 }, "a negative offset" },
	{ { .offset = ~0ull }, "the last of all offsets" },
};

static void test_wrong(struct dev *d)
{
	struct blktap_desc at;
	struct blktap_move m[2];
	struct io *io = ask(d, false, 0, 4096, &at);
	size_t i;

	memset(slot_of(d, &at), 0xee, SLOT);
	for (i = 0; i < COUNT(wrong); i++) {
		m[0] = move_of(&at, file, wrong[i].more.offset);
		m[0].queue += wrong[i].more.queue;
		m[0].tag += wrong[i].more.tag;
		m[0].gen += wrong[i].more.gen;
		m[0].reserved = wrong[i].more.reserved;
		want(tap_move(d->r.fd, m, 1) ?: m[0].result, -EINVAL,
		     wrong[i].name);
	}
	want(fetch(d, &at), -EINVAL, "a READ's data to its slot");
	m[0] = m[1] = move_of(&at, file, 0);
	want(tap_move(d->r.fd, m, 2), 0, "one request twice in a call");
	want(m[0].result, 4096, "goes the first time");
	want(m[1].result, -EINVAL, "and not the second");
	answer(&d->r, &d->q, &at, 0);
	want(move(d, &at, file, 0), -EINVAL, "one that was answered");
	want(end_io(io), 4096, "and it ended well");
}

static void *flush(void *arg)
{
	return (void *)(long)fsync(((struct dev *)arg)->disk);
}

static void test_other_requests(struct dev *d)
{
	struct blktap_desc at;
	pthread_t t;
	void *rc;

	pthread_create(&t, NULL, flush, d);
	take_next(&d->r, &d->q, &at);
	want(at.op, BLKTAP_REQ_FLUSH, "a flush");
	want(move(d, &at, file, 0), -EINVAL, "has nothing to move");
	want(fetch(d, &at), -EINVAL, "nor to be fetched");
	answer(&d->r, &d->q, &at, 0);
	pthread_join(t, &rc);
	want((long)rc, 0, "and ends well");
}

/* ---- files ----------------------------------------------------------------- */

/* What cannot be moved leaves the request to be served by its slot. */
static void try_fd(struct dev *d, bool write, int fd, uint64_t offset,
		   long wanted, const char *name)
{
	struct blktap_desc at;
	struct io *io = ask(d, write, 0, SLOT, &at);

	memset(slot_of(d, &at), 0xee, SLOT);
	want(move(d, &at, fd, offset), wanted, name);
	check(is_all(slot_of(d, &at), 0xee, SLOT), "and not by the slot");
	if (write) {
		want(fetch(d, &at), SLOT, "its data is still to be had");
		check(is_all(slot_of(d, &at), 0x5a, SLOT), "all of it");
		answer(&d->r, &d->q, &at, 0);
	} else {
		memset(slot_of(d, &at), 0xdd, SLOT);
		answer(&d->r, &d->q, &at, 0);
		wait_io(io);
		check(is_all(io->buf, 0xdd, SLOT) == (wanted != SLOT),
		      "its slot counts where it was not moved whole");
	}
	want(end_io(io), SLOT, "and ends well");
}

static void test_fds(struct dev *d)
{
	const char *path = "/tmp/disk.move";
	int fds[2], fd;

	try_fd(d, false, 999, 0, -EBADF, "READ of a closed descriptor");
	try_fd(d, false, -2, 0, -EBADF, "READ of descriptor -2");
	must(!pipe(fds), "pipe");
	try_fd(d, false, fds[0], 0, -EINVAL, "READ of a pipe");
	try_fd(d, true, fds[1], 0, -EINVAL, "WRITE to a pipe");
	try_fd(d, false, eventfd(1, 0), 0, -EINVAL, "READ of an eventfd");
	try_fd(d, false, d->r.fd, 0, -EINVAL, "READ of the ring itself");
	fd = open("/tmp", O_RDONLY);
	try_fd(d, false, fd, 0, -EINVAL, "READ of a directory");
	close(fd);
	fd = open("/dev/zero", O_RDWR);
	try_fd(d, false, fd, 0, -EINVAL, "READ of a character device");
	close(fd);
	fd = open("/proc/kallsyms", O_RDONLY);
	try_fd(d, false, fd, 0, -EINVAL, "READ of what is no file on a disk");
	close(fd);
	fd = open(path, O_PATH);
	try_fd(d, false, fd, 0, -EBADF, "READ of a mere path");
	close(fd);
	fd = open(path, O_WRONLY);
	try_fd(d, false, fd, 0, -EBADF, "READ of what is open for writing");
	close(fd);
	fd = open(path, O_RDONLY);
	try_fd(d, true, fd, 0, -EBADF, "WRITE to what is open for reading");
	try_fd(d, false, fd, 0, SLOT, "READ of what is open for reading");
	close(fd);
	fd = open(path, O_RDWR | O_APPEND);
	try_fd(d, true, fd, 0, -EINVAL, "WRITE to the end of a file");
	try_fd(d, false, fd, 0, -EINVAL, "READ of what is open so");
	close(fd);
	try_fd(d, false, file, DEV_BYTES - SLOT + 4096, SLOT - 4096,
	       "READ across the end of a file");
	try_fd(d, false, file, DEV_BYTES, 0, "READ behind the end of a file");
	try_fd(d, false, file, LLONG_MAX - SLOT, 0, "READ far behind it");
}

static int open_on_disk(int flags)
{
	return open("/dev/nvme0n1", flags | O_CLOEXEC);
}

/* A block device is as good, with O_DIRECT or without. */
static void test_block(struct dev *d)
{
	char *data = mmap(NULL, SLOT, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open_on_disk(O_RDWR), direct = open_on_disk(O_RDWR | O_DIRECT);

	if (fd < 0 || direct < 0)
		return;
	try_fd(d, true, direct, 4096, SLOT, "WRITE to a block device, direct");
	must(pread(direct, data, SLOT, 4096) == SLOT, "disk");
	check(is_all(data, 0x5a, SLOT), "and it has the data");
	try_fd(d, true, fd, SLOT * 2, SLOT, "WRITE to a block device");
	try_fd(d, false, direct, 4096, SLOT, "READ of it, direct");
	try_fd(d, false, fd, 4096, SLOT, "READ of it");
	try_fd(d, false, direct, 4097, -EINVAL, "READ of part of a block");
	munmap(data, SLOT);
	close(fd);
	close(direct);
}

static void test_full(struct dev *d)
{
	struct rlimit old, now = { 64 << 10, RLIM_INFINITY };
	int fd;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	setrlimit(RLIMIT_FSIZE, &now);
	try_fd(d, true, file, SLOT, -EFBIG, "WRITE behind RLIMIT_FSIZE");
	try_fd(d, true, file, 0, 64 << 10, "WRITE across RLIMIT_FSIZE");
	setrlimit(RLIMIT_FSIZE, &old);
	fd = memfd_create("sealed", MFD_ALLOW_SEALING);
	must(!ftruncate(fd, DEV_BYTES) && !fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE),
	     "memfd");
	try_fd(d, true, fd, 0, -EPERM, "WRITE to a sealed memfd");
	try_fd(d, false, fd, 0, SLOT, "READ of it");
	close(fd);
	mkdir("/tmp/disk.small", 0700);
	must(!mount("none", "/tmp/disk.small", "tmpfs", 0, "size=64k"),
	     "mount");
	fd = open("/tmp/disk.small/a", O_RDWR | O_CREAT, 0600);
	try_fd(d, true, fd, 0, 64 << 10, "WRITE to what is nearly full");
	try_fd(d, true, fd, DEV_BYTES, -ENOSPC, "WRITE to what is full");
	close(fd);
	umount("/tmp/disk.small");
	make_file();
}

/* ---- data ------------------------------------------------------------------ */

static void *serve_moves(void *arg)
{
	struct dev *d = arg;
	struct blktap_desc at;
	long bad = 0;

	for (;;) {
		take_next(&d->r, &d->q, &at);
		if (at.op > BLKTAP_REQ_WRITE)
			break; /* a flush is the end of it */
		bad += move(d, &at, file, at.offset) != at.bytes;
		answer(&d->r, &d->q, &at, 0);
	}
	answer(&d->r, &d->q, &at, 0);
	return (void *)bad;
}

/* Requests of many pieces that begin anywhere, and are cut and merged. */
static void one_shape(struct dev *d, unsigned *seed, uint8_t *memory,
		      bool write)
{
	struct iovec iov[24];
	off_t offset = 512 * (rand_r(seed) % 2048);
	size_t at = 512 * (rand_r(seed) % 8), all = 0, i;
	int n = 1 + rand_r(seed) % 24, rc;

	for (i = 0; i < (size_t)n; i++) {
		size_t len = 512 * (1 + rand_r(seed) % 64);

		iov[i] = (struct iovec){ memory + at, len };
		at += len + 512 * (rand_r(seed) % 9);
		all += len;
	}
	if (write)
		for (i = 0; i < at / 4; i++)
			((uint32_t *)memory)[i] = rand_r(seed);
	rc = write ? pwritev(d->disk, iov, n, offset)
		   : preadv(d->disk, iov, n, offset);
	must(rc == (int)all, "a request of many pieces");
	for (i = 0; i < (size_t)n; offset += iov[i++].iov_len)
		if (!is_file(iov[i].iov_base, offset, iov[i].iov_len))
			failures++;
}

static void test_shapes(struct dev *d)
{
	uint8_t *memory = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i, before = failures, fd = open_disk(d->minor, O_RDWR);
	unsigned seed = 1;
	pthread_t t;
	void *bad;

	tap_defer(d->r.fd, true);
	pthread_create(&t, NULL, serve_moves, d);
	for (i = 0; i < 300; i++)
		one_shape(d, &seed, memory, i % 2);
	check(failures == before, "300 requests of every shape");
	for (i = 0; i < 2 << 20; i++)
		memory[i] = rand_r(&seed);
	must(pwrite(fd, memory, 2 << 20, 3 << 9) == 2 << 20, "write");
	sync_file_range(fd, 0, 0,
			SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
	check(is_file(memory, 3 << 9, 2 << 20), "merged writes from the cache");
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	must(pread(fd, memory + (2 << 20), 2 << 20, 3 << 9) == 2 << 20, "read");
	check(!memcmp(memory, memory + (2 << 20), 2 << 20),
	      "and reads ahead into it");
	fsync(d->disk);
	pthread_join(t, &bad);
	want((long)bad, 0, "all were moved whole");
	close(fd);
	munmap(memory, 4 << 20);
	tap_defer(d->r.fd, false);
}

static void fill_slots(struct dev *d, int byte)
{
	memset(d->r.map + d->r.info.data_offset, byte,
	       d->r.info.map_bytes - d->r.info.data_offset);
}

static void test_defer(struct dev *d)
{
	struct blktap_desc at;
	struct io *io;

	fill_slots(d, 0xee);
	io = ask(d, true, 0, SLOT, &at);
	check(!at.flags && is_all(slot_of(d, &at), 0x5a, SLOT),
	      "a WRITE has its data in the slot");
	answer(&d->r, &d->q, &at, 0);
	end_io(io);
	want(tap_defer(d->r.fd, true), 0, "DEFER");
	fill_slots(d, 0xee);
	io = ask(d, true, 0, SLOT, &at);
	want(at.flags, BLKTAP_REQ_DEFERRED, "a WRITE is DEFERRED then");
	check(is_all(slot_of(d, &at), 0xee, SLOT), "and its slot untouched");
	want(move(d, &at, -1, 512), -EINVAL, "a slot has no offset");
	want(fetch(d, &at), SLOT, "its data is brought");
	check(is_all(slot_of(d, &at), 0x5a, SLOT), "to the slot");
	want(fetch(d, &at), SLOT, "and once more");
	answer(&d->r, &d->q, &at, 0);
	want(end_io(io), SLOT, "and it ends well");
	io = ask(d, false, 0, SLOT, &at);
	want(at.flags, 0, "a READ is never DEFERRED");
	memset(slot_of(d, &at), 0x11, SLOT);
	want(move(d, &at, file, 0), SLOT, "a READ is moved");
	answer(&d->r, &d->q, &at, 0);
	wait_io(io);
	check(is_file(io->buf, 0, SLOT), "and takes nothing from its slot");
	end_io(io);
	io = ask(d, false, 0, SLOT, &at);
	want(move(d, &at, file, 0), SLOT, "a READ is moved again");
	want(move(d, &at, file, DEV_BYTES - 512), 512, "then in part");
	memset(slot_of(d, &at), 0x22, SLOT);
	answer(&d->r, &d->q, &at, 0);
	wait_io(io);
	check(is_all(io->buf, 0x22, SLOT), "so the slot counts");
	end_io(io);
	want(tap_defer(d->r.fd, false), 0, "DEFER no more");
}

/* Who comes next knows nothing of what the old one had asked for. */
static void test_takeover(struct dev *d)
{
	struct blktap_desc a, b, at;
	struct io *read, *write;
	uint64_t features = ALL_BUT_MOVE;
	int i;

	tap_defer(d->r.fd, true);
	write = ask(d, true, 0, 4096, &a);
	read = ask(d, false, 8192, 4096, &b);
	want(move(d, &b, file, 0), 4096, "a READ is moved, and not answered");
	leave_ring(d);
	d->r.fd = tap_open(d->minor);
	want(tap_attach(d->r.fd, features), BLKTAP_STATE_LIVE,
	     "a new daemon attaches");
	map_ring(d);
	for (i = 0; i < 2; i++) {
		take_next(&d->r, &d->q, &at);
		want(at.flags, 0, "nothing is DEFERRED for it");
		if (at.op == BLKTAP_REQ_WRITE)
			check(is_all(slot_of(d, &at), 0x5a, 4096),
			      "a WRITE's data is in its slot");
		else
			memset(slot_of(d, &at), 0x33, 4096);
		answer(&d->r, &d->q, &at, 0);
	}
	wait_io(read);
	check(is_all(read->buf, 0x33, 4096), "a READ's is taken from it");
	end_io(read);
	want(end_io(write), 4096, "and the WRITE ended well");
	write = ask(d, true, 0, 4096, &at);
	want(at.flags, 0, "nor is the next WRITE");
	answer(&d->r, &d->q, &at, 0);
	end_io(write);
}

int main(void)
{
	struct dev d;

	begin_suite("move");
	make_file();
	test_feature();
	make_dev(&d, BLKTAP_FEATURES, 60000);
	test_structs(&d);
	test_faults(&d);
	test_wrong(&d);
	test_other_requests(&d);
	test_fds(&d);
	test_block(&d);
	test_full(&d);
	test_defer(&d);
	test_shapes(&d);
	test_takeover(&d);
	drop_dev(&d, "the disk goes");
	return failures ? 1 : 0;
}
