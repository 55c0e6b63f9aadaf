/* SPDX-License-Identifier: BSD-3-Clause */
/* libblktap inside a program that waits in poll(2): fills a raw image, reads it
 * back, and keeps looking at a descriptor of its own meanwhile.
 *
 *	cc poll.c $(pkg-config --cflags --libs blktap) && ./a.out FILE */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blktap/blktap.h>

enum { BLOCK = 4096, IN_FLIGHT = 32 };

struct job {
	struct app *app;
	unsigned char *buf;
	struct iovec iov;
	uint64_t offset;
};

struct app {
	struct blktap_context *context;
	struct blktap_disk *disk;
	struct job jobs[IN_FLIGHT];
	enum blktap_op op;
	uint64_t next, length; /* of the disk */
	unsigned int pending, ticks;
	int error;
};

static void fill(unsigned char *buf, uint64_t offset)
{
	for (int i = 0; i < BLOCK; i++)
		buf[i] = (unsigned char)(offset / BLOCK * 7 + (uint64_t)i);
}

static int check(const unsigned char *buf, uint64_t offset)
{
	unsigned char want[BLOCK];

	fill(want, offset);
	return memcmp(buf, want, BLOCK) ? -EILSEQ : 0;
}

static void done(void *opaque, int error);

/* Sends job to the next block, if there is one. */
static void start(struct job *job)
{
	struct app *app = job->app;
	struct blktap_io io = { .size = sizeof(io), .op = app->op };
	int rc;

	if (app->next >= app->length || app->error)
		return;
	job->offset = app->next;
	app->next += BLOCK;
	if (app->op == BLKTAP_OP_WRITE)
		fill(job->buf, job->offset);
	job->iov.iov_base = job->buf;
	job->iov.iov_len = BLOCK;
	io.offset = job->offset;
	io.length = BLOCK;
	io.iov = &job->iov;
	io.iov_count = 1;
	io.callback = done;
	io.opaque = job;
	rc = blktap_disk_submit(app->disk, &io);
	if (rc < 0)
		app->error = rc;
	else
		app->pending++;
}

static void done(void *opaque, int error)
{
	struct job *job = opaque;
	struct app *app = job->app;

	app->pending--;
	if (!error && app->op == BLKTAP_OP_READ)
		error = check(job->buf, job->offset);
	if (error && !app->error)
		app->error = error;
	start(job);
}

/* The program's own loop: one descriptor is its own, the other the library's.
 */
static int run(struct app *app, int own_fd)
{
	struct pollfd fds[2] = { { .fd = own_fd, .events = POLLIN },
				 { .events = POLLIN } };
	char c;

	fds[1].fd = blktap_context_get_fd(app->context);
	while (app->pending) {
		if (poll(fds, 2, blktap_context_get_timeout(app->context)) <
			    0 &&
		    errno != EINTR)
			return -errno;
		if (fds[0].revents & POLLIN && read(own_fd, &c, 1) == 1)
			app->ticks++;
		int rc = blktap_context_process(app->context);
		if (rc < 0)
			return rc;
	}
	return app->error;
}

static int pass(struct app *app, enum blktap_op op, int own_fd)
{
	app->op = op;
	app->next = 0;
	for (int i = 0; i < IN_FLIGHT; i++)
		start(&app->jobs[i]);
	return run(app, own_fd);
}

static void flushed(void *opaque, int error)
{
	struct app *app = opaque;

	app->pending--;
	app->error = error;
}

static int flush(struct app *app, int own_fd)
{
	struct blktap_io io = { .size = sizeof(io),
				.op = BLKTAP_OP_FLUSH,
				.callback = flushed,
				.opaque = app };
	int rc = blktap_disk_submit(app->disk, &io);

	if (rc < 0)
		return rc;
	app->pending++;
	return run(app, own_fd);
}

static int explain(const char *what, int rc, struct blktap_error *err)
{
	fprintf(stderr, "%s: %s\n", what,
		err ? blktap_error_get_message(err) : strerror(-rc));
	if (err && *blktap_error_get_hint(err))
		fprintf(stderr, "hint: %s\n", blktap_error_get_hint(err));
	blktap_error_destroy(err);
	return rc;
}

static int use(struct app *app, const char *spec, int own_fd)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct blktap_error *err = NULL;
	int rc, closed;

	rc = blktap_disk_open(app->context, spec, NULL, &app->disk, &err);
	if (rc < 0)
		return explain("open", rc, err);
	blktap_disk_get_info(app->disk, &info);
	app->length = info.length / BLOCK * BLOCK;
	rc = pass(app, BLKTAP_OP_WRITE, own_fd);
	if (!rc)
		rc = flush(app, own_fd);
	if (!rc)
		rc = pass(app, BLKTAP_OP_READ, own_fd);
	closed = blktap_disk_close(app->disk);
	if (!rc)
		rc = closed;
	return rc ? explain("disk", rc, NULL) : 0;
}

int main(int argc, char **argv)
{
	struct app app = { 0 };
	struct blktap_error *err = NULL;
	char spec[4096];
	int ends[2], rc;

	if (argc != 2 || pipe(ends) || write(ends[1], "!", 1) != 1)
		return EXIT_FAILURE;
	snprintf(spec, sizeof(spec), "raw:%s", argv[1]);
	for (int i = 0; i < IN_FLIGHT; i++) {
		app.jobs[i].app = &app;
		if (posix_memalign((void **)&app.jobs[i].buf, BLOCK, BLOCK))
			return EXIT_FAILURE;
	}
	rc = blktap_context_create(NULL, &app.context, &err);
	if (rc < 0) {
		explain("context", rc, err);
		return EXIT_FAILURE;
	}
	rc = use(&app, spec, ends[0]);
	if (!rc)
		printf("libblktap %s, %s: %llu bytes written and read back, "
		       "%u ticks\n",
		       blktap_version(), blktap_context_get_engine(app.context),
		       (unsigned long long)app.length, app.ticks);
	blktap_context_destroy(app.context);
	for (int i = 0; i < IN_FLIGHT; i++)
		free(app.jobs[i].buf);
	close(ends[0]);
	close(ends[1]);
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
