/* SPDX-License-Identifier: BSD-3-Clause */
/* A copy from beginning to end: both disks are opened, the engine copies, and
 * the target gets its name. Until then it is called TARGET.part-PID and goes
 * with any failure; only kill -9 or a crash leaves it. */
#include "convert.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "work.h"

#define TICK_MS 200
#define CACHED_CHUNK (256u << 10)
#define CACHED_DEPTH 4u
#define SAMPLES 64
#define CACHED (BLKTAP_OPEN_BUFFERED | BLKTAP_OPEN_STREAM)

struct job {
	const struct args *args;
	const struct convert *convert;
	struct blktap_context *context;
	struct blktap_disk *source;
	struct blktap_disk *target;
	struct blktap_disk *replaced; /* holds the lock of what goes, or NULL */
	struct blktap_copy *copy;
	char *temporary; /* the target's name until it is whole; or NULL */
	FILE *progress;
	bool bar; /* for people, on a terminal */
	unsigned int shown; /* per cent */
	bool cached; /* the source is in memory */
	bool done;
	int error;
	char message[300];
};

/* 1 is the exit status; who needs the errno gets it by convert->error. */
static int failed(struct job *job, int rc)
{
	if (job->convert->error)
		*job->convert->error = -rc;
	return 1;
}

static int say(struct job *job, const char *object, int rc,
	       struct blktap_error *err)
{
	failed(job, rc);
	report(job->args, object, rc, err);
	return 1;
}

/* ---- opening -------------------------------------------------------------- */

/* Whether a page of the file is in memory; what it is asked for is data. */
static bool page_is_cached(int fd, off_t at, off_t page)
{
	off_t data = lseek(fd, at, SEEK_DATA);
	unsigned char there = 0;
	void *map;

	if (data < 0)
		return false;
	map = mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, fd,
		   data - data % page);
	if (map == MAP_FAILED)
		return false;
	if (mincore(map, (size_t)page, &there) < 0)
		there = 0;
	munmap(map, (size_t)page);
	return there & 1;
}

/* Whether most of the source is in memory: then reading it from the disk would
 * be slower, and otherwise reading it through the page cache. */
static bool is_cached(const char *path)
{
	off_t page = sysconf(_SC_PAGESIZE), size;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int i, cached = 0;

	if (fd < 0)
		return false;
	size = lseek(fd, 0, SEEK_END);
	for (i = 0; i < SAMPLES && size > 0; i++)
		cached += page_is_cached(fd, size / SAMPLES * i, page);
	close(fd);
	return cached > SAMPLES / 2;
}

/* As the library reads a string of a spec. */
static void put_quoted(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putc('\\', out);
		putc(*text, out);
	}
	putc('"', out);
}

/* NULL where there is no memory. With a key the spec has parameters, and the
 * path must be quoted. */
static char *make_spec(const char *format, const char *path, const char *key)
{
	char *spec = NULL;
	size_t size;
	FILE *out = open_memstream(&spec, &size);

	if (!out)
		return NULL;
	fprintf(out, "%s%s", format, key ? "(" : ":");
	if (key) {
		put_quoted(out, path);
		fputs(", key=", out);
		put_quoted(out, key);
		putc(')', out);
	} else {
		fputs(path, out);
	}
	if (fclose(out)) {
		free(spec);
		return NULL;
	}
	return spec;
}

static int open_disk(struct job *job, const char *format, const char *path,
		     const char *key, uint32_t flags, struct blktap_disk **out)
{
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	char *spec = make_spec(format, path, key);
	int rc;

	blktap_disk_options_init(&options);
	options.flags = flags;
	options.name = path;
	if (!spec)
		return say(job, path, -ENOMEM, NULL);
	rc = blktap_disk_open(job->context, spec, &options, out, &err);
	free(spec);
	return rc ? say(job, path, rc, err) : 0;
}

static int refuse_target(struct job *job, int rc, const char *cause,
			 const char *hint)
{
	fprintf(stderr, "%s: cannot %s %s: %s (%s)\nhint: %s\n",
		job->args->program, get_deed(job->args), job->convert->target,
		cause, strerrorname_np(-rc), hint);
	return failed(job, rc);
}

/* 0 where the target may be made, and whether it is a device. Looked at before
 * anything is made. A file that appears later is seen by put_in_place, which
 * then refuses. */
static int look_at_target(struct job *job, bool *is_device)
{
	const struct convert *c = job->convert;
	struct stat to;

	*is_device = false;
	if (stat(c->target, &to) < 0)
		return errno == ENOENT ? 0 : say(job, c->target, -errno, NULL);
	if (same_file(c->source, c->target))
		return refuse_target(job, -EINVAL, "it is the source",
				     "give the copy another name");
	*is_device = S_ISBLK(to.st_mode);
	if (!*is_device && !S_ISREG(to.st_mode))
		return refuse_target(job, -EINVAL,
				     "it is neither a file nor a block device",
				     "choose another name");
	/* what is on a device has no name that could be given at the end */
	if (*is_device && strcmp(c->target_format, "raw"))
		return refuse_target(job, -EINVAL,
				     "an image is made in a file, and this is "
				     "a block device",
				     "make a file, or copy onto the device "
				     "with qcow2raw");
	if (c->overwrite)
		return 0;
	return refuse_target(job, -EEXIST, "it is there already",
			     c->may_force ? "choose another name, or --force "
					    "to replace it"
					  : "choose another name");
}

/* What --force replaces is locked until it has gone: a disk that runs on it would
 * go on without a name. One that cannot be opened is not known to be in use, and
 * whether it may go is for the rename to say. */
static int lock_replaced(struct job *job)
{
	const char *target = job->convert->target;
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	char *spec;
	int rc;

	if (!job->convert->overwrite || access(target, F_OK))
		return 0;
	spec = make_spec("raw", target, NULL);
	if (!spec)
		return say(job, target, -ENOMEM, NULL);
	blktap_disk_options_init(&options);
	options.flags = CACHED;
	rc = blktap_disk_open(job->context, spec, &options, &job->replaced,
			      &err);
	free(spec);
	if (rc == -EBUSY)
		return say(job, target, rc, err);
	blktap_error_destroy(err);
	return 0;
}

/* What has a device open for itself (a mount, a volume group) would find other data
 * under it. Looked at and let go: who keeps it so keeps our own zeroing away, too. */
static int look_at_device(struct job *job)
{
	const char *target = job->convert->target;
	int fd = open(target, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (errno != EBUSY)
		return 0; /* opening it tells */
	return refuse_target(job, -EBUSY,
			     "it is mounted, or in use by another program",
			     "unmount it, or take it out of its volume group");
}

/* What is copied must fit: the new image is as large as the source where no
 * length is given. */
static int create_target(struct job *job)
{
	const struct convert *c = job->convert;
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct blktap_image_options options = *c->create;
	struct blktap_error *err = NULL;
	int rc;

	blktap_disk_get_info(job->source, &info);
	if (!options.length)
		options.length = info.length;
	if (asprintf(&job->temporary, "%s.part-%d", c->target, (int)getpid()) <
	    0) {
		job->temporary = NULL;
		return say(job, c->target, -ENOMEM, NULL);
	}
	rc = blktap_image_create(c->target_format, job->temporary, &options,
				 &err);
	if (!rc && c->prepare)
		rc = c->prepare(c->opaque, job->temporary, &err);
	if (!rc)
		return 0;
	if (c->prepare)
		unlink(job->temporary);
	free(job->temporary);
	job->temporary = NULL;
	return say(job, c->target, rc, err);
}

/* The source comes first: a mistake in its name must not leave a target. */
static int open_all(struct job *job, bool *is_device)
{
	const struct convert *c = job->convert;
	struct blktap_error *err = NULL;
	int rc = look_at_target(job, is_device);

	if (rc)
		return rc;
	rc = blktap_context_create(NULL, &job->context, &err);
	if (rc)
		return say(job, NULL, rc, err);
	job->cached = is_cached(c->source);
	rc = open_disk(job, c->source_format, c->source, c->source_key,
		       BLKTAP_OPEN_READ_ONLY | (job->cached ? CACHED : 0),
		       &job->source);
	if (!rc)
		rc = *is_device ? look_at_device(job) : lock_replaced(job);
	if (!rc && !*is_device)
		rc = create_target(job);
	if (!rc)
		rc = open_disk(job, *is_device ? "raw" : c->target_format,
			       job->temporary ? job->temporary : c->target,
			       c->target_key, CACHED, &job->target);
	return rc;
}

/* ---- progress ------------------------------------------------------------- */

/* No word: a bar where people look. "--progress" with a descriptor: lines
 * there. */
static int open_progress(struct job *job)
{
	const char *to = job->convert->progress;
	char *end;
	long fd;

	job->bar = !to && isatty(STDERR_FILENO);
	job->progress = stderr;
	if (!to || !*to)
		return 0;
	errno = 0;
	fd = strtol(to, &end, 10);
	job->progress = !errno && !*end && fd >= 0 && fd < 65536
				? fdopen((int)fd, "w")
				: NULL;
	if (job->progress)
		return 0;
	return misuse(job->args, NULL, "--progress '%s' is no open descriptor",
		      to);
}

/* Said when the number changes, at the end, and when somebody asked (SIGUSR1).
 */
static void show(struct job *job, bool last)
{
	struct blktap_copy_progress p = { .size = sizeof(p) };
	bool asked = work_is_asked();
	unsigned int percent;

	if (!job->copy)
		return;
	blktap_copy_get_progress(job->copy, &p);
	percent = p.total ? (unsigned int)(p.done * 100 / p.total) : 100;
	if (percent == job->shown && !last && !asked)
		return;
	job->shown = percent;
	if (job->bar) {
		fprintf(stderr, "\r%3u %%  %llu of %llu MiB%s", percent,
			(unsigned long long)(p.done >> 20),
			(unsigned long long)(p.total >> 20), last ? "\n" : "");
	} else if (job->convert->progress) {
		fprintf(job->progress, "%u/100\n", percent);
		fflush(job->progress);
	}
	if (asked) {
		fprintf(stderr, "%u %% done, %llu of %llu bytes\n", percent,
			(unsigned long long)p.done,
			(unsigned long long)p.total);
	}
}

/* ---- the copy ------------------------------------------------------------- */

/* Called in the loop. Only marks are left: the copy is destroyed by
 * convert_run, which still reads its progress. */
static void copied(void *opaque, int error, const char *message)
{
	struct job *job = opaque;

	job->done = true;
	job->error = error;
	snprintf(job->message, sizeof(job->message), "%s", message);
}

static int copy(struct job *job, bool is_device)
{
	struct blktap_copy_options options;
	struct blktap_error *err = NULL;
	int rc;

	blktap_copy_options_init(&options);
	if (job->cached) { /* what the processor's cache holds */
		options.chunk = CACHED_CHUNK;
		options.depth = CACHED_DEPTH;
	}
	if (!is_device)
		/* a new image reads as zeroes; a device has what was on it */
		options.flags = BLKTAP_COPY_TARGET_IS_ZERO;
	rc = blktap_copy_start(job->source, job->target, &options, copied, job,
			       &job->copy, &err);
	if (rc)
		return say(job, job->convert->target, rc, err);
	while (!job->done) {
		if (work_is_over())
			blktap_copy_cancel(job->copy);
		rc = blktap_context_run(job->context, TICK_MS);
		if (rc < 0)
			return say(job, job->convert->target, rc, NULL);
		show(job, false);
	}
	show(job, true);
	if (!job->error)
		return 0;
	fprintf(stderr, "%s: cannot %s %s: %s (%s)\n", job->args->program,
		get_deed(job->args), job->convert->target, job->message,
		strerrorname_np(-job->error));
	return failed(job, job->error);
}

/* The whole image gets its name, on disk. The target was closed, and so
 * flushed, before: the name never stands for half an image after a crash.
 * Without --force a file that came meanwhile is not replaced. */
static int put_in_place(struct job *job)
{
	const char *target = job->convert->target;
	const char *slash = strrchr(target, '/');
	unsigned int flags = job->convert->overwrite ? 0 : RENAME_NOREPLACE;
	char dir[4096];
	int fd, rc;

	rc = renameat2(AT_FDCWD, job->temporary, AT_FDCWD, target, flags);
	if (rc < 0 && errno == EINVAL) /* not every file system knows flags */
		rc = link(job->temporary, target);
	if (rc < 0)
		return say(job, target, -errno, NULL);
	unlink(job->temporary); /* what link left */
	free(job->temporary);
	job->temporary = NULL;
	snprintf(dir, sizeof(dir), "%.*s",
		 slash ? (int)(slash - target + 1) : 1, slash ? target : ".");
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd < 0 || (fsync(fd) < 0 && errno != EINVAL) ? -errno : 0;
	if (fd >= 0)
		close(fd);
	return rc ? say(job, target, rc, NULL) : 0;
}

/* The order matters: what the close of the target finds wrong decides whether
 * the target gets its name. */
static int close_all(struct job *job, int status)
{
	int rc;

	rc = blktap_disk_close(job->target);
	if (rc && !status)
		status = say(job, job->convert->target, rc, NULL);
	blktap_disk_close(job->source);
	if (!status && job->temporary)
		status = put_in_place(job);
	blktap_disk_close(job->replaced);
	if (job->temporary)
		unlink(job->temporary);
	free(job->temporary);
	return status;
}

static void put_summary(struct job *job, double seconds)
{
	const struct convert *c = job->convert;
	struct blktap_copy_progress p = { .size = sizeof(p) };

	blktap_copy_get_progress(job->copy, &p);
	printf("{\"source\":");
	put_json_string(stdout, c->source);
	printf(",\"target\":");
	put_json_string(stdout, c->target);
	printf(",\"format\":");
	put_json_string(stdout, c->target_format);
	printf(",\"bytes\":%llu,\"data\":%llu,\"seconds\":%.3f}\n",
	       (unsigned long long)p.total, (unsigned long long)p.data,
	       seconds);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int convert_run(const struct args *args, const struct convert *convert)
{
	struct job job = { .args = args, .convert = convert };
	double began = now();
	bool is_device = false;
	int status;

	work_catch_signals();
	status = open_progress(&job);
	if (!status)
		status = open_all(&job, &is_device);
	if (!status)
		status = copy(&job, is_device);
	status = close_all(&job, status);
	if (!status && convert->json)
		put_summary(&job, now() - began);
	blktap_copy_destroy(job.copy);
	blktap_context_destroy(job.context);
	return work_status(status);
}

int parse_bytes(const char *text, uint64_t unit, uint64_t *out)
{
	static const char suffixes[] = "kMGTP";
	unsigned long long n;
	const char *suffix;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9')
		return -EINVAL;
	if (errno)
		return -ERANGE;
	if (*end) {
		suffix = strchr(suffixes, *end == 'K' ? 'k' : *end);
		if (!suffix || end[1])
			return -EINVAL;
		unit = 1ull << 10 * (suffix - suffixes + 1);
	}
	return __builtin_mul_overflow(n, unit, out) ? -ERANGE : 0;
}
