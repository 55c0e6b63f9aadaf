/* SPDX-License-Identifier: BSD-3-Clause */
/* Minors that are attached, and the disks on them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/server.h"
#include "frontend/nbd.h"
#include "util/checked.h"
#include "vbd/vbd.h"

#define BUSY_MS 1000 /* for an image whose last user was killed just now */

/* A tapdisk has few: they are looked through. */
struct bt_tap *bt_tap_find(struct blktap_control_server *server, int minor)
{
	struct bt_list *pos;

	bt_list_for_each (pos, &server->taps) {
		struct bt_tap *tap = bt_list_entry(pos, struct bt_tap, link);

		if (tap->minor == minor)
			return tap;
	}
	return NULL;
}

/* The lock is held as long as the tap is attached; the mark under it may be of
 * a tapdisk that died, whose device we are to go on with. */
int bt_tap_attach(struct blktap_control_server *server, int minor,
		  struct blktap_error **err)
{
	struct bt_tap *tap;
	int rc;

	if (bt_tap_find(server, minor))
		return bt_fail(err, -EEXIST, NULL,
			       "minor %d is attached to tapdisk %d already: %s",
			       minor, (int)server->pid, STRERROR(-EEXIST));
	tap = calloc(1, sizeof(*tap));
	if (!tap)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	rc = bt_minor_lock(&server->dir, minor, &tap->lock_fd, err);
	if (rc) {
		free(tap);
		return rc;
	}
	rc = bt_mark_read(tap->lock_fd, &tap->mark);
	if (rc) {
		bt_minor_unlock(&server->dir, minor, tap->lock_fd, false);
		free(tap);
		return bt_fail(err, rc, NULL, "minor %d: its mark: %s", minor,
			       STRERROR(rc));
	}
	tap->minor = minor;
	bt_list_init(&tap->waiting);
	bt_list_init(&tap->exports);
	bt_list_add(&server->taps, &tap->link);
	return 0;
}

/* The mark's lock goes last of what others could see: from then on another
 * tapdisk may have the minor. */
void bt_tap_detach(struct blktap_control_server *server, struct bt_tap *tap,
		   bool remove)
{
	/* They will find that it is gone. */
	bt_command_wake(server, tap);
	bt_list_del(&tap->link);
	bt_minor_unlock(&server->dir, tap->minor, tap->lock_fd, remove);
	bt_mark_fini(&tap->mark);
	free(tap);
}

/* ---- opening -------------------------------------------------------------- */

/* Any export name is accepted: each toolstack asks for one of its own. At a
 * path that follows from pid and minor, so it need not be told. */
static int serve_unix(struct blktap_control_server *server, struct bt_tap *tap,
		      struct blktap_error **err)
{
	struct blktap_nbd_options options;
	char path[BT_SUN_PATH];

	bt_rundir_nbd_path(&server->dir, server->pid, tap->minor, path);
	blktap_nbd_options_init(&options);
	options.unix_path = path;
	options.any_name = true;
	return blktap_nbd_server_create(tap->disk, &options, &tap->nbd, err);
}

/* ---- the kernel's block device -------------------------------------------- */

int bt_tap_set_name(char **to, const char *from)
{
	char *copy = from ? strdup(from) : NULL;

	free(*to);
	*to = copy;
	return from && !copy ? -ENOMEM : 0;
}

/* What is open now is what a device that outlives us was made for. NULL: none.
 */
static int record(struct bt_tap *tap, const struct bt_wire_params *params,
		  const char *spec, struct blktap_error **err)
{
	const struct bt_legacy *legacy = &tap->legacy;
	int rc = bt_tap_set_name(&tap->mark.spec, spec);

	if (!rc)
		rc = bt_tap_set_name(&tap->mark.secondary,
				     spec ? legacy->secondary : NULL);
	if (!rc)
		rc = bt_tap_set_name(&tap->mark.log, spec ? legacy->log : NULL);
	if (!spec)
		bt_tap_forget_tcp(tap);
	if (params) {
		tap->mark.flags = params->flags;
		tap->mark.timeout_s = params->req_timeout;
	}
	tap->mark.flags &= ~(BT_MARK_BESIDE | BT_WIRE_ADD_LCACHE);
	tap->mark.flags |= bt_legacy_flags(legacy);
	if (tap->mark.ring && !rc)
		rc = bt_mark_write(tap->lock_fd, &tap->mark);
	return rc ? bt_fail(err, rc, NULL, "minor %d: its mark: %s", tap->minor,
			    STRERROR(rc))
		  : 0;
}

void bt_tap_job_ended(void *opaque, int error, const char *message)
{
	struct bt_tap *tap = opaque;

	(void)error;
	(void)message;
	/* what is committed is another image from now on */
	if (tap->mark.spec)
		record(tap, NULL, blktap_disk_get_spec(tap->disk), NULL);
}

/* A device whose tapdisk died is somebody's disk: it takes no other image, and not
 * the same one without what else was written to or read. */
static int check_heir(const struct bt_tap *tap,
		      const struct bt_wire_params *params,
		      struct blktap_error **err)
{
	if (!tap->mark.spec)
		return 0;
	if (strcmp(tap->mark.spec, params->path) != 0)
		return bt_fail(err, -EEXIST,
			       "open that again, or detach and free the minor",
			       "minor %d: its tapdisk died with %s open",
			       tap->minor, tap->mark.spec);
	if ((tap->mark.flags ^ params->flags) & BT_MARK_BESIDE)
		return bt_fail(err, -EEXIST,
			       "give the same options again, or detach and "
			       "free the minor",
			       "minor %d: its tapdisk died with other options "
			       "of -2, -C, -e and -E",
			       tap->minor);
	return 0;
}

/* The same for the names, which are known when the open's options were taken. */
static int check_names(const struct bt_mark *was, const struct bt_legacy *is,
		       int minor, struct blktap_error **err)
{
	bool log = was->log && is->log && strcmp(was->log, is->log) != 0;

	if (!log && (!was->secondary || !is->secondary ||
		     !strcmp(was->secondary, is->secondary)))
		return 0;
	return bt_fail(err, -EEXIST,
		       "give the same again, or detach and free the minor",
		       "minor %d: its tapdisk died with %s as its %s", minor,
		       log ? was->log : was->secondary,
		       log ? "log" : "secondary");
}

/* What the dead had in memory is gone with it. */
static int check_inherited(struct bt_tap *tap, struct blktap_error **err)
{
	const char *node = bt_vbd_get_volatile(tap->disk);

	if (!node)
		return 0;
	return bt_fail(err, -ENODATA,
		       "detach and free the minor; what keeps data in memory "
		       "has no heir",
		       "minor %d: its tapdisk died, and what '%s' held was in "
		       "its memory",
		       tap->minor, node);
}

/* Only where the kernel has the minor, too, which its mark says. */
static int serve_ring(struct bt_tap *tap, struct blktap_error **err)
{
	struct blktap_ring_options options;

	if (!tap->mark.ring)
		return 0;
	blktap_ring_options_init(&options);
	options.minor = tap->minor;
	return blktap_ring_create(tap->disk, &options, &tap->ring, err);
}

/* Back to before: the image is closed, so its locks are gone. */
static void undo_open(struct bt_tap *tap)
{
	bt_exports_close(tap);
	blktap_nbd_server_destroy(tap->nbd);
	tap->nbd = NULL;
	blktap_disk_close(tap->disk);
	tap->disk = NULL;
	bt_legacy_fini(&tap->legacy);
}

/* The image, or the graph that it is a part of; whoever asks is told of the one
 * that was asked for. */
static int open_disk(struct blktap_control_server *server, struct bt_tap *tap,
		     const struct bt_wire_params *params,
		     const uint8_t *trailer, size_t length,
		     struct blktap_error **err)
{
	struct blktap_disk_options options;
	char *spec = NULL;
	int rc;

	blktap_disk_options_init(&options);
	if (params->flags & BT_WIRE_RDONLY)
		options.flags |= BLKTAP_OPEN_READ_ONLY;
	if (params->flags & BT_WIRE_NO_O_DIRECT)
		options.flags |= BLKTAP_OPEN_BUFFERED;
	options.deadline_ms = params->req_timeout * 1000u;
	/* a killed user's locks live as long as its last I/O */
	options.busy_ms = BUSY_MS;
	rc = bt_legacy_open(&tap->legacy, &server->dir, tap->minor, params,
			    trailer, length, err);
	if (!rc)
		rc = check_names(&tap->mark, &tap->legacy, tap->minor, err);
	if (!rc)
		rc = bt_legacy_make(&tap->legacy, &server->dir, tap->minor,
				    &spec, err);
	if (!rc)
		rc = blktap_disk_open(server->context, spec, &options,
				      &tap->disk, err);
	if (!rc && strcmp(spec, params->path) != 0 &&
	    bt_vbd_show_as(tap->disk, params->path) < 0) {
		rc = bt_fail(err, -ENOMEM, NULL, "out of memory");
		blktap_disk_close(tap->disk);
		tap->disk = NULL;
	}
	free(spec);
	if (rc)
		bt_legacy_fini(&tap->legacy);
	return rc;
}

/* In an order in which each step can be undone by those before it. The ring
 * comes last: from then on a device is there that outlives us. */
int bt_tap_open(struct blktap_control_server *server, struct bt_tap *tap,
		const struct bt_wire_params *params, const uint8_t *trailer,
		size_t length, struct blktap_error **err)
{
	bool is_heir = tap->mark.spec;
	int rc;

	if (tap->disk)
		return bt_fail(err, -EALREADY, "close it first: tap-ctl close",
			       "minor %d: %s is open: %s", tap->minor,
			       blktap_disk_get_spec(tap->disk),
			       STRERROR(-EALREADY));
	rc = check_heir(tap, params, err);
	if (!rc)
		rc = open_disk(server, tap, params, trailer, length, err);
	if (rc)
		return rc;
	rc = is_heir ? check_inherited(tap, err) : 0;
	if (!rc)
		rc = serve_unix(server, tap, err);
	if (!rc)
		rc = bt_exports_serve(server, tap, err);
	/* The mark first: a device is never without a word of what it is. */
	if (!rc)
		rc = record(tap, params, params->path, err);
	if (!rc)
		rc = serve_ring(tap, err);
	if (rc) {
		undo_open(tap);
		if (!is_heir)
			record(tap, NULL, NULL, NULL);
		return rc;
	}
	tap->was_open = true;
	return 0;
}

/* ---- closing -------------------------------------------------------------- */

/* The disk's own word: a resume that failed leaves it paused. */
static bool is_paused(const struct bt_tap *tap)
{
	struct blktap_disk_info info = { .size = sizeof(info) };

	if (!tap->disk)
		return false;
	blktap_disk_get_info(tap->disk, &info);
	return info.paused;
}

/* tap->left may detach the tap: nothing of it is touched after. */
static void on_left(void *opaque)
{
	struct bt_tap *tap = opaque;

	if (!--tap->leaving)
		tap->left(tap);
}

void bt_tap_leave(struct bt_tap *tap, void (*left)(struct bt_tap *tap))
{
	tap->left = left;
	/* one for this function, so that `left` is not called from inside of
	 * the first server's leave */
	tap->leaving = 1 + !!tap->nbd + !!tap->tcp;
	/* Requests that wait at the gate of a paused disk would never end. */
	if (is_paused(tap))
		bt_vbd_shut(tap->disk);
	if (tap->nbd)
		bt_nbd_server_leave(tap->nbd, on_left, tap);
	if (tap->tcp)
		bt_nbd_server_leave(tap->tcp, on_left, tap);
	on_left(tap);
}

/* Servers before the disk: their clients' requests are the disk's. */
static int close_disk(struct bt_tap *tap, struct blktap_error **err)
{
	int rc, exports = bt_exports_close(tap);

	blktap_nbd_server_destroy(tap->tcp);
	tap->tcp = NULL;
	blktap_nbd_server_destroy(tap->nbd);
	tap->nbd = NULL;
	rc = blktap_disk_close(tap->disk);
	rc = rc ? rc : exports;
	tap->disk = NULL;
	bt_legacy_fini(&tap->legacy);
	/* it has ended with its disk */
	blktap_job_destroy(tap->job);
	tap->job = NULL;
	if (rc)
		return bt_fail(err, rc,
			       "check the image and what was written last",
			       "minor %d: closed, but the last flush failed: "
			       "%s",
			       tap->minor, STRERROR(rc));
	return 0;
}

/* The device first, as it may be in use and everything then stays as it is. Its
 * mark is emptied before the disk is closed: nothing is left to go on with. */
int bt_tap_close(struct bt_tap *tap, bool force, struct blktap_error **err)
{
	bool paused = is_paused(tap);
	int rc;

	if (!tap->disk)
		return 0;
	/* Requests that wait at the gate of a paused disk would never end, nor
	 * would the servers that wait for them. */
	if (force && paused)
		bt_vbd_shut(tap->disk);
	/* Before the rest: what is dirty is still written, or it is in use. */
	rc = blktap_ring_destroy(tap->ring, force ? BLKTAP_RING_END_FORCE
						  : BLKTAP_RING_END_UNUSED);
	if (rc)
		return bt_fail(err, rc,
			       "unmount it, and close what has it open; or "
			       "tap-ctl close --force",
			       "minor %d: %s is in use: %s", tap->minor,
			       blktap_ring_get_path(tap->ring), STRERROR(rc));
	tap->ring = NULL;
	record(tap, NULL, NULL, NULL);
	if (force || paused)
		bt_vbd_shut(tap->disk);
	return close_disk(tap, err);
}

/* What can be told before anything is touched. */
static int check_hand_over(const struct bt_tap *tap, struct blktap_error **err)
{
	const char *node;

	if (!tap->ring)
		return bt_fail(err, -ENOTSUP,
			       "only the kernel's block devices outlive their "
			       "tapdisk",
			       "minor %d: has no block device", tap->minor);
	if (!bt_mark_is_whole(&tap->mark))
		return bt_fail(err, -ENOTSUP, "close it, and open it anew",
			       "minor %d: was opened with -2, -e or -E, of "
			       "which the next tapdisk would not know",
			       tap->minor);
	if (is_paused(tap))
		return bt_fail(err, -EBUSY, "tap-ctl unpause",
			       "minor %d is paused", tap->minor);
	node = bt_vbd_get_volatile(tap->disk);
	if (node)
		return bt_fail(
			err, -ENOTSUP, "close it, and open it anew",
			"minor %d: '%s' is in the memory of its tapdisk, "
			"which the next would not have",
			tap->minor, node);
	return 0;
}

static int not_handed_over(const struct bt_tap *tap, int rc,
			   struct blktap_error **err)
{
	return bt_fail(err, rc,
		       rc == -ENOTSUP ? "write the time it may take, in ms, to "
					"recovery_ms in sysfs"
				      : "its image fails: see the log of its "
					"tapdisk",
		       "minor %d: cannot be handed over: %s", tap->minor,
		       STRERROR(rc));
}

static void on_still(void *opaque, int error, const char *message)
{
	struct bt_tap *tap = opaque;

	(void)message;
	tap->still = true;
	tap->still_error = error;
}

static bool is_still(void *opaque)
{
	return ((struct bt_tap *)opaque)->still;
}

/* Nothing is in flight, all that was answered is on disk, and the image is closed;
 * or the disk goes on as before. */
static int make_still(struct bt_tap *tap)
{
	int rc;

	tap->still = false;
	rc = blktap_disk_pause(tap->disk, 0, on_still, tap);
	if (!rc)
		rc = bt_loop_run_until(bt_vbd_get_env(tap->disk)->loop,
				       is_still, tap, -1);
	return rc ? rc : tap->still_error;
}

/* Paused first: where its last flush fails, the disk stays with who knows of that and
 * fails every later flush, too. The next tapdisk would open the image anew, and the
 * next flush would say that all is well. Requests that come meanwhile wait in the
 * kernel's ring. The mark stays as it is: it is what the next tapdisk reads. */
int bt_tap_hand_over(struct bt_tap *tap, const bool *gone,
		     struct blktap_error **err)
{
	struct blktap_ring_info info = { .size = sizeof(info) };
	int rc = check_hand_over(tap, err);

	if (rc)
		return rc;
	blktap_ring_get_info(tap->ring, &info);
	if (!info.recovery_ms)
		return not_handed_over(tap, -ENOTSUP, err);
	rc = bt_exports_flush(tap);
	if (!rc)
		rc = make_still(tap);
	if (rc)
		return not_handed_over(tap, rc, err);
	/* nobody is there who would give the device to another */
	rc = *gone ? -ECANCELED
		   : blktap_ring_destroy(tap->ring, BLKTAP_RING_END_KEEP);
	if (rc) {
		blktap_disk_resume(tap->disk, NULL, NULL);
		return not_handed_over(tap, rc, err);
	}
	tap->ring = NULL;
	return close_disk(tap, err);
}

/* Another image, or another graph. Where it does not open, its file goes and the old
 * one's is as it was: the disk stays paused, and can be resumed as it was. */
static int resume_as(struct blktap_control_server *server, struct bt_tap *tap,
		     struct bt_legacy *next, struct blktap_error **err)
{
	char *spec = NULL;
	int rc = bt_legacy_make(next, &server->dir, tap->minor, &spec, err);

	if (!rc)
		rc = blktap_disk_resume(tap->disk, spec, err);
	if (!rc && strcmp(spec, next->image) != 0)
		bt_vbd_show_as(tap->disk, next->image);
	free(spec);
	if (!rc) {
		bt_legacy_replace(&tap->legacy, next);
		return 0;
	}
	next->key_fd = -1; /* it is the old one's */
	bt_legacy_fini(next);
	return rc;
}

/* What is recorded at the end is what runs from now on: a device's next tapdisk
 * opens that. */
int bt_tap_resume(struct blktap_control_server *server, struct bt_tap *tap,
		  const struct bt_wire_params *params, const uint8_t *trailer,
		  struct blktap_error **err)
{
	struct bt_legacy next;
	bool changed = false;
	int rc = 0;

	if (!is_paused(tap))
		return bt_fail(err, -EINVAL, "pause it first: tap-ctl pause",
			       "minor %d is not paused", tap->minor);
	if (params)
		rc = bt_legacy_resume(&next, &tap->legacy,
				      blktap_disk_get_spec(tap->disk), params,
				      trailer, &changed, err);
	if (rc)
		return rc;
	if (changed) {
		rc = resume_as(server, tap, &next, err);
	} else {
		if (params)
			bt_legacy_drop(&next);
		rc = blktap_disk_resume(tap->disk, NULL, err);
	}
	return rc ? rc
		  : record(tap, NULL, blktap_disk_get_spec(tap->disk), err);
}

/* The bits are those that toolstacks have always had for these states. */
uint32_t bt_tap_get_state(const struct bt_tap *tap)
{
	if (!tap->disk)
		return tap->was_open ? BLKTAP_STATE_CLOSED : 0;
	if (is_paused(tap))
		return BLKTAP_STATE_CLOSED | BLKTAP_STATE_QUIESCED |
		       BLKTAP_STATE_PAUSED;
	if (tap->pauser)
		return BLKTAP_STATE_PAUSE_REQUESTED |
		       BLKTAP_STATE_QUIESCE_REQUESTED;
	return 0;
}
