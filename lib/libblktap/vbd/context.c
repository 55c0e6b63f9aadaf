/* SPDX-License-Identifier: BSD-3-Clause */
/* The context: the loop, the engine, and the disks that live on them. It is begun in
 * this order and ended in the other; disks end with their frontends, which each end
 * themselves, since only they know what of theirs is under way. */
#include "vbd/private.h"

#include <blktap/modules.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "engine/engine.h"

#define DEFAULT_QUEUE_DEPTH 256u
#define MAX_POLL_US 1000u

static void set_env(struct blktap_context *context)
{
	context->env.loop = context->loop;
	context->env.engine = context->engine;
	context->env.log = &context->log;
}

static int make_loop(struct blktap_context *context, enum bt_clock clock,
		     struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];
	int rc = bt_loop_create(clock, &context->log, &context->loop);

	return rc ? bt_fail(err, rc, NULL, "event loop: %s",
			    bt_strerror(rc, text))
		  : 0;
}

static int allocate(struct blktap_context **out, struct blktap_error **err)
{
	struct blktap_context *context = calloc(1, sizeof(*context));

	if (!context)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	bt_log_init(&context->log);
	bt_list_init(&context->disks);
	bt_graphs_init(context);
	*out = context;
	return 0;
}

/* A context that was begun is destroyed by the same code as one that has lived. */
static int finish(struct blktap_context *context, int rc,
		  struct blktap_context **out)
{
	if (rc < 0) {
		blktap_context_destroy(context);
		return rc;
	}
	set_env(context);
	*out = context;
	return 0;
}

int blktap_context_create(const struct blktap_context_options *options,
			  struct blktap_context **out,
			  struct blktap_error **err)
{
	struct blktap_context_options opts = { .size = sizeof(opts) };
	struct blktap_context *context = NULL;
	int rc;

	if (options && options->size > sizeof(opts))
		return bt_fail(err, -E2BIG, "build with this library's headers",
			       "context options are of a newer version");
	if (options)
		memcpy(&opts, options, options->size);
	if (opts.poll_us > MAX_POLL_US)
		return bt_fail(err, -EINVAL, "use at most 1000 microseconds",
			       "context option poll_us is %u", opts.poll_us);
	if (!opts.queue_depth)
		opts.queue_depth = DEFAULT_QUEUE_DEPTH;
	rc = allocate(&context, err);
	if (rc < 0)
		return rc;
	rc = make_loop(context, BT_CLOCK_MONOTONIC, err);
	if (!rc)
		rc = bt_engine_create(context->loop, &context->log, opts.engine,
				      opts.queue_depth, &context->engine, err);
	if (!rc)
		bt_loop_set_poll(context->loop, opts.poll_us * 1000ull);
	return finish(context, rc, out);
}

int bt_context_create_on(enum bt_clock clock, const struct bt_backend *backend,
			 struct blktap_context **out)
{
	struct blktap_context *context = NULL;
	int rc = allocate(&context, NULL);

	if (rc < 0)
		return rc;
	rc = make_loop(context, clock, NULL);
	if (!rc)
		rc = bt_engine_create_backend(context->loop, &context->log,
					      backend, DEFAULT_QUEUE_DEPTH,
					      &context->engine, NULL);
	return finish(context, rc, out);
}

void blktap_context_set_modules(struct blktap_context *context,
				const struct blktap_modules *modules)
{
	context->modules = modules;
}

/* False where it is still there: its loop does not turn any more. */
static bool end_disk(struct blktap_context *context)
{
	struct bt_list *link = context->disks.next;
	struct blktap_disk *disk =
		bt_list_entry(link, struct blktap_disk, link);
	uintptr_t was = (uintptr_t)link;
	char text[BT_STRERROR_MAX];
	int rc;

	/* Each client takes itself off the list; the next one is looked for anew,
	 * since one may take others with it. */
	while (!bt_list_empty(&disk->clients)) {
		struct bt_list *first = disk->clients.next;
		struct bt_vbd_client *client =
			bt_list_entry(first, struct bt_vbd_client, link);

		client->shutdown(client);
		/* it is gone, as a rule; if not, it is not asked for ever */
		if (disk->clients.next == first)
			bt_list_del(first);
	}
	rc = blktap_disk_close(disk);
	if ((uintptr_t)context->disks.next != was)
		return true;
	bt_log(&context->log, BLKTAP_LOG_ERROR,
	       "%s: cannot be closed: %s; its context stays", disk->name,
	       bt_strerror(rc, text));
	return false;
}

void blktap_context_destroy(struct blktap_context *context)
{
	if (!context)
		return;
	/* its disks could not be closed, and would be tried for ever */
	if (context->loop && bt_loop_is_running(context->loop)) {
		bt_log(&context->log, BLKTAP_LOG_ERROR,
		       "a context was to be destroyed from inside a callback "
		       "of its own: it stays");
		return;
	}
	/* what the kernel may write to must not be freed */
	while (!bt_list_empty(&context->disks))
		if (!end_disk(context))
			return;
	if (context->engine)
		bt_engine_destroy(context->engine);
	if (context->loop)
		bt_loop_destroy(context->loop);
	bt_log_fini(&context->log);
	free(context);
}

const char *blktap_context_get_engine(const struct blktap_context *context)
{
	return bt_engine_name(context->engine);
}

void blktap_context_set_log(struct blktap_context *context,
			    enum blktap_log_level level, blktap_log_fn *fn,
			    void *opaque, blktap_free_fn *free_fn)
{
	bt_log_set(&context->log, level, fn, opaque, free_fn);
}

int blktap_context_get_fd(const struct blktap_context *context)
{
	return bt_loop_fd(context->loop);
}

int blktap_context_get_timeout(struct blktap_context *context)
{
	return bt_loop_timeout(context->loop);
}

int blktap_context_process(struct blktap_context *context)
{
	return bt_loop_turn(context->loop, 0);
}

int blktap_context_run(struct blktap_context *context, int timeout_ms)
{
	return bt_loop_turn(context->loop, timeout_ms);
}

void blktap_context_wake(struct blktap_context *context)
{
	bt_loop_wake(context->loop);
}

struct bt_loop *bt_context_get_loop(struct blktap_context *context)
{
	return context->loop;
}

const struct bt_log *bt_context_get_log(const struct blktap_context *context)
{
	return &context->log;
}
