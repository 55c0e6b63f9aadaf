/* SPDX-License-Identifier: BSD-3-Clause */
/* How far a job is, kept while its disk is paused, or in a file.
 *
 * What is copied stays right as long as the images that it was copied from are
 * the same. So they are looked at before and after: inode, size and the time of
 * the last change of each.
 *
 *   a pause  the images are closed, looked at, looked at again before they are
 *            opened, and the map of what is to be done is as good as before
 *   a file   (coalesce: nobody writes to what is copied) every CHECKPOINT chunks
 *            what is under way ends, the target is flushed, and then the place is
 *            written down: it is never ahead of the data. A file that is lost, or
 *            half there after a cut, only costs time, so it is not synced. Of the
 *            target only the inode counts, since the job itself writes to it. */
#include "vbd/job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "util/path.h"
#include "util/strbuf.h"

#define CHECKPOINT 64u /* chunks */
#define STATE_MAX 4096u

/* ---- what the images are --------------------------------------------------- */

/* By ctime, which nobody can set back, and not by mtime. The target's is left out
 * where the job itself writes to it between two looks. */
static void put_image(struct bt_strbuf *out, const char *path, bool target)
{
	struct stat st;

	/* what is in a block device changes without a trace */
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		out->failed = true;
	else if (target)
		bt_strbuf_printf(out, "into %llu %llu\n",
				 (unsigned long long)st.st_dev,
				 (unsigned long long)st.st_ino);
	else
		bt_strbuf_printf(
			out, "from %llu %llu %lld %lld.%09ld\n",
			(unsigned long long)st.st_dev,
			(unsigned long long)st.st_ino, (long long)st.st_size,
			(long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
}

/* The paths of the images that matter, one a line, from above. NULL: memory. */
static char *list_paths(const struct blktap_job *job)
{
	uint32_t last = bt_job_last(job), n = 0;
	struct bt_strbuf out = BT_STRBUF_INIT;

	if (job->options.kind == BLKTAP_JOB_COALESCE)
		n = job->at;
	for (; n <= last; n++)
		bt_strbuf_printf(&out, "%s\n",
				 bt_node_path(bt_chain_at(job->disk, n)));
	return bt_strbuf_steal(&out);
}

/* What the images at those paths are now; into: the last may have been written to.
 * NULL: one is not there, or no file. */
static char *look_at(const char *paths, bool into)
{
	struct bt_strbuf out = BT_STRBUF_INIT;
	char *copy = strdup(paths), *at = copy, *path;
	bool failed = !copy;

	while (copy && (path = strsep(&at, "\n")) && *path)
		put_image(&out, path, into && (!at || !*at));
	free(copy);
	failed |= out.failed;
	if (!failed)
		return bt_strbuf_steal(&out);
	bt_strbuf_fini(&out);
	return NULL;
}

/* ---- a pause --------------------------------------------------------------- */

static void forget(struct blktap_job *job)
{
	free(job->paths);
	free(job->looked);
	job->paths = job->looked = NULL;
	job->kept = false;
}

void bt_job_keep(struct blktap_job *job, bool flushed)
{
	forget(job);
	if (job->ready && flushed && !bt_job_has_lost(job))
		job->paths = list_paths(job);
}

void bt_job_disk_closed(struct blktap_disk *disk)
{
	struct blktap_job *job = disk->job;

	if (job && job->paths)
		job->looked = look_at(job->paths, false);
}

void bt_job_disk_opening(struct blktap_disk *disk, const char *spec)
{
	struct blktap_job *job = disk->job;
	char *now;

	if (!job || !job->looked)
		return;
	now = look_at(job->paths, false);
	job->kept =
		now && !strcmp(now, job->looked) && !strcmp(spec, disk->spec);
	free(now);
}

/* ---- a file ---------------------------------------------------------------- */

/* Anything that is not exactly what write_place wrote is no place: from the
 * start, then. */
static uint64_t read_place(const char *path, const char *images)
{
	size_t length = strlen(images);
	char have[STATE_MAX + 1] = "";
	uint64_t place = 0;
	char end;
	FILE *f = fopen(path, "re");

	if (!f)
		return 0;
	have[fread(have, 1, STATE_MAX, f)] = '\0';
	fclose(f);
	if (strncmp(have, images, length) != 0 ||
	    sscanf(have + length, "done %" SCNu64 "%c", &place, &end) != 2 ||
	    end != '\n')
		return 0;
	return place;
}

static char *describe(const struct blktap_job *job)
{
	char *paths = list_paths(job), *images = NULL;

	if (paths)
		images = look_at(paths, true);
	free(paths);
	return images;
}

/* After a pause the map in memory is better than the file, where the images are
 * the same. */
bool bt_job_place(struct blktap_job *job)
{
	char *images;

	if (job->kept) {
		forget(job);
		return true;
	}
	forget(job);
	bt_job_mark_all(job);
	job->saved = 0;
	images = job->state ? describe(job) : NULL;
	if (images)
		job->saved = bt_job_skip(job, read_place(job->state, images));
	job->skipped = job->saved;
	free(images);
	return false;
}

/* Not synced: one that a crash lost costs time, and no data. */
static int write_place(const char *path, const char *images, uint64_t place)
{
	char *text = NULL;
	int rc;

	if (asprintf(&text, "%sdone %" PRIu64 "\n", images, place) < 0)
		return -ENOMEM;
	rc = bt_path_replace(path, text, false);
	free(text);
	return rc;
}

/* A place that cannot be written down is no reason to end. */
static void place_flushed(struct bt_request *req)
{
	struct blktap_job *job = req->opaque;
	char *images, text[BT_STRERROR_MAX];
	int rc = !req->error && bt_job_has_lost(job) ? -EIO : req->error;

	job->under_way--;
	bt_pool_give(req);
	job->saving = false;
	images = rc ? NULL : describe(job);
	if (images)
		rc = write_place(job->state, images, job->saved);
	free(images);
	if (rc)
		bt_log(&job->disk->context->log, BLKTAP_LOG_WARNING,
		       "%s: %s: %s", job->disk->name, job->state,
		       bt_strerror(rc, text));
	bt_job_copy_go(job);
}

/* Only in the first pass, and with nothing left behind the cursor: then "all
 * below the place is done" is true. The lanes run empty and the target is flushed
 * before. */
bool bt_job_must_save(struct blktap_job *job)
{
	uint64_t place = bt_job_reached(job);

	if (!job->state || job->passes || job->behind ||
	    place < job->saved + (uint64_t)CHECKPOINT * job->options.chunk)
		return false;
	if (!job->under_way) {
		job->saving = true;
		job->saved = place;
		bt_job_flush(job, place_flushed);
	}
	return true;
}

void bt_job_forget(struct blktap_job *job)
{
	forget(job);
	if (job->state && !job->error)
		unlink(job->state);
}
