/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls that have to wait, and who must not wait for them: ALLOC whose device node
 * cannot be made yet, because of a disk of this very program; and a move to a file
 * on the disk that is moved from, which is refused.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tapcheck.h"

#define LEN 4096
#define FS_BYTES (3 << 20) /* of the disk; what is behind is the test's */
#define BEHIND (FS_BYTES + (512 << 10))
#define MNT "/mnt/own"

static struct dev a;

/* ---- a daemon -------------------------------------------------------------- */

static uint8_t memory[DEV_BYTES];
static pthread_t server;
static bool serving;

static void serve(const struct blktap_desc *at)
{
	if (at->op == BLKTAP_REQ_READ)
		memcpy(slot_of(&a, at), memory + at->offset, at->bytes);
	else if (at->op == BLKTAP_REQ_WRITE)
		memcpy(memory + at->offset, slot_of(&a, at), at->bytes);
	else if (at->op != BLKTAP_REQ_FLUSH)
		memset(memory + at->offset, 0, at->bytes);
	answer(&a.r, &a.q, at, 0);
}

/* Takes what there is, and serves it; false if there was nothing. */
static bool serve_next(void)
{
	struct blktap_desc at;

	if (!tap_take(&a.r, &a.q, &at))
		return false;
	serve(&at);
	return true;
}

static void *serve_all(void *arg)
{
	while (__atomic_load_n(&serving, __ATOMIC_ACQUIRE))
		if (!serve_next())
			tap_enter(a.r.fd, 0, BLKTAP_ENTER_WAIT, 100);
	return arg;
}

static void start_serving(void)
{
	serving = true;
	pthread_create(&server, NULL, serve_all, NULL);
}

static void stop_serving(void)
{
	__atomic_store_n(&serving, false, __ATOMIC_RELEASE);
	pthread_join(server, NULL);
}

/* The minute is far more than it takes: only what never comes is given up. */
static bool has_ended(pthread_t t)
{
	int i;

	for (i = 0; i < 600; i++) {
		if (!pthread_tryjoin_np(t, NULL))
			return true;
		usleep(100000);
	}
	return false;
}

/* ---- ALLOC ----------------------------------------------------------------- */

struct caller {
	int minor;
	int result;
	pthread_t thread;
};

static void *alloc_thread(void *arg)
{
	struct caller *c = arg;

	c->result = tap_alloc(c->minor);
	return NULL;
}

static void *open_thread(void *arg)
{
	struct caller *c = arg;

	c->result = tap_open(c->minor);
	return NULL;
}

static void *open_early_thread(void *arg)
{
	struct caller *c = arg;

	c->result = open("/tmp/disk.node", O_RDWR | O_CLOEXEC);
	return NULL;
}

/* Reads the directory of the nodes to memory that is on the disk: as long as nobody
 * answers there, nothing is made in the directory. */
static void *list_thread(void *arg)
{
	int fd = open(DEV_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n = syscall(SYS_getdents64, fd, arg, LEN);

	close(fd);
	return (void *)n;
}

static void start(struct caller *c, void *(*f)(void *), int minor)
{
	c->minor = minor;
	pthread_create(&c->thread, NULL, f, c);
}

/* The kernel's own thread that makes nodes. */
static bool is_maker_waiting(void)
{
	char line[512], path[64], state;
	bool found = false;
	int pid, n;

	for (pid = 2; !found && pid < 400; pid++) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		f = fopen(path, "re");
		if (!f)
			continue;
		n = fread(line, 1, sizeof(line) - 1, f);
		line[n > 0 ? n : 0] = 0;
		fclose(f);
		found = sscanf(line, "%*d (kdevtmpfs) %c", &state) == 1;
	}
	must(found, "kdevtmpfs");
	return state == 'D';
}

static void test_alloc(void)
{
	struct caller alloc, opener, early, again;
	int disk, other, minor;
	struct blktap_desc at;
	struct stat st;
	pthread_t list;
	void *page;

	make_dev(&a, BLKTAP_FEATURES, 0);
	other = tap_alloc(-1);
	minor = other + 1;
	must(!fstat(a.r.fd, &st), "stat");
	unlink("/tmp/disk.node");
	must(!mknod("/tmp/disk.node", S_IFCHR | 0600,
		    makedev(major(st.st_rdev), minor)),
	     "mknod");
	disk = open_disk(a.minor, O_RDONLY);
	page = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, disk, 0);
	pthread_create(&list, NULL, list_thread, page);
	take_next(&a.r, &a.q, &at);
	check(at.op == BLKTAP_REQ_READ, "a disk's page is asked for");
	start(&alloc, alloc_thread, minor);
	while (!is_maker_waiting())
		usleep(10000);
	start(&opener, open_thread, other);
	check(has_ended(opener.thread),
	      "ALLOC waits for it, and no other ring");
	start(&early, open_early_thread, minor);
	start(&again, alloc_thread, minor);
	serve(&at);
	start_serving();
	check(has_ended(list), "the page comes");
	check(has_ended(alloc.thread), "and ALLOC ends");
	want(alloc.result, minor, "with the wanted minor");
	check(has_ended(again.thread) && again.result == -EEXIST,
	      "its number was taken meanwhile");
	check(has_ended(early.thread), "so does who opened it early");
	want(tap_attach(early.result, 0), BLKTAP_STATE_EMPTY, "and may attach");
	stop_serving();
	close(early.result);
	close(opener.result);
	munmap(page, LEN);
	close(disk);
	check(is_gone(minor) && is_gone(other), "the minors go");
	drop_dev(&a, "and the disk");
}

/* ---- MOVE ------------------------------------------------------------------ */

struct mover {
	struct blktap_desc at;
	int fd;
	long result;
};

static void *move_thread(void *arg)
{
	struct mover *v = arg;

	v->result = move(&a, &v->at, v->fd, 0);
	return NULL;
}

/* Our request; whoever else asks for something is served. */
static void take_own(struct blktap_desc *at)
{
	for (;;) {
		take_next(&a.r, &a.q, at);
		if (at->offset == BEHIND)
			return;
		serve(at);
	}
}

/* What a move asks of the disk itself is served, so that this comes to an end. */
static void try_move(bool write, int fd, const char *name)
{
	struct mover v = { .fd = fd };
	struct io *io = start_io(a.disk, write, BEHIND, LEN);
	pthread_t t;

	take_own(&v.at);
	pthread_create(&t, NULL, move_thread, &v);
	while (pthread_tryjoin_np(t, NULL))
		if (!serve_next())
			usleep(1000);
	want(v.result, -EINVAL, name);
	serve(&v.at);
	want(end_io(io), LEN, "and it is served in another way");
}

static void test_moves_to_itself(void)
{
	int fd = open_disk(a.minor, O_RDWR);

	try_move(false, a.disk, "no READ is moved from its own disk");
	try_move(true, a.disk, "no WRITE is moved to its own disk");
	try_move(false, fd, "nor by way of its cache");
	close(fd);
}

static void test_moves_to_file(void)
{
	char command[128];
	int fd;

	snprintf(command, sizeof(command),
		 "mkfs.ext4 -q -F " DEV_DIR "/tapdev%d %dk", a.minor,
		 FS_BYTES >> 10);
	start_serving();
	must(!system(command), "mkfs.ext4");
	mkdir(MNT, 0755);
	snprintf(command, sizeof(command), DEV_DIR "/tapdev%d", a.minor);
	must(!mount(command, MNT, "ext4", 0, NULL), "mount");
	fd = open(MNT "/f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0 && pwrite(fd, memory, LEN, 0) == LEN && !fsync(fd),
	     "file");
	stop_serving();
	try_move(false, fd, "no READ is moved from a file on its own disk");
	try_move(true, fd, "no WRITE is moved to a file on its own disk");
	start_serving();
	close(fd);
	check(!umount(MNT), "its file system goes");
	stop_serving();
}

static void test_own(void)
{
	make_dev(&a, BLKTAP_FEATURES, 0);
	test_moves_to_itself();
	test_moves_to_file();
	drop_dev(&a, "the disk goes");
}

int main(void)
{
	begin_suite("wait");
	test_alloc();
	test_own();
	return failures ? 1 : 0;
}
