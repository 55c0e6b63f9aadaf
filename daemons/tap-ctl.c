/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl: drives tapdisks. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tap-ctl.h"

static const struct command *const groups[] = {
	list_commands,	 minor_commands, create_commands,
	disk_commands,	 map_commands,	 kernel_commands,
	doctor_commands, mason_commands, job_commands,
};

#define GROUPS (sizeof(groups) / sizeof(*groups))
#define EXIT_USAGE 2

static const struct command *find(const char *name)
{
	const struct command *c;
	size_t i;

	for (i = 0; i < GROUPS; i++)
		for (c = groups[i]; c->name; c++)
			if (!strcmp(c->name, name))
				return c;
	return NULL;
}

static void show_verbs(FILE *out)
{
	const struct command *c;
	const char *bar = "";
	size_t i;

	fprintf(out, "usage: tap-ctl COMMAND [OPTION]...\n"
		     "COMMAND := {");
	for (i = 0; i < GROUPS; i++)
		for (c = groups[i]; c->name; c++, bar = " |")
			fprintf(out, "%s %s", bar, c->name);
	fprintf(out, " }\n\n");
	for (i = 0; i < GROUPS; i++)
		for (c = groups[i]; c->name; c++)
			fprintf(out, "  %-10s %s\n", c->name, c->summary);
	fprintf(out, "\n'tap-ctl COMMAND --help' tells more of one; "
		     "--debug shows what goes over the socket.\n");
}

static int unknown(const char *name)
{
	const char *names[64], *like;
	const struct command *c;
	size_t i, n = 0;

	for (i = 0; i < GROUPS; i++)
		for (c = groups[i]; c->name && n < 63; c++)
			names[n++] = c->name;
	names[n] = NULL;
	like = suggest(name, names);
	if (name[0] == '-') {
		fprintf(stderr,
			"tap-ctl: option '%s' stands before the command\n"
			"hint: the command comes first: tap-ctl COMMAND %s\n",
			name, name);
		return EXIT_USAGE;
	}
	fprintf(stderr, "tap-ctl: unknown command '%s'\n", name);
	if (like)
		fprintf(stderr, "hint: did you mean '%s'?\n", like);
	else
		show_verbs(stderr);
	return EXIT_USAGE;
}

static void log_line(void *opaque, enum blktap_log_level level,
		     const char *text)
{
	fprintf(stderr, "tap-ctl: %s\n", text);
}

static bool debugging;

int open_control(const struct args *args, struct blktap_control **out)
{
	struct blktap_control_options options;
	struct blktap_error *err = NULL;
	int rc;

	blktap_control_options_init(&options);
	options.rundir = arg_rundir(args);
	options.tapdisk = getenv("TAPDISK");
	options.environment = environ;
	options.no_ring = getenv("BLKTAP_NO_RING");
	if (debugging) {
		options.log_level = BLKTAP_LOG_DEBUG;
		options.log = log_line;
	}
	rc = blktap_control_create(&options, out, &err);
	return rc ? report(args, NULL, rc, err) : 0;
}

static int run(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		show_verbs(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
	    !strcmp(argv[1], "help")) {
		show_verbs(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("tap-ctl (blktap) %s\n", blktap_version());
		return 0;
	}
	if (!strcmp(argv[1], "job"))
		return run_job(argc - 1, argv + 1);
	if (!strcmp(argv[1], "mason"))
		return run_mason(argc - 1, argv + 1);
	command = find(argv[1]);
	if (!command)
		return unknown(argv[1]);
	return run_command("tap-ctl", command, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	open_stdio();
	debugging = take_debug(&argc, argv);
	return end_output("tap-ctl", run(argc, argv));
}
