/* SPDX-License-Identifier: BSD-3-Clause */
/* Another tapdisk for a block device that stays. What was open, and how, stands
 * in the minor's mark, so it does not matter how the old tapdisk ended. The new
 * one is there before the old one is asked to leave. */
#include <blktap/ring.h>
#include <errno.h>
#include <stdlib.h>

#include "control/client.h"
#include "core/error.h"

/* There is one at most: a minor is one tapdisk's. */
static void take_pid(void *opaque, const struct blktap_control_row *row)
{
	if (row->pid >= 0)
		*(pid_t *)opaque = row->pid;
}

/* -1: nobody has it. */
static int find_tapdisk(struct blktap_control *control, int minor, pid_t *pid,
			struct blktap_error **err)
{
	struct blktap_control_filter filter;

	blktap_control_filter_init(&filter);
	filter.minor = minor;
	*pid = -1;
	return blktap_control_list(control, &filter, take_pid, pid, err);
}

/* Whatever can be told from the mark is told before a tapdisk is started for
 * nothing. */
static int read_mark(struct blktap_control *control, int minor,
		     struct bt_mark *mark, struct blktap_error **err)
{
	int rc = bt_minor_get_mark(&control->dir, minor, mark);

	if (rc)
		return bt_fail(err, rc, "tap-ctl list shows those that are",
			       "minor %d is not allocated: %s", minor,
			       STRERROR(rc));
	if (!mark->ring)
		rc = bt_fail(err, -ENOTSUP,
			     "only the kernel's block devices outlive their "
			     "tapdisk",
			     "minor %d: has no block device", minor);
	else if (!mark->spec)
		rc = bt_fail(err, -ENODATA, "open one: tap-ctl open",
			     "minor %d: no image was open", minor);
	else if (!bt_mark_is_whole(mark))
		rc = bt_fail(err, -ENOTSUP,
			     "tap-ctl spawn, attach, and open with the same",
			     "minor %d: was opened with %s, of which the next "
			     "tapdisk would not know",
			     minor,
			     mark->flags & BT_MARK_PARTIAL
				     ? "-2, -e or -E"
				     : "a log whose name no mark holds");
	if (rc)
		bt_mark_fini(mark);
	return rc;
}

/* The verb's answer says that the minor is free. */
static int hand_over(struct blktap_control *control, pid_t pid, int minor,
		     struct blktap_error **err)
{
	char *json = NULL;
	int rc = blktap_control_call(control, pid, minor, "handover", NULL,
				     &json, err);

	free(json);
	return rc;
}

/* As it was open: the mark has all of it, or read_mark has refused. A device
 * that was let go and cannot be opened waits; the message says so. */
static int open_again(struct blktap_control *control, pid_t pid, int minor,
		      const struct bt_mark *mark, struct blktap_error **err)
{
	struct blktap_control_open_options o;
	int rc;

	blktap_control_open_options_init(&o);
	o.request_timeout_s = mark->timeout_s;
	o.tcp = mark->tcp;
	o.tls = mark->tls;
	o.tls_certificates = mark->tls_certificates;
	o.tls_psk = mark->tls_psk;
	o.tls_verify_peer = mark->tls_verify_peer;
	if (mark->flags & BT_WIRE_RDONLY)
		o.flags |= BLKTAP_CONTROL_READ_ONLY;
	if (mark->flags & BT_WIRE_NO_O_DIRECT)
		o.flags |= BLKTAP_CONTROL_BUFFERED;
	if (mark->flags & BT_WIRE_ADD_LCACHE)
		o.flags |= BLKTAP_CONTROL_LEAF_CACHE;
	o.log_path = mark->log;
	rc = blktap_control_attach(control, pid, minor, err);
	if (rc)
		return rc;
	rc = blktap_control_open(control, pid, minor, mark->spec, &o, err);
	if (rc) {
		bt_error_prefix(err,
				"requests to " BLKTAP_RING_DISK
				"%d wait; once this is mended, tap-ctl upgrade "
				"goes on",
				minor);
		blktap_control_detach(control, pid, minor, NULL);
	}
	return rc;
}

/* The new tapdisk is started before the old one lets go: where it cannot be,
 * nothing has changed. From the hand-over on the device waits; if the rest
 * fails, its requests wait on, and calling this again goes on from there. */
int blktap_control_upgrade(struct blktap_control *control, int minor,
			   pid_t *pid, struct blktap_error **err)
{
	struct bt_mark mark;
	pid_t old, new;
	int rc = read_mark(control, minor, &mark, err);

	if (rc)
		return rc;
	rc = find_tapdisk(control, minor, &old, err);
	if (!rc)
		rc = blktap_control_spawn(control, &new, err);
	if (rc) {
		bt_mark_fini(&mark);
		return rc;
	}
	if (old >= 0)
		rc = hand_over(control, old, minor, err);
	/* a job that ended meanwhile made another image of it */
	if (!rc && old >= 0) {
		bt_mark_fini(&mark);
		rc = read_mark(control, minor, &mark, err);
	}
	if (!rc)
		rc = open_again(control, new, minor, &mark, err);
	if (rc)
		bt_client_dismiss(control, new);
	else if (pid)
		*pid = new;
	bt_mark_fini(&mark);
	return rc;
}
