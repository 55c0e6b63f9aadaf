/* SPDX-License-Identifier: BSD-3-Clause */
#include "record-names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unit.h"

#define OPS 512u
#define NAMES 8u /* at one time */

struct name_op {
	char from[64], to[64]; /* from "": a file comes; to "": one goes */
	bool link; /* from stays */
	bool sync; /* of the directory */
	uint32_t file; /* that comes */
	uint64_t submitted, completed;
};

struct name {
	char name[64];
	uint32_t file;
};

static const char *directory, *part_of_name;
static struct {
	uint32_t skip, times;
	int error;
} fault;
static struct name_op ops[OPS];
static uint32_t count, files;
static ino_t inodes[OPS]; /* of files */

void names_watch(const char *dir, const char *part)
{
	directory = dir;
	part_of_name = part;
}

void names_fail_sync(uint32_t skip, uint32_t times, int error)
{
	fault.skip = skip;
	fault.times = times;
	fault.error = error;
}

void names_reset(void)
{
	count = files = 0;
	memset(&fault, 0, sizeof(fault));
	directory = NULL;
}

/* The name in the directory that counts, or NULL. */
static const char *last_of(const char *path)
{
	size_t n = directory ? strlen(directory) : 0;

	if (!directory || strncmp(path, directory, n) || path[n] != '/' ||
	    !strstr(path + n, part_of_name))
		return NULL;
	return path + n + 1;
}

static struct name_op *note(const char *from, const char *to)
{
	struct name_op *op = &ops[count++];

	ck_assert_uint_lt(count, OPS);
	memset(op, 0, sizeof(*op));
	op->submitted = record_tick();
	snprintf(op->from, sizeof(op->from), "%s", from);
	snprintf(op->to, sizeof(op->to), "%s", to);
	return op;
}

static bool get_path(int fd, char *path, size_t size)
{
	char self[64];
	ssize_t n;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	n = directory ? readlink(self, path, size - 1) : -1;
	if (n >= 0)
		path[n] = '\0';
	return n >= 0;
}

/* What begins at its first byte is a new file. */
static uint32_t file_of(int fd, bool may_begin, const char *name)
{
	struct name_op *op;
	struct stat st;
	uint32_t i;

	ck_assert_int_eq(fstat(fd, &st), 0);
	for (i = files; i-- > 0;)
		if (inodes[i] == st.st_ino &&
		    !(may_begin && lseek(fd, 0, SEEK_CUR) == 0))
			return NAMES_FIRST + i;
	inodes[files] = st.st_ino;
	op = note("", name);
	op->file = NAMES_FIRST + files++;
	op->completed = record_tick();
	return op->file;
}

ssize_t write(int fd, const void *buf, size_t length)
{
	struct record_op *op = NULL;
	char path[256];
	const char *name = NULL;
	uint32_t file;
	ssize_t n;

	if (get_path(fd, path, sizeof(path)))
		name = last_of(path);
	if (name) {
		file = file_of(fd, true, name);
		op = record_add();
		op->file = file;
		op->op = BT_IO_WRITE;
		op->offset = (uint64_t)lseek(fd, 0, SEEK_CUR);
		op->length = length;
		op->data = malloc(length);
		memcpy(op->data, buf, length);
	}
	n = syscall(SYS_write, fd, buf, length);
	if (op)
		op->completed = record_tick();
	return n;
}

static int sync_directory(void)
{
	struct name_op *op;

	if (fault.times && !fault.skip) {
		fault.times--;
		errno = fault.error;
		return -1;
	}
	fault.skip -= fault.skip != 0;
	op = note("", "");
	op->sync = true;
	op->completed = record_tick();
	return 0;
}

int fsync(int fd)
{
	struct record_op *op;
	char path[256];

	if (!get_path(fd, path, sizeof(path)))
		return (int)syscall(SYS_fsync, fd);
	if (!strcmp(path, directory))
		return sync_directory();
	if (last_of(path)) {
		op = record_add();
		op->file = file_of(fd, false, last_of(path));
		op->op = BT_IO_SYNC;
		op->completed = record_tick();
	}
	return 0;
}

int rename(const char *from, const char *to)
{
	struct name_op *op = NULL;
	int rc;

	if (last_of(from))
		op = note(last_of(from), last_of(to));
	rc = (int)syscall(SYS_rename, from, to);
	if (op && rc)
		count--;
	else if (op)
		op->completed = record_tick();
	return rc;
}

int link(const char *from, const char *to)
{
	struct name_op *op = NULL;
	int rc = (int)syscall(SYS_link, from, to);

	if (!rc && last_of(from)) {
		op = note(last_of(from), last_of(to));
		op->link = true;
		op->completed = record_tick();
	}
	return rc;
}

int unlink(const char *path)
{
	int rc = (int)syscall(SYS_unlink, path);

	if (!rc && last_of(path))
		note(last_of(path), "")->completed = record_tick();
	return rc;
}

/* ---- the cut -------------------------------------------------------------- */

static struct name *find(struct name *names, const char *name)
{
	uint32_t i;

	for (i = 0; i < NAMES; i++)
		if (!strcmp(names[i].name, name))
			return &names[i];
	return NULL;
}

/* What stands on a name that another cut lost does not happen. */
static void perform(struct name *names, const struct name_op *op)
{
	struct name *from = *op->from ? find(names, op->from) : NULL;
	uint32_t file = from ? from->file : op->file;
	struct name *to;

	if (op->sync || (*op->from && !from))
		return;
	if (from && !op->link)
		*from->name = '\0';
	if (!*op->to)
		return;
	to = find(names, op->to);
	if (!to)
		to = find(names, "");
	ck_assert_ptr_nonnull(to);
	memcpy(to->name, op->to, sizeof(to->name));
	to->file = file;
}

static uint64_t last_sync(uint64_t at)
{
	uint64_t last = 0;
	uint32_t i;

	for (i = 0; i < count; i++)
		if (ops[i].sync && ops[i].completed <= at)
			last = ops[i].submitted;
	return last;
}

static void find_names(struct name *names, uint64_t at, enum record_model model,
		       uint64_t (*random)(void))
{
	uint64_t synced = last_sync(at), spared = random() % 3;
	uint32_t i;

	for (i = 0; i < count && ops[i].submitted <= at; i++) {
		bool durable = ops[i].completed < synced;
		bool is_spared = model == RECORD_ALL ||
				 (model == RECORD_SOME && random() % 2) ||
				 (model == RECORD_TORN && spared);

		if (!durable && spared)
			spared--;
		if (durable || is_spared)
			perform(names, &ops[i]);
	}
}

static void put(const char *dir, const char *name, const unsigned char *bytes,
		uint64_t size)
{
	char path[1024];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(syscall(SYS_write, fd, bytes, size), (ssize_t)size);
	close(fd);
}

void names_cut(const char *dir, uint64_t at, enum record_model model,
	       uint64_t (*random)(void))
{
	static unsigned char bytes[NAMES_BYTES];
	struct name names[NAMES];
	char path[1024];
	uint64_t size;
	uint32_t i;

	memset(names, 0, sizeof(names));
	find_names(names, at, model, random);
	for (i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, ops[i].to);
		if (*ops[i].to)
			syscall(SYS_unlink, path);
	}
	for (i = 0; i < NAMES; i++) {
		if (!*names[i].name)
			continue;
		size = record_cut_file(names[i].file, at, model, random, bytes,
				       0, sizeof(bytes));
		put(dir, names[i].name, bytes, size);
	}
}
