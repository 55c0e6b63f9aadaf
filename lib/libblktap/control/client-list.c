/* SPDX-License-Identifier: BSD-3-Clause */
/* Who has what: every tapdisk is asked, and what none of them has are orphan
 * minors. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/client.h"
#include "core/error.h"
#include "util/checked.h"
#include "util/json.h"
#include "util/options.h"

void blktap_control_filter_init_sized(struct blktap_control_filter *filter,
				      size_t size)
{
	struct blktap_control_filter all = { .size = size,
					     .pid = -1,
					     .minor = -1 };

	bt_options_fill(filter, size, &all, sizeof(all));
}

struct listing {
	struct blktap_control *control;
	struct blktap_control_filter filter;
	blktap_control_row_fn *fn;
	void *opaque;
	uint8_t seen[BLKTAP_MINOR_MAX]; /* minors that a tapdisk has */
	int rc; /* the first failure */
	struct blktap_error **err;
};

/* A filter that is not given passes everything; type and path are of TYPE:PATH.
 */
static bool passes(const struct blktap_control_filter *filter,
		   const struct blktap_control_row *row)
{
	const char *colon = row->spec ? strchr(row->spec, ':') : NULL;
	size_t len = colon ? (size_t)(colon - row->spec) : 0;

	if (filter->pid >= 0 && filter->pid != row->pid)
		return false;
	if (filter->minor >= 0 && filter->minor != row->minor)
		return false;
	if ((filter->type || filter->path) && !colon)
		return false;
	if (filter->type && (strlen(filter->type) != len ||
			     memcmp(filter->type, row->spec, len)))
		return false;
	return !filter->path || !strcmp(filter->path, colon + 1);
}

/* Seen even where the filter does not pass it: it is no orphan. */
static void put_row(struct listing *l, pid_t pid, int minor, uint32_t state,
		    const char *spec)
{
	struct blktap_control_row row = {
		.size = sizeof(row),
		.pid = pid,
		.minor = minor,
		.state = state,
		.spec = spec && *spec ? spec : NULL,
	};

	if (minor >= 0 && minor < BLKTAP_MINOR_MAX)
		l->seen[minor] = 1;
	if (passes(&l->filter, &row))
		l->fn(l->opaque, &row);
}

/* One tapdisk's answer: its disks, then the one that names none. */
static int read_rows(struct listing *l, struct bt_session *session,
		     struct blktap_error **err)
{
	struct bt_message msg = { .type = BT_WIRE_LIST, .cookie = BT_WIRE_ALL };
	const struct bt_wire_list *list = &msg.u.list;
	int rc = bt_session_send(session, &msg, NULL, 0, err);
	unsigned int rows = 0;

	for (;;) {
		if (!rc)
			rc = bt_session_receive(session, BT_WIRE_LIST_RSP, &msg,
						err);
		if (rc)
			return rc;
		if (list->count <= 0)
			break;
		/* No more than there can be, whatever it sends. */
		if (++rows > BLKTAP_MINOR_MAX)
			return bt_fail(err, -EPROTO, NULL,
				       "tapdisk %d lists too many disks",
				       (int)session->pid);
		put_row(l, session->pid, list->minor, (uint32_t)list->state,
			list->path);
	}
	if (!rows)
		put_row(l, session->pid, -1, 0, NULL);
	return 0;
}

/* One that does not answer fails the list, but only behind all the others. */
static int list_tapdisk(void *opaque, int pid)
{
	struct listing *l = opaque;
	struct blktap_error *err = NULL;
	struct bt_session session;
	int rc;

	/* All are asked all the same: a minor of theirs is not an orphan. */
	rc = bt_session_open(&session, l->control, pid, l->control->timeout_ms,
			     &err);
	if (rc == -ENOENT) {
		/* It died, or has just ended. */
		blktap_error_destroy(err);
		return 0;
	}
	if (!rc) {
		rc = read_rows(l, &session, &err);
		bt_session_close(&session);
	}
	if (rc && !l->rc) {
		l->rc = rc;
		if (l->err)
			*l->err = err;
		else
			blktap_error_destroy(err);
	} else {
		blktap_error_destroy(err);
	}
	return 0;
}

/* Allocated, and nobody has it. */
static int list_orphan(void *opaque, int minor)
{
	struct listing *l = opaque;

	if (minor < BLKTAP_MINOR_MAX && !l->seen[minor])
		put_row(l, -1, minor, 0, NULL);
	return 0;
}

/* fn is called as answers come in, tapdisk by tapdisk in the order of their
 * pids. */
int blktap_control_list(struct blktap_control *control,
			const struct blktap_control_filter *filter,
			blktap_control_row_fn *fn, void *opaque,
			struct blktap_error **err)
{
	struct listing *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	l->control = control;
	l->fn = fn;
	l->opaque = opaque;
	l->err = err;
	blktap_control_filter_init(&l->filter);
	if (filter)
		memcpy(&l->filter, filter,
		       bt_min_u64(filter->size, sizeof(l->filter)));
	rc = bt_rundir_each(&control->dir, NULL, "ctl", list_tapdisk, l, err);
	/* Where one did not answer, its minors would look like orphans. */
	if (!rc && !l->rc)
		rc = bt_rundir_each(&control->dir, "tapdisk", "tapdisk-",
				    list_orphan, l, err);
	if (!rc)
		rc = l->rc;
	free(l);
	return rc;
}

/* ---- as JSON -------------------------------------------------------------- */

struct rows {
	struct blktap_control *control;
	struct bt_json json;
};

/* TYPE:PATH apart, for who reads JSON; what is no such thing stays whole. */
static void put_spec(struct bt_json *json, const char *spec)
{
	const char *colon = strchr(spec, ':');
	char type[64];

	bt_json_string(json, "args", spec);
	if (!colon || (size_t)(colon - spec) >= sizeof(type))
		return;
	memcpy(type, spec, (size_t)(colon - spec));
	type[colon - spec] = '\0';
	bt_json_string(json, "type", type);
	bt_json_string(json, "path", colon + 1);
}

/* A tapdisk that does not answer here is left without its details: the list is
 * not worth less for it. */
static void put_json_row(void *opaque, const struct blktap_control_row *row)
{
	struct rows *rows = opaque;
	struct bt_json *json = &rows->json;
	char *details = NULL;

	bt_json_object(json, NULL);
	if (row->pid >= 0)
		bt_json_i64(json, "pid", row->pid);
	if (row->minor >= 0)
		bt_json_i64(json, "minor", row->minor);
	if (row->pid >= 0 && row->minor >= 0)
		bt_json_u64(json, "state", row->state);
	if (row->spec)
		put_spec(json, row->spec);
	/* An older tapdisk has no more to tell. */
	if (row->pid >= 0 &&
	    !blktap_control_call(rows->control, row->pid, row->minor, "info",
				 NULL, &details, NULL))
		bt_json_raw(json, row->minor >= 0 ? "disk" : "tapdisk",
			    details);
	free(details);
	bt_json_object_end(json);
}

/* *out is the caller's to free; it is not set where this fails. */
int blktap_control_list_json(struct blktap_control *control,
			     const struct blktap_control_filter *filter,
			     char **out, struct blktap_error **err)
{
	struct bt_strbuf text = BT_STRBUF_INIT;
	struct rows rows = { .control = control };
	int rc;

	bt_json_init(&rows.json, &text, false);
	bt_json_array(&rows.json, NULL);
	rc = blktap_control_list(control, filter, put_json_row, &rows, err);
	bt_json_array_end(&rows.json);
	if (!rc) {
		*out = bt_strbuf_steal(&text);
		if (!*out)
			rc = bt_fail(err, -ENOMEM, NULL, "out of memory");
	}
	bt_strbuf_fini(&text);
	return rc;
}
