/* SPDX-License-Identifier: BSD-3-Clause */
/* Verbs about graphs that run. Files are read here, by the tapdisk, so their
 * names are absolute. */
#include <blktap/mason.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/server.h"
#include "util/json.h"

#define DEFINES_MAX 32

/* A text inside of the trailer, which lives as long as the request. */
static const char *param(const struct bt_conn *conn, const char *key)
{
	size_t length;
	const uint8_t *data = bt_conn_trailer(conn, &length);

	return bt_wire_params_get((const char *)data, length, key);
}

/* 0 where it is not given, which is 'none' to all that are asked for here. */
static int get_number(const struct bt_conn *conn, const char *key, uint64_t max,
		      uint64_t *out, struct blktap_error **err)
{
	const char *text = param(conn, key);
	char *end = NULL;

	*out = 0;
	if (!text)
		return 0;
	errno = 0;
	*out = strtoull(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && !errno && *out <= max)
		return 0;
	return bt_fail(err, -EINVAL, "give a whole number",
		       "%s '%s' is no number up to %llu", key, text,
		       (unsigned long long)max);
}

/* As for every verb about what is open. */
static int check_disk(const struct bt_tap *tap, struct blktap_error **err)
{
	if (tap->disk)
		return 0;
	return bt_fail(err, -ENODEV, "open one first: tap-ctl open",
		       "minor %d: no image is open: %s", tap->minor,
		       STRERROR(-ENODEV));
}

/* define0, define1, .. Up to the first that is missing. */
static void get_defines(const struct bt_conn *conn, const char **out)
{
	char key[24];
	int i;

	for (i = 0; i < DEFINES_MAX; i++) {
		snprintf(key, sizeof(key), "define%d", i);
		out[i] = param(conn, key);
		if (!out[i])
			return;
	}
	out[i] = NULL;
}

/* Flags are there or not; their value does not count. */
static int get_change(const struct bt_conn *conn, struct bt_tap *tap,
		      struct blktap_mason_change *change,
		      struct blktap_error **err)
{
	uint64_t ms;
	int rc = check_disk(tap, err);

	blktap_mason_change_init(change);
	if (!rc)
		rc = get_number(conn, "if-gen", UINT64_MAX,
				&change->if_generation, err);
	if (!rc)
		rc = get_number(conn, "deadline-ms", UINT32_MAX, &ms, err);
	if (!rc) {
		change->deadline_ms = (uint32_t)ms;
		change->allow_shrink = param(conn, "allow-shrink") != NULL;
		change->allow_loss = param(conn, "allow-loss") != NULL;
		change->plan_only = param(conn, "plan") != NULL;
	}
	return rc;
}

/* The change is made, so an export that cannot be served is logged, no more. */
static int changed(struct bt_conn *conn, struct bt_tap *tap,
		   const struct blktap_mason_change *change,
		   struct bt_strbuf *out, char *answer)
{
	bt_strbuf_puts(out, answer ? answer : "{}");
	free(answer);
	if (!change->plan_only)
		bt_exports_serve(conn->server, tap, NULL);
	return 0;
}

/* The file is read by this process, whose directory is not the caller's: so its
 * name has to be whole. */
int bt_verb_mason_apply(struct bt_conn *conn, struct bt_tap *tap,
			struct bt_strbuf *out, struct blktap_error **err)
{
	const char *file = param(conn, "file"), *defines[DEFINES_MAX + 1];
	struct blktap_mason_change change;
	char *answer = NULL;
	int rc = get_change(conn, tap, &change, err);

	if (rc)
		return rc;
	if (!file || *file != '/')
		return bt_fail(err, -EINVAL, "give file=/PATH",
			       "verb 'mason-apply': no file");
	get_defines(conn, defines);
	change.defines = defines;
	rc = blktap_mason_apply(tap->disk, file, NULL, 0, &change, &answer,
				err);
	return rc ? rc : changed(conn, tap, &change, out, answer);
}

int bt_verb_mason_undo(struct bt_conn *conn, struct bt_tap *tap,
		       struct bt_strbuf *out, struct blktap_error **err)
{
	struct blktap_mason_change change;
	char *answer = NULL;
	int rc = get_change(conn, tap, &change, err);

	if (!rc)
		rc = blktap_mason_undo(tap->disk, &change, &answer, err);
	return rc ? rc : changed(conn, tap, &change, out, answer);
}

/* The generation with it, so that who edits the text can say if-gen and lose no
 * change of another's. */
static int put_text(struct bt_tap *tap, struct bt_strbuf *out, char *text)
{
	struct bt_json json;

	bt_json_init(&json, out, false);
	bt_json_object(&json, NULL);
	bt_json_u64(&json, "generation",
		    blktap_mason_get_generation(tap->disk));
	bt_json_string(&json, "text", text);
	bt_json_object_end(&json);
	free(text);
	return 0;
}

/* What runs, which may be other than its files say by now. */
int bt_verb_mason_dump(struct bt_conn *conn, struct bt_tap *tap,
		       struct bt_strbuf *out, struct blktap_error **err)
{
	char *text;
	int rc = check_disk(tap, err);

	if (!rc)
		rc = blktap_mason_dump(tap->disk, &text, err);
	return rc ? rc : put_text(tap, out, text);
}

/* With what its nodes have done so far. */
int bt_verb_mason_dot(struct bt_conn *conn, struct bt_tap *tap,
		      struct bt_strbuf *out, struct blktap_error **err)
{
	char *text;
	int rc = check_disk(tap, err);

	if (!rc)
		rc = blktap_mason_dot_disk(tap->disk, &text, err);
	return rc ? rc : put_text(tap, out, text);
}

/* Of all disks of this tapdisk; who wants to know of others asks them. */
int bt_verb_mason_deps(struct bt_conn *conn, struct bt_tap *tap,
		       struct bt_strbuf *out, struct blktap_error **err)
{
	const char *file = param(conn, "file");
	struct bt_json json;
	struct bt_list *pos;
	bool writes;

	if (!file)
		return bt_fail(err, -EINVAL, "give file=/PATH",
			       "verb 'mason-deps': no file");
	bt_json_init(&json, out, false);
	bt_json_object(&json, NULL);
	bt_json_array(&json, "disks");
	bt_list_for_each (pos, &conn->server->taps) {
		struct bt_tap *at = bt_list_entry(pos, struct bt_tap, link);

		if (!at->disk ||
		    !blktap_disk_stands_on(at->disk, file, &writes))
			continue;
		bt_json_object(&json, NULL);
		bt_json_i64(&json, "pid", conn->server->pid);
		bt_json_i64(&json, "minor", at->minor);
		bt_json_string(&json, "disk", blktap_disk_get_spec(at->disk));
		bt_json_string(&json, "how", writes ? "writes" : "reads");
		bt_json_object_end(&json);
	}
	bt_json_array_end(&json);
	bt_json_object_end(&json);
	return 0;
}
