/* SPDX-License-Identifier: BSD-3-Clause */
/* Lives of disks, again and again, each time with another allocation failing. What
 * is to be refused is refused; nothing crashes, hangs or (with sanitizers, or under
 * valgrind) leaks; and a disk that is open goes on.
 *
 * What the library calls is replaced by the linker's --wrap. */
#include "unit.h"

#include <blktap/blktap.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LENGTH (4u << 20)

static uint64_t
	left; /* allocations that are granted before one fails; 0: all */
static bool failed;
static char dir[64];

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static bool refuse(void)
{
	if (!left || --left)
		return false;
	failed = true;
	errno = ENOMEM;
	return true;
}

#define WRAP(type, name, parameters, arguments)                   \
	type __real_##name parameters;                            \
	type __wrap_##name parameters;                            \
	type __wrap_##name parameters                             \
	{                                                         \
		return refuse() ? NULL : __real_##name arguments; \
	}

WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t count, size_t size), (count, size))
WRAP(void *, realloc, (void *old, size_t size), (old, size))
WRAP(void *, aligned_alloc, (size_t align, size_t size), (align, size))
WRAP(char *, strdup, (const char *text), (text))
WRAP(char *, strndup, (const char *text, size_t max), (text, max))

int __real_posix_memalign(void **out, size_t align, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size)
{
	return refuse() ? ENOMEM : __real_posix_memalign(out, align, size);
}

/* What it leaves is undefined, so it is something that cannot be freed. */
int __wrap_asprintf(char **out, const char *fmt, ...);
int __wrap_asprintf(char **out, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (refuse()) {
		*out = (char *)(uintptr_t)0x10;
		return -1;
	}
	va_start(ap, fmt);
	n = vasprintf(out, fmt, ap);
	va_end(ap);
	return n;
}

/* check(3) allocates, too, and is not to fail. */
static void must(bool holds, const char *what)
{
	if (holds)
		return;
	left = 0;
	ck_abort_msg("%s", what);
}

/* ---- a disk ---------------------------------------------------------------- */

static struct blktap_context *context;
static struct blktap_disk *disk;
static struct blktap_error *err;
static unsigned char data[LENGTH / 4];

/* A refusal may have words for it, or none were to be had. */
static int answer(int rc)
{
	blktap_error_destroy(err);
	err = NULL;
	must(!rc || failed, "refused without a reason");
	return rc;
}

struct op {
	bool done;
	int error;
};

static void op_done(void *opaque, int error)
{
	struct op *op = opaque;

	op->done = true;
	op->error = error;
}

static void paused(void *opaque, int error, const char *message)
{
	op_done(opaque, error);
}

static void wait(const struct op *op)
{
	while (!op->done)
		blktap_context_run(context, 1000);
}

static int run(enum blktap_op what, uint64_t offset, size_t length,
	       uint32_t flags)
{
	struct op op = { false, 0 };
	struct iovec iov = { data, length };
	struct blktap_io io = {
		.size = sizeof(io),
		.op = what,
		.flags = flags,
		.offset = offset,
		.length = length,
		.iov = &iov,
		.iov_count = 1,
		.callback = op_done,
		.opaque = &op,
	};
	int rc = blktap_disk_submit(disk, &io);

	if (!rc)
		wait(&op);
	return rc ? rc : op.error;
}

static void make(const char *format, const char *name, const char *base)
{
	struct blktap_image_options o;
	char path[96];

	blktap_image_options_init(&o);
	o.length = LENGTH;
	o.flags = BLKTAP_CREATE_OVERWRITE;
	o.backing = base;
	o.backing_format = base ? format : NULL;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	ck_assert_int_eq(blktap_image_create(format, path, &o, NULL), 0);
}

/* ---- what is done with it -------------------------------------------------- */

static void rest(void)
{
	struct op op = { false, 0 };

	if (answer(blktap_disk_pause(disk, 0, paused, &op)))
		return;
	wait(&op);
	if (op.error || !answer(blktap_disk_resume(disk, NULL, &err)))
		return;
	/* it is paused still, and a second try finds memory */
	must(!blktap_disk_resume(disk, NULL, NULL), "stays paused");
}

static void snapshot(void)
{
	char *path = NULL;

	answer(blktap_disk_snapshot(disk, NULL, 0, &path, &err));
	free(path);
}

static void stream(void)
{
	struct blktap_job_options o;
	struct blktap_job *job;

	blktap_job_options_init(&o);
	o.kind = BLKTAP_JOB_STREAM;
	if (answer(blktap_job_start(disk, &o, NULL, NULL, &job, &err)))
		return;
	answer(blktap_job_wait(job, -1));
	blktap_job_destroy(job);
}

static void serve(void)
{
	struct blktap_nbd_options o;
	struct blktap_nbd_server *server;
	char path[96];

	blktap_nbd_options_init(&o);
	snprintf(path, sizeof(path), "%s/socket", dir);
	o.unix_path = path;
	if (!answer(blktap_nbd_server_create(disk, &o, &server, &err)))
		blktap_nbd_server_destroy(server);
}

static void change(void)
{
	char text[256], *said = NULL;

	snprintf(text, sizeof(text),
		 "d :: disk(\"d\") -> log() -> m :: mirror() => "
		 "raw(\"%s/image\"), raw(\"%s/other\");",
		 dir, dir);
	if (!answer(blktap_mason_apply(disk, "next", text, strlen(text), NULL,
				       &said, &err)))
		free(said);
	said = NULL;
	if (blktap_mason_get_generation(disk) > 1 &&
	    !answer(blktap_mason_undo(disk, NULL, &said, &err)))
		free(said);
}

static const struct life {
	const char *format;
	bool has_base;
	void (*act)(void);
} lives[] = {
	{ "raw", false, rest },	     { "raw", false, serve },
	{ "qcow2", true, snapshot }, { "qcow", false, snapshot },
	{ "vhd", true, stream },     { "mason", false, change },
};

static void make_files(const struct life *life)
{
	char path[96];
	FILE *f;

	if (!strcmp(life->format, "mason")) {
		make("raw", "image", NULL);
		make("raw", "other", NULL);
		snprintf(path, sizeof(path), "%s/file", dir);
		f = fopen(path, "w");
		fprintf(f, "d :: disk(\"d\") -> raw(\"%s/image\");", dir);
		fclose(f);
		return;
	}
	if (life->has_base)
		make(life->format, "base", NULL);
	make(life->format, "image", life->has_base ? "base" : NULL);
}

static void live(const struct life *life)
{
	struct blktap_context_options o = { .size = sizeof(o),
					    .engine = BLKTAP_ENGINE_SYNC };
	char spec[96];

	if (answer(blktap_context_create(&o, &context, &err)))
		return;
	snprintf(spec, sizeof(spec), "%s:%s/%s", life->format, dir,
		 strcmp(life->format, "mason") ? "image" : "file");
	if (!answer(blktap_disk_open(context, spec, NULL, &disk, &err))) {
		run(BLKTAP_OP_WRITE, 513, 1000, 0);
		life->act();
		left = 0;
		memset(data, 7, sizeof(data));
		ck_assert_int_eq(run(BLKTAP_OP_WRITE, 999, 70000, BLKTAP_FUA),
				 0);
		memset(data, 0, sizeof(data));
		ck_assert_int_eq(run(BLKTAP_OP_READ, 999, 70000, 0), 0);
		ck_assert(data[0] == 7 && data[69999] == 7);
		ck_assert_int_eq(blktap_disk_close(disk), 0);
	}
	left = 0;
	blktap_context_destroy(context);
}

START_TEST(an_allocation_that_fails_is_told_of_and_harms_nothing)
{
	const struct life *life = &lives[_i];
	char command[96];
	uint64_t n = 0;

	snprintf(command, sizeof(command), "rm -rf %s/*", dir);
	do {
		left = 0;
		ck_assert_int_eq(system(command), 0);
		make_files(life);
		failed = false;
		left = ++n;
		live(life);
	} while (failed);
	ck_assert_uint_gt(n, 10);
	if (__lsan_do_recoverable_leak_check)
		ck_assert_int_eq(__lsan_do_recoverable_leak_check(), 0);
}
END_TEST

static void setup(void)
{
	snprintf(dir, sizeof(dir), "%s/blktap-memory-XXXXXX",
		 access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

int main(void)
{
	Suite *suite = suite_create("memory");
	TCase *tc = tcase_create("memory");

	tcase_set_timeout(tc, 300);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(
		tc, an_allocation_that_fails_is_told_of_and_harms_nothing, 0,
		(int)(sizeof(lives) / sizeof(lives[0])));
	suite_add_tcase(suite, tc);
	return unit_run(suite);
}
