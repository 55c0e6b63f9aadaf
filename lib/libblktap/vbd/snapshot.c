/* SPDX-License-Identifier: BSD-3-Clause */
/* A live snapshot: the files first, while the disk runs (image/snapshot.c), then
 * the disk is paused, opened again by its name, which is the child's now, and goes
 * on. Where that fails the names are put back before the old image is opened. */
#include "vbd/private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "image/image.h"

struct wait {
	bool done;
	int error;
	char message[256];
};

static void paused(void *opaque, int error, const char *message)
{
	struct wait *wait = opaque;

	wait->done = true;
	wait->error = error;
	snprintf(wait->message, sizeof(wait->message), "%s", message);
}

static bool is_done(void *opaque)
{
	return ((struct wait *)opaque)->done;
}

static int pause_and_wait(struct blktap_disk *disk, uint32_t timeout_ms,
			  struct blktap_error **err)
{
	struct wait wait = { .done = false };
	char text[BT_STRERROR_MAX];
	int rc = blktap_disk_pause(disk, timeout_ms, paused, &wait);

	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: %s", disk->name,
			       bt_strerror(rc, text));
	rc = bt_loop_run_until(disk->context->loop, is_done, &wait, -1);
	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: %s", disk->name,
			       bt_strerror(rc, text));
	if (wait.error)
		return bt_fail(err, wait.error, NULL, "%s: %s", disk->name,
			       wait.message);
	return 0;
}

/* The disk is paused. Opens the child, or else what was there before. */
static int swing(struct blktap_disk *disk, const struct bt_snapshot *files,
		 struct blktap_error **err)
{
	int rc = blktap_disk_resume(disk, files->spec, err);

	if (!rc)
		return 0;
	bt_snapshot_undo(files);
	if (blktap_disk_resume(disk, NULL, NULL) < 0)
		bt_disk_event(disk, BLKTAP_EVENT_PAUSED, rc, NULL, "",
			      "neither the snapshot's child nor the image "
			      "opens; the disk is paused");
	return rc;
}

int blktap_disk_snapshot(struct blktap_disk *disk, const char *name,
			 uint32_t timeout_ms, char **path,
			 struct blktap_error **err)
{
	struct bt_snapshot files;
	int rc;

	if (bt_loop_is_running(disk->context->loop))
		return -EDEADLK;
	if (disk->state != BT_VBD_RUNNING)
		return bt_fail(err, -EALREADY, "unpause it first",
			       "%s: is paused", disk->name);
	if (disk->limits.read_only)
		return bt_fail(err, -EROFS, NULL, "%s: is read-only",
			       disk->name);
	rc = bt_snapshot_make(disk->spec, name, disk->limits.size, &files, err);
	if (rc < 0)
		return rc;
	rc = pause_and_wait(disk, timeout_ms, err);
	if (rc < 0)
		bt_snapshot_undo(&files);
	else
		rc = swing(disk, &files, err);
	if (!rc && path) {
		*path = files.name;
		files.name = NULL;
	}
	bt_snapshot_fini(&files);
	return rc;
}
