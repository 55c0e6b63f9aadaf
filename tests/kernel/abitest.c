/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What uapi/blktap.h promises, one line of "ok" or "not ok" per promise.
 * Runs in the test machine; wants the module loaded and no minor in use.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tapcheck.h"

static long ctl(unsigned long cmd, void *arg)
{
	int fd = open(DEV_DIR "/control", O_RDWR);
	long n = ioctl(fd, cmd, arg) < 0 ? -errno : 0;

	close(fd);
	return n;
}

static void test_sizes(void)
{
	struct {
		struct blktap_version v;
		uint64_t tail[2];
	} v = { .v.size = sizeof(struct blktap_version) };
	void *edge;

	want(ctl(BLKTAP_CTL_VERSION, &v), 0, "VERSION answers");
	want(v.v.abi, BLKTAP_ABI_VERSION, "VERSION names the ABI");
	v.v.size = 8;
	want(ctl(BLKTAP_CTL_VERSION, &v), -EINVAL, "a short struct is refused");
	v.v.size = sizeof(v);
	want(ctl(BLKTAP_CTL_VERSION, &v), 0, "a longer zero struct is taken");
	v.tail[1] = 1;
	want(ctl(BLKTAP_CTL_VERSION, &v), -E2BIG,
	     "a longer struct that says something is refused");
	v.v.size = 1 << 20;
	want(ctl(BLKTAP_CTL_VERSION, &v), -E2BIG, "an absurd size is refused");
	want(ctl(BLKTAP_CTL_VERSION, NULL), -EFAULT, "NULL is EFAULT");
	edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap((char *)edge + 4096, 4096);
	edge = (char *)edge + 4096 - 8;
	*(uint32_t *)edge = sizeof(struct blktap_version);
	want(ctl(BLKTAP_CTL_VERSION, edge), -EFAULT,
	     "a struct across the end of memory is EFAULT");
	want(ctl(_IO(BLKTAP_IOC_MAGIC, 0x1f), &v), -ENOTTY,
	     "an unknown ioctl is ENOTTY");
}

static int mode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? -errno : (int)(st.st_mode & 07777);
}

/* A number that cannot be told is nobody's: nothing may be left of it. */
static void test_alloc_untold(void)
{
	struct blktap_alloc *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	a->size = sizeof(*a);
	a->minor = 9;
	mprotect(a, 4096, PROT_READ);
	want(ctl(BLKTAP_CTL_ALLOC, a), -EFAULT,
	     "ALLOC with a struct that cannot be written is EFAULT");
	want(mode_of(DEV_DIR "/blktap9"), -ENOENT, "and leaves no minor");
	munmap(a, 4096);
}

static void test_minors(void)
{
	struct blktap_free f = { .size = sizeof(f), .minor = 7, .flags = 2 };
	char path[64];
	int n, m;

	want(mode_of(DEV_DIR "/control"), 0600, "control is 0600");
	want(tap_alloc(7), 7, "ALLOC gives the wanted minor");
	want(mode_of(DEV_DIR "/blktap7"), 0600, "the ring device is 0600");
	want(tap_alloc(7), -EEXIST, "ALLOC of a taken minor is EEXIST");
	want(tap_alloc(1 << 24), -EINVAL, "ALLOC beyond the limit is EINVAL");
	want(tap_alloc(-2), -EINVAL, "ALLOC of a negative minor is EINVAL");
	n = tap_alloc(-1);
	m = tap_alloc(-1);
	check(n == 0 && m == 1, "ALLOC takes the lowest free minors");
	want(tap_free(n, 0), 0, "FREE of an idle minor");
	want(tap_free(n, 0), -ENOENT, "FREE of a free minor is ENOENT");
	tap_free(m, 0);
	want(ctl(BLKTAP_CTL_FREE, &f), -EINVAL, "FREE with an unknown flag");
	want(tap_free(0x7fffffff, 0), -ENOENT, "FREE of no minor is ENOENT");
	want(tap_free(7, 0), 0, "FREE of the wanted minor");
	snprintf(path, sizeof(path), DEV_DIR "/blktap%d", 7);
	want(mode_of(path), -ENOENT, "FREE takes the ring device away");
}

/* Each is a small change to a good CREATE that must make it bad. */
static void test_create_refusals(int fd)
{
	static const struct {
		size_t at;
		size_t len;
		uint64_t value;
		int err;
		const char *name;
	} bad[] = {
#define BAD(m, v, e)                                    \
	{ offsetof(struct blktap_create, m),            \
	  sizeof(((struct blktap_create *)0)->m), v, e, \
	  "CREATE refuses " #m " " #v }
		BAD(flags, 0x80, EINVAL),
		BAD(flags, BLKTAP_DISK_FUA, EINVAL),
		BAD(capacity, 0, EINVAL),
		BAD(capacity, 1000, EINVAL),
		BAD(capacity, 1ull << 63, EINVAL),
		BAD(logical_block, 0, EINVAL),
		BAD(logical_block, 1024, EINVAL),
		BAD(physical_block, 256, EINVAL),
		BAD(physical_block, 3 << 9, EINVAL),
		BAD(physical_block, 1 << 17, EINVAL),
		BAD(queues, 0, EINVAL),
		BAD(queues, 0xffffffff, EINVAL),
		BAD(depth, 0, EINVAL),
		BAD(depth, 1 << 20, EINVAL),
		BAD(slot_bytes, 0, EINVAL),
		BAD(slot_bytes, 4097, EINVAL),
		BAD(slot_bytes, 2 << 20, EINVAL),
		BAD(io_opt, 100, EINVAL),
		BAD(discard_granularity, 768, EINVAL),
		BAD(recovery_ms, 0xfffffffe, EINVAL),
		BAD(max_discard, 100, EINVAL),
		BAD(max_discard, 1ull << 40, EINVAL),
		BAD(max_write_zeroes, 511, EINVAL),
	};
	struct blktap_create c;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		tap_create_defaults(&c, 1 << 20);
		memcpy((char *)&c + bad[i].at, &bad[i].value, bad[i].len);
		want(tap_create(fd, &c), -bad[i].err, bad[i].name);
	}
	tap_create_defaults(&c, 1 << 20);
	memset(c.name, 'x', sizeof(c.name));
	want(tap_create(fd, &c), -EINVAL, "CREATE refuses an endless name");
	strcpy(c.name, "a\nb");
	want(tap_create(fd, &c), -EINVAL, "CREATE refuses a newline in a name");
	tap_create_defaults(&c, 1 << 20);
	c.depth = 256;
	c.slot_bytes = 1 << 20;
	c.queues = 16;
	/* Queues are cut to the number of CPUs before the area is counted. */
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		want(tap_create(fd, &c), -E2BIG, "CREATE refuses a huge area");
}

static bool all_zero(const void *p, size_t n)
{
	const uint8_t *b = p;

	while (n--)
		if (*b++)
			return false;
	return true;
}

static bool child_dies_reading(const volatile uint8_t *p)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct sigaction sa = { .sa_handler = SIG_DFL };

		sigaction(SIGSEGV, &sa, NULL);
		_exit(*p);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static long try_map(int fd, size_t len, int prot, int flags, off_t at)
{
	void *p = mmap(NULL, len, prot, flags, fd, at);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, len);
	return 0;
}

static void test_mapping(struct tapring *r)
{
	const int rw = PROT_READ | PROT_WRITE;
	size_t all = r->info.map_bytes;

	want(try_map(r->fd, 4096, rw, MAP_PRIVATE, 0), -EINVAL,
	     "a private mapping is refused");
	want(try_map(r->fd, 4096, rw | PROT_EXEC, MAP_SHARED, 0), -EINVAL,
	     "an executable mapping is refused");
	want(try_map(r->fd, all + 4096, rw, MAP_SHARED, 0), -EINVAL,
	     "a mapping past the end is refused");
	want(try_map(r->fd, 4096, rw, MAP_SHARED, all), -EINVAL,
	     "a mapping behind the end is refused");
	want(try_map(r->fd, 4096, rw, MAP_SHARED, all - 4096), 0,
	     "the last page alone can be mapped");
	check(all_zero(r->map, all), "a new area is all zero");
	check(child_dies_reading(r->map), "a child does not inherit the area");
	want(mprotect(r->map, 4096, PROT_READ | PROT_EXEC) ? -errno : 0,
	     -EACCES, "the area cannot be made executable later");
}

static void test_requests(struct tapring *r, int disk)
{
	static const struct {
		int answer, seen;
		const char *name;
	} errors[] = {
		{ -ENOSPC, -ENOSPC, "ENOSPC reaches the caller" },
		{ -ETIMEDOUT, -ETIMEDOUT, "ETIMEDOUT reaches the caller" },
		{ -EIO, -EIO, "EIO reaches the caller" },
		{ -EPERM, -EIO, "any other error is EIO" },
		{ -ENOMEM, -EIO, "ENOMEM is no invitation to try again" },
	};
	struct pollfd p = { .fd = r->fd, .events = POLLIN };
	struct blktap_desc d;
	struct tapqueue q;
	struct io *io;
	size_t i;

	tap_queue(r, 0, &q);
	want(poll(&p, 1, 0), 0, "poll is quiet without a request");
	check(q.shared->need_wake == 1, "poll asks to be woken");
	io = start_io(disk, true, 8192, 4096);
	want(poll(&p, 1, 60000), 1, "poll wakes for a request");
	want(tap_enter(r->fd, 0, 0, 0), 1, "ENTER counts it");
	answer_next(r, &q, &d, 0);
	want(end_io(io), 4096, "a write is answered");
	check(d.op == BLKTAP_REQ_WRITE && d.offset == 8192 && d.bytes == 4096,
	      "the descriptor says what was written");
	check(((uint8_t *)r->map)[d.data] == 0x5a, "the slot has the data");
	check(!d.pad && all_zero(q.shared->pad0, sizeof(q.shared->pad0)) &&
		      all_zero(q.shared->pad1, sizeof(q.shared->pad1)),
	      "padding is zero");
	io = start_io(disk, false, 0, 4096);
	answer_next(r, &q, &d, -EIO);
	check(io->buf[0] == 0x5a, "a failed read leaves the caller's buffer");
	want(end_io(io), -EIO, "a failed read is EIO");
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		io = start_io(disk, true, 0, 4096);
		answer_next(r, &q, &d, errors[i].answer);
		want(end_io(io), errors[i].seen, errors[i].name);
	}
	want(tap_enter(r->fd, 0, BLKTAP_ENTER_WAIT, 10), 0,
	     "ENTER's wait has an end");
	want(tap_enter(r->fd, 99, 0, 0), -EINVAL, "ENTER of no queue");
	want(tap_enter(r->fd, 0, 8, 0), -EINVAL, "ENTER with an unknown flag");
}

static void *write_later(void *arg)
{
	uint64_t one = 1;

	usleep(300000);
	if (write(*(int *)arg, &one, sizeof(one)) != sizeof(one))
		return arg;
	return NULL;
}

static void test_bad_wait_fd(struct tapring *r)
{
	struct blktap_enter e = { .size = sizeof(e),
				  .flags = BLKTAP_ENTER_FD,
				  .queue = BLKTAP_ALL_QUEUES };
	int file = open("/init", O_RDONLY);

	want(ioctl(r->fd, BLKTAP_RING_ENTER, &e) ? -errno : 0, -EINVAL,
	     "ENTER with FD goes with WAIT");
	e.flags |= BLKTAP_ENTER_WAIT;
	e.reserved = 1;
	want(ioctl(r->fd, BLKTAP_RING_ENTER, &e) ? -errno : 0, -EINVAL,
	     "ENTER's reserved field is zero");
	e.reserved = 0;
	e.flags = 0;
	e.fd = 5;
	want(ioctl(r->fd, BLKTAP_RING_ENTER, &e) ? -errno : 0, -EINVAL,
	     "a descriptor goes with FD");
	e.size = offsetof(struct blktap_enter, fd);
	want(ioctl(r->fd, BLKTAP_RING_ENTER, &e), 0,
	     "ENTER as it was before it had a descriptor");
	e.size--;
	want(ioctl(r->fd, BLKTAP_RING_ENTER, &e) ? -errno : 0, -EINVAL,
	     "ENTER that is too short");
	want(tap_enter_fd(r->fd, -1, -1), -EBADF, "waiting for no descriptor");
	want(tap_enter_fd(r->fd, file, -1), -EPERM,
	     "waiting for what cannot be polled");
	close(file);
}

/* One call waits for the ring, and for what an epoll descriptor has, in which the
 * ring may be, too. */
static void test_wait_fd(struct tapring *r, int disk)
{
	int event = eventfd(0, EFD_NONBLOCK), ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLIN };
	struct blktap_desc d;
	struct tapqueue q;
	uint64_t count;
	pthread_t t;
	struct io *io;

	test_bad_wait_fd(r);
	epoll_ctl(ep, EPOLL_CTL_ADD, event, &ev);
	epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &ev);
	tap_queue(r, 0, &q);
	q.head = q.shared->sq_head;
	q.tail = q.shared->cq_tail;
	want(tap_enter_fd(r->fd, ep, 10), 0, "a wait for both has an end");
	pthread_create(&t, NULL, write_later, &event);
	want(tap_enter_fd(r->fd, ep, -1), 0, "a descriptor ends the sleep");
	pthread_join(t, NULL);
	want(tap_enter_fd(r->fd, ep, -1), 0,
	     "one that is ready lets none begin");
	check(read(event, &count, sizeof(count)) == sizeof(count) && count == 1,
	      "and the caller looks what it was");
	io = start_io(disk, true, 0, 4096);
	want(tap_enter_fd(r->fd, ep, -1), 1, "a request ends it as well");
	answer_next(r, &q, &d, 0);
	want(end_io(io), 4096, "and is answered");
	want(tap_enter_fd(r->fd, r->fd, 10), 0, "waiting for the ring itself");
	want(tap_enter(r->fd, 0, BLKTAP_ENTER_LOOK, 0), 0,
	     "a look does not sleep");
	close(ep);
	close(event);
}

/* One request left open; its slot alone comes to the next owner. */
static void test_takeover(struct tapring *r, int minor, int disk)
{
	struct tapring next = { .fd = tap_open(minor) };
	struct blktap_desc d = { 0 };
	struct tapqueue q;
	struct io *io;
	int tries, err;
	bool clean;

	want(tap_attach(next.fd, 1), -EBUSY, "a second owner is refused");
	io = start_io(disk, true, 0, 4096);
	tap_queue(r, 0, &q);
	q.head = q.shared->sq_head;
	tap_enter(r->fd, 0, BLKTAP_ENTER_WAIT, 60000);
	check(tap_take(r, &q, &d), "a request is open");
	memset(r->map + r->info.data_offset, 0x77,
	       r->info.map_bytes - r->info.data_offset);
	munmap(r->map, r->info.map_bytes);
	close(r->fd);
	want(tap_attach(next.fd, 0), -EOPNOTSUPP,
	     "a takeover has to be asked for");
	for (tries = 0; tries < 3000; tries++) {
		err = tap_attach(next.fd, BLKTAP_FEATURE_RECOVERY);
		if (err != -EBUSY && err != -EAGAIN)
			break;
		usleep(20000);
	}
	want(err, BLKTAP_STATE_LIVE, "the next owner finds the disk");
	want(tap_map(&next), 0, "and maps its ring");
	want(tap_enter_fd(next.fd, next.fd, 10), -EINVAL,
	     "waiting for a descriptor has to be asked for");
	tap_queue(&next, 0, &q);
	err = tap_take(&next, &q, &d);
	clean = err &&
		all_zero(next.map + next.info.data_offset,
			 d.data - next.info.data_offset) &&
		all_zero(next.map + d.data + d.bytes,
			 next.info.map_bytes - d.data - d.bytes);
	check(err && d.bytes == 4096 && next.map[d.data] == 0x5a,
	      "the open request is there with its data");
	check(clean, "nothing else of the old owner's is");
	q.head = 0;
	q.shared->sq_head = 0;
	answer_next(&next, &q, &d, 0);
	want(end_io(io), 4096, "and its caller sees no error");
	*r = next;
}

static void test_removal(struct tapring *r, int minor, int disk)
{
	struct pollfd p = { .fd = r->fd, .events = POLLIN };
	struct blktap_create c;
	char buf[512];
	int tries;

	want(tap_free(minor, 0), -EBUSY, "FREE of an attached minor is EBUSY");
	want(tap_remove(r->fd, BLKTAP_REMOVE_IF_UNUSED), -EBUSY,
	     "REMOVE if unused sees the opener");
	want(tap_remove(r->fd, 0x10), -EINVAL, "REMOVE with an unknown flag");
	want(tap_remove(r->fd, 0), 0, "REMOVE with an opener left");
	for (tries = 0; tries < 600; tries++) {
		poll(&p, 1, 100);
		if (p.revents & POLLHUP)
			break;
	}
	check(p.revents & POLLHUP, "poll says HUP when the disk has gone");
	want(tap_enter(r->fd, 0, 0, 0), -ENODEV, "ENTER says ENODEV");
	check(pread(disk, buf, 512, 0) <= 0, "the opener has a dead disk");
	tap_create_defaults(&c, 1 << 20);
	want(tap_create(r->fd, &c), -EBUSY, "a ring serves one disk");
	munmap(r->map, r->info.map_bytes);
	close(r->fd);
	want(tap_free(minor, 0), 0, "FREE after the owner has gone");
	close(disk);
}

static void test_disk(void)
{
	int minor = tap_alloc(3), other, disk;
	struct tapring r = { .fd = tap_open(minor) };
	struct blktap_create c;
	struct blktap_info i;

	tap_create_defaults(&c, 1 << 20);
	want(tap_create(r.fd, &c), -EPERM, "CREATE wants an owner");
	want(try_map(r.fd, 4096, PROT_READ, MAP_SHARED, 0), -ENODEV,
	     "no disk, no mapping");
	want(tap_enter(r.fd, 0, 0, 0), -ENODEV, "no disk, no ENTER");
	want(tap_attach(r.fd, 1ull << 63), -EOPNOTSUPP,
	     "an unknown feature is refused");
	want(tap_attach(r.fd, BLKTAP_FEATURES), BLKTAP_STATE_EMPTY, "ATTACH");
	other = tap_open(minor);
	want(tap_create(other, &c), -EPERM, "CREATE is the owner's");
	want(tap_remove(other, 0), -EPERM, "REMOVE is the owner's");
	want(tap_resize(other, 4096), -EPERM, "RESIZE is the owner's");
	want(tap_remove(r.fd, 0), -ENODEV, "REMOVE of no disk");
	close(other);
	test_create_refusals(r.fd);
	c.recovery_ms = 60000;
	want(tap_create(r.fd, &c), 0, "CREATE");
	want(tap_create(r.fd, &c), -EBUSY, "CREATE again");
	want(tap_map(&r), 0, "mmap");
	want(tap_info(r.fd, &i), 0, "INFO");
	check(i.capacity == 1 << 20 && i.state == BLKTAP_STATE_LIVE &&
		      i.sq_entries == 32 && !i.reserved &&
		      !strcmp(i.name, "test"),
	      "INFO says what was created");
	test_mapping(&r);
	disk = open(DEV_DIR "/tapdev3", O_RDWR | O_DIRECT);
	check(disk >= 0, "the disk can be opened");
	test_requests(&r, disk);
	test_wait_fd(&r, disk);
	want(tap_resize(r.fd, 777), -EINVAL, "RESIZE to part of a block");
	want(tap_resize(r.fd, 2 << 20), 0, "RESIZE");
	want(lseek(disk, 0, SEEK_END), 2 << 20, "an opener sees the new size");
	test_takeover(&r, minor, disk);
	test_removal(&r, minor, disk);
}

/* Nobody comes back to a disk that has failed; who tries is told why. */
static void test_failed(void)
{
	struct blktap_attach a = { .size = sizeof(a),
				   .features = BLKTAP_FEATURE_RECOVERY };
	int minor = tap_alloc(-1), fd = tap_open(minor);
	struct blktap_create c;

	tap_create_defaults(&c, 1 << 20);
	tap_attach(fd, BLKTAP_FEATURE_RECOVERY);
	want(tap_create(fd, &c), 0, "CREATE without recovery");
	close(fd);
	fd = tap_open(minor);
	want(ioctl(fd, BLKTAP_RING_ATTACH, &a) ? -errno : 0, -ESHUTDOWN,
	     "ATTACH to a failed disk is ESHUTDOWN");
	want(a.state, BLKTAP_STATE_FAILED, "and says that it failed");
	close(fd);
	want(tap_free(minor, 0), 0, "FREE of a failed disk");
}

int main(void)
{
	begin_suite("abi");
	test_sizes();
	test_minors();
	test_alloc_untold();
	test_disk();
	test_failed();
	return failures ? 1 : 0;
}
