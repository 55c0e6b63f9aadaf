/* SPDX-License-Identifier: BSD-3-Clause */
/* A job's life: started, watched, led from phase to phase, ended. All steps are
 * taken from the loop (step), when nothing of the job is under way. */
#include "vbd/job.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "image/image.h"
#include "util/options.h"
#include "util/path.h"

#define DEFAULT_DEPTH 4u
#define MAX_DEPTH 64u
#define DEFAULT_CHUNK (1u << 20)
#define MAX_CHUNK (8u << 20)
#define PASSES 3u /* over the disk, before writers are held off */
#define FEW 64u /* grains: so many are left to the end */
#define BUDGET 256u /* grains of a round that holds writers off */

void blktap_job_options_init_sized(struct blktap_job_options *options,
				   size_t size)
{
	struct blktap_job_options all = { .size = size };

	bt_options_fill(options, size, &all, sizeof(all));
}

const char *blktap_job_kind_name(enum blktap_job_kind kind)
{
	static const char *const names[] = { "stream", "commit", "coalesce" };

	return (unsigned int)kind < BT_ARRAY_SIZE(names) ? names[kind] : "";
}

const char *blktap_job_state_name(enum blktap_job_state state)
{
	static const char *const names[] = { "running", "paused", "waiting",
					     "done",	"failed", "cancelled" };

	return (unsigned int)state < BT_ARRAY_SIZE(names) ? names[state] : "";
}

/* ---- the end -------------------------------------------------------------- */

/* The first reason stands. The job goes no further; what is under way comes back
 * first, and then step() leads it to the end. */
void bt_job_fail(struct blktap_job *job, int error, const char *fmt, ...)
{
	va_list ap;

	if (job->failed)
		return;
	job->failed = true;
	job->error = error;
	va_start(ap, fmt);
	vsnprintf(job->message, sizeof(job->message), fmt, ap);
	va_end(ap);
}

static void free_job(struct blktap_job *job)
{
	free(job->base);
	free(job->state);
	free(job->new_spec);
	free(job->leaf_path);
	free(job->away_path);
	free(job);
}

static void fill_info(const struct blktap_job *job,
		      struct blktap_job_info *info)
{
	uint64_t left = job->left << BT_JOB_GRAIN_BITS;

	*info = job->info;
	info->kind = job->options.kind;
	info->rate = job->options.rate;
	info->total = job->size;
	info->done = left < job->size ? job->size - left : 0;
	info->skipped = job->skipped;
	info->error = job->error;
	if (job->phase == BT_JOB_ENDED)
		info->state = !job->error      ? BLKTAP_JOB_DONE
			      : job->cancelled ? BLKTAP_JOB_CANCELLED
					       : BLKTAP_JOB_FAILED;
	else
		info->state = job->phase == BT_JOB_WAIT ? BLKTAP_JOB_WAITING
			      : job->paused		? BLKTAP_JOB_PAUSED
							: BLKTAP_JOB_RUNNING;
}

/* Nothing of the job's is in the graph any more. The struct stays for who started
 * it, to be asked how it ended; the disk forgets it. */
void bt_job_end(struct blktap_job *job)
{
	struct blktap_disk *disk = job->disk;
	blktap_job_fn *fn = job->fn;
	char text[sizeof(job->message)];
	bool done = !job->error, before;

	bt_job_unlock_whole(job);
	bt_job_unlink(job);
	/* a pause may hold them, and the job may be destroyed before it ends */
	bt_gate_forget(&disk->gate, &job->source);
	bt_gate_forget(&disk->gate, &job->target);
	bt_timer_cancel(&job->rate_timer);
	bt_work_cancel(&job->work);
	bt_job_forget(job);
	bt_job_copy_fini(job);
	job->phase = BT_JOB_ENDED;
	disk->job = NULL;
	job->disk = NULL;
	if (!job->error)
		snprintf(job->message, sizeof(job->message),
			 "%s: %llu bytes copied",
			 blktap_job_kind_name(job->options.kind),
			 (unsigned long long)job->info.copied);
	if (!done)
		bt_log(&disk->context->log, BLKTAP_LOG_INFO,
		       "%s: job ended: %s", disk->name, job->message);
	memcpy(text, job->message, sizeof(text));
	job->fn = NULL;
	before = bt_loop_enter(disk->context->loop);
	if (fn)
		fn(job->opaque, job->error, job->message);
	bt_loop_leave(disk->context->loop, before);
	/* fn may have destroyed the job */
	if (done)
		bt_disk_event(disk, BLKTAP_EVENT_CHANGED, 0, NULL, "",
			      "job ended: %s", text);
}

/* ---- steps ---------------------------------------------------------------- */

void bt_job_wake(struct blktap_job *job)
{
	if (job->disk)
		bt_loop_defer(job->disk->context->loop, &job->work);
}

/* A pass over the disk is over: another, or on to the end. */
static void pass_over(struct blktap_job *job)
{
	bool again = job->left > 0;

	job->pass_over = false;
	job->cursor = 0;
	job->passes++;
	if (job->options.kind == BLKTAP_JOB_COMMIT) {
		/* writers are held off from here on, a little at a time */
		if (job->left <= FEW || job->passes >= PASSES)
			job->phase = BT_JOB_SETTLE;
	} else if (job->options.kind == BLKTAP_JOB_STREAM && !again &&
		   job->stirred && job->passes < PASSES) {
		/* look again whether there is really nothing left */
		bt_job_mark_all(job);
	} else if (!again) {
		job->phase = BT_JOB_FLUSH;
	}
	job->stirred = false;
	bt_job_wake(job);
}

/* A round with writers held off: lock, copy, and either all is done, or they
 * get a turn. */
static void settle(struct blktap_job *job)
{
	if (!job->locked) {
		job->budget = BUDGET;
		job->pass_over = false;
		bt_job_lock_whole(job);
	} else if (!job->pass_over) {
		bt_job_copy_go(job);
	} else if (!job->left) {
		job->phase = BT_JOB_FLUSH;
		bt_job_wake(job);
	} else {
		bt_job_unlock_whole(job);
		bt_job_wake(job);
	}
}

/* What was copied is durable, and the chain may be changed to rely on it. A
 * target whose server came back without some of the writes says "flushed", too:
 * see losses. */
static void flushed(struct bt_request *req)
{
	struct blktap_job *job = req->opaque;
	char text[BT_STRERROR_MAX];

	job->under_way--;
	if (req->error)
		bt_job_fail(job, req->error, "cannot flush %s: %s",
			    job->to->lower->name,
			    bt_strerror(req->error, text));
	else if (bt_job_has_lost(job))
		bt_job_fail(job, -EIO,
			    "%s was lost for a while, with writes that were "
			    "not flushed",
			    job->to->lower->name);
	bt_pool_give(req);
	job->phase = BT_JOB_EDIT;
	bt_job_wake(job);
}

/* Up to `ready` nothing was opened for writing, so there is nothing to undo. */
static void give_up(struct blktap_job *job)
{
	bt_job_unlock_whole(job);
	if (!job->ready || job->phase == BT_JOB_UNDO)
		bt_job_end(job);
	else
		bt_job_undo(job);
}

static void step(struct bt_work *work)
{
	struct blktap_job *job = bt_container_of(work, struct blktap_job, work);

	/* a woken job need not have anything to do */
	if (job->under_way || job->edit.disk || job->phase == BT_JOB_ENDED)
		return;
	if (job->failed) {
		give_up(job);
		return;
	}
	switch (job->phase) {
	case BT_JOB_PREPARE:
		bt_job_prepare(job);
		break;
	case BT_JOB_COPY:
		if (job->pass_over)
			pass_over(job);
		else
			bt_job_copy_go(job);
		break;
	case BT_JOB_SETTLE:
		if (!job->paused || job->locked)
			settle(job);
		break;
	case BT_JOB_FLUSH:
		if (!job->paused || job->locked)
			bt_job_flush(job, flushed);
		break;
	case BT_JOB_EDIT:
		bt_job_finish(job);
		break;
	default:
		break;
	}
}

static void rate_due(struct bt_timer *timer)
{
	bt_job_copy_go(bt_container_of(timer, struct blktap_job, rate_timer));
}

/* ---- the disk's side ------------------------------------------------------ */

bool bt_job_flush_target(struct blktap_job *job,
			 void (*done)(struct bt_request *req))
{
	struct bt_request *req;

	if (!job->target.lower)
		return false;
	req = bt_pool_take(job->disk->internal);
	req->op = BLKTAP_OP_FLUSH;
	req->flags = BT_REQUEST_BYPASS | BT_REQUEST_CORE | BT_REQUEST_LAST;
	req->done = done;
	req->opaque = job->disk;
	bt_port_submit(&job->target, req);
	return true;
}

/* The images are about to be closed. What the job has not finished it marks as to
 * be done again; whether the map is worth anything when the disk comes back
 * depends on the files being the same then (job-resume.c). */
void bt_job_disk_paused(struct blktap_disk *disk)
{
	struct blktap_job *job = disk->job;

	if (!job)
		return;
	bt_job_copy_abort(job);
	bt_job_keep(job, !disk->target_error);
	bt_list_del(&job->edit.link);
	job->edit.disk = NULL;
	bt_job_unlink(job);
	bt_node_destroy(job->incoming);
	job->incoming = NULL;
	job->ready = false;
	job->finishing = false;
	job->phase = BT_JOB_WAIT;
	if (job->failed)
		bt_job_wake(job);
}

void bt_job_disk_resumed(struct blktap_disk *disk)
{
	if (!disk->job)
		return;
	disk->job->phase = BT_JOB_PREPARE;
	bt_job_wake(disk->job);
}

/* Closing, so that the undo does not open an image anew that is closed next. */
void bt_job_close(struct blktap_disk *disk)
{
	if (!disk->job)
		return;
	disk->job->closing = true;
	blktap_job_cancel(disk->job);
}

/* ---- life ----------------------------------------------------------------- */

static int check_options(struct blktap_job *job, struct blktap_error **err)
{
	struct blktap_job_options *o = &job->options;

	if ((unsigned int)o->kind > BLKTAP_JOB_COALESCE)
		return bt_fail(err, -EINVAL, NULL, "job: kind %d", o->kind);
	if (!o->depth)
		o->depth = DEFAULT_DEPTH;
	if (!o->chunk)
		o->chunk = DEFAULT_CHUNK;
	if (o->depth > MAX_DEPTH || o->chunk > MAX_CHUNK ||
	    o->chunk < 1u << BT_JOB_GRAIN_BITS || !bt_is_pow2(o->chunk))
		return bt_fail(err, -EINVAL,
			       "at most 64 chunks of 64 KiB to 8 MiB",
			       "job: depth %u, chunk %u", o->depth, o->chunk);
	return 0;
}

/* The others have nothing to keep: what a stream has copied is seen in the leaf,
 * and what a commit has copied may be written to again. */
static int take_state(struct blktap_job *job, struct blktap_error **err)
{
	if (job->options.kind != BLKTAP_JOB_COALESCE)
		return bt_fail(err, -EINVAL, "leave it away",
			       "%s: only a coalesce keeps in a file how far "
			       "it is",
			       job->disk->name);
	job->state = strdup(job->options.state);
	job->options.state = NULL;
	return job->state ? 0 : bt_fail(err, -ENOMEM, NULL, "out of memory");
}

static int check_disk(const struct blktap_disk *disk, struct blktap_error **err)
{
	if (disk->closing)
		return bt_fail(err, -ESHUTDOWN, NULL, "%s: is being closed",
			       disk->name);
	if (disk->job)
		return bt_fail(err, -EBUSY, "wait for it, or cancel it",
			       "%s: has a job already", disk->name);
	if (disk->snapshotting)
		return bt_fail(err, -EBUSY, "start it when that is over",
			       "%s: a snapshot is being taken", disk->name);
	if (disk->front.run)
		return bt_fail(err, -ENOTSUP, "apply another file to it",
			       "%s: a graph's images are the file's",
			       disk->name);
	if (disk->state == BT_VBD_PAUSED || !disk->root)
		return bt_fail(err, -EINVAL, "unpause it first",
			       "%s: is paused", disk->name);
	if (disk->limits.read_only)
		return bt_fail(err, -EROFS, NULL, "%s: is read-only",
			       disk->name);
	return 0;
}

static void init_job(struct blktap_job *job, struct blktap_disk *disk,
		     blktap_job_fn *fn, void *opaque)
{
	job->disk = disk;
	job->fn = fn;
	job->opaque = opaque;
	job->size = disk->limits.size;
	job->phase = BT_JOB_PREPARE;
	bt_list_init(&job->idle);
	bt_list_init(&job->edit.link);
	bt_list_init(&job->whole.link);
	bt_work_init(&job->work, step);
	bt_timer_init(&job->rate_timer, rate_due);
	bt_port_init(&job->source, &disk->context->env, NULL, "job");
	bt_port_init(&job->target, &disk->context->env, NULL, "job");
	job->source.done = job->target.done = bt_job_port_done;
}

int blktap_job_start(struct blktap_disk *disk,
		     const struct blktap_job_options *options,
		     blktap_job_fn *fn, void *opaque, struct blktap_job **out,
		     struct blktap_error **err)
{
	struct blktap_job *job;
	int rc = check_disk(disk, err);

	if (rc < 0)
		return rc;
	if (options->size > sizeof(*options))
		return bt_fail(err, -E2BIG, "build with this library's headers",
			       "job options are of a newer version");
	job = calloc(1, sizeof(*job));
	if (!job)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	/* The strings in it are the caller's, and copied below before this
	 * returns. */
	memcpy(&job->options, options, options->size);
	init_job(job, disk, fn, opaque);
	rc = check_options(job, err);
	if (!rc && job->options.base) {
		rc = bt_path_resolve(bt_node_path(disk->root),
				     job->options.base, &job->base);
		job->options.base = NULL;
	}
	if (!rc && job->options.state)
		rc = take_state(job, err);
	if (!rc)
		rc = bt_job_check(job, err);
	if (!rc && bt_job_copy_init(job) < 0)
		rc = bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (rc < 0) {
		bt_job_copy_fini(job);
		free_job(job);
		return rc;
	}
	disk->job = job;
	bt_job_wake(job);
	*out = job;
	return 0;
}

void blktap_job_get_info(const struct blktap_job *job,
			 struct blktap_job_info *info)
{
	struct blktap_job_info full;
	size_t size = info->size;

	fill_info(job, &full);
	full.size = size < sizeof(full) ? size : sizeof(full);
	memcpy(info, &full, full.size);
}

const char *blktap_job_get_text(const struct blktap_job *job)
{
	return job->phase == BT_JOB_ENDED ? job->message : "";
}

void blktap_job_set_rate(struct blktap_job *job, uint64_t rate)
{
	job->options.rate = rate;
	job->free_at_ns = 0;
	bt_timer_cancel(&job->rate_timer);
	bt_job_wake(job);
}

/* What is under way comes to its end; nothing new is begun. While the whole disk
 * is locked against writers (SETTLE) the job goes on, since they wait for it. */
void blktap_job_pause(struct blktap_job *job)
{
	job->paused = true;
}

void blktap_job_resume(struct blktap_job *job)
{
	job->paused = false;
	bt_job_wake(job);
}

void blktap_job_cancel(struct blktap_job *job)
{
	/* the last edit is not taken back */
	if (!job->disk || job->failed || job->finishing)
		return;
	job->cancelled = true;
	bt_job_fail(job, -ECANCELED, "cancelled");
	bt_timer_cancel(&job->rate_timer);
	bt_job_wake(job);
}

static bool has_ended(void *opaque)
{
	const struct blktap_job *job = opaque;

	return job->phase == BT_JOB_ENDED;
}

int blktap_job_wait(struct blktap_job *job, int timeout_ms)
{
	int rc = 0;

	if (job->disk)
		rc = bt_loop_run_until(job->disk->context->loop, has_ended, job,
				       timeout_ms);
	return rc < 0 ? rc : job->error;
}

int blktap_job_destroy(struct blktap_job *job)
{
	if (!job)
		return 0;
	if (job->disk)
		return -EBUSY;
	free_job(job);
	return 0;
}
