/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl mason, of disks that run: plan, apply, undo, dump, dot, deps. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tap-ctl.h"

#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define EXIT_NOT_FOUND 4
#define EXIT_BUSY 75
#define PARAMS_MAX 48 /* the definitions there can be, and others */

static int exit_status(int rc)
{
	switch (rc) {
	case -ENOENT:
	case -ESRCH:
		return EXIT_NOT_FOUND;
	case -EBUSY:
	case -EAGAIN:
	case -ETIMEDOUT:
		return EXIT_BUSY;
	default:
		return EXIT_FAILED;
	}
}

#define OPT_TEXT_FILE                                               \
	{                                                           \
		0, "file", OPT_TEXT, "FILE", "the file to be read", \
			OPT_REQUIRED, 0                             \
	}

static const struct opt deps_options[] = {
	OPT_TEXT_FILE,
	{ 'p', "pid", OPT_NUMBER, "PID", "only this tapdisk", 0, 0 },
	{ 0 },
};

/* ---- answers --------------------------------------------------------------- */

static unsigned long number_of(const char *json, const char *key)
{
	const char *at = strstr(json, key);

	return at ? strtoul(at + strlen(key), NULL, 10) : 0;
}

/* ---- parameters ------------------------------------------------------------ */

struct params {
	char *list[PARAMS_MAX + 1];
	int count;
	bool failed; /* one is missing: nothing may be asked */
};

static void add(struct params *p, const char *key, const char *value)
{
	char **at = &p->list[p->count];

	if (p->count < PARAMS_MAX && asprintf(at, "%s=%s", key, value) >= 0) {
		p->count++;
		return;
	}
	*at = NULL;
	p->failed = true;
}

static void params_fini(struct params *p)
{
	while (p->count)
		free(p->list[--p->count]);
}

static int add_file(struct params *p, const struct args *args)
{
	char *path = realpath(arg_text(args, "file"), NULL);
	int rc = path ? 0 : -errno;

	if (!rc)
		add(p, "file", path);
	else
		report(args, arg_text(args, "file"), rc, NULL);
	free(path);
	return rc ? exit_status(rc) : 0;
}

/* "5s", "500ms", or seconds. */
static int add_deadline(struct params *p, const struct args *args)
{
	const char *text = arg_text(args, "deadline");
	char ms[32], *end;
	unsigned long n;

	if (!text)
		return 0;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (!errno && *text >= '0' && *text <= '9' && n && n <= 1000000 &&
	    (!*end || !strcmp(end, "s") || !strcmp(end, "ms"))) {
		snprintf(ms, sizeof(ms), "%lu",
			 strcmp(end, "ms") ? n * 1000 : n);
		add(p, "deadline-ms", ms);
		return 0;
	}
	fprintf(stderr,
		"%s: --deadline '%s' is not a time\n"
		"hint: seconds, 5s or 500ms\n",
		args->program, text);
	return EXIT_USAGE;
}

static int add_change(struct params *p, const struct args *args)
{
	if (arg_text(args, "if-gen"))
		add(p, "if-gen", arg_text(args, "if-gen"));
	return add_deadline(p, args);
}

static void add_defines(struct params *p)
{
	const char *const *define = mason_defines();
	char key[24];
	int i;

	for (i = 0; define[i]; i++) {
		snprintf(key, sizeof(key), "define%d", i);
		add(p, key, define[i]);
	}
}

static int call(const struct args *args, const char *verb, struct params *p,
		char **json)
{
	bool of_disk = args->command->options != deps_options;
	struct blktap_control *control;
	struct blktap_error *err = NULL;
	int rc;

	if (p->failed) {
		report(args, NULL, -ENOMEM, NULL);
		return EXIT_FAILED;
	}
	if (open_control(args, &control))
		return EXIT_FAILED;
	rc = blktap_control_call(control, arg_number(args, "pid", -1),
				 of_disk ? arg_number(args, "minor", -1) : -1,
				 verb, (const char *const *)p->list, json,
				 &err);
	blktap_control_destroy(control);
	if (!rc)
		return 0;
	report(args, of_disk ? disk_object(args) : arg_text(args, "file"), rc,
	       err);
	return exit_status(rc);
}

/* ---- verbs ----------------------------------------------------------------- */

static int show_change(const struct args *args, char *json)
{
	if (arg_is_set(args, "json")) {
		puts(json);
	} else {
		print_member(stdout, json, "text");
		if (strstr(json, "\"applied\":true"))
			printf("generation %lu, paused for %lu us\n",
			       number_of(json, "\"generation\":"),
			       number_of(json, "\"pause_us\":"));
	}
	free(json);
	return 0;
}

static int change(const struct args *args, bool plan_only)
{
	struct params p = { .count = 0 };
	char *json = NULL;
	int rc = add_file(&p, args);

	if (!rc)
		rc = add_change(&p, args);
	if (!rc && plan_only)
		add(&p, "plan", "1");
	if (!rc && arg_is_set(args, "allow-shrink"))
		add(&p, "allow-shrink", "1");
	if (!rc && arg_is_set(args, "allow-loss"))
		add(&p, "allow-loss", "1");
	if (!rc)
		add_defines(&p);
	if (!rc)
		rc = call(args, "mason-apply", &p, &json);
	params_fini(&p);
	return rc ? rc : show_change(args, json);
}

static int plan(const struct args *args)
{
	return change(args, true);
}

static int apply(const struct args *args)
{
	return change(args, false);
}

static int undo(const struct args *args)
{
	struct params p = { .count = 0 };
	char *json = NULL;
	int rc = add_change(&p, args);

	if (!rc)
		rc = call(args, "mason-undo", &p, &json);
	params_fini(&p);
	return rc ? rc : show_change(args, json);
}

static int show(const struct args *args, const char *verb)
{
	struct params p = { .count = 0 };
	char *json = NULL;
	int rc = call(args, verb, &p, &json);

	if (!rc)
		print_member(stdout, json, "text");
	free(json);
	params_fini(&p);
	return rc;
}

static int dump(const struct args *args)
{
	return show(args, "mason-dump");
}

static int draw_running(const struct args *args)
{
	return show(args, "mason-dot");
}

#define DISKS_BEGIN "{\"disks\":["
#define DISKS_END "]}"

struct everyone {
	pid_t *pids;
	size_t count;
	bool failed;
};

/* The rows of a tapdisk follow each other. */
static void take_pid(void *opaque, const struct blktap_control_row *row)
{
	struct everyone *all = opaque;
	pid_t *pids;

	if (row->pid < 0 ||
	    (all->count && all->pids[all->count - 1] == row->pid))
		return;
	pids = reallocarray(all->pids, all->count + 1, sizeof(*pids));
	all->failed |= !pids;
	if (!pids)
		return;
	all->pids = pids;
	all->pids[all->count++] = row->pid;
}

/* What stands between the brackets of an answer; "" for none. */
static const char *disks_of(char *json)
{
	size_t length = strlen(json);

	if (strncmp(json, DISKS_BEGIN, strlen(DISKS_BEGIN)) != 0 ||
	    length < strlen(DISKS_BEGIN DISKS_END))
		return "";
	json[length - strlen(DISKS_END)] = '\0';
	return json + strlen(DISKS_BEGIN);
}

/* One that has gone meanwhile stands on nothing; one that cannot be asked is told of
 * in the end, and might. */
static int ask_all(struct blktap_control *control, const struct params *p,
		   const struct everyone *all, struct blktap_error **err)
{
	const char *between = "";
	int rc = 0;
	size_t i;

	fputs(DISKS_BEGIN, stdout);
	for (i = 0; i < all->count; i++) {
		struct blktap_error *mine = NULL;
		char *json = NULL;
		int got = blktap_control_call(
			control, all->pids[i], -1, "mason-deps",
			(const char *const *)p->list, &json, &mine);
		const char *disks = got ? "" : disks_of(json);

		if (*disks)
			printf("%s%s", between, disks);
		if (*disks)
			between = ",";
		free(json);
		if (got && got != -ENOENT && got != -ESRCH && !rc) {
			rc = got;
			*err = mine;
			mine = NULL;
		}
		blktap_error_destroy(mine);
	}
	puts(DISKS_END);
	return rc;
}

static int deps_of_all(const struct args *args, const struct params *p)
{
	struct everyone all = { .count = 0 };
	struct blktap_error *err = NULL, *last = NULL;
	struct blktap_control *control;
	int rc, asked;

	if (p->failed) {
		report(args, NULL, -ENOMEM, NULL);
		return EXIT_FAILED;
	}
	if (open_control(args, &control))
		return EXIT_FAILED;
	rc = blktap_control_list(control, NULL, take_pid, &all, &err);
	if (!rc && all.failed)
		rc = -ENOMEM;
	asked = ask_all(control, p, &all, &last);
	if (!rc) {
		rc = asked;
		err = last;
	} else {
		blktap_error_destroy(last);
	}
	free(all.pids);
	blktap_control_destroy(control);
	if (!rc)
		return 0;
	report(args, arg_text(args, "file"), rc, err);
	return exit_status(rc);
}

static int deps(const struct args *args)
{
	struct params p = { .count = 0 };
	char *json = NULL;
	int rc = add_file(&p, args);

	if (!rc && !arg_is_set(args, "pid")) {
		rc = deps_of_all(args, &p);
	} else if (!rc) {
		rc = call(args, "mason-deps", &p, &json);
		if (!rc)
			puts(json);
	}
	free(json);
	params_fini(&p);
	return rc;
}

#define OPT_IF_GEN                                                             \
	{                                                                      \
		0, "if-gen", OPT_TEXT, "N", "only where generation N runs", 0, \
			0                                                      \
	}
#define OPT_DEADLINE                                                    \
	{                                                               \
		0, "deadline", OPT_TEXT, "TIME",                        \
			"give up where requests take longer (5s)", 0, 0 \
	}
#define OPT_JSON                                                   \
	{                                                          \
		0, "json", OPT_FLAG, NULL, "print an object", 0, 0 \
	}

static const struct opt change_options[] = {
	OPT_TEXT_FILE,
	OPT_PID,
	OPT_MINOR,
	{ 'D', "define", OPT_TEXT, "NAME=VALUE",
	  "takes the place of 'let $NAME'; many may be given", 0, 0 },
	OPT_IF_GEN,
	OPT_DEADLINE,
	{ 0, "allow-shrink", OPT_FLAG, NULL, "a disk may become smaller", 0,
	  0 },
	{ 0, "allow-loss", OPT_FLAG, NULL, "what goes may fail its last flush",
	  0, 0 },
	OPT_JSON,
	{ 0 },
};

static const struct opt undo_options[] = {
	OPT_PID, OPT_MINOR, OPT_IF_GEN, OPT_DEADLINE, OPT_JSON, { 0 },
};

static const struct opt dump_options[] = { OPT_PID, OPT_MINOR, { 0 } };

const struct command graph_verbs[] = {
	{ "plan", NULL, "FILE", "say what a file would change", change_options,
	  "file", EXIT_USAGE, plan },
	{ "apply", NULL, "FILE", "change a running disk to what a file says",
	  change_options, "file", EXIT_USAGE, apply },
	{ "undo", NULL, NULL, "go back to the graph before", undo_options, NULL,
	  EXIT_USAGE, undo },
	{ "dump", NULL, NULL, "print a running disk's graph as a file",
	  dump_options, NULL, EXIT_USAGE, dump },
	{ "live", "draw", NULL, "draw a running disk's graph for Graphviz",
	  dump_options, NULL, EXIT_USAGE, draw_running },
	{ "deps", "look up", "PATH", "say which disks stand on a file",
	  deps_options, "file", EXIT_USAGE, deps },
	{ 0 },
};
