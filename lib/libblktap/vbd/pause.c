/* SPDX-License-Identifier: BSD-3-Clause */
/* Pause and resume: the gate of the disk's top edge, held by hand.
 *
 *   RUNNING -> hold -> DRAINING -> (drained) -> FLUSHING -> (flushed) -> PAUSED
 *      ^         |deadline: release   |failed: release                    |
 *      +---------+--------------------+--------- resume: open, release ---+
 *
 * While the disk is PAUSED its image is closed, so that other programs may take,
 * move and change the files; the frontends' requests wait at the gate. */
#include "vbd/private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "vbd/edit.h"
#include "vbd/job.h"

static int resume(struct blktap_disk *disk, const char *spec,
		  struct blktap_error **err);

/* Who is told that a pause is over. */
struct end {
	blktap_pause_fn *fn;
	void *opaque;
};

/* To be taken before the gate opens: what is let go may be answered at once, and
 * who gets the answer may ask for the next pause, or replace, which has an end of
 * its own. */
static struct end take_end(struct blktap_disk *disk)
{
	struct end end = { disk->pause_fn, disk->pause_opaque };

	disk->pause_fn = NULL;
	free(disk->replace_spec);
	disk->replace_spec = NULL;
	return end;
}

static void tell(struct blktap_disk *disk, struct end end, int error,
		 const char *message)
{
	struct bt_loop *loop = disk->context->loop;
	bool before;

	if (!end.fn)
		return;
	before = bt_loop_enter(loop);
	end.fn(end.opaque, error, message);
	bt_loop_leave(loop, before);
}

/* The pause is off: what waited at the gate goes down, into the graph of before. */
static void give_up(struct blktap_disk *disk, int error, const char *message)
{
	struct end end = take_end(disk);

	disk->state = BT_VBD_RUNNING;
	bt_log(&disk->context->log, BLKTAP_LOG_WARNING, "%s: pause failed: %s",
	       disk->name, message);
	bt_gate_release(&disk->gate);
	tell(disk, end, error, message);
	bt_edit_next(disk);
}

/* The job first: it takes back what waits at its edges of the images. The edge is
 * cut before the nodes go, so that nothing leads to freed memory. */
static void close_image(struct blktap_disk *disk)
{
	struct bt_node *root = disk->root;

	bt_job_disk_paused(disk);
	disk->root = NULL;
	bt_port_link(&disk->top, NULL);
	bt_graph_close(disk, root);
	bt_job_disk_closed(disk);
}

/* The image is closed: open the new one, or else the old one again. */
static void swing(struct blktap_disk *disk)
{
	char *spec = disk->replace_spec;
	struct blktap_error *err = NULL;
	struct end end;
	int rc;

	disk->replace_spec = NULL;
	end = take_end(disk);
	rc = resume(disk, spec, &err);
	free(spec);
	/* Where both fail it stays paused, with its requests at the gate, until
	 * somebody resumes it. */
	if (rc < 0 && resume(disk, NULL, NULL) < 0)
		bt_disk_event(disk, BLKTAP_EVENT_PAUSED, rc, NULL, "",
			      "neither the new image nor the old one opens");
	tell(disk, end, rc, err ? blktap_error_get_message(err) : "");
	blktap_error_destroy(err);
}

static void target_flushed(struct bt_request *req)
{
	struct blktap_disk *disk = req->opaque;

	disk->target_error = req->error;
	bt_pool_give(req);
	bt_loop_defer(disk->context->loop, &disk->close_work);
}

/* BT_REQUEST_LAST: each format has marked its image clean by now, or says why
 * not. */
static void flushed(struct bt_request *req)
{
	struct blktap_disk *disk = req->opaque;

	disk->flush_error = req->error;
	disk->target_error = 0;
	bt_pool_give(req);
	/* what a job writes to has no background work then, either */
	if (disk->job && bt_job_flush_target(disk->job, target_flushed))
		return;
	/* the image's own code is on the stack: it is closed from the loop */
	bt_loop_defer(disk->context->loop, &disk->close_work);
}

/* An image that could not be flushed stays open: closing it would lose what it
 * still holds, and a pause that has failed can be tried again. */
static void close_after_flush(struct bt_work *work)
{
	struct blktap_disk *disk =
		bt_container_of(work, struct blktap_disk, close_work);
	char text[BT_STRERROR_MAX];
	int error = disk->flush_error;
	struct end end;

	if (error) {
		give_up(disk, error, bt_strerror(error, text));
		return;
	}
	close_image(disk);
	disk->state = BT_VBD_PAUSED;
	if (disk->replace_spec) {
		swing(disk);
	} else {
		end = take_end(disk);
		bt_disk_event(disk, BLKTAP_EVENT_PAUSED, 0, NULL, "", "paused");
		tell(disk, end, 0, "");
	}
	/* A close that came meanwhile waits for what is at the gate, which
	 * nobody would open. */
	if (disk->closing && disk->state == BT_VBD_PAUSED)
		bt_vbd_shut(disk);
}

void bt_pause_init(struct blktap_disk *disk)
{
	bt_work_init(&disk->close_work, close_after_flush);
}

void bt_pause_flush(struct blktap_disk *disk, uint32_t flags,
		    void (*done)(struct bt_request *req))
{
	/* The pool has one, and one user at a time: a pause, an edit and a close
	 * exclude each other. */
	struct bt_request *req = bt_pool_take(disk->internal);

	req->op = BLKTAP_OP_FLUSH;
	req->flags = BT_REQUEST_BYPASS | BT_REQUEST_CORE | flags;
	req->done = done;
	req->opaque = disk;
	bt_port_submit(&disk->top, req);
}

/* The oldest request that is in a node: it is the likeliest to have stopped the
 * others. */
const char *bt_pause_where(const struct blktap_disk *disk)
{
	const char *where = "";
	struct bt_list *pos;

	bt_list_for_each (pos, &disk->life) {
		where = bt_request_where(
			bt_list_entry(pos, struct bt_request, life));
		if (*where)
			break;
	}
	return where;
}

void bt_pause_name_stuck(const struct blktap_disk *disk, char *text,
			 size_t size)
{
	snprintf(text, size, "node '%s' has not finished %llu requests",
		 bt_pause_where(disk),
		 (unsigned long long)bt_port_in_flight(&disk->top));
}

/* Nothing is between the gate and the leaves any more, or the deadline passed
 * (error). */
static void drained(struct bt_gate *gate, int error)
{
	struct blktap_disk *disk = gate->opaque;
	char text[256];

	if (error) {
		bt_pause_name_stuck(disk, text, sizeof(text));
		give_up(disk, error, text);
		return;
	}
	disk->state = BT_VBD_FLUSHING;
	bt_graph_leaving(disk);
	bt_pause_flush(disk, BT_REQUEST_LAST, flushed);
}

static int hold(struct blktap_disk *disk, uint32_t timeout_ms)
{
	int rc = bt_gate_hold(&disk->gate, disk->tops, bt_disk_get_tops(disk),
			      BT_HOLD_ALL, timeout_ms, drained, disk);

	if (rc < 0)
		return rc;
	disk->state = BT_VBD_DRAINING;
	disk->pause_began_ns = bt_loop_refresh(disk->context->loop);
	return 0;
}

void bt_pause_start(struct blktap_disk *disk)
{
	char text[BT_STRERROR_MAX];
	int rc;

	disk->pause_waits = false;
	rc = hold(disk, disk->pause_timeout_ms);
	if (rc < 0) {
		tell(disk, take_end(disk), rc, bt_strerror(rc, text));
		/* those that it went before are not to wait for the next pause */
		bt_edit_next(disk);
	}
}

int blktap_disk_pause(struct blktap_disk *disk, uint32_t timeout_ms,
		      blktap_pause_fn *fn, void *opaque)
{
	int rc = 0;

	if (disk->ending)
		return -ESHUTDOWN;
	/* A change of the graph holds edges of this disk as well (mason/apply.c);
	 * a pause in the middle of it would close what it is about to link. */
	if (disk->front.run && disk->front.run->busy)
		return -EBUSY;
	if (disk->pause_waits || (disk->state != BT_VBD_RUNNING && !disk->edit))
		return -EALREADY;
	/* an edit has the gate; it begins the pause when it is done */
	if (disk->edit) {
		disk->pause_waits = true;
		disk->pause_timeout_ms = timeout_ms;
	} else {
		rc = hold(disk, timeout_ms);
	}
	if (rc < 0)
		return rc;
	disk->pause_fn = fn;
	disk->pause_opaque = opaque;
	return 0;
}

bool bt_pause_fits(const struct bt_request *req, const struct bt_limits *limits)
{
	uint64_t most = limits->max_unmap;
	enum blktap_op op = req->op;

	/* the flush behind it: where that fails it is written once more */
	if (req->was_written)
		op = (enum blktap_op)req->pending;
	if (op == BLKTAP_OP_FLUSH || op == BLKTAP_OP_BLOCK_STATUS ||
	    op == BLKTAP_OP_PREFETCH)
		return true;
	if (op == BLKTAP_OP_READ || op == BLKTAP_OP_WRITE)
		most = limits->max_transfer;
	return req->length <= most &&
	       !((req->offset | req->length) & (limits->block_size - 1));
}

bool bt_pause_all_fit(const struct blktap_disk *disk,
		      const struct bt_limits *limits)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &disk->life)
		if (!bt_pause_fits(bt_list_entry(pos, struct bt_request, life),
				   limits))
			return false;
	return true;
}

/* What waits (at the gate, for another try, for a range) was cut for the old image,
 * and cannot be cut again. */
static int check_held(const struct blktap_disk *disk,
		      const struct bt_node *root, const char *spec,
		      struct blktap_error **err)
{
	struct bt_limits limits = bt_disk_limits_on(disk, root);

	if (bt_pause_all_fit(disk, &limits))
		return 0;
	return bt_fail(
		err, -EBUSY,
		"take an image of the same block size, or unpause it and "
		"pause it while nobody asks for anything",
		"%s: has blocks of %u bytes, and requests wait that were "
		"cut for %u",
		spec, limits.block_size, disk->limits.block_size);
}

/* Nothing of the disk has changed where it fails: the caller may try another
 * image. */
static int open_again(struct blktap_disk *disk, const char *spec,
		      struct blktap_error **err)
{
	struct bt_node *root;
	uint64_t size = disk->limits.size;
	int rc = bt_graph_open(disk, spec, &root, err);

	if (rc < 0)
		return rc;
	/* A guest does not ask for the size again: it would write past the end. */
	if (root->limits.size < size)
		rc = bt_fail(err, -EINVAL,
			     "grow the image, or close the disk and open it "
			     "anew",
			     "%s: has %llu bytes, and the disk had %llu", spec,
			     (unsigned long long)root->limits.size,
			     (unsigned long long)size);
	if (!rc)
		rc = check_held(disk, root, spec, err);
	if (!rc)
		rc = bt_disk_adopt(disk, root, err);
	if (rc < 0)
		bt_graph_close(disk, root);
	return rc;
}

void bt_disk_tell_resized(struct blktap_disk *disk)
{
	struct bt_list *pos, *tmp;

	bt_disk_event(disk, BLKTAP_EVENT_RESIZED, 0, NULL, "",
		      "the disk has %llu bytes now",
		      (unsigned long long)disk->limits.size);
	bt_list_for_each_safe (pos, tmp, &disk->clients) {
		struct bt_vbd_client *client =
			bt_list_entry(pos, struct bt_vbd_client, link);

		if (client->resized)
			client->resized(client);
	}
}

static int resume(struct blktap_disk *disk, const char *spec,
		  struct blktap_error **err)
{
	uint64_t size = disk->limits.size;
	char *copy = NULL;
	int rc;

	if (disk->state != BT_VBD_PAUSED)
		return bt_fail(err, -EINVAL, NULL, "%s: is not paused",
			       disk->name);
	if (spec) {
		copy = strdup(spec);
		if (!copy)
			return bt_fail(err, -ENOMEM, NULL, "out of memory");
	}
	bt_job_disk_opening(disk, spec ? spec : disk->spec);
	rc = open_again(disk, spec ? spec : disk->spec, err);
	if (rc < 0) {
		free(copy);
		return rc;
	}
	if (copy)
		bt_disk_set_spec(disk, copy);
	disk->state = BT_VBD_RUNNING;
	disk->stats.last_pause_ns =
		bt_loop_refresh(disk->context->loop) - disk->pause_began_ns;
	if (disk->limits.size != size)
		bt_disk_tell_resized(disk);
	/* last: what was held goes down at once, and must find all as it is */
	bt_gate_release(&disk->gate);
	bt_disk_event(disk, BLKTAP_EVENT_RESUMED, 0, NULL, "", "resumed");
	bt_job_disk_resumed(disk);
	bt_edit_next(disk);
	return 0;
}

int blktap_disk_resume(struct blktap_disk *disk, const char *spec,
		       struct blktap_error **err)
{
	/* from a callback of the close, which would leave open what this opens */
	if (disk->closing)
		return bt_fail(err, -ESHUTDOWN, NULL, "%s: is being closed",
			       disk->name);
	return resume(disk, spec, err);
}

int blktap_disk_replace(struct blktap_disk *disk, const char *spec,
			uint32_t timeout_ms, blktap_pause_fn *fn, void *opaque)
{
	char *copy = strdup(spec);
	int rc = copy ? blktap_disk_pause(disk, timeout_ms, fn, opaque)
		      : -ENOMEM;

	if (rc < 0)
		free(copy);
	else
		disk->replace_spec = copy;
	return rc;
}
