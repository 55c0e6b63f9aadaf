/* SPDX-License-Identifier: BSD-3-Clause */
#include "record-calls.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *watched[RECORD_FILES];

void record_watch(uint32_t file, const char *path)
{
	watched[file] = path;
}

static struct record_op *note(int fd, int op, uint64_t offset, uint64_t length)
{
	struct record_op *out;
	struct stat a, b;
	uint32_t i;

	for (i = 0; i < RECORD_FILES; i++) {
		if (!watched[i] || stat(watched[i], &a) < 0 ||
		    fstat(fd, &b) < 0 || a.st_ino != b.st_ino ||
		    a.st_dev != b.st_dev)
			continue;
		out = record_add();
		out->file = i;
		out->op = op;
		out->offset = offset;
		out->length = length;
		return out;
	}
	return NULL;
}

ssize_t pwrite(int fd, const void *buf, size_t length, off_t offset)
{
	struct record_op *op = note(fd, BT_IO_WRITE, (uint64_t)offset, length);
	ssize_t n = syscall(SYS_pwrite64, fd, buf, length, offset);

	if (op) {
		op->data = malloc(length);
		memcpy(op->data, buf, length);
		op->completed = record_tick();
	}
	return n;
}

int ftruncate(int fd, off_t length)
{
	struct record_op *op = note(fd, RECORD_TRUNCATE, 0, (uint64_t)length);
	int rc = (int)syscall(SYS_ftruncate, fd, length);

	if (op)
		op->completed = record_tick();
	return rc;
}

/* A file that is gone has no bytes. Its directory is synced next. */
int unlink(const char *path)
{
	struct record_op *op;
	uint32_t i;

	for (i = 0; i < RECORD_FILES; i++) {
		if (!watched[i] || strcmp(watched[i], path) != 0)
			continue;
		op = record_add();
		op->file = i;
		op->op = RECORD_TRUNCATE;
		op->completed = record_tick();
		op = record_add();
		op->file = i;
		op->op = BT_IO_SYNC;
		op->completed = record_tick();
	}
	return (int)syscall(SYS_unlink, path);
}

int fdatasync(int fd)
{
	struct record_op *op = note(fd, BT_IO_SYNC, 0, 0);

	/* nothing is lost in the test itself */
	if (op)
		op->completed = record_tick();
	return 0;
}
