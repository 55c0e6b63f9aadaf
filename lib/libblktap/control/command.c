/* SPDX-License-Identifier: BSD-3-Clause */
/* What each message does, and when: the rules stand in server.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/server.h"
#include "util/checked.h"
#include "vbd/vbd.h"

/* Whether the cookie names a minor that the command is about. */
enum about { NO_TAP, MAYBE_TAP, A_TAP };

struct command {
	/* Adds the answer. It comes later where conn is RUNNING after a command
	 * that does not wait, or queued after one that does. */
	void (*fn)(struct bt_conn *conn, struct bt_tap *tap);
	enum about about;
	bool exclusive; /* not while its tap is busy */
	/* in such a function the loop may turn: other commands run, and conn
	 * may get `gone` */
	bool waits; /* runs behind the turn */
};

/* 0 is "ok" of that type. */
static void answer(struct bt_conn *conn, uint16_t type, int rc,
		   struct blktap_error *err)
{
	if (rc)
		bt_conn_error(conn, rc, err);
	else
		bt_conn_ok(conn, type);
}

/* Attached, and nothing is open on it. */
static int no_image(const struct bt_conn *conn, struct blktap_error **err)
{
	return bt_fail(err, -ENODEV, "open one first: tap-ctl open",
		       "minor %d: no image is open: %s", (int)conn->msg.cookie,
		       STRERROR(-ENODEV));
}

/* Who can connect knows the pid by the socket's name; older drivers ask all the
 * same. */
static void get_pid(struct bt_conn *conn, struct bt_tap *tap)
{
	struct bt_message msg = { .type = BT_WIRE_PID_RSP,
				  .cookie = conn->msg.cookie,
				  .u.pid = conn->server->pid };

	bt_conn_reply(conn, &msg, NULL, 0);
}

/* A tapdisk that ends takes no more minors: it would be gone before they are
 * used. */
static void attach(struct bt_conn *conn, struct bt_tap *tap)
{
	struct blktap_error *err = NULL;
	int rc;

	if (conn->server->finishing)
		rc = bt_fail(&err, -ENOENT, "spawn another",
			     "tapdisk %d is ending", (int)conn->server->pid);
	else
		rc = bt_tap_attach(conn->server, conn->msg.cookie, &err);
	answer(conn, BT_WIRE_ATTACH_RSP, rc, err);
}

/* Requests that are here already are answered; the program ends when the last
 * of them is. */
void bt_command_finish(struct blktap_control_server *server)
{
	server->finishing = true;
	bt_server_stop_listening(server);
}

static void detach(struct bt_conn *conn, struct bt_tap *tap)
{
	struct blktap_control_server *server = conn->server;
	struct blktap_error *err = NULL;
	int rc = 0;

	if (tap->disk)
		rc = bt_fail(&err, -EBUSY, "close it first: tap-ctl close",
			     "minor %d: %s is open: %s", tap->minor,
			     blktap_disk_get_spec(tap->disk), STRERROR(-EBUSY));
	else
		/* the mark stays, and so the minor: it can be attached again,
		 * or freed */
		bt_tap_detach(server, tap, false);
	/* Before the answer: who has it does not find us any more. */
	if (!rc && bt_list_empty(&server->taps))
		bt_command_finish(server);
	answer(conn, BT_WIRE_DETACH_RSP, rc, err);
}

/* 512 stands for a sector in the old messages, whatever the disk's blocks are.
 */
static void put_image(struct bt_conn *conn, uint16_t type, struct bt_tap *tap)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct bt_message msg = { .type = type, .cookie = conn->msg.cookie };

	blktap_disk_get_info(tap->disk, &info);
	msg.u.image.sectors = info.length / 512;
	msg.u.image.sector_size = 512;
	bt_conn_reply(conn, &msg, NULL, 0);
}

/* The whole trailer is there: conn.c has waited for it. */
static void open_image(struct bt_conn *conn, struct bt_tap *tap)
{
	struct blktap_error *err = NULL;
	size_t length;
	const uint8_t *trailer = bt_conn_trailer(conn, &length);
	int rc = bt_tap_open(conn->server, tap, &conn->msg.u.params, trailer,
			     length, &err);

	if (rc)
		bt_conn_error(conn, rc, err);
	else
		put_image(conn, BT_WIRE_OPEN_RSP, tap);
}

/* What the image says now, which a resize may have changed since it was opened.
 */
static void get_info(struct bt_conn *conn, struct bt_tap *tap)
{
	struct blktap_error *err = NULL;

	if (tap->disk)
		put_image(conn, BT_WIRE_DISK_INFO_RSP, tap);
	else
		bt_conn_error(conn, no_image(conn, &err), err);
}

/* The answer of a forced one is that of a close, as it always was. */
static void end_close(struct bt_conn *conn, struct bt_tap *tap)
{
	struct blktap_error *err = NULL;
	int rc = bt_tap_close(tap, conn->msg.type == BT_WIRE_FORCE_SHUTDOWN,
			      &err);

	answer(conn, BT_WIRE_CLOSE_RSP, rc, err);
}

/* From a callback of the loop: the close itself waits, and so runs behind the
 * turn. */
static void close_behind_turn(struct bt_tap *tap)
{
	struct bt_conn *conn = tap->pauser;
	struct blktap_control_server *server = conn->server;

	tap->pauser = NULL;
	conn->next = BT_NEXT_CLOSE;
	bt_list_add_tail(&server->ready, &conn->queue_link);
	bt_loop_after(server->loop, &server->run);
}

/* Nothing is in flight any more, or the last flush failed, which the close will
 * find again and report. */
static void on_drained(void *opaque, int error, const char *message)
{
	(void)error;
	(void)message;
	bt_tap_leave(opaque, close_behind_turn);
}

/* A disk may have to wait long for what is under way, and its clients may be slow
 * to take their last replies; others are not to wait with it. So it is paused
 * first, then its clients are left, and it is closed when that has been done. */
static void close_image(struct bt_conn *conn, struct bt_tap *tap)
{
	/* A block device is served until it is gone, see bt_tap_close. */
	bool served = tap->ring;

	if (tap->disk && !served && conn->msg.type == BT_WIRE_FORCE_SHUTDOWN)
		bt_vbd_shut(tap->disk);
	tap->pauser = conn;
	tap->busy = true;
	conn->state = BT_CONN_RUNNING;
	if (!tap->disk || served)
		close_behind_turn(tap);
	else if (blktap_disk_pause(tap->disk, 0, on_drained, tap))
		bt_tap_leave(tap, close_behind_turn); /* it stands still */
}

/* The disk is paused, or is running as before. The client may have left (gone)
 * while it was waited for. */
static void on_paused(void *opaque, int error, const char *message)
{
	struct bt_tap *tap = opaque;
	struct bt_conn *conn = tap->pauser;
	struct blktap_control_server *server = conn->server;
	struct blktap_error *err = NULL;

	tap->pauser = NULL;
	if (!error && conn->gone) {
		/* Nobody knows of the pause, so nobody would end it. */
		conn->next = BT_NEXT_UNDO_PAUSE;
		bt_list_add_tail(&server->ready, &conn->queue_link);
		bt_loop_after(server->loop, &server->run);
		return;
	}
	if (error)
		bt_fail(&err, error, "see tap-ctl stats for what is under way",
			"minor %d cannot be paused: %s", tap->minor, message);
	answer(conn, BT_WIRE_PAUSE_RSP, error, err);
	bt_conn_answer(conn);
	tap->busy = false;
	bt_command_wake(server, tap);
}

static void pause_disk(struct bt_conn *conn, struct bt_tap *tap)
{
	struct blktap_error *err = NULL;
	int rc;

	if (!tap->disk) {
		rc = no_image(conn, &err);
	} else if (bt_tap_get_state(tap) & BLKTAP_STATE_PAUSED) {
		rc = 0;
	} else {
		tap->pauser = conn;
		tap->busy = true;
		conn->state = BT_CONN_RUNNING;
		rc = blktap_disk_pause(tap->disk,
				       conn->msg.u.params.req_timeout * 1000u,
				       on_paused, tap);
		if (!rc)
			return;
		tap->pauser = NULL;
		tap->busy = false;
		/* as before: the answer goes out now */
		conn->state = BT_CONN_QUEUED;
		bt_fail(&err, rc, NULL, "minor %d cannot be paused: %s",
			tap->minor, STRERROR(rc));
	}
	answer(conn, BT_WIRE_PAUSE_RSP, rc, err);
}

/* Its parameters are those of an open: what is not given stays as it was. */
static void resume_disk(struct bt_conn *conn, struct bt_tap *tap)
{
	struct blktap_error *err = NULL;
	size_t length;
	const uint8_t *trailer = bt_conn_trailer(conn, &length);
	int rc = bt_tap_resume(conn->server, tap, &conn->msg.u.params, trailer,
			       &err);

	answer(conn, BT_WIRE_RESUME_RSP, rc, err);
}

/* Each row counts down to the one that names no disk, as toolstacks expect. */
static void list(struct bt_conn *conn, struct bt_tap *unused)
{
	struct bt_message msg = { .type = BT_WIRE_LIST_RSP,
				  .cookie = conn->msg.cookie };
	struct bt_list *taps = &conn->server->taps, *pos;
	struct bt_wire_list *row = &msg.u.list;

	bt_list_for_each (pos, taps)
		row->count++;
	bt_list_for_each (pos, taps) {
		struct bt_tap *tap = bt_list_entry(pos, struct bt_tap, link);

		row->minor = tap->minor;
		row->state = (int32_t)bt_tap_get_state(tap);
		memset(row->path, 0, sizeof(row->path));
		if (tap->disk)
			strncpy(row->path, blktap_disk_get_spec(tap->disk),
				sizeof(row->path) - 1);
		bt_conn_reply(conn, &msg, NULL, 0);
		row->count--;
	}
	memset(row, 0, sizeof(*row));
	row->minor = -1;
	bt_conn_reply(conn, &msg, NULL, 0);
}

/* A disk's object, or the array of all. The whole answer is made at once, in
 * memory. */
static int collect_stats(struct bt_conn *conn, struct bt_strbuf *out,
			 struct blktap_error **err)
{
	bool all = conn->msg.cookie == BT_WIRE_ALL, any = false;
	struct bt_list *pos;
	char *text;

	if (all)
		bt_strbuf_puts(out, "[ ");
	bt_list_for_each (pos, &conn->server->taps) {
		struct bt_tap *tap = bt_list_entry(pos, struct bt_tap, link);

		if (!tap->disk || (!all && tap->minor != conn->msg.cookie))
			continue;
		text = blktap_disk_get_stats_json(tap->disk, true);
		if (!text)
			return bt_fail(err, -ENOMEM, NULL, "out of memory");
		bt_strbuf_printf(out, "%s%s", any ? ", " : "", text);
		free(text);
		any = true;
	}
	if (all)
		bt_strbuf_puts(out, " ]");
	return any || all ? 0 : no_image(conn, err);
}

/* The text's length goes ahead of it, so it has to be whole before a byte is
 * sent. */
static void get_stats(struct bt_conn *conn, struct bt_tap *tap)
{
	struct bt_message msg = { .type = BT_WIRE_STATS_RSP,
				  .cookie = conn->msg.cookie };
	struct bt_strbuf text = BT_STRBUF_INIT;
	struct blktap_error *err = NULL;
	int rc = collect_stats(conn, &text, &err);

	if (!rc && text.failed)
		rc = bt_fail(&err, -ENOMEM, NULL, "out of memory");
	if (rc) {
		bt_conn_error(conn, rc, err);
	} else {
		msg.u.stat.length = text.len;
		bt_conn_reply(conn, &msg, text.data, text.len);
	}
	bt_strbuf_fini(&text);
}

/* Answered rather than unknown, since drivers ask for them by these types: they
 * are told what to do instead. */
static void no_xen(struct bt_conn *conn, struct bt_tap *tap)
{
	struct blktap_error *err = NULL;
	int rc = bt_fail(&err, -EOPNOTSUPP, "use the disk's NBD socket",
			 "%s: this tapdisk has no Xen rings: %s",
			 bt_wire_type_name(conn->msg.type),
			 STRERROR(-EOPNOTSUPP));

	bt_conn_error(conn, rc, err);
}

/* It waits for a tap that is busy, and goes on from there. */
static void end_all(struct bt_conn *conn, struct bt_tap *unused)
{
	struct blktap_control_server *server = conn->server;
	struct blktap_error *err = NULL;
	int rc = 0, first = 0;

	bt_command_finish(server);
	while (!bt_list_empty(&server->taps)) {
		struct bt_tap *tap =
			bt_list_first(&server->taps, struct bt_tap, link);

		/* A pause that is under way finds its tap. */
		if (tap->busy) {
			conn->state = BT_CONN_QUEUED;
			bt_list_add_tail(&tap->waiting, &conn->queue_link);
			return;
		}
		rc = bt_tap_close(tap, true, first ? NULL : &err);
		if (rc && !first)
			first = rc;
		bt_tap_detach(server, tap, true);
	}
	answer(conn, BT_WIRE_EXIT, first, err);
}

/* The verb was found before, or this would not run. */
static void run_verb(struct bt_conn *conn, struct bt_tap *tap)
{
	bt_verb_run(conn, bt_verb_find(conn->msg.u.ext.verb), tap);
}

static const struct command commands[] = {
	[BT_WIRE_PID] = { get_pid, NO_TAP, false, false },
	[BT_WIRE_ATTACH] = { attach, NO_TAP, false, false },
	[BT_WIRE_OPEN] = { open_image, A_TAP, true, true },
	[BT_WIRE_PAUSE] = { pause_disk, A_TAP, true, false },
	[BT_WIRE_RESUME] = { resume_disk, A_TAP, true, true },
	[BT_WIRE_CLOSE] = { close_image, A_TAP, true, false },
	[BT_WIRE_DETACH] = { detach, A_TAP, true, true },
	[BT_WIRE_LIST] = { list, NO_TAP, false, false },
	[BT_WIRE_STATS] = { get_stats, MAYBE_TAP, false, false },
	[BT_WIRE_FORCE_SHUTDOWN] = { close_image, A_TAP, true, false },
	[BT_WIRE_XENBLKIF_CONNECT] = { no_xen, NO_TAP, false, false },
	[BT_WIRE_XENBLKIF_DISCONNECT] = { no_xen, NO_TAP, false, false },
	[BT_WIRE_DISK_INFO] = { get_info, A_TAP, false, false },
	[BT_WIRE_EXIT] = { end_all, NO_TAP, false, true },
};

/* Fills *out; false where an error was answered. Types of answers have no
 * function, so they are no requests. */
static bool find_command(struct bt_conn *conn, struct command *out)
{
	uint16_t type = conn->msg.type;
	struct blktap_error *err = NULL;
	const struct bt_verb *verb;

	if (type < BT_ARRAY_SIZE(commands) && commands[type].fn) {
		*out = commands[type];
		return true;
	}
	if (type != BT_WIRE_EXT) {
		bt_fail(&err, -EINVAL, NULL, "%s is no request: %s",
			bt_wire_type_name(type), STRERROR(-EINVAL));
		bt_conn_error(conn, -EINVAL, err);
		return false;
	}
	verb = bt_verb_find(conn->msg.u.ext.verb);
	if (!verb) {
		bt_fail(&err, -ENOTSUP, "verb 'help' lists them",
			"verb '%s' is unknown: %s", conn->msg.u.ext.verb,
			STRERROR(-ENOTSUP));
		bt_conn_error(conn, -ENOTSUP, err);
		return false;
	}
	*out = (struct command){ run_verb, verb->needs_tap ? A_TAP : MAYBE_TAP,
				 verb->waits, verb->waits };
	return true;
}

/* False where an error was answered. Looked up again each time that the command
 * is about to run: the tap may have gone while it waited. */
static bool find_tap(struct bt_conn *conn, enum about about,
		     struct bt_tap **out)
{
	struct blktap_error *err = NULL;
	uint16_t minor = conn->msg.cookie;

	*out = NULL;
	if (about == NO_TAP || (about == MAYBE_TAP && minor == BT_WIRE_ALL))
		return true;
	*out = bt_tap_find(conn->server, minor);
	if (*out)
		return true;
	bt_fail(&err, -ENODEV, "tap-ctl list shows its minors",
		"minor %d is not attached to tapdisk %d: %s", (int)minor,
		(int)conn->server->pid, STRERROR(-ENODEV));
	bt_conn_error(conn, -ENODEV, err);
	return false;
}

/* A command that may wait, behind the turn. */
static void run_waiting(struct bt_conn *conn, const struct command *command,
			struct bt_tap *tap)
{
	struct blktap_control_server *server = conn->server;
	int minor = tap ? tap->minor : -1;

	conn->state = BT_CONN_RUNNING;
	if (tap)
		tap->busy = true;
	command->fn(conn, tap);
	/* It may have detached the tap. */
	tap = tap ? bt_tap_find(server, minor) : NULL;
	if (tap) {
		tap->busy = false;
		bt_command_wake(server, tap);
	}
	if (conn->state == BT_CONN_RUNNING)
		bt_conn_answer(conn);
}

/* outside: behind the turn. Called when the request is whole, and again
 * whenever it was queued. A command that waits is run behind the turn only; one
 * that does not may run inside. */
static void run(struct bt_conn *conn, bool outside)
{
	struct blktap_control_server *server = conn->server;
	struct command command;
	struct bt_tap *tap;

	conn->state = BT_CONN_QUEUED;
	if (!find_command(conn, &command) ||
	    !find_tap(conn, command.about, &tap)) {
		bt_conn_answer(conn);
	} else if (tap && command.exclusive && tap->busy) {
		bt_list_add_tail(&tap->waiting, &conn->queue_link);
	} else if (command.waits && !outside) {
		bt_list_add_tail(&server->ready, &conn->queue_link);
		bt_loop_after(server->loop, &server->run);
	} else if (command.waits) {
		run_waiting(conn, &command, tap);
	} else {
		command.fn(conn, tap);
		if (conn->state == BT_CONN_QUEUED)
			bt_conn_answer(conn);
	}
}

/* Called within the turn, from the socket's event. */
void bt_command_start(struct bt_conn *conn)
{
	run(conn, false);
}

/* All of them: each looks again whether the tap is busy, and waits on in the
 * order of coming. */
void bt_command_wake(struct blktap_control_server *server, struct bt_tap *tap)
{
	if (bt_list_empty(&tap->waiting))
		return;
	bt_list_splice_tail(&server->ready, &tap->waiting);
	bt_loop_after(server->loop, &server->run);
}

/* The client of a pause left before it was answered. */
static void undo_pause(struct bt_conn *conn)
{
	struct blktap_control_server *server = conn->server;
	struct bt_tap *tap = bt_tap_find(server, conn->msg.cookie);
	struct blktap_error *err = NULL;

	if (bt_tap_resume(server, tap, NULL, NULL, &err))
		bt_log(server->log, BLKTAP_LOG_ERROR,
		       "minor %d: its client left during a pause, and it "
		       "cannot be resumed: %s",
		       tap->minor, blktap_error_get_message(err));
	blktap_error_destroy(err);
	tap->busy = false;
	bt_command_wake(server, tap);
	bt_conn_destroy(conn);
}

/* The tap is there: it has been busy since the close began. */
static void finish_close(struct bt_conn *conn)
{
	struct blktap_control_server *server = conn->server;
	struct bt_tap *tap = bt_tap_find(server, conn->msg.cookie);

	conn->next = BT_NEXT_RUN;
	end_close(conn, tap);
	tap->busy = false;
	bt_command_wake(server, tap);
	bt_conn_answer(conn);
}

/* One after another, each to its end. What a command wakes comes to the end of
 * the same list. */
void bt_command_run_ready(struct bt_work *work)
{
	struct blktap_control_server *server =
		bt_list_entry(work, struct blktap_control_server, run);
	struct bt_list *node;

	while ((node = bt_list_pop(&server->ready))) {
		struct bt_conn *conn =
			bt_list_entry(node, struct bt_conn, queue_link);

		if (conn->next == BT_NEXT_UNDO_PAUSE)
			undo_pause(conn);
		else if (conn->next == BT_NEXT_CLOSE)
			finish_close(conn);
		else
			run(conn, true);
	}
}
