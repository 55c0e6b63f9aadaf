/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl job: long work on the chain of a disk that is in use. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tap-ctl.h"

#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define PARAMS 5
#define POLL_US 100000

struct call {
	const struct args *args;
	struct blktap_control *control;
	char *texts[PARAMS];
	const char *params[PARAMS + 1];
	int count;
	char *json;
};

/* ---- the answer ----------------------------------------------------------- */

/* What stands behind "name": in the object; NULL where it has none. */
static const char *find(const char *json, const char *name)
{
	char key[32];
	const char *at;

	snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(json, key);
	return at ? at + strlen(key) : NULL;
}

static unsigned long long number(const char *json, const char *name)
{
	const char *at = find(json, name);

	return at ? strtoull(at, NULL, 10) : 0;
}

/* A string, without its escapes. */
static void string(const char *json, const char *name, char *out, size_t size)
{
	const char *at = find(json, name);
	size_t n = 0;

	for (at = at && *at == '"' ? at + 1 : ""; *at && *at != '"'; at++) {
		if (*at == '\\' && at[1])
			at++;
		if (n + 1 < size)
			out[n++] = *at;
	}
	out[n] = '\0';
}

static bool has_ended(const char *json)
{
	char state[16];

	string(json, "state", state, sizeof(state));
	return !strcmp(state, "done") || !strcmp(state, "failed") ||
	       !strcmp(state, "cancelled");
}

static unsigned int percent(const char *json)
{
	unsigned long long total = number(json, "total");

	return total ? (unsigned int)(number(json, "done") * 100 / total) : 100;
}

static void put_job(const char *json)
{
	char kind[16], state[16], text[512];

	if (!find(json, "kind")) {
		puts("no job");
		return;
	}
	string(json, "kind", kind, sizeof(kind));
	string(json, "state", state, sizeof(state));
	string(json, "text", text, sizeof(text));
	printf("%s %s %u%% done=%llu total=%llu copied=%llu rate=%llu\n", kind,
	       state, percent(json), number(json, "done"),
	       number(json, "total"), number(json, "copied"),
	       number(json, "rate"));
	if (*text)
		printf("%s\n", text);
}

/* ---- calls ---------------------------------------------------------------- */

static void add(struct call *c, const char *key, const char *value)
{
	char *text = NULL;

	if (!value)
		return;
	if (asprintf(&text, "%s=%s", key, value) < 0) {
		perror("tap-ctl");
		exit(ENOMEM);
	}
	c->texts[c->count] = text;
	c->params[c->count++] = text;
}

/* A tapdisk has another working directory. */
static void add_path(struct call *c, const char *key, const char *path)
{
	char *cwd = NULL, *text = NULL;

	if (!path || *path == '/') {
		add(c, key, path);
		return;
	}
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&text, "%s/%s", cwd, path) < 0) {
		perror("tap-ctl");
		exit(ENOMEM);
	}
	add(c, key, text);
	free(text);
	free(cwd);
}

static void clear(struct call *c)
{
	while (c->count)
		free(c->texts[--c->count]);
	memset(c->params, 0, sizeof(c->params));
}

/* 0, or the exit status; what is wrong is told. */
static int call(struct call *c)
{
	struct blktap_error *err = NULL;
	int rc;

	free(c->json);
	c->json = NULL;
	rc = blktap_control_call(c->control, arg_number(c->args, "pid", -1),
				 arg_number(c->args, "minor", -1), "job",
				 c->params, &c->json, &err);
	if (!rc)
		return 0;
	report(c->args, disk_object(c->args), rc, err);
	return EXIT_FAILED;
}

static void show_progress(const char *json, bool end)
{
	fprintf(stderr, "\r%3u %%%s", percent(json), end ? "\n" : "");
	fflush(stderr);
}

/* Until the job has ended; the exit status says how. */
static int wait_for_end(struct call *c)
{
	bool bar = isatty(STDERR_FILENO);
	char text[512];
	int rc = 0;

	clear(c);
	add(c, "do", "list");
	while (!rc && !has_ended(c->json)) {
		usleep(POLL_US);
		rc = call(c);
		if (!rc && bar)
			show_progress(c->json, has_ended(c->json));
	}
	if (rc || !find(c->json, "error"))
		return rc;
	if (*find(c->json, "error") == '0')
		return 0;
	string(c->json, "text", text, sizeof(text));
	fprintf(stderr, "tap-ctl: the job of %s ended: %s\n",
		disk_object(c->args), text);
	return EXIT_FAILED;
}

static int job(const struct args *args)
{
	const char *verb = args->command->name;
	struct call c = { .args = args };
	int rc = open_control(args, &c.control);

	if (rc)
		return rc;
	add(&c, "do", verb);
	if (!strcmp(verb, "start")) {
		add(&c, "kind", arg_text(args, "kind"));
		add(&c, "base", arg_text(args, "base"));
		add(&c, "rate", arg_text(args, "rate"));
		add_path(&c, "state", arg_text(args, "resume"));
	} else if (!strcmp(verb, "rate")) {
		add(&c, "rate", arg_text(args, "rate"));
	}
	rc = call(&c);
	if (!rc && (!strcmp(verb, "start") || !strcmp(verb, "list")) &&
	    arg_is_set(args, "wait") && find(c.json, "kind"))
		rc = wait_for_end(&c);
	if (c.json && arg_is_set(args, "json"))
		puts(c.json);
	else if (c.json && !strcmp(verb, "list"))
		put_job(c.json);
	clear(&c);
	free(c.json);
	blktap_control_destroy(c.control);
	return rc;
}

/* ---- the table ------------------------------------------------------------ */

#define OPT_JSON                                                   \
	{                                                          \
		0, "json", OPT_FLAG, NULL, "print an object", 0, 0 \
	}
#define OPT_WAIT                                                           \
	{                                                                  \
		0, "wait", OPT_FLAG, NULL, "until the job has ended", 0, 0 \
	}

static const struct opt start_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 'k', "kind", OPT_TEXT, "KIND", "stream, commit or coalesce",
	  OPT_REQUIRED, 0 },
	{ 'b', "base", OPT_TEXT, "FILE",
	  "an image of the chain, from the leaf's directory", 0, 0 },
	{ 0, "rate", OPT_TEXT, "BYTES", "a second, at the most: 50M", 0, 0 },
	{ 0, "resume", OPT_TEXT, "FILE",
	  "coalesce: keep there how far it is, and go on from there", 0, 0 },
	OPT_WAIT,
	OPT_JSON,
	{ 0 },
};

static const struct opt list_options[] = {
	OPT_PID, OPT_MINOR, OPT_WAIT, OPT_JSON, { 0 }
};

static const struct opt plain_options[] = {
	OPT_PID, OPT_MINOR, OPT_JSON, { 0 }
};

static const struct opt rate_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 0, "rate", OPT_TEXT, "BYTES", "a second, at the most; 0: no limit",
	  OPT_REQUIRED, 0 },
	OPT_JSON,
	{ 0 },
};

static const struct command verbs[] = {
	{ "start", "start a job on", "KIND", "begin a job on a disk",
	  start_options, "kind", EXIT_USAGE, job },
	{ "list", "ask for the job of", NULL, "say how far it is", list_options,
	  NULL, EXIT_USAGE, job },
	{ "pause", "pause the job of", NULL, "let it rest", plain_options, NULL,
	  EXIT_USAGE, job },
	{ "resume", "resume the job of", NULL, "let it go on", plain_options,
	  NULL, EXIT_USAGE, job },
	{ "cancel", "cancel the job of", NULL, "end it; the chain is as it was",
	  plain_options, NULL, EXIT_USAGE, job },
	{ "rate", "limit the job of", "BYTES", "change its limit", rate_options,
	  "rate", EXIT_USAGE, job },
	{ 0 },
};

static void put_verbs(FILE *out)
{
	const struct command *c;

	for (c = verbs; c->name; c++)
		fprintf(out, "  %-8s %s\n", c->name, c->summary);
}

static int show_verbs(const struct args *args)
{
	fprintf(stderr, "usage: tap-ctl job COMMAND -p PID -m MINOR "
			"[OPTION]...\n");
	put_verbs(stderr);
	return EXIT_USAGE;
}

static const struct opt no_options[] = { { 0 } };

const struct command job_commands[] = {
	{ .name = "job",
	  .operands = "start|list|pause|resume|cancel|rate",
	  .summary = "long work on the chain of a disk",
	  .options = no_options,
	  .usage_status = EXIT_USAGE,
	  .run = show_verbs,
	  .more = put_verbs },
	{ 0 },
};

int run_job(int argc, char **argv)
{
	const char *names[sizeof(verbs) / sizeof(*verbs)] = { NULL };
	const char *like;
	size_t i;

	if (argc < 2 || argv[1][0] == '-')
		return run_command("tap-ctl", job_commands, argc, argv);
	for (i = 0; verbs[i].name; i++) {
		if (!strcmp(verbs[i].name, argv[1]))
			return run_command("tap-ctl job", &verbs[i], argc - 1,
					   argv + 1);
		names[i] = verbs[i].name;
	}
	like = suggest(argv[1], names);
	fprintf(stderr, "tap-ctl job: unknown command '%s'\n", argv[1]);
	if (like)
		fprintf(stderr, "hint: did you mean '%s'?\n", like);
	else
		put_verbs(stderr);
	return EXIT_USAGE;
}
