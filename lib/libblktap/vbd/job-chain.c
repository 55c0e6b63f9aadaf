/* SPDX-License-Identifier: BSD-3-Clause */
/* What a job does to the chain.
 *
 * An image that is to be written to (base of a commit, what base of a coalesce
 * stands on) is read by the disk meanwhile. So it is opened anew, for writing, and
 * takes the place of the one that the disk reads from: there is one node of it, and
 * nobody's tables are stale. The reader's lock is given up for the writer's: where
 * another program has the image open as well, the job is refused.
 *
 * The order at the end, and what a crash in between leaves:
 *   stream    leaf flushed with all it needs; its header changed; edge swung
 *   commit    base flushed with all the disk shows; the leaf's file renamed,
 *             which is where the disk changes hands; edge swung
 *   coalesce  lower image flushed with all the upper one had; the header of what
 *             stood on that changed; edge swung
 * Up to the change the old chain is whole (below an image that has a piece of the
 * disk, what others have there is never seen), behind it the new one is. */
#include "vbd/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "image/image.h"
#include "util/path.h"

#define AWAY ".committed"

void bt_job_port_done(struct bt_port *port, struct bt_request *req)
{
	req->done(req);
}

void bt_job_unlink(struct blktap_job *job)
{
	bt_port_link(&job->source, NULL);
	bt_port_link(&job->target, NULL);
}

/* ---- which images --------------------------------------------------------- */

/* The number of base; 0: none was given. What has no file goes by its name. */
static int find_base(const struct blktap_job *job, uint32_t *at,
		     struct blktap_error **err)
{
	uint32_t n, depth = bt_chain_depth(job->disk);
	const char *path;

	*at = 0;
	if (!job->base)
		return 0;
	for (n = 0; n < depth; n++) {
		path = bt_node_path(bt_chain_at(job->disk, n));
		if (!strcmp(path, job->base) ||
		    bt_path_same_file(path, job->base))
			break;
	}
	if (n > 0 && n < depth) {
		*at = n;
		return 0;
	}
	return bt_fail(err, -ENOENT, "tap-ctl stats --json shows the chain",
		       n ? "%s: %s is not in its chain"
			 : "%s: %s is the disk's own image",
		       job->disk->name, job->base);
}

static int refuse(const struct blktap_job *job, int rc,
		  const struct bt_node *node, const char *what,
		  struct blktap_error **err)
{
	return bt_fail(err, rc, NULL, "%s: %s: %s %s", job->disk->name,
		       blktap_job_kind_name(job->options.kind),
		       bt_node_path(node), what);
}

static int refuse_short(const struct blktap_job *job,
			const struct bt_node *node, struct blktap_error **err)
{
	return bt_fail(err, -ENOTSUP, "stream the disk without a base",
		       "%s: %s: %s is shorter than what it stands on",
		       job->disk->name, blktap_job_kind_name(job->options.kind),
		       bt_node_path(node));
}

static int check_chain(const struct blktap_job *job, struct blktap_error **err)
{
	uint32_t n, depth = bt_chain_depth(job->disk);

	for (n = 0; n < depth; n++)
		if (!blktap_class_is_driver(bt_chain_at(job->disk, n)->cls))
			return bt_fail(err, -ENOTSUP,
				       "edit the graph's file instead",
				       "%s: is a graph, not a chain of images",
				       job->disk->name);
	if (depth < 2)
		return bt_fail(err, -EINVAL, "it stands on nothing",
			       "%s: is not a chain", job->disk->name);
	if (bt_xchain_is(job->disk->spec) &&
	    job->options.kind != BLKTAP_JOB_COMMIT)
		return bt_fail(err, -ENOTSUP, "edit that file instead",
			       "%s: its chain stands in a file",
			       job->disk->name);
	return 0;
}

static int check_stream(struct blktap_job *job, struct blktap_error **err)
{
	struct bt_node *leaf = job->disk->root, *base = NULL;
	uint64_t seen = 0;
	uint32_t n;

	if (!leaf->cls->set_parent)
		return refuse(job, -ENOTSUP, leaf, "cannot be cut off", err);
	if (job->at == 1)
		return refuse(job, -EINVAL, leaf, "stands on it already", err);
	if (!job->at)
		return 0;
	/* what a short image in between hides would come up */
	base = bt_chain_at(job->disk, job->at);
	seen = bt_min_u64(leaf->limits.size, base->limits.size);
	for (n = 1; n < job->at; n++)
		if (bt_chain_at(job->disk, n)->limits.size < seen)
			return refuse_short(job, bt_chain_at(job->disk, n),
					    err);
	return 0;
}

/* What stands on an image that is left out stands on the larger one below it then:
 * what the short one hid of that would come up. */
static int check_hidden(const struct blktap_job *job,
			const struct bt_node *from, const struct bt_node *to,
			struct blktap_error **err)
{
	const struct bt_node *upper = bt_chain_at(job->disk, job->at - 1);

	if (from->limits.size < bt_min_u64(upper->limits.size, to->limits.size))
		return refuse_short(job, from, err);
	return 0;
}

/* The image that data goes into, for a commit or coalesce. */
static uint32_t target_of(const struct blktap_job *job)
{
	return job->options.kind == BLKTAP_JOB_COMMIT ? job->at : job->at + 1;
}

static int check_target(struct blktap_job *job, struct blktap_error **err)
{
	bool commit = job->options.kind == BLKTAP_JOB_COMMIT;
	struct bt_node *from, *to;

	if (!job->at)
		job->at = 1;
	from = bt_chain_at(job->disk, commit ? 0 : job->at);
	to = bt_chain_at(job->disk, target_of(job));
	if (!to)
		return refuse(job, -EINVAL, from, "stands on nothing", err);
	if (!commit && !bt_chain_at(job->disk, job->at - 1)->cls->set_parent)
		return refuse(job, -ENOTSUP,
			      bt_chain_at(job->disk, job->at - 1),
			      "cannot be made to stand on another", err);
	if (to->limits.size < from->limits.size)
		return bt_fail(err, -ENOSPC, "grow it first",
			       "%s: %s has %llu bytes, %llu are needed",
			       job->disk->name, bt_node_path(to),
			       (unsigned long long)to->limits.size,
			       (unsigned long long)from->limits.size);
	if (!commit && check_hidden(job, from, to, err) < 0)
		return -ENOTSUP;
	job->size = from->limits.size;
	job->align = to->limits.block_size;
	return 0;
}

uint32_t bt_job_last(const struct blktap_job *job)
{
	if (job->options.kind != BLKTAP_JOB_STREAM)
		return target_of(job);
	return job->at ? job->at : bt_chain_depth(job->disk) - 1;
}

int bt_job_check(struct blktap_job *job, struct blktap_error **err)
{
	int rc = check_chain(job, err);

	if (!rc)
		rc = find_base(job, &job->at, err);
	if (rc < 0)
		return rc;
	job->align = 512;
	rc = job->options.kind == BLKTAP_JOB_STREAM ? check_stream(job, err)
						    : check_target(job, err);
	if (rc < 0)
		return rc;
	job->align = bt_max_u64(job->align, job->disk->limits.block_size);
	if (job->size % job->align)
		return bt_fail(err, -ENOTSUP, "open the disk with -D",
			       "%s: its size is no multiple of %llu bytes",
			       job->disk->name, (unsigned long long)job->align);
	return 0;
}

/* ---- edits ---------------------------------------------------------------- */

/* The longest of the job's pauses is the one that is shown. */
static void edit_done(struct bt_edit *edit, int error, struct blktap_error *err)
{
	struct blktap_job *job = bt_container_of(edit, struct blktap_job, edit);
	char text[BT_STRERROR_MAX];

	edit->disk = NULL;
	job->info.pause_ns =
		bt_max_u64(job->info.pause_ns, job->disk->stats.last_pause_ns);
	if (error)
		bt_job_fail(job, error, "%s",
			    err ? blktap_error_get_message(err)
				: bt_strerror(error, text));
	blktap_error_destroy(err);
	job->edited(job, error);
}

static void start_edit(struct blktap_job *job, bool flush,
		       int (*commit)(struct bt_edit *edit,
				     struct blktap_error **err),
		       void (*edited)(struct blktap_job *job, int error))
{
	job->phase = BT_JOB_EDIT;
	job->edited = edited;
	job->edit.timeout_ms = 0;
	job->edit.flush = flush;
	job->edit.commit = commit;
	job->edit.done = edit_done;
	bt_edit_start(job->disk, &job->edit);
}

static void fail_with(struct blktap_job *job, int rc, struct blktap_error *err)
{
	char text[BT_STRERROR_MAX];

	bt_job_fail(job, rc, "%s",
		    err ? blktap_error_get_message(err)
			: bt_strerror(rc, text));
	blktap_error_destroy(err);
	bt_job_wake(job);
}

/* Opens the same image once more, over the same images. */
static int open_again(struct blktap_job *job, const struct bt_node *node,
		      uint32_t flags, struct bt_node **out,
		      struct blktap_error **err)
{
	int rc = bt_snapshot_check_name(node, err);

	if (!rc)
		rc = bt_image_open_like(
			&job->disk->context->env, node->name,
			(job->disk->open_flags & BLKTAP_OPEN_BUFFERED) | flags,
			node, out, err);
	if (rc < 0)
		return rc;
	if ((*out)->port_count && node->ports[0].lower) {
		bt_port_link(&(*out)->ports[0], node->ports[0].lower);
		rc = bt_node_plan(*out, err);
	}
	if (rc < 0) {
		bt_node_destroy(*out);
		*out = NULL;
	}
	return rc;
}

/* ---- PREPARE -------------------------------------------------------------- */

static int commit_writer(struct bt_edit *edit, struct blktap_error **err)
{
	struct blktap_job *job = bt_container_of(edit, struct blktap_job, edit);
	uint32_t n = target_of(job);

	job->outgoing = bt_chain_at(job->disk, n);
	return bt_chain_relink(job->disk, n, job->incoming, err);
}

/* A stream reads and writes through the disk itself; the others through edges of
 * their own to the images that they are about. */
static void begin_copy(struct blktap_job *job)
{
	struct blktap_disk *disk = job->disk;

	job->ready = true;
	job->from = &disk->top;
	job->to = &disk->top;
	if (job->options.kind != BLKTAP_JOB_STREAM) {
		bt_port_link(&job->target, bt_chain_at(disk, target_of(job)));
		job->to = &job->target;
	}
	if (job->options.kind == BLKTAP_JOB_COALESCE) {
		bt_port_link(&job->source, bt_chain_at(disk, job->at));
		job->from = &job->source;
	}
	job->losses = bt_port_losses(job->to);
	if (!bt_job_place(job))
		job->passes = 0;
	job->cursor = 0;
	job->behind = false;
	job->pass_over = false;
	job->stirred = false;
	job->phase = BT_JOB_COPY;
	bt_job_wake(job);
}

/* The reader is destroyed outside of the edit: closing a file may take a while. */
static void writer_is_in(struct blktap_job *job, int error)
{
	struct bt_node *reader = job->outgoing;

	if (error) {
		bt_node_destroy(job->incoming);
		bt_node_relock(bt_chain_at(job->disk, target_of(job)),
			       BT_LOCK_SHARED, NULL);
		job->phase = BT_JOB_PREPARE;
		bt_job_wake(job);
	} else {
		bt_node_destroy(reader);
		begin_copy(job);
	}
	job->incoming = NULL;
}

void bt_job_prepare(struct blktap_job *job)
{
	struct blktap_error *err = NULL;
	struct bt_node *reader;
	int rc = bt_job_check(job, &err);

	if (!rc && (job->grains << BT_JOB_GRAIN_BITS) < job->size)
		rc = bt_fail(&err, -ESTALE, "start it again",
			     "the disk has another size now");
	if (rc < 0) {
		fail_with(job, rc, err);
		return;
	}
	if (job->options.kind == BLKTAP_JOB_STREAM) {
		begin_copy(job);
		return;
	}
	reader = bt_chain_at(job->disk, target_of(job));
	/* Another program that comes in between keeps the writer out, and the job
	 * is refused. */
	bt_node_relock(reader, BT_LOCK_NONE, NULL);
	rc = open_again(job, reader, 0, &job->incoming, &err);
	if (rc < 0) {
		bt_node_relock(reader, BT_LOCK_SHARED, NULL);
		fail_with(job, rc, err);
		return;
	}
	start_edit(job, false, commit_writer, writer_is_in);
}

/* ---- UNDO ----------------------------------------------------------------- */

/* Without a reader the writer stays; it gives up the writer's lock all the same. */
static void reader_is_in(struct blktap_job *job, int error)
{
	struct bt_node *node;

	bt_job_unlink(job);
	bt_node_destroy(error ? job->incoming : job->outgoing);
	job->incoming = NULL;
	node = bt_chain_at(job->disk, target_of(job));
	bt_node_relock(node, BT_LOCK_SHARED, NULL);
	bt_job_end(job);
}

static void undo_flushed(struct bt_request *req)
{
	struct blktap_job *job = req->opaque;

	job->under_way--;
	bt_pool_give(req);
	job->phase = BT_JOB_UNDO;
	if (!job->closing &&
	    !open_again(job, job->to->lower,
			BLKTAP_OPEN_READ_ONLY | BLKTAP_OPEN_FORCE,
			&job->incoming, NULL)) {
		start_edit(job, false, commit_writer, reader_is_in);
		return;
	}
	/* it stays open for writing, which nobody does */
	bt_node_relock(job->to->lower, BT_LOCK_SHARED, NULL);
	bt_job_wake(job);
}

void bt_job_undo(struct blktap_job *job)
{
	if (job->options.kind == BLKTAP_JOB_STREAM) {
		bt_job_end(job);
		return;
	}
	job->phase = BT_JOB_UNDO;
	bt_job_flush(job, undo_flushed);
}

/* ---- the last edit -------------------------------------------------------- */

/* How child may call the image: by its name alone where both are in one
 * directory, which may be moved then. */
static const char *name_for(const struct bt_node *child,
			    const struct bt_node *image)
{
	const char *path = bt_node_path(image);
	const char *slash = strrchr(path, '/');

	return slash && bt_path_same_directory(bt_node_path(child), path)
		       ? slash + 1
		       : path;
}

/* The leaf's header first: where it cannot be written, the chain is as it was. It
 * is synced by set_parent, so a crash finds a leaf that needs nothing below base. */
static int commit_stream(struct bt_edit *edit, struct blktap_error **err)
{
	struct blktap_job *job = bt_container_of(edit, struct blktap_job, edit);
	struct bt_node *leaf = job->disk->root, *base = NULL;
	int rc;

	if (job->at)
		base = bt_chain_at(job->disk, job->at);
	job->outgoing = leaf->ports[0].lower;
	rc = leaf->cls->set_parent(leaf, base ? name_for(leaf, base) : NULL,
				   base ? base->cls->name : NULL, err);
	return rc ? rc : bt_chain_relink(job->disk, 1, base, err);
}

/* An inner image is open read-only; for its header it is opened once more. */
static int set_parent(struct blktap_job *job, struct bt_node *child,
		      const struct bt_node *image, struct blktap_error **err)
{
	const char *name = name_for(child, image);
	struct bt_node *writer;
	int rc;

	if (child == job->disk->root)
		return child->cls->set_parent(child, name, image->cls->name,
					      err);
	bt_node_relock(child, BT_LOCK_NONE, NULL);
	rc = open_again(job, child, 0, &writer, err);
	if (!rc) {
		rc = writer->cls->set_parent(writer, name, image->cls->name,
					     err);
		bt_node_destroy(writer);
	}
	bt_node_relock(child, BT_LOCK_SHARED, NULL);
	return rc;
}

/* The header first, as in a stream: all that the image to be left out had is in
 * the lower one, and flushed. */
static int commit_coalesce(struct bt_edit *edit, struct blktap_error **err)
{
	struct blktap_job *job = bt_container_of(edit, struct blktap_job, edit);
	int rc;

	job->outgoing = bt_chain_at(job->disk, job->at);
	rc = set_parent(job, bt_chain_at(job->disk, job->at - 1), job->incoming,
			err);
	return rc ? rc
		  : bt_chain_relink(job->disk, job->at, job->incoming, err);
}

/* Behind the rename nobody opens the old chain by its name any more. It is on
 * disk before a client may write to base. */
static int commit_commit(struct bt_edit *edit, struct blktap_error **err)
{
	struct blktap_job *job = bt_container_of(edit, struct blktap_job, edit);
	struct bt_node *leaf = job->disk->root;
	char text[BT_STRERROR_MAX];
	int rc = 0;

	if (rename(job->leaf_path, job->away_path) < 0)
		return bt_fail(err, -errno, NULL, "%s: %s", job->leaf_path,
			       bt_strerror(-errno, text));
	rc = bt_path_sync_directory(job->leaf_path);
	if (rc < 0)
		bt_fail(err, rc, NULL, "%s: %s", job->leaf_path,
			bt_strerror(rc, text));
	else
		rc = bt_disk_adopt(job->disk, job->target.lower, err);
	if (rc < 0) {
		rename(job->away_path, job->leaf_path);
		bt_path_sync_directory(job->leaf_path);
		return rc;
	}
	job->outgoing = leaf;
	bt_disk_set_spec(job->disk, job->new_spec);
	job->new_spec = NULL;
	return 0;
}

/* Where the last edit failed the chain is the old one, and the job goes back to
 * COPY, from where its failure leads it to UNDO. */
static void finished(struct blktap_job *job, int error)
{
	struct bt_node *reader = job->incoming;

	job->incoming = NULL;
	job->finishing = false;
	if (error) {
		bt_node_destroy(reader);
		job->phase = BT_JOB_COPY;
		bt_job_wake(job);
		return;
	}
	bt_job_unlink(job);
	bt_node_destroy(job->outgoing);
	if (reader)
		bt_node_relock(reader, BT_LOCK_SHARED, NULL);
	if (job->disk->limits.size != job->size)
		bt_disk_tell_resized(job->disk);
	bt_job_end(job);
}

static int prepare_commit(struct blktap_job *job, struct blktap_error **err)
{
	struct stat st;

	free(job->new_spec);
	free(job->leaf_path);
	free(job->away_path);
	job->new_spec = bt_image_spec_of(job->target.lower);
	job->leaf_path = strdup(bt_node_path(job->disk->root));
	if (asprintf(&job->away_path, "%s" AWAY,
		     bt_node_path(job->disk->root)) < 0)
		job->away_path = NULL;
	if (!job->new_spec || !job->leaf_path || !job->away_path)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (lstat(job->away_path, &st) == 0)
		return bt_fail(err, -EEXIST, "move it out of the way",
			       "%s: is there already", job->away_path);
	return bt_snapshot_check_name(job->disk->root, err);
}

/* What may fail and takes time is done before the gate is held. */
void bt_job_finish(struct blktap_job *job)
{
	struct blktap_error *err = NULL;
	int rc = 0;

	job->outgoing = NULL;
	if (job->options.kind == BLKTAP_JOB_COMMIT)
		rc = prepare_commit(job, &err);
	/* it is flushed, and nobody writes to it any more */
	if (job->options.kind == BLKTAP_JOB_COALESCE)
		rc = open_again(job, job->to->lower,
				BLKTAP_OPEN_READ_ONLY | BLKTAP_OPEN_FORCE,
				&job->incoming, &err);
	if (rc < 0) {
		fail_with(job, rc, err);
		return;
	}
	job->finishing = true;
	if (job->options.kind == BLKTAP_JOB_STREAM)
		start_edit(job, true, commit_stream, finished);
	else if (job->options.kind == BLKTAP_JOB_COMMIT)
		start_edit(job, true, commit_commit, finished);
	else
		start_edit(job, true, commit_coalesce, finished);
}
