/* SPDX-License-Identifier: BSD-3-Clause */
/* A copy's life: checked, started, watched, ended. What it does meanwhile is in
 * copy-lanes.c. */
#include "vbd/copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "util/options.h"

#define DEFAULT_DEPTH 16u
#define MAX_DEPTH 64u
#define DEFAULT_CHUNK (1u << 20)
#define MAX_CHUNK (32u << 20)

static struct bt_loop *loop_of(const struct blktap_copy *copy)
{
	return copy->source->context->loop;
}

void blktap_copy_options_init_sized(struct blktap_copy_options *options,
				    size_t size)
{
	struct blktap_copy_options all = { .size = size };

	bt_options_fill(options, size, &all, sizeof(all));
}

static void rate_due(struct bt_timer *timer)
{
	bt_copy_go_on(bt_container_of(timer, struct blktap_copy, rate_timer));
}

static void full_due(struct bt_timer *timer)
{
	bt_copy_go_on(bt_container_of(timer, struct blktap_copy, full_timer));
}

static void begin(struct bt_work *work)
{
	bt_copy_go_on(bt_container_of(work, struct blktap_copy, begin));
}

/* ---- life ----------------------------------------------------------------- */

/* Fills in what was left out, and checks against both disks as they are now. */
static int check(struct blktap_copy *copy, struct blktap_error **err)
{
	struct blktap_copy_options *o = &copy->options;
	uint64_t source = copy->source->limits.size;

	if (!o->depth)
		o->depth = DEFAULT_DEPTH;
	if (!o->chunk)
		o->chunk = DEFAULT_CHUNK;
	if (o->depth > MAX_DEPTH || o->chunk > MAX_CHUNK || o->chunk < 512 ||
	    !bt_is_pow2(o->chunk))
		return bt_fail(err, -EINVAL,
			       "at most 64 chunks of at most 32 MiB",
			       "copy: depth %u, chunk %u", o->depth, o->chunk);
	if (o->offset > source)
		return bt_fail(err, -EINVAL, NULL,
			       "copy: begins after the end of the source");
	if (!o->length)
		o->length = source - o->offset;
	if (!bt_range_within(o->offset, o->length, source))
		return bt_fail(err, -EINVAL, NULL,
			       "copy: ends after the end of the source");
	if (copy->target->limits.read_only)
		return bt_fail(err, -EROFS, NULL, "%s: is read-only",
			       copy->target->name);
	if (o->offset + o->length > copy->target->limits.size)
		return bt_fail(err, -ENOSPC, "make the target as large",
			       "%s: has %llu bytes, %llu are needed",
			       copy->target->name,
			       (unsigned long long)copy->target->limits.size,
			       (unsigned long long)(o->offset + o->length));
	/* An nbd target that lost its server answers well again later: see
	 * check_losses. */
	copy->losses = bt_port_losses(&copy->target->top);
	copy->next = o->offset;
	copy->end = o->offset + o->length;
	return 0;
}

static int make_lanes(struct blktap_copy *copy)
{
	uint32_t i;

	copy->lanes = calloc(copy->options.depth, sizeof(*copy->lanes));
	if (!copy->lanes)
		return -ENOMEM;
	for (i = 0; i < copy->options.depth; i++) {
		struct bt_copy_lane *lane = &copy->lanes[i];

		lane->copy = copy;
		if (posix_memalign((void **)&lane->buffer, 4096,
				   copy->options.chunk))
			return -ENOMEM;
		bt_list_add_tail(&copy->idle, &lane->link);
	}
	return 0;
}

static void free_copy(struct blktap_copy *copy)
{
	uint32_t i;

	for (i = 0; copy->lanes && i < copy->options.depth; i++)
		free(copy->lanes[i].buffer);
	free(copy->lanes);
	free(copy);
}

int blktap_copy_start(struct blktap_disk *source, struct blktap_disk *target,
		      const struct blktap_copy_options *options,
		      blktap_copy_fn *fn, void *opaque,
		      struct blktap_copy **out, struct blktap_error **err)
{
	struct blktap_copy *copy;
	int rc;

	if (options && options->size > sizeof(*options))
		return bt_fail(err, -E2BIG, "build with this library's headers",
			       "copy options are of a newer version");
	copy = calloc(1, sizeof(*copy));
	if (!copy)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (options)
		memcpy(&copy->options, options, options->size);
	copy->source = source;
	copy->target = target;
	copy->fn = fn;
	copy->opaque = opaque;
	bt_list_init(&copy->idle);
	bt_list_init(&copy->full);
	bt_timer_init(&copy->full_timer, full_due);
	bt_timer_init(&copy->rate_timer, rate_due);
	bt_work_init(&copy->begin, begin);
	rc = check(copy, err);
	if (!rc && make_lanes(copy) < 0)
		rc = bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (rc < 0) {
		free_copy(copy);
		return rc;
	}
	bt_loop_defer(loop_of(copy), &copy->begin);
	*out = copy;
	return 0;
}

void blktap_copy_get_progress(const struct blktap_copy *copy,
			      struct blktap_copy_progress *progress)
{
	struct blktap_copy_progress full = {
		.size = progress->size,
		.total = copy->options.length,
		.done = copy->done,
		.data = copy->data,
		.finished = copy->finished,
	};

	if (full.size > sizeof(full))
		full.size = sizeof(full);
	memcpy(progress, &full, full.size);
}

void blktap_copy_set_rate(struct blktap_copy *copy, uint64_t rate)
{
	copy->options.rate = rate;
	copy->free_at_ns = 0;
	if (copy->rate_timer.loop) {
		bt_timer_cancel(&copy->rate_timer);
		bt_loop_defer(loop_of(copy), &copy->begin);
	}
}

void blktap_copy_cancel(struct blktap_copy *copy)
{
	if (copy->finished || copy->error)
		return;
	copy->error = -ECANCELED;
	snprintf(copy->message, sizeof(copy->message), "cancelled");
	bt_timer_cancel(&copy->rate_timer);
	bt_loop_defer(loop_of(copy), &copy->begin);
}

int blktap_copy_destroy(struct blktap_copy *copy)
{
	if (!copy)
		return 0;
	if (!copy->finished)
		return -EBUSY;
	bt_work_cancel(&copy->begin);
	free_copy(copy);
	return 0;
}
