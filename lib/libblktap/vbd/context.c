/* SPDX-License-Identifier: BSD-3-Clause */
/* The context: the loop, the engine, and the disks that live on them. */
#include "vbd/private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "engine/engine.h"

#define DEFAULT_QUEUE_DEPTH 256u

static int init(struct blktap_context *context,
		const struct blktap_context_options *options,
		struct blktap_error **err)
{
	uint32_t depth = options->queue_depth;
	int rc = bt_loop_create(BT_CLOCK_MONOTONIC, &context->log,
				&context->loop);

	if (rc < 0) {
		char text[BT_STRERROR_MAX];

		return bt_fail(err, rc, NULL, "event loop: %s",
			       bt_strerror(rc, text));
	}
	rc = bt_engine_create(context->loop, &context->log, options->engine,
			      depth ? depth : DEFAULT_QUEUE_DEPTH,
			      &context->engine, err);
	if (rc < 0)
		return rc;
	context->env.loop = context->loop;
	context->env.engine = context->engine;
	context->env.log = &context->log;
	return 0;
}

int blktap_context_create(const struct blktap_context_options *options,
			  struct blktap_context **out,
			  struct blktap_error **err)
{
	struct blktap_context_options opts = { .size = sizeof(opts) };
	struct blktap_context *context;
	int rc;

	if (options && options->size > sizeof(opts))
		return bt_fail(err, -E2BIG, "build with this library's headers",
			       "context options are of a newer version");
	if (options)
		memcpy(&opts, options, options->size);
	context = calloc(1, sizeof(*context));
	if (!context)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	bt_log_init(&context->log);
	bt_list_init(&context->disks);
	rc = init(context, &opts, err);
	if (rc < 0) {
		blktap_context_destroy(context);
		return rc;
	}
	*out = context;
	return 0;
}

static void end_disk(struct blktap_disk *disk)
{
	while (!bt_list_empty(&disk->clients)) {
		struct bt_vbd_client *client = bt_list_first(
			&disk->clients, struct bt_vbd_client, link);

		client->shutdown(client);
	}
	blktap_disk_close(disk);
}

void blktap_context_destroy(struct blktap_context *context)
{
	if (!context)
		return;
	while (!bt_list_empty(&context->disks))
		end_disk(bt_list_first(&context->disks, struct blktap_disk,
				       link));
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
