/* SPDX-License-Identifier: BSD-3-Clause */
/* libblktap inside libev: three watchers carry it. Reads a raw image with many
 * requests in flight, takes the completions in batches, and prints the sum of
 * its bytes, while a timer of the program's own goes on ticking.
 *
 *	cc ev.c $(pkg-config --cflags --libs blktap) -lev && ./a.out FILE */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ev.h>

#include <blktap/blktap.h>

enum { BLOCK = 65536, IN_FLIGHT = 16 };

struct job {
	unsigned char *buf;
	struct iovec iov;
};

struct app {
	struct blktap_context *context;
	struct blktap_disk *disk;
	struct job jobs[IN_FLIGHT];
	uint64_t next, length;
	unsigned int pending, ticks, paused;
	uint64_t sum;
	int error;
	ev_io readable; /* the context has work */
	ev_timer due; /* the context's timeout has come */
	ev_prepare before; /* ... which is asked for before each wait */
	ev_timer tick; /* the program's own */
};

static void start(struct app *app, struct job *job)
{
	struct blktap_io io = { .size = sizeof(io), .op = BLKTAP_OP_READ };
	int rc;

	if (app->next >= app->length || app->error)
		return;
	io.offset = app->next;
	io.length = app->length - app->next;
	if (io.length > BLOCK)
		io.length = BLOCK;
	app->next += io.length;
	job->iov.iov_base = job->buf;
	job->iov.iov_len = io.length;
	io.iov = &job->iov;
	io.iov_count = 1;
	io.opaque = job; /* no callback: blktap_disk_poll */
	rc = blktap_disk_submit(app->disk, &io);
	if (rc < 0)
		app->error = rc;
	else
		app->pending++;
}

static void take(struct app *app)
{
	struct blktap_io_result results[8];
	uint32_t n;

	while ((n = blktap_disk_poll(app->disk, results, 8)) > 0)
		for (uint32_t i = 0; i < n; i++) {
			struct job *job = results[i].opaque;

			app->pending--;
			if (results[i].error && !app->error)
				app->error = results[i].error;
			for (size_t k = 0; k < job->iov.iov_len; k++)
				app->sum += job->buf[k];
			start(app, job);
		}
}

static void end_if_done(struct ev_loop *loop, struct app *app)
{
	if (!app->pending && (app->paused == 3 || app->error))
		ev_break(loop, EVBREAK_ALL);
}

static void work(struct ev_loop *loop, struct app *app)
{
	int rc = blktap_context_process(app->context);

	if (rc < 0 && !app->error)
		app->error = rc;
	take(app);
	end_if_done(loop, app);
}

static void on_readable(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)revents;
	work(loop, w->data);
}

static void on_due(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)revents;
	work(loop, w->data);
}

static void on_before(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct app *app = w->data;
	int ms = blktap_context_get_timeout(app->context);

	(void)revents;
	ev_timer_stop(loop, &app->due);
	if (ms < 0)
		return;
	ev_timer_set(&app->due, ms / 1000., 0.);
	ev_timer_start(loop, &app->due);
}

static void on_paused(void *opaque, int error, const char *message)
{
	struct app *app = opaque;

	app->paused = 2;
	if (error) {
		fprintf(stderr, "pause: %s\n", message);
		app->error = error;
	}
}

/* Pauses the disk while it is being read, at the first tick, and lets it go on
 * at a later one: nothing fails, the reads merely wait. */
static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct app *app = w->data;
	int rc = 0;

	(void)revents;
	app->ticks++;
	if (app->paused == 0) {
		app->paused = 1;
		rc = blktap_disk_pause(app->disk, 5000, on_paused, app);
	} else if (app->paused == 2) {
		app->paused = 3;
		rc = blktap_disk_resume(app->disk, NULL, NULL);
	}
	if (rc < 0 && !app->error)
		app->error = rc;
	end_if_done(loop, app);
}

static void watch(struct ev_loop *loop, struct app *app)
{
	ev_io_init(&app->readable, on_readable,
		   blktap_context_get_fd(app->context), EV_READ);
	ev_timer_init(&app->due, on_due, 0., 0.);
	ev_prepare_init(&app->before, on_before);
	ev_timer_init(&app->tick, on_tick, 0.0005, 0.0005);
	app->readable.data = app->due.data = app;
	app->before.data = app->tick.data = app;
	ev_io_start(loop, &app->readable);
	ev_prepare_start(loop, &app->before);
	ev_timer_start(loop, &app->tick);
}

static int use(struct app *app, const char *file)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	struct ev_loop *loop = ev_default_loop(0);
	char spec[4096];
	int rc;

	snprintf(spec, sizeof(spec), "raw:%s", file);
	blktap_disk_options_init(&options);
	options.flags = BLKTAP_OPEN_READ_ONLY;
	rc = blktap_disk_open(app->context, spec, &options, &app->disk, &err);
	if (rc < 0) {
		fprintf(stderr, "%s\n", blktap_error_get_message(err));
		blktap_error_destroy(err);
		return rc;
	}
	blktap_disk_get_info(app->disk, &info);
	app->length = info.length;
	watch(loop, app);
	for (int i = 0; i < IN_FLIGHT; i++)
		start(app, &app->jobs[i]);
	ev_run(loop, 0);
	rc = blktap_disk_close(app->disk);
	ev_loop_destroy(loop);
	return app->error ? app->error : rc;
}

int main(int argc, char **argv)
{
	struct app app = { 0 };
	int rc;

	if (argc != 2)
		return EXIT_FAILURE;
	for (int i = 0; i < IN_FLIGHT; i++)
		if (posix_memalign((void **)&app.jobs[i].buf, 4096, BLOCK))
			return EXIT_FAILURE;
	rc = blktap_context_create(NULL, &app.context, NULL);
	if (!rc)
		rc = use(&app, argv[1]);
	if (rc)
		fprintf(stderr, "%s: %s\n", argv[1], strerror(-rc));
	else
		printf("%llu\n", (unsigned long long)app.sum);
	fprintf(stderr, "%u ticks, pause stage %u\n", app.ticks, app.paused);
	blktap_context_destroy(app.context);
	for (int i = 0; i < IN_FLIGHT; i++)
		free(app.jobs[i].buf);
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
