/* SPDX-License-Identifier: BSD-3-Clause */
/* A live snapshot, as two edits of the graph.
 *
 *   files made (image/snapshot.c), child opened and put over the running image
 *   edit 1: flush; the top edge swings to the child
 *   the old image is opened anew, read-only
 *   edit 2: the child's edge swings to that; the old one is closed
 *
 * While the gate is held nothing is opened and nothing is closed. Where the first
 * edit fails, the names are put back; where the second does, the old image stays
 * open for writing, which nobody does any more.
 *
 * Callbacks run meanwhile. A job that they start would count images by their place
 * in the chain, so it is refused (disk->snapshotting). A pause waits for an edit at
 * work. Where it comes after the first one there is no second: it closes the chain,
 * and who resumes the disk opens the old image read-only. */
#include "vbd/private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/error.h"
#include "image/image.h"
#include "port/args.h"
#include "util/strbuf.h"
#include "vbd/edit.h"

/* Somebody may have moved the file, and put another in its place: what goes by the
 * name would be done to that one. */
int bt_snapshot_check_name(const struct bt_node *image,
			   struct blktap_error **err)
{
	const char *path = bt_node_path(image);
	char text[BT_STRERROR_MAX];
	struct bt_stamp stamp;
	struct stat st;

	if (!image->cls->get_stamp || image->cls->get_stamp(image, &stamp) < 0)
		return 0;
	if (stat(path, &st) < 0)
		return bt_fail(err, -ESTALE, "give the file its name back",
			       "%s: its file was moved or removed: %s", path,
			       bt_strerror(-errno, text));
	if (bt_path_is_same(stamp.id, bt_path_identify(&st)))
		return 0;
	return bt_fail(
		err, -ESTALE, "give the file that is in use its name back",
		"%s: is not the file that is in use under this name", path);
}

struct swing {
	struct bt_edit edit;
	struct bt_node *node; /* what comes in */
	struct bt_node *old; /* what goes, or NULL */
	const struct bt_snapshot
		*files; /* to be undone where it fails; or NULL */
	bool done;
	int error;
	struct blktap_error *err;
	uint64_t pause_ns;
};

/* Here and not behind the loop, since a pause that waited for the edit is next: with
 * that the nodes are gone, the files may be another's, and what a name leads to is
 * opened. What goes has been flushed and drained. Lower nodes are shared, and stay. */
static void swung(struct bt_edit *edit, int error, struct blktap_error *err)
{
	struct swing *swing = bt_container_of(edit, struct swing, edit);
	char text[BT_STRERROR_MAX];

	if (error) {
		bt_fail(&err, error, NULL, "%s", bt_strerror(error, text));
		bt_node_destroy(swing->node);
		if (swing->files)
			bt_snapshot_undo(swing->files, &err);
	} else if (swing->old) {
		bt_node_destroy(swing->old);
		bt_node_relock(swing->node, BT_LOCK_SHARED, &err);
	}
	swing->done = true;
	swing->error = error;
	swing->err = err;
	swing->pause_ns = edit->disk->stats.last_pause_ns;
}

static bool is_done(void *opaque)
{
	return ((struct swing *)opaque)->done;
}

/* The image that is only read from now on has a lock, or none; it is open either
 * way. */
static void tell_of_lock(const struct blktap_disk *disk,
			 struct blktap_error *err)
{
	if (err)
		bt_log(&disk->context->log, BLKTAP_LOG_WARNING, "%s: %s",
		       disk->name, blktap_error_get_message(err));
	blktap_error_destroy(err);
}

/* The loop turns in here until the edit is over; I/O goes on meanwhile. */
static int run(struct blktap_disk *disk, struct swing *swing,
	       struct blktap_error **err)
{
	swing->edit.done = swung;
	bt_edit_start(disk, &swing->edit);
	bt_loop_run_until(disk->context->loop, is_done, swing, -1);
	if (!swing->error) {
		tell_of_lock(disk, swing->err);
		return 0;
	}
	bt_fail(err, swing->error, blktap_error_get_hint(swing->err), "%s",
		blktap_error_get_message(swing->err));
	bt_error_prefix(err, "%s", disk->name);
	blktap_error_destroy(swing->err);
	return swing->error;
}

/* ---- the child ------------------------------------------------------------ */

static int commit_child(struct bt_edit *edit, struct blktap_error **err)
{
	return bt_disk_adopt(edit->disk,
			     bt_container_of(edit, struct swing, edit)->node,
			     err);
}

/* Opens the child and puts it over the image that runs. */
static int open_child(struct blktap_disk *disk, struct bt_node **out,
		      struct blktap_error **err)
{
	struct bt_node *child;
	int rc = bt_image_open_one(&disk->context->env, disk->spec,
				   disk->open_flags, &child, err);

	if (rc < 0)
		return rc;
	bt_port_link(&child->ports[0], disk->root);
	rc = bt_node_plan(child, err);
	if (!rc && bt_disk_reserve(disk, child) < 0)
		rc = bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			     disk->name);
	if (!rc && child->limits.size < disk->limits.size)
		rc = bt_fail(err, -EINVAL, NULL,
			     "%s: the child is smaller than the disk",
			     disk->name);
	if (rc < 0)
		bt_node_destroy(child);
	else
		*out = child;
	return rc;
}

/* The flush is the old image's last: from the swing on nothing is written to it,
 * so it has all that was answered before. */
static int swing_to_child(struct blktap_disk *disk,
			  const struct bt_snapshot *files, uint32_t timeout_ms,
			  uint64_t *pause_ns, struct blktap_error **err)
{
	struct swing swing = { .edit = { .timeout_ms = timeout_ms,
					 .flush = true,
					 .commit = commit_child },
			       .files = files };
	int rc = open_child(disk, &swing.node, err);

	if (rc < 0) {
		bt_snapshot_undo(files, err);
		return rc;
	}
	rc = run(disk, &swing, err);
	*pause_ns = swing.pause_ns;
	return rc;
}

/* ---- the old image -------------------------------------------------------- */

static int commit_old(struct bt_edit *edit, struct blktap_error **err)
{
	return bt_chain_relink(edit->disk, 1,
			       bt_container_of(edit, struct swing, edit)->node,
			       err);
}

/* Read-only and without a lock: the one that runs has it still. */
static int open_old(struct blktap_disk *disk, const struct bt_snapshot *files,
		    const struct bt_node *old, struct bt_node **out,
		    struct blktap_error **err)
{
	struct bt_strbuf spec = BT_STRBUF_INIT;
	int rc = -ENOMEM;

	bt_strbuf_printf(&spec, "%s:%s", old->cls->name, files->name);
	if (!spec.failed)
		/* FORCE, since the lock that stands in the way is this disk's
		 * own. */
		rc = bt_image_open_like(
			&disk->context->env, bt_strbuf_str(&spec),
			disk->open_flags | BLKTAP_OPEN_READ_ONLY |
				BLKTAP_OPEN_FORCE,
			old, out, err);
	bt_strbuf_fini(&spec);
	if (rc < 0)
		return rc;
	bt_port_link(&(*out)->ports[0], old->ports[0].lower);
	rc = bt_node_plan(*out, err);
	if (rc < 0)
		bt_node_destroy(*out);
	return rc;
}

/* Nobody writes to the old image any more, so it shall not be open for it. A disk
 * that is being paused closes it. */
static int demote(struct blktap_disk *disk, const struct bt_snapshot *files,
		  uint64_t *pause_ns, struct blktap_error **err)
{
	struct swing swing = { .edit = { .commit = commit_old } };
	int rc;

	if (disk->state != BT_VBD_RUNNING)
		return 0;
	swing.old = bt_chain_at(disk, 1);
	rc = open_old(disk, files, swing.old, &swing.node, err);
	if (rc < 0)
		return rc;
	rc = run(disk, &swing, err);
	if (swing.pause_ns > *pause_ns)
		*pause_ns = swing.pause_ns;
	return rc;
}

static void demote_or_log(struct blktap_disk *disk,
			  const struct bt_snapshot *files, uint64_t *pause_ns)
{
	struct blktap_error *err = NULL;
	struct bt_node *old;

	if (!demote(disk, files, pause_ns, &err))
		return;
	bt_log(&disk->context->log, BLKTAP_LOG_WARNING,
	       "%s: %s stays open for writing: %s", disk->name, files->name,
	       err ? blktap_error_get_message(err) : "");
	blktap_error_destroy(err);
	old = bt_chain_at(disk, 1);
	if (old) /* not where the disk has been paused meanwhile */
		bt_node_relock(old, BT_LOCK_SHARED, NULL);
}

/* ---- all of it ------------------------------------------------------------ */

static int check(const struct blktap_disk *disk, struct blktap_error **err)
{
	if (disk->state == BT_VBD_PAUSED)
		return bt_fail(err, -EALREADY, "unpause it first",
			       "%s: is paused", disk->name);
	if (disk->state != BT_VBD_RUNNING || disk->edit)
		return bt_fail(err, -EALREADY, "try again",
			       "%s: is being changed", disk->name);
	if (disk->job)
		return bt_fail(err, -EBUSY, "wait for it, or cancel it",
			       "%s: has a job", disk->name);
	if (disk->limits.read_only)
		return bt_fail(err, -EROFS, NULL, "%s: is read-only",
			       disk->name);
	if (disk->front.run)
		return bt_fail(err, -ENOTSUP, "apply another file to it",
			       "%s: a graph's images are the file's",
			       disk->name);
	return bt_snapshot_check_name(disk->root, err);
}

int blktap_disk_snapshot(struct blktap_disk *disk, const char *name,
			 uint32_t timeout_ms, char **path,
			 struct blktap_error **err)
{
	struct bt_snapshot files;
	uint64_t pause_ns = 0;
	int rc;

	if (bt_loop_is_running(disk->context->loop))
		return bt_fail(err, -EDEADLK,
			       "call it when blktap_context_run has returned",
			       "%s: a snapshot waits, and a callback must not",
			       disk->name);
	rc = check(disk, err);
	if (!rc)
		rc = bt_snapshot_make(disk->spec, name, disk->limits.size,
				      &files, err);
	if (rc < 0)
		return rc;
	disk->snapshotting = true;
	rc = swing_to_child(disk, &files, timeout_ms, &pause_ns, err);
	if (!rc)
		demote_or_log(disk, &files, &pause_ns);
	disk->snapshotting = false;
	disk->stats.last_pause_ns = pause_ns;
	if (!rc)
		bt_disk_event(disk, BLKTAP_EVENT_CHANGED, 0, NULL, "",
			      "snapshot: what was written is in %s",
			      files.name);
	if (!rc && path) {
		*path = files.name;
		files.name = NULL;
	}
	bt_snapshot_fini(&files);
	return rc;
}
