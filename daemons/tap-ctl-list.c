/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl list and stats. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tap-ctl.h"

/* For scripts: key=value, what is missing is left out. Nothing is escaped. */
static void put_row(void *opaque, const struct blktap_control_row *row)
{
	const char *blank = "";

	if (row->pid >= 0) {
		printf("pid=%d", (int)row->pid);
		blank = " ";
	}
	if (row->minor >= 0) {
		printf("%sminor=%d", blank, row->minor);
		blank = " ";
	}
	if (row->pid >= 0 && row->minor >= 0)
		printf("%sstate=%#x", blank, (unsigned int)row->state);
	if (row->spec)
		printf("%sargs=%s", blank, row->spec);
	putchar('\n');
}

/* For people: columns, '-' for what is missing. */
static void put_columns(void *opaque, const struct blktap_control_row *row)
{
	const char *spec = row->spec ? row->spec : "";
	const char *colon = strchr(spec, ':');
	char pid[16] = "-", minor[16] = "-", state[16] = "-", type[64] = "-";

	if (row->pid >= 0)
		snprintf(pid, sizeof(pid), "%d", (int)row->pid);
	if (row->minor >= 0)
		snprintf(minor, sizeof(minor), "%d", row->minor);
	if (row->pid >= 0 && row->minor >= 0)
		snprintf(state, sizeof(state), "%#x", (unsigned int)row->state);
	if (colon)
		snprintf(type, sizeof(type), "%.*s", (int)(colon - spec), spec);
	printf("%8s %4s %4s %10s %s\n", pid, minor, state, type,
	       colon   ? colon + 1
	       : *spec ? spec
		       : "-");
}

static int print_json(const struct args *args, struct blktap_control *control,
		      const struct blktap_control_filter *filter)
{
	struct blktap_error *err = NULL;
	char *json = NULL;
	int rc = blktap_control_list_json(control, filter, &json, &err);

	if (rc)
		return report(args, NULL, rc, err);
	puts(json);
	free(json);
	return 0;
}

static int list(const struct args *args)
{
	struct blktap_control_filter filter;
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	blktap_control_filter_init(&filter);
	filter.pid = arg_number(args, "pid", -1);
	filter.minor = arg_number(args, "minor", -1);
	filter.type = arg_text(args, "type");
	filter.path = arg_text(args, "file");
	if (arg_is_set(args, "json")) {
		rc = print_json(args, control, &filter);
	} else {
		rc = blktap_control_list(control, &filter,
					 isatty(STDOUT_FILENO) ? put_columns
							       : put_row,
					 NULL, &err);
		if (rc)
			rc = report(args, NULL, rc, err);
	}
	blktap_control_destroy(control);
	return rc;
}

static int stats(const struct args *args)
{
	int pid = arg_number(args, "pid", -1);
	int minor = arg_number(args, "minor", -1);
	bool full = arg_is_set(args, "json");
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	char *json = NULL;
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	if (full)
		rc = blktap_control_call(control, pid, minor, "stats", NULL,
					 &json, &err);
	else
		rc = blktap_control_stats(control, pid, minor, &json, &err);
	blktap_control_destroy(control);
	if (rc)
		return report(args, disk_object(args), rc, err);
	/* Scripts expect the empty line, too. */
	printf(full ? "%s\n" : "%s\n\n", json);
	free(json);
	return 0;
}

static const struct opt list_options[] = {
	{ 'p', "pid", OPT_NUMBER, "PID", "only this tapdisk", 0, 0 },
	{ 'm', "minor", OPT_NUMBER, "MINOR", "only this minor", 0, 0 },
	{ 't', "type", OPT_TEXT, "TYPE", "only images of this type", 0, 0 },
	{ 'f', "file", OPT_TEXT, "PATH", "only this image", 0, 0 },
	{ 0, "json", OPT_FLAG, NULL, "a JSON array, with more detail", 0, 0 },
	{ 0 },
};

static const struct opt stats_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 0, "json", OPT_FLAG, NULL, "everything that is counted", 0, 0 },
	{ 0 },
};

const struct command list_commands[] = {
	{ "list", NULL, NULL,
	  "list tapdisks, their disks, and free-standing minors", list_options,
	  NULL, EINVAL, list },
	{ "stats", "read the statistics of", NULL,
	  "print a disk's statistics as JSON", stats_options, NULL, EINVAL,
	  stats },
	{ 0 },
};
