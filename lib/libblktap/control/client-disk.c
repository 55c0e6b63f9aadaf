/* SPDX-License-Identifier: BSD-3-Clause */
/* What is done to one disk. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/client.h"
#include "core/error.h"
#include "util/checked.h"
#include "util/options.h"
#include "util/strbuf.h"

/* A request about a minor and nothing else; its answer says that it went well. */
static int simple(const struct blktap_control *control, pid_t pid, int minor,
		  uint16_t type, uint16_t answer_type, uint32_t timeout_s,
		  struct blktap_error **err)
{
	struct bt_message msg = { .type = type, .cookie = (uint16_t)minor };
	struct bt_message answer;
	int rc = bt_minor_check(minor, err);

	if (rc)
		return rc;
	if (timeout_s > UINT16_MAX)
		timeout_s = UINT16_MAX;
	msg.u.params.req_timeout = (uint16_t)timeout_s;
	/* The tapdisk gives up by itself, and says more than a timeout here. */
	rc = bt_session_run(control, pid,
			    timeout_s ? timeout_s * 1000 + 1000 : 0, &msg,
			    answer_type, &answer, err);
	if (!rc && answer.u.response.error)
		rc = bt_fail(err, -EPROTO, NULL,
			     "tapdisk %d: answers %s with error %d", (int)pid,
			     bt_wire_type_name(type), answer.u.response.error);
	return rc;
}

/* No time limit on these: a tapdisk that waits for its storage is not made
 * better by a client that leaves. */
int blktap_control_attach(struct blktap_control *control, pid_t pid, int minor,
			  struct blktap_error **err)
{
	return simple(control, pid, minor, BT_WIRE_ATTACH, BT_WIRE_ATTACH_RSP,
		      0, err);
}

int blktap_control_detach(struct blktap_control *control, pid_t pid, int minor,
			  struct blktap_error **err)
{
	return simple(control, pid, minor, BT_WIRE_DETACH, BT_WIRE_DETACH_RSP,
		      0, err);
}

int blktap_control_close(struct blktap_control *control, pid_t pid, int minor,
			 bool force, uint32_t timeout_s,
			 struct blktap_error **err)
{
	return simple(control, pid, minor,
		      force ? BT_WIRE_FORCE_SHUTDOWN : BT_WIRE_CLOSE,
		      BT_WIRE_CLOSE_RSP, timeout_s, err);
}

int blktap_control_pause(struct blktap_control *control, pid_t pid, int minor,
			 uint32_t timeout_s, struct blktap_error **err)
{
	return simple(control, pid, minor, BT_WIRE_PAUSE, BT_WIRE_PAUSE_RSP,
		      timeout_s, err);
}

void blktap_control_open_options_init_sized(
	struct blktap_control_open_options *options, size_t size)
{
	struct blktap_control_open_options all = { .size = size,
						   .parent_minor = -1 };

	bt_options_fill(options, size, &all, sizeof(all));
}

/* A path that is too long is refused here: cut, it would name another file. */
static int put_text(char out[BT_WIRE_PATH], const char *text,
		    struct blktap_error **err)
{
	if (strlen(text) >= BT_WIRE_PATH)
		return bt_fail(err, -ENAMETOOLONG,
			       "use a shorter path, or a symbolic link",
			       "it has %zu bytes of %d at most: %s",
			       strlen(text), BT_WIRE_PATH - 1,
			       STRERROR(-ENAMETOOLONG));
	strcpy(out, text);
	return 0;
}

/* The trailer's order is the protocol's: log, then key. Times that do not fit
 * the message are the longest that do. */
static int put_options(struct bt_wire_params *p,
		       const struct blktap_control_open_options *o,
		       struct bt_strbuf *trailer, struct blktap_error **err)
{
	char log_path[BT_WIRE_PATH] = { 0 };
	int rc = 0;

	p->flags =
		(o->flags & BLKTAP_CONTROL_READ_ONLY ? BT_WIRE_RDONLY : 0) |
		(o->flags & BLKTAP_CONTROL_BUFFERED ? BT_WIRE_NO_O_DIRECT : 0) |
		(o->flags & BLKTAP_CONTROL_STANDBY ? BT_WIRE_STANDBY : 0) |
		(o->flags & BLKTAP_CONTROL_LEAF_CACHE ? BT_WIRE_ADD_LCACHE : 0);
	p->req_timeout = (uint16_t)bt_min_u64(o->request_timeout_s, UINT16_MAX);
	if (o->parent_minor >= 0) {
		p->flags |= BT_WIRE_REUSE_PRT;
		p->prt_devnum = (uint32_t)o->parent_minor;
	}
	if (o->secondary) {
		p->flags |= BT_WIRE_SECONDARY;
		rc = put_text(p->secondary, o->secondary, err);
	}
	if (!rc && o->log_path) {
		p->flags |= BT_WIRE_ADD_LOG;
		rc = put_text(log_path, o->log_path, err);
		bt_strbuf_add(trailer, log_path, sizeof(log_path));
	}
	if (!rc && o->key) {
		p->flags |= BT_WIRE_OPEN_ENCRYPTED;
		if (o->key_length > BT_WIRE_KEY_MAX)
			return bt_fail(err, -EINVAL, NULL,
				       "key: longer than %d bytes",
				       BT_WIRE_KEY_MAX);
		bt_strbuf_putc(trailer, (char)o->key_length);
		bt_strbuf_add(trailer, o->key, o->key_length);
	}
	return rc;
}

/* Opening may take long, and its client waits for as long. */
static int send_params(const struct blktap_control *control, pid_t pid,
		       struct bt_message *msg, struct bt_strbuf *trailer,
		       uint16_t answer_type, struct blktap_error **err)
{
	struct bt_session session;
	struct bt_message answer;
	int rc;

	if (trailer->failed)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	rc = bt_session_open(&session, control, pid, 0, err);
	if (rc)
		return rc;
	rc = bt_session_send(&session, msg, bt_strbuf_str(trailer),
			     trailer->len, err);
	if (!rc)
		rc = bt_session_receive(&session, answer_type, &answer, err);
	bt_session_close(&session);
	return rc;
}

/* OPEN and RESUME, which carry the same. The trailer may hold a key, so it is
 * wiped. */
static int open_or_resume(struct blktap_control *control, pid_t pid, int minor,
			  const char *spec,
			  const struct blktap_control_open_options *options,
			  uint16_t type, struct blktap_error **err)
{
	struct bt_message msg = { .type = type, .cookie = (uint16_t)minor };
	struct bt_strbuf trailer = BT_STRBUF_INIT;
	struct blktap_control_open_options o;
	int rc = bt_minor_check(minor, err);

	blktap_control_open_options_init(&o);
	if (options)
		memcpy(&o, options, bt_min_u64(options->size, sizeof(o)));
	if (!rc && spec)
		rc = put_text(msg.u.params.path, spec, err);
	if (!rc)
		rc = put_options(&msg.u.params, &o, &trailer, err);
	if (!rc)
		rc = send_params(control, pid, &msg, &trailer, type + 1, err);
	if (trailer.data)
		explicit_bzero(trailer.data, trailer.cap);
	bt_strbuf_fini(&trailer);
	return rc;
}

static void add_param(struct bt_strbuf *sb, const char *params[], int *n,
		      const char *key, const char *value)
{
	if (!value)
		return;
	bt_strbuf_printf(sb, "%s=%s", key, value);
	params[(*n)++] = bt_strbuf_str(sb);
}

/* The old message has no place for an address: serving it is a verb. With TLS the
 * address has another name, so that a tapdisk which knows none does not serve it
 * without. */
static int serve_tcp(struct blktap_control *control, pid_t pid, int minor,
		     const struct blktap_control_open_options *o,
		     struct blktap_error **err)
{
	struct bt_strbuf texts[5] = { { NULL } };
	const char *params[6] = { NULL };
	char *json = NULL;
	int i, n = 0, rc;

	add_param(&texts[0], params, &n, o->tls ? "tls-tcp" : "tcp", o->tcp);
	add_param(&texts[1], params, &n, "tls", o->tls);
	add_param(&texts[2], params, &n, "tls-certificates",
		  o->tls_certificates);
	add_param(&texts[3], params, &n, "tls-psk", o->tls_psk);
	add_param(&texts[4], params, &n, "tls-verify-peer",
		  o->tls_verify_peer ? "1" : NULL);
	rc = blktap_control_call(control, pid, minor, "serve", params, &json,
				 err);
	free(json);
	for (i = 0; i < 5; i++)
		bt_strbuf_fini(&texts[i]);
	return rc;
}

/* tcp is read only where the caller's struct has it. An image that cannot be
 * served there is closed again: an open that failed leaves nothing. */
int blktap_control_open(struct blktap_control *control, pid_t pid, int minor,
			const char *spec,
			const struct blktap_control_open_options *options,
			struct blktap_error **err)
{
	struct blktap_control_open_options o;
	int rc;

	blktap_control_open_options_init(&o);
	if (options)
		memcpy(&o, options, bt_min_u64(options->size, sizeof(o)));
	if (!o.tcp && (o.tls || o.tls_certificates || o.tls_psk))
		return bt_fail(err, -EINVAL, "give an address, too",
			       "minor %d: TLS is for TCP", minor);
	rc = open_or_resume(control, pid, minor, spec, options, BT_WIRE_OPEN,
			    err);
	if (rc || !o.tcp)
		return rc;
	rc = serve_tcp(control, pid, minor, &o, err);
	if (rc)
		blktap_control_close(control, pid, minor, false, 0, NULL);
	return rc;
}

int blktap_control_resume(struct blktap_control *control, pid_t pid, int minor,
			  const char *spec,
			  const struct blktap_control_open_options *options,
			  struct blktap_error **err)
{
	return open_or_resume(control, pid, minor, spec, options,
			      BT_WIRE_RESUME, err);
}

/* The length of the text is the other side's word, and bounded in
 * bt_session_text. */
int blktap_control_stats(struct blktap_control *control, pid_t pid, int minor,
			 char **json, struct blktap_error **err)
{
	struct bt_message msg = { .type = BT_WIRE_STATS,
				  .cookie = (uint16_t)minor };
	struct bt_session session;
	struct bt_message answer;
	int rc = bt_minor_check(minor, err);

	if (!rc)
		rc = bt_session_open(&session, control, pid,
				     control->timeout_ms, err);
	if (rc)
		return rc;
	rc = bt_session_send(&session, &msg, NULL, 0, err);
	if (!rc)
		rc = bt_session_receive(&session, BT_WIRE_STATS_RSP, &answer,
					err);
	if (!rc)
		rc = bt_session_text(&session, answer.u.stat.length, json, err);
	bt_session_close(&session);
	return rc;
}

/* Stops at the first step that fails: what follows would take away what is
 * still in use. */
int blktap_control_stop(struct blktap_control *control, pid_t pid, int minor,
			uint32_t timeout_s, struct blktap_error **err)
{
	int rc = blktap_control_close(control, pid, minor, false, timeout_s,
				      err);

	if (!rc)
		rc = blktap_control_detach(control, pid, minor, err);
	if (!rc)
		rc = blktap_control_free(control, minor, err);
	return rc;
}

/* Leaves nothing of a start that failed; its own error is the one to tell. A
 * tapdisk that was attached ends by the detach of its last minor, one that was
 * not by EXIT. */
static void undo_start(struct blktap_control *control, pid_t pid, int minor,
		       bool attached)
{
	if (attached)
		blktap_control_detach(control, pid, minor, NULL);
	else if (pid > 0)
		bt_client_dismiss(control, pid);
	blktap_control_free(control, minor, NULL);
}

/* Each step undoes what came before where it fails, so that nothing is left of
 * a start that did not succeed. */
int blktap_control_start(struct blktap_control *control, const char *spec,
			 const struct blktap_control_open_options *options,
			 pid_t *pid, int *minor, struct blktap_error **err)
{
	bool attached = false;
	pid_t child = -1;
	int rc = blktap_control_allocate(control, minor, err);

	if (rc)
		return rc;
	rc = blktap_control_spawn(control, &child, err);
	if (!rc)
		rc = blktap_control_attach(control, child, *minor, err);
	attached = !rc;
	if (!rc)
		rc = blktap_control_open(control, child, *minor, spec, options,
					 err);
	if (rc)
		undo_start(control, child, *minor, attached);
	else if (pid)
		*pid = child;
	return rc;
}
