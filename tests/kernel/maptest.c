/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a daemon may have the kernel do to its mapping of the area, which is of
 * compound pages that belong to no file and to no list of the kernel's. Whatever
 * comes of each, the disk goes on, and the kernel has nothing to say.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tapcheck.h"

#define LEN 4096
#define PAGE 4096

/* Of asm-generic/mman-common.h, some of which is younger than a C library. */
static const struct {
	const char *name;
	int advice;
} advices[] = {
	{ "random", 1 },	 { "sequential", 2 },	   { "willneed", 3 },
	{ "free", 8 },		 { "remove", 9 },	   { "mergeable", 12 },
	{ "hugepage", 14 },	 { "cold", 20 },	   { "pageout", 21 },
	{ "populate read", 22 }, { "populate write", 23 }, { "collapse", 25 },
	{ "dump", 17 },		 { "soft offline", 101 },
};

static struct dev d;

/* A write and a read of the disk by its slots. */
static bool goes_on(void)
{
	struct blktap_desc at;
	struct io *io = ask(&d, true, 0, LEN, &at);
	bool good = slot_of(&d, &at)[LEN - 1] == 0x5a;

	answer(&d.r, &d.q, &at, 0);
	good &= end_io(io) == LEN;
	io = ask(&d, false, 0, LEN, &at);
	memset(slot_of(&d, &at), 0x33, LEN);
	answer(&d.r, &d.q, &at, 0);
	good &= wait_io(io) == LEN && io->buf[LEN - 1] == 0x33;
	end_io(io);
	return good;
}

static uint8_t *data(void)
{
	return d.r.map + d.r.info.data_offset;
}

/*
 * A kernel that has no huge pages says that it has split any, and 6.12 then goes
 * round for ever with part of one that is cold: of whatever driver it is.
 */
static bool is_endless(int advice)
{
	return (advice == 20 || advice == 21) &&
	       access("/sys/kernel/mm/transparent_hugepage", F_OK);
}

/* All of it, a whole compound, a page within one, and from within one to another. */
static void test_advice(size_t i)
{
	int advice = advices[i].advice;
	char name[64];

	if (is_endless(advice))
		return;
	madvise(data() + PAGE, PAGE, advice);
	madvise(data() + 3 * PAGE, 16 * PAGE, advice);
	madvise(data(), 16 * PAGE, advice);
	if (advice != 101) /* takes the memory from the machine */
		madvise(d.r.map, d.r.info.map_bytes, advice);
	snprintf(name, sizeof(name), "it goes on after madvise: %s",
		 advices[i].name);
	check(goes_on(), name);
}

static void test_locks(void)
{
	mlock(d.r.map, d.r.info.map_bytes);
	mlock2(data() + PAGE, PAGE, MLOCK_ONFAULT);
	munlock(data() + 2 * PAGE, PAGE);
	msync(d.r.map, d.r.info.map_bytes, MS_SYNC | MS_INVALIDATE);
	mprotect(data() + PAGE, PAGE, PROT_NONE);
	mprotect(data() + PAGE, PAGE, PROT_READ | PROT_WRITE);
	check(goes_on(), "after mlock, msync and mprotect");
}

static void test_migration(void)
{
	void *pages[4] = { data(), data() + PAGE, data() + 17 * PAGE, d.r.map };
	int nodes[4] = { 0 }, status[4];
	unsigned long mask = 1;

	syscall(SYS_move_pages, 0, 4L, pages, nodes, status, 1 << 1);
	syscall(SYS_mbind, d.r.map, d.r.info.map_bytes, 2, &mask, 8L, 1 | 2);
	check(goes_on(), "after its pages were to be migrated");
}

/* A child that was meant to have no mapping, and one that has. */
static void test_fork(void)
{
	pid_t pid;

	madvise(d.r.map, d.r.info.map_bytes, 11 /* MADV_DOFORK */);
	pid = fork();
	if (!pid) {
		data()[PAGE] = 1;
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	madvise(d.r.map, d.r.info.map_bytes, 10 /* MADV_DONTFORK */);
	check(goes_on(), "after a child had the mapping, too");
}

static void test_mremap(void)
{
	size_t n = d.r.info.map_bytes;
	void *to;

	check(mremap(d.r.map, n, 2 * n, MREMAP_MAYMOVE) == MAP_FAILED,
	      "it cannot be made longer");
	to = mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	to = mremap(d.r.map, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	must(to != MAP_FAILED, "mremap");
	d.r.map = to;
	tap_queue(&d.r, 0, &d.q);
	/* where they were in the rings */
	d.q.head = d.q.shared->sq_head;
	d.q.tail = d.q.shared->cq_tail;
	check(goes_on(), "after it was moved");
}

/* Pages that a pipe has outlive ring and mapping. */
static void test_pages_kept(void)
{
	struct iovec iov = { .iov_base = data(), .iov_len = 4 * PAGE };
	int fds[2];
	char c;

	must(!pipe(fds), "pipe");
	memset(data(), 0x77, 4 * PAGE);
	must(vmsplice(fds[1], &iov, 1, 0) == 4 * PAGE, "vmsplice");
	drop_dev(&d, "the disk goes, whatever a pipe has of it");
	check(read(fds[0], &c, 1) == 1 && c == 0x77, "which is there still");
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	size_t i;

	begin_suite("map");
	make_dev(&d, BLKTAP_FEATURES, 0);
	test_mremap(); /* while it is in one piece */
	for (i = 0; i < sizeof(advices) / sizeof(*advices); i++)
		test_advice(i);
	test_locks();
	test_migration();
	test_fork();
	test_pages_kept();
	return failures ? 1 : 0;
}
