/* SPDX-License-Identifier: BSD-3-Clause */
/* Each call is a connection of its own, made, used and closed under one deadline,
 * which counts from the call: a tapdisk that hangs costs its caller that long at the
 * most, in whichever step. There is no state between calls but the handle's options,
 * so a tapdisk may come and go. */
#include "control/client.h"

#include <blktap/ring.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "control/socket.h"
#include "core/error.h"
#include "util/checked.h"
#include "util/options.h"
#include "util/strbuf.h"

#define DEFAULT_TIMEOUT_MS 10000
#define START_TIMEOUT_MS 30000

/* size is the caller's struct's: fields that it lacks are not written to. */
void blktap_control_options_init_sized(struct blktap_control_options *options,
				       size_t size)
{
	struct blktap_control_options all = { .size = size };

	bt_options_fill(options, size, &all, sizeof(all));
}

/* Touches neither directory nor tapdisk: a driver may be there before either.
 */
int blktap_control_create(const struct blktap_control_options *options,
			  struct blktap_control **out,
			  struct blktap_error **err)
{
	struct blktap_control_options o;
	struct blktap_control *control;
	int rc;

	blktap_control_options_init(&o);
	if (options)
		memcpy(&o, options, bt_min_u64(options->size, sizeof(o)));
	control = calloc(1, sizeof(*control));
	if (!control)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	rc = bt_rundir_init(&control->dir, o.rundir, err);
	if (rc) {
		free(control);
		return rc;
	}
	bt_log_init(&control->log);
	bt_log_set(&control->log, o.log_level, o.log, o.log_opaque, NULL);
	control->timeout_ms = o.timeout_ms ? o.timeout_ms : DEFAULT_TIMEOUT_MS;
	control->start_timeout_ms = START_TIMEOUT_MS;
	control->environment = o.environment;
	control->no_ring = o.no_ring;
	control->tapdisk = strdup(o.tapdisk ? o.tapdisk : BLKTAP_TAPDISK);
	if (!control->tapdisk) {
		blktap_control_destroy(control);
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	}
	*out = control;
	return 0;
}

/* No session is open: each call closes its own. */
void blktap_control_destroy(struct blktap_control *control)
{
	if (!control)
		return;
	bt_rundir_fini(&control->dir);
	free(control->tapdisk);
	free(control);
}

const char *blktap_control_get_rundir(const struct blktap_control *control)
{
	return control->dir.path;
}

/* By this process itself, under the locks of the directory: no tapdisk is
 * needed. */
int blktap_control_allocate(struct blktap_control *control, int *minor,
			    struct blktap_error **err)
{
	return bt_minor_allocate(&control->dir, !control->no_ring, minor, err);
}

int blktap_control_free(struct blktap_control *control, int minor,
			struct blktap_error **err)
{
	return bt_minor_free(&control->dir, minor, err);
}

/* The block device where the minor has one; else the mark, which older
 * toolstacks take as a name for it. */
char *blktap_control_minor_path(struct blktap_control *control, int minor)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	struct bt_mark mark;
	bool ring;

	bt_minor_get_mark(&control->dir, minor, &mark);
	ring = mark.ring;
	bt_mark_fini(&mark);
	if (!ring)
		return bt_rundir_minor_path(&control->dir, minor);
	bt_strbuf_printf(&sb, BLKTAP_RING_DISK "%d", minor);
	return bt_strbuf_steal(&sb);
}

/* ---- sessions ------------------------------------------------------------- */

/* Not the time of day, which may jump. */
uint64_t bt_client_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Rounded up: a deadline that is not over yet must not become a poll that does
 * not wait. */
int bt_client_timeout(uint64_t deadline_ns)
{
	uint64_t now = bt_client_now();

	if (!deadline_ns)
		return -1;
	if (now >= deadline_ns)
		return 0;
	return (int)bt_min_u64((deadline_ns - now + 999999) / 1000000,
			       INT32_MAX);
}

/* The deadline of the whole session begins here. What only tells that nobody is
 * there is one error to a caller. */
int bt_session_open(struct bt_session *session,
		    const struct blktap_control *control, pid_t pid,
		    uint32_t timeout_ms, struct blktap_error **err)
{
	char path[BT_SUN_PATH];
	int rc;

	session->control = control;
	session->pid = pid;
	session->deadline_ns =
		timeout_ms ? bt_client_now() + timeout_ms * (uint64_t)1000000
			   : 0;
	bt_rundir_control_path(&control->dir, pid, path);
	rc = pid > 0 ? bt_socket_connect(path, &session->fd) : -ENOENT;
	/* a name that a dead tapdisk left behind */
	if (rc == -ECONNREFUSED)
		rc = -ENOENT;
	if (!rc)
		return 0;
	return bt_fail(err, rc,
		       rc == -ENOENT ? "tap-ctl list shows those that run"
				     : NULL,
		       rc == -ENOENT ? "tapdisk %d is not running in %s: %s"
				     : "tapdisk %d in %s: %s",
		       (int)pid, control->dir.path, STRERROR(rc));
}

void bt_session_close(struct bt_session *session)
{
	close(session->fd);
}

static int fail_io(const struct bt_session *session, int rc,
		   struct blktap_error **err)
{
	/* A peer that went away in the middle is one thing to a caller. */
	if (rc == -ECONNRESET || rc == -EPIPE)
		rc = -EPROTO;
	return bt_fail(
		err, rc,
		rc == -ETIMEDOUT
			? "it may be waiting for its storage; see its log"
			: NULL,
		"tapdisk %d %s: %s", (int)session->pid,
		rc == -ETIMEDOUT ? "did not answer in time"
		: rc == -EPROTO	 ? "ended the connection without an answer"
				 : "cannot be talked to",
		STRERROR(rc));
}

/* Interruptions do not move the deadline. */
static int wait_for(struct bt_session *session, short events)
{
	struct pollfd p = { .fd = session->fd, .events = events };
	int rc;

	do
		rc = poll(&p, 1, bt_client_timeout(session->deadline_ns));
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return -errno;
	return rc ? 0 : -ETIMEDOUT;
}

/* One of read and write. The socket does not block; the deadline is looked at
 * before each step. */
static int transfer(struct bt_session *session, void *buf, size_t length,
		    short events, struct blktap_error **err)
{
	char *p = buf;
	ssize_t n;
	int rc;

	while (length) {
		rc = wait_for(session, events);
		if (rc)
			return fail_io(session, rc, err);
		n = events == POLLIN
			    ? recv(session->fd, p, length, 0)
			    : send(session->fd, p, length, MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return fail_io(session, n ? -errno : -EPROTO, err);
		p += n;
		length -= (size_t)n;
	}
	return 0;
}

/* What is logged leaves the trailer out, which may hold a key. */
int bt_session_send(struct bt_session *session, const struct bt_message *msg,
		    const void *trailer, size_t length,
		    struct blktap_error **err)
{
	uint8_t buf[BT_WIRE_SIZE];
	int rc;

	bt_log(&session->control->log, BLKTAP_LOG_DEBUG,
	       "to tapdisk %d: %s minor %d, %zu bytes behind it",
	       (int)session->pid, bt_wire_type_name(msg->type),
	       (int)msg->cookie, length);
	bt_wire_encode(msg, buf);
	rc = transfer(session, buf, sizeof(buf), POLLOUT, err);
	if (!rc)
		rc = transfer(session, (void *)trailer, length, POLLOUT, err);
	return rc;
}

/* A length is another program's word: it is bounded before memory is taken for
 * it. */
int bt_session_text(struct bt_session *session, uint64_t length, char **out,
		    struct blktap_error **err)
{
	char *text;
	int rc;

	if (length > BT_WIRE_REPLY_MAX)
		return bt_fail(err, -EPROTO, NULL,
			       "tapdisk %d announces an answer of %llu bytes",
			       (int)session->pid, (unsigned long long)length);
	text = calloc(1, length + 1);
	if (!text)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	rc = transfer(session, text, length, POLLIN, err);
	if (rc)
		free(text);
	else
		*out = text;
	return rc;
}

/* "message\nhint" of a server of ours, or the short text of another. The number
 * is checked, too: it becomes an errno of ours. */
static int take_error(struct bt_session *session,
		      const struct bt_wire_response *response,
		      struct blktap_error **err)
{
	int rc = -response->error;
	char *text = NULL, *hint;

	if (rc >= 0 || rc < -4095)
		rc = -EPROTO;
	if (response->more && response->more <= BT_WIRE_ERROR_MAX)
		bt_session_text(session, response->more, &text, NULL);
	if (!text)
		text = strdup(response->text);
	if (!text || !*text) {
		free(text);
		return bt_fail(err, rc, NULL, "tapdisk %d: %s",
			       (int)session->pid, STRERROR(rc));
	}
	/* a message may have lines, as what is wrong with a file; a hint is one */
	hint = strrchr(text, '\n');
	if (hint)
		*hint++ = '\0';
	bt_fail(err, rc, hint && *hint ? hint : NULL, "%s", text);
	free(text);
	return rc;
}

/* A type that was not asked for is another program's answer, or another
 * version's; nothing of it is used. */
int bt_session_receive(struct bt_session *session, uint16_t type,
		       struct bt_message *msg, struct blktap_error **err)
{
	uint8_t buf[BT_WIRE_SIZE];
	int rc = transfer(session, buf, sizeof(buf), POLLIN, err);

	if (rc)
		return rc;
	rc = bt_wire_decode(buf, msg);
	bt_log(&session->control->log, BLKTAP_LOG_DEBUG,
	       "from tapdisk %d: %s minor %d", (int)session->pid,
	       bt_wire_type_name(msg->type), (int)msg->cookie);
	if (!rc &&
	    (msg->type == BT_WIRE_ERROR || msg->type == BT_WIRE_RUNTIME_ERROR))
		return take_error(session, &msg->u.response, err);
	if (!rc && msg->type == type)
		return 0;
	return bt_fail(err, -EPROTO, "is it a tapdisk of another version?",
		       "tapdisk %d answers with a message of type %u: %s",
		       (int)session->pid, (unsigned int)msg->type,
		       STRERROR(-EPROTO));
}

/* The most common session: one message there, one back. */
int bt_session_run(const struct blktap_control *control, pid_t pid,
		   uint32_t timeout_ms, const struct bt_message *request,
		   uint16_t type, struct bt_message *answer,
		   struct blktap_error **err)
{
	struct bt_session session;
	int rc = bt_session_open(&session, control, pid, timeout_ms, err);

	if (rc)
		return rc;
	rc = bt_session_send(&session, request, NULL, 0, err);
	if (!rc)
		rc = bt_session_receive(&session, type, answer, err);
	bt_session_close(&session);
	return rc;
}
