/* SPDX-License-Identifier: BSD-3-Clause */
/* The verb "job". None of what it does waits; a job's end is seen by asking. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/server.h"
#include "port/args.h"
#include "util/checked.h"
#include "util/json.h"

/* 0 where it is not given: no limit. */
static int read_number(const struct bt_conn *conn, const char *key,
		       uint64_t *out, struct blktap_error **err)
{
	const char *text = bt_verb_param(conn, key);

	*out = 0;
	if (!text || !bt_parse_size(text, out))
		return 0;
	return bt_fail(err, -EINVAL, "give bytes a second, e.g. 100M",
		       "verb 'job': %s '%s' is no size", key, text);
}

/* By the names that the library has for them, so that a new kind needs no line
 * here. */
static int read_kind(const struct bt_conn *conn, enum blktap_job_kind *kind,
		     struct blktap_error **err)
{
	const char *text = bt_verb_param(conn, "kind");
	int i;

	for (i = BLKTAP_JOB_STREAM; text && i <= BLKTAP_JOB_COALESCE; i++) {
		*kind = (enum blktap_job_kind)i;
		if (!strcmp(blktap_job_kind_name(*kind), text))
			return 0;
	}
	return bt_fail(err, -EINVAL, "there are stream, commit and coalesce",
		       "verb 'job': '%s' is no kind", text ? text : "");
}

/* The tap has one job, the last one: it is kept when it has ended, so that its
 * end can be asked for. */
static int start(struct bt_conn *conn, struct bt_tap *tap,
		 struct blktap_error **err)
{
	struct blktap_job_options options;
	struct blktap_job *job;
	int rc;

	blktap_job_options_init(&options);
	options.base = bt_verb_param(conn, "base");
	options.state = bt_verb_param(conn, "state");
	rc = read_kind(conn, &options.kind, err);
	if (!rc)
		rc = read_number(conn, "rate", &options.rate, err);
	if (!rc)
		rc = blktap_job_start(tap->disk, &options, bt_tap_job_ended,
				      tap, &job, err);
	if (rc < 0)
		return rc;
	/* the one before has ended, or this one would have been refused */
	blktap_job_destroy(tap->job);
	tap->job = job;
	return 0;
}

/* None of these waits: what they ask for shows in the job's state later. */
static int change(struct bt_conn *conn, struct bt_tap *tap, const char *verb,
		  struct blktap_error **err)
{
	uint64_t rate;
	int rc = 0;

	if (!tap->job)
		return bt_fail(err, -ENOENT, "tap-ctl job start begins one",
			       "minor %d: has no job: %s", tap->minor,
			       STRERROR(-ENOENT));
	if (!strcmp(verb, "pause")) {
		blktap_job_pause(tap->job);
	} else if (!strcmp(verb, "resume")) {
		blktap_job_resume(tap->job);
	} else if (!strcmp(verb, "cancel")) {
		blktap_job_cancel(tap->job);
	} else if (!strcmp(verb, "rate")) {
		rc = read_number(conn, "rate", &rate, err);
		if (!rc)
			blktap_job_set_rate(tap->job, rate);
	} else {
		rc = bt_fail(err, -EINVAL,
			     "there are start, list, pause, resume, cancel "
			     "and rate",
			     "verb 'job': cannot '%s'", verb);
	}
	return rc;
}

/* Of this moment; who wants to see it end asks again. */
static void put_job(struct bt_json *json, const struct blktap_job *job)
{
	struct blktap_job_info info = { .size = sizeof(info) };

	blktap_job_get_info(job, &info);
	bt_json_string(json, "kind", blktap_job_kind_name(info.kind));
	bt_json_string(json, "state", blktap_job_state_name(info.state));
	bt_json_u64(json, "total", info.total);
	bt_json_u64(json, "done", info.done);
	bt_json_u64(json, "copied", info.copied);
	bt_json_u64(json, "skipped", info.skipped);
	bt_json_u64(json, "rate", info.rate);
	bt_json_u64(json, "pause_us", info.pause_ns / 1000);
	bt_json_i64(json, "error", info.error);
	bt_json_string(json, "text", blktap_job_get_text(job));
}

/* Whatever was asked for, the answer is the job's state. */
int bt_verb_job(struct bt_conn *conn, struct bt_tap *tap, struct bt_strbuf *out,
		struct blktap_error **err)
{
	const char *verb = bt_verb_param(conn, "do");
	struct bt_json json;
	int rc = 0;

	if (!tap->disk)
		return bt_verb_no_image(tap, err);
	if (verb && !strcmp(verb, "start"))
		rc = start(conn, tap, err);
	else if (verb && strcmp(verb, "list") != 0)
		rc = change(conn, tap, verb, err);
	if (rc < 0)
		return rc;
	bt_json_init(&json, out, false);
	bt_json_object(&json, NULL);
	if (tap->job)
		put_job(&json, tap->job);
	bt_json_object_end(&json);
	return 0;
}
