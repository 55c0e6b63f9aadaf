/* SPDX-License-Identifier: BSD-3-Clause */
/* Verbs by name: the extension of the protocol. */
#include <errno.h>
#include <string.h>

#include "control/client.h"
#include "core/error.h"
#include "util/strbuf.h"

/* Parameters go as texts, each with its NUL. */
static int put_request(struct bt_message *msg, int minor, const char *verb,
		       const char *const *params, struct bt_strbuf *out,
		       struct blktap_error **err)
{
	struct bt_wire_ext *ext = &msg->u.ext;

	msg->type = BT_WIRE_EXT;
	msg->cookie = minor < 0 ? BT_WIRE_ALL : (uint16_t)minor;
	ext->version = BT_WIRE_EXT_VERSION;
	if (strlen(verb) >= sizeof(ext->verb))
		return bt_fail(err, -EINVAL, NULL, "verb '%s': too long", verb);
	strcpy(ext->verb, verb);
	for (; params && *params; params++) {
		if (**params == '=' || !strchr(*params, '='))
			return bt_fail(err, -EINVAL, "write it as key=value",
				       "'%s' is no parameter", *params);
		bt_strbuf_add(out, *params, strlen(*params) + 1);
	}
	if (out->failed)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (out->len > BT_WIRE_EXT_MAX)
		return bt_fail(err, -EMSGSIZE, NULL,
			       "verb '%s': %zu bytes of parameters, and %d is "
			       "the limit",
			       verb, out->len, BT_WIRE_EXT_MAX);
	ext->length = (uint32_t)out->len;
	return 0;
}

/* The error is looked at before it is passed on, since that of an older tapdisk
 * says the wrong thing. */
static int exchange(struct bt_session *session, const struct bt_message *msg,
		    const struct bt_strbuf *params, char **json,
		    struct blktap_error **err)
{
	struct blktap_error *why = NULL;
	struct bt_message answer = { 0 };
	int rc = bt_session_send(session, msg, bt_strbuf_str(params),
				 params->len, err);

	if (rc)
		return rc;
	rc = bt_session_receive(session, BT_WIRE_EXT_RSP, &answer, &why);
	if (rc == -EINVAL && answer.type == BT_WIRE_ERROR &&
	    !answer.u.response.more) {
		/* That is how a tapdisk without the extension refuses it. */
		blktap_error_destroy(why);
		return bt_fail(err, -ENOTSUP, "restart it with this version",
			       "tapdisk %d does not know '%s': %s",
			       (int)session->pid, msg->u.ext.verb,
			       STRERROR(-ENOTSUP));
	}
	if (rc && err)
		*err = why;
	else
		blktap_error_destroy(why);
	if (rc)
		return rc;
	return bt_session_text(session, answer.u.ext.length, json, err);
}

/* Parameters are checked and put together before anybody is connected to. */
int blktap_control_call(struct blktap_control *control, pid_t pid, int minor,
			const char *verb, const char *const *params,
			char **json, struct blktap_error **err)
{
	struct bt_strbuf data = BT_STRBUF_INIT;
	struct bt_message msg = { 0 };
	struct bt_session session;
	int rc = put_request(&msg, minor, verb, params, &data, err);

	if (!rc) {
		rc = bt_session_open(&session, control, pid,
				     control->timeout_ms, err);
		if (!rc) {
			rc = exchange(&session, &msg, &data, json, err);
			bt_session_close(&session);
		}
	}
	bt_strbuf_fini(&data);
	return rc;
}
