/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk's life: opened, described, closed.
 *
 *   open -> bt_vbd_shut -> CLOSING -> (is_idle) -> ENDING -> (is_flushed) -> freed
 *
 *   CLOSING  disk->closing: what comes is refused, nothing is tried again, and what
 *            waits for a paused disk to go on fails. What is in the image ends by
 *            itself, as do a pause, an edit and a job under way
 *   ENDING   disk->ending: no request is out; the last flush is, and no pause begins
 *   freed    the image is closed first (root is NULL). Completions that have not been
 *            delivered are delivered then, with all else of the disk still there
 *
 * CLOSING may last: a frontend may shut the disk long before it is closed. Callbacks
 * run in all of these, and cannot end the disk themselves. */
#include "vbd/private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "util/options.h"
#include "vbd/edit.h"
#include "vbd/job.h"

#define DEFAULT_DEADLINE_MS 120000u
#define MIN_FRAME_BYTES 1024u
#define BUSY_STEP_MS 20
#define GIVE_UP_NS (500 * BT_NS_PER_MS)

/* ---- pools ---------------------------------------------------------------- */

/* A little more than a short graph needs, so that most changes of a graph find room
 * in the requests there are. */
static uint32_t frame_bytes(const struct blktap_disk *disk)
{
	uint32_t need = disk->root ? disk->root->frame_sum : 0;

	return need > MIN_FRAME_BYTES ? need : MIN_FRAME_BYTES;
}

int bt_vbd_pool_create(struct blktap_disk *disk, uint32_t count,
		       size_t item_size, struct bt_pool **out)
{
	struct bt_pool_entry *entry = calloc(1, sizeof(*entry));
	int rc = -ENOMEM;

	if (entry)
		rc = bt_pool_create(count, item_size, frame_bytes(disk),
				    &entry->pool);
	if (rc < 0) {
		free(entry);
		return rc;
	}
	bt_list_add_tail(&disk->pools, &entry->link);
	*out = entry->pool;
	return 0;
}

void bt_vbd_pool_destroy(struct blktap_disk *disk, struct bt_pool *pool)
{
	struct bt_list *pos;

	if (!pool)
		return;
	bt_list_for_each (pos, &disk->pools) {
		struct bt_pool_entry *entry =
			bt_list_entry(pos, struct bt_pool_entry, link);

		if (entry->pool != pool)
			continue;
		bt_list_del(&entry->link);
		free(entry);
		break;
	}
	bt_pool_destroy(pool);
}

/* ---- the graph ------------------------------------------------------------ */

struct bt_limits bt_disk_limits_on(const struct blktap_disk *disk,
				   const struct bt_node *root)
{
	struct bt_limits limits = root->limits;

	if (disk->front.run)
		bt_front_round(&limits);
	return limits;
}

void bt_disk_take_limits(struct blktap_disk *disk, const struct bt_node *root)
{
	disk->limits = bt_disk_limits_on(disk, root);
	/* Before what is emulated is added: split.c and FAST_ONLY ask what the
	 * graph can itself. */
	disk->graph_operations = root->limits.operations;
	/* zeroes can always be written as data */
	if (disk->graph_operations & (1u << BLKTAP_OP_WRITE))
		disk->limits.operations |= 1u << BLKTAP_OP_WRITE_ZEROES;
	disk->limits.read_only |= disk->front.read_only;
	if (disk->limits.read_only)
		disk->limits.operations &= ~BT_OPS_WRITING;
}

/* The pools that have grown keep their room where a later one fails: more than
 * needed is no harm. */
int bt_disk_reserve(struct blktap_disk *disk, const struct bt_node *root)
{
	struct bt_list *pos;
	int rc = 0;

	bt_list_for_each (pos, &disk->pools) {
		struct bt_pool_entry *entry =
			bt_list_entry(pos, struct bt_pool_entry, link);

		if (!rc)
			rc = bt_pool_reserve(entry->pool, root->frame_sum);
	}
	return rc;
}

/* The edges into the disk's images: whoever holds the disk must hold a job's own
 * requests as well. */
uint32_t bt_disk_get_tops(struct blktap_disk *disk)
{
	uint32_t n = 0;

	disk->tops[n++] = &disk->top;
	if (disk->job) {
		disk->tops[n++] = &disk->job->source;
		disk->tops[n++] = &disk->job->target;
	}
	return n;
}

int bt_disk_adopt(struct blktap_disk *disk, struct bt_node *root,
		  struct blktap_error **err)
{
	struct bt_limits limits = bt_disk_limits_on(disk, root);
	int rc;

	if (!bt_pause_all_fit(disk, &limits))
		return bt_fail(err, -EBUSY, "try again",
			       "%s: requests wait that were cut for blocks of "
			       "%u bytes, and it would have %u",
			       disk->name, disk->limits.block_size,
			       limits.block_size);
	rc = bt_disk_reserve(disk, root);
	/* last: it cannot be taken back */
	if (!rc)
		rc = bt_split_set_block_size(disk, limits.block_size);
	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: out of memory", disk->name);
	bt_disk_take_limits(disk, root);
	disk->root = root;
	bt_port_link(&disk->top, root);
	bt_graph_linked(disk);
	return 0;
}

/* ---- opening -------------------------------------------------------------- */

void blktap_disk_options_init_sized(struct blktap_disk_options *options,
				    size_t size)
{
	struct blktap_disk_options all = { .size = size };

	bt_options_fill(options, size, &all, sizeof(all));
}

/* An older caller's struct is shorter: what it does not know of stays at its
 * default. A longer one may ask for what this library does not do, so it is
 * refused. */
static int copy_options(struct blktap_disk_options *out,
			const struct blktap_disk_options *in,
			struct blktap_error **err)
{
	blktap_disk_options_init(out);
	if (in && in->size > sizeof(*out))
		return bt_fail(err, -E2BIG, "build with this library's headers",
			       "disk options are of a newer version");
	if (in)
		memcpy(out, in, in->size);
	return 0;
}

/* A disk that was only begun comes by here, too: all of these take what init_disk
 * made. */
static void free_disk(struct blktap_disk *disk)
{
	bt_io_fini(disk);
	bt_vbd_pool_destroy(disk, disk->parts);
	bt_vbd_pool_destroy(disk, disk->internal);
	bt_timer_cancel(&disk->sweep);
	bt_timer_cancel(&disk->unpark);
	bt_timer_cancel(&disk->give_up);
	bt_gate_release(&disk->gate);
	bt_work_cancel(&disk->close_work);
	bt_work_cancel(&disk->edit_work);
	if (disk->event_free)
		disk->event_free(disk->event_opaque);
	bt_list_del(&disk->link);
	free(disk->replace_spec);
	free(disk->bounces);
	free(disk->old_bounces);
	free(disk->spec);
	free(disk->shown);
	free(disk->name);
	free(disk);
}

static void give_up_shared(struct bt_timer *timer);

static void init_disk(struct blktap_disk *disk, struct blktap_context *context,
		      const struct blktap_disk_options *options)
{
	uint32_t ms = options->deadline_ms;

	disk->context = context;
	disk->open_flags = options->flags;
	disk->deadline_ns = (ms ? ms : DEFAULT_DEADLINE_MS) * BT_NS_PER_MS;
	disk->on_io_error = options->on_io_error;
	disk->on_no_space = options->on_no_space;
	disk->stats.size = sizeof(disk->stats);
	bt_list_init(&disk->link);
	bt_list_init(&disk->pools);
	bt_list_init(&disk->splits);
	bt_list_init(&disk->clients);
	bt_late_init(disk);
	bt_retry_init(disk);
	bt_pause_init(disk);
	bt_edit_init(disk);
	bt_timer_init(&disk->give_up, give_up_shared);
	bt_rangelock_init(&disk->ranges);
	bt_port_init(&disk->top, &context->env, NULL, "top");
	disk->top.done = bt_admit_done;
	disk->top.opaque = disk;
	bt_gate_init(&disk->gate, &context->env);
}

/* Before the graph is adopted: its frames are made room for in these. */
static int make_pools(struct blktap_disk *disk, uint32_t depth)
{
	int rc = bt_vbd_pool_create(disk, 1, sizeof(struct bt_request),
				    &disk->internal);

	if (!rc)
		rc = bt_vbd_pool_create(disk, BT_PARTS, sizeof(struct bt_part),
					&disk->parts);
	return rc ? rc : bt_io_init(disk, depth);
}

static bool never(void *opaque)
{
	(void)opaque;
	return false;
}

/* The kernel takes back the locks of a process that was killed when what it had in
 * flight is over, which is after its end. So who is told "in use" may ask again. */
static int open_graph(struct blktap_disk *disk, const char *spec,
		      uint32_t busy_ms, struct bt_node **root,
		      struct blktap_error **err)
{
	struct bt_loop *loop = disk->context->loop;
	uint32_t left = busy_ms / BUSY_STEP_MS;
	int rc = bt_graph_open(disk, spec, root, err);

	while (rc == -EBUSY && left-- &&
	       bt_loop_run_until(loop, never, NULL, BUSY_STEP_MS) ==
		       -ETIMEDOUT) {
		if (err) {
			blktap_error_destroy(*err);
			*err = NULL;
		}
		rc = bt_graph_open(disk, spec, root, err);
	}
	return rc;
}

int blktap_disk_open(struct blktap_context *context, const char *spec,
		     const struct blktap_disk_options *options,
		     struct blktap_disk **out, struct blktap_error **err)
{
	struct blktap_disk_options opts;
	struct bt_node *root;
	struct blktap_disk *disk;
	int rc = copy_options(&opts, options, err);

	if (rc < 0)
		return rc;
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory", spec);
	init_disk(disk, context, &opts);
	rc = open_graph(disk, spec, opts.busy_ms, &root, err);
	if (rc < 0) {
		free_disk(disk);
		return rc;
	}
	disk->spec = strdup(spec);
	disk->name = strdup(opts.name ? opts.name : spec);
	rc = disk->spec && disk->name ? make_pools(disk, opts.queue_depth)
				      : -ENOMEM;
	if (rc < 0)
		bt_fail(err, rc, NULL, "%s: out of memory", spec);
	else
		rc = bt_disk_adopt(disk, root, err);
	if (rc < 0) {
		bt_graph_close(disk, root);
		free_disk(disk);
		return rc;
	}
	/* The last step: who walks the context's disks meets none that is half
	 * open. */
	bt_list_add_tail(&context->disks, &disk->link);
	*out = disk;
	return 0;
}

/* ---- closing -------------------------------------------------------------- */

/* Nothing comes to it any more that a close would not wait for: an edit, a pause under
 * way, and a job end by themselves or were told to. */
static bool is_idle(void *opaque)
{
	struct blktap_disk *disk = opaque;

	return !disk->stats.outstanding && !disk->edit && !disk->job &&
	       disk->state != BT_VBD_DRAINING && disk->state != BT_VBD_FLUSHING;
}

static bool is_flushed(void *opaque)
{
	struct blktap_disk *disk = opaque;

	return bt_pool_in_use(disk->internal) == 0;
}

static void note_flush(struct bt_request *req)
{
	struct blktap_disk *disk = req->opaque;

	disk->close_error = req->error;
	bt_pool_give(req);
}

/* Its requests wait in a node that another disk uses as well, for what that node
 * sends on: whose it is cannot be told. */
static void give_up_shared(struct bt_timer *timer)
{
	struct blktap_disk *disk =
		bt_container_of(timer, struct blktap_disk, give_up);

	if (disk->front.run && !(is_idle(disk) && is_flushed(disk)))
		bt_run_give_up_shared(&disk->front);
}

static void give_up(struct blktap_disk *disk)
{
	struct bt_loop *loop = disk->context->loop;

	bt_run_give_up(&disk->front);
	if (bt_timer_arm(loop, &disk->give_up, bt_loop_now(loop) + GIVE_UP_NS) <
	    0)
		bt_run_give_up_shared(&disk->front);
}

/* Everything that waits for something the disk will not get any more. */
void bt_vbd_shut(struct blktap_disk *disk)
{
	disk->closing = true;
	if (disk->front.run)
		give_up(disk);
	bt_retry_fail_all(disk, -ESHUTDOWN);
	bt_edit_fail_all(disk, -ESHUTDOWN);
	if (disk->state == BT_VBD_PAUSED)
		bt_admit_fail_held(disk, NULL, -ESHUTDOWN);
}

bool bt_vbd_is_shut(const struct blktap_disk *disk)
{
	return disk->closing;
}

int blktap_disk_close(struct blktap_disk *disk)
{
	struct bt_node *root;
	struct bt_loop *loop;
	int rc;

	if (!disk)
		return 0;
	loop = disk->context->loop;
	/* A close waits, and the loop cannot turn inside of itself. */
	if (bt_loop_is_running(loop))
		return -EDEADLK;
	if (!bt_list_empty(&disk->clients))
		return -EBUSY;
	bt_job_close(disk);
	bt_vbd_shut(disk);
	rc = bt_loop_run_until(loop, is_idle, disk, -1);
	if (rc < 0)
		return rc;
	/* what came to wait while the loop turned; a pause may have ended */
	bt_vbd_shut(disk);
	disk->ending = true;
	if (disk->root) {
		bt_graph_leaving(disk);
		/* Its error is the answer of the close, which takes place all the
		 * same: who closes has nobody to try again for him. */
		bt_pause_flush(disk, BT_REQUEST_LAST, note_flush);
		bt_loop_run_until(loop, is_flushed, disk, -1);
		bt_port_link(&disk->top, NULL);
		/* the last callbacks come behind this, and may ask what the
		 * disk stands on */
		root = disk->root;
		disk->root = NULL;
		bt_graph_close(disk, root);
	}
	rc = disk->close_error;
	free_disk(disk);
	return rc;
}

/* ---- what it is ----------------------------------------------------------- */

void blktap_disk_get_info(const struct blktap_disk *disk,
			  struct blktap_disk_info *info)
{
	const struct bt_limits *l = &disk->limits;
	struct blktap_disk_info full = {
		.size = info->size,
		.length = l->size,
		.block_size = l->block_size,
		.preferred_block_size = l->preferred_block_size,
		.max_transfer = l->max_transfer,
		.discard_granularity = l->discard_granularity,
		.operations = l->operations,
		.read_only = l->read_only,
		.paused = disk->state == BT_VBD_PAUSED,
		.native_fua = l->native_fua,
	};

	if (full.size > sizeof(full))
		full.size = sizeof(full);
	memcpy(info, &full, full.size);
}

const char *blktap_disk_get_spec(const struct blktap_disk *disk)
{
	return disk->shown ? disk->shown : disk->spec;
}

void bt_disk_set_spec(struct blktap_disk *disk, char *spec)
{
	free(disk->spec);
	free(disk->shown);
	disk->spec = spec;
	disk->shown = NULL;
}

int bt_vbd_show_as(struct blktap_disk *disk, const char *spec)
{
	char *copy = strdup(spec);

	if (!copy)
		return -ENOMEM;
	free(disk->shown);
	disk->shown = copy;
	return 0;
}

const char *blktap_disk_get_name(const struct blktap_disk *disk)
{
	return disk->name;
}

const struct bt_limits *bt_vbd_get_limits(const struct blktap_disk *disk)
{
	return &disk->limits;
}

struct bt_env *bt_vbd_get_env(const struct blktap_disk *disk)
{
	return &disk->context->env;
}

const struct bt_log *bt_vbd_get_log(const struct blktap_disk *disk)
{
	return &disk->context->log;
}

void bt_vbd_client_add(struct blktap_disk *disk, struct bt_vbd_client *client)
{
	bt_list_add_tail(&disk->clients, &client->link);
}

void bt_vbd_client_del(struct bt_vbd_client *client)
{
	bt_list_del(&client->link);
}

/* ---- events --------------------------------------------------------------- */

void blktap_disk_set_event(struct blktap_disk *disk, blktap_event_fn *fn,
			   void *opaque, blktap_free_fn *free_fn)
{
	blktap_free_fn *old_free = disk->event_free;
	void *old = disk->event_opaque;

	/* the new one is in place before the old one's free, which may be code of
	 * the caller's that asks for another */
	disk->event_fn = fn;
	disk->event_opaque = opaque;
	disk->event_free = free_fn;
	if (old_free)
		old_free(old);
}

static enum blktap_log_level level_of(enum blktap_event_type type)
{
	switch (type) {
	case BLKTAP_EVENT_REQUEST_LATE:
	case BLKTAP_EVENT_PARKED:
		return BLKTAP_LOG_WARNING;
	case BLKTAP_EVENT_ERROR:
		return BLKTAP_LOG_DEBUG;
	default:
		return BLKTAP_LOG_INFO;
	}
}

/* The event and its texts live on the stack: a callback copies what it keeps. */
void bt_disk_event(struct blktap_disk *disk, enum blktap_event_type type,
		   int error, const struct bt_request *req, const char *node,
		   const char *fmt, ...)
{
	struct blktap_event event = {
		.size = sizeof(event),
		.type = type,
		.error = error,
		.offset = req ? req->offset : 0,
		.length = req ? req->length : 0,
		.node = node,
	};
	char text[256], reason[BT_STRERROR_MAX];
	bool before;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	event.text = text;
	bt_log(&disk->context->log, level_of(type), "%s: %s%s%s", disk->name,
	       text, error ? ": " : "",
	       error ? bt_strerror(error, reason) : "");
	if (!disk->event_fn)
		return;
	before = bt_loop_enter(disk->context->loop);
	disk->event_fn(disk->event_opaque, disk, &event);
	bt_loop_leave(disk->context->loop, before);
}
