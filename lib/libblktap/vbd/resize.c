/* SPDX-License-Identifier: BSD-3-Clause */
/* A running disk made larger: paused, so that its image is closed, resized by its
 * name, and resumed, which finds the new size and tells whom it concerns.
 *
 * Where the pause fails nothing has been done. Where the image cannot be made larger
 * it is resumed as it was; where it cannot be opened again the disk stays paused, which
 * is told by an event, and whoever resumes it tries again. */
#include "vbd/private.h"

#include <errno.h>
#include <stdio.h>

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

/* The loop turns in here; other disks of the context are served meanwhile. */
static int pause_and_wait(struct blktap_disk *disk, uint32_t timeout_ms,
			  struct blktap_error **err)
{
	struct wait wait = { .done = false };
	char text[BT_STRERROR_MAX];
	int rc = blktap_disk_pause(disk, timeout_ms, paused, &wait);

	if (!rc)
		rc = bt_loop_run_until(disk->context->loop, is_done, &wait, -1);
	if (rc < 0)
		return bt_fail(err, rc, NULL, "%s: %s", disk->name,
			       bt_strerror(rc, text));
	if (wait.error)
		return bt_fail(err, wait.error, NULL, "%s: %s", disk->name,
			       wait.message);
	return 0;
}

static int check(const struct blktap_disk *disk, uint64_t length,
		 struct blktap_error **err)
{
	if (disk->job)
		return bt_fail(err, -EBUSY, "wait for it, or cancel it",
			       "%s: has a job", disk->name);
	if (disk->state == BT_VBD_PAUSED)
		return bt_fail(err, -EALREADY, "unpause it first",
			       "%s: is paused", disk->name);
	if (disk->front.run)
		return bt_fail(err, -ENOTSUP, "apply another file to it",
			       "%s: a graph's images are the file's",
			       disk->name);
	if (disk->limits.read_only)
		return bt_fail(err, -EROFS, NULL, "%s: is read-only",
			       disk->name);
	if (length < disk->limits.size)
		return bt_fail(err, -EINVAL, "copy it to a smaller one",
			       "%s: has %llu bytes, and is not made smaller",
			       disk->name,
			       (unsigned long long)disk->limits.size);
	return bt_snapshot_check_name(disk->root, err);
}

/* An image whose end was no whole block for O_DIRECT may take it with the new size,
 * and has larger blocks then than requests were cut for that wait. So it stays in the
 * page cache, as it was. */
static int resume(struct blktap_disk *disk, struct blktap_error **err)
{
	uint32_t flags = disk->open_flags;
	int rc = blktap_disk_resume(disk, NULL, err);

	if (rc != -EBUSY || flags & BLKTAP_OPEN_BUFFERED)
		return rc;
	disk->open_flags |= BLKTAP_OPEN_BUFFERED;
	if (!blktap_disk_resume(disk, NULL, NULL)) {
		blktap_error_destroy(*err);
		*err = NULL;
		return 0;
	}
	disk->open_flags = flags;
	return rc;
}

int blktap_disk_resize(struct blktap_disk *disk, uint64_t length,
		       uint32_t timeout_ms, struct blktap_error **err)
{
	struct blktap_error *resume_err = NULL;
	int rc, back;

	if (bt_loop_is_running(disk->context->loop))
		return bt_fail(err, -EDEADLK,
			       "call it when blktap_context_run has returned",
			       "%s: a resize waits, and a callback must not",
			       disk->name);
	rc = check(disk, length, err);
	if (rc < 0 || length == disk->limits.size)
		return rc;
	rc = pause_and_wait(disk, timeout_ms, err);
	if (rc < 0)
		return rc;
	/* By its name and through the same code as the tools: what is open has
	 * tables of the old size in memory. */
	rc = bt_image_grow(disk->spec, length, false, err);
	/* Also where it could not be grown: the image is as it was. */
	back = resume(disk, &resume_err);
	if (back < 0) {
		bt_disk_event(disk, BLKTAP_EVENT_PAUSED, back, NULL, "",
			      "the image does not open after a resize; the "
			      "disk is paused");
		if (!rc)
			rc = bt_fail(err, back, "tap-ctl unpause tries again",
				     "%s",
				     blktap_error_get_message(resume_err));
	}
	blktap_error_destroy(resume_err);
	return rc;
}
