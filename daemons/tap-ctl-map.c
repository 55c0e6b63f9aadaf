/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl map and unmap: the program blktap-map does them, so that what needs no
 * FUSE needs no FUSE library either. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "map-options.h"
#include "tap-ctl.h"

#define EXIT_USAGE 2

/* The options as they were understood, written out. */
static char *write_option(const struct opt *o, const char *value)
{
	char *text;
	int n = o->kind == OPT_FLAG
			? asprintf(&text, "--%s", o->name)
			: asprintf(&text, "--%s=%s", o->name, value);

	return n < 0 ? NULL : text;
}

static int help_missing(const struct args *args, const char *program, int rc)
{
#ifdef HAVE_FUSE
	const char *hint = "install blktap-map, or name it by BLKTAP_MAP";
#else
	const char *hint = "this build has no FUSE: install libfuse3-dev, and "
			   "configure and build again";
#endif
	report(args, program, rc, NULL);
	fprintf(stderr, "hint: %s\n", hint);
	return 1;
}

static int run_map(const struct args *args)
{
	const char *program = getenv("BLKTAP_MAP");
	const struct opt *tables[] = { args->command->options, common_options };
	char *argv[OPT_MAX + 3] = { (char *)"tap-ctl",
				    (char *)args->command->name };
	int n = 2, i = 0, rc;
	const struct opt *o;
	size_t t;

	for (t = 0; t < 2; t++)
		for (o = tables[t]; o->name && i < OPT_MAX; o++, i++)
			if (args->values[i])
				argv[n++] = write_option(o, args->values[i]);
	if (!program || !*program)
		program = BLKTAP_MAP;
	execv(program, argv);
	rc = -errno;
	while (n > 2)
		free(argv[--n]);
	return help_missing(args, program, rc);
}

const struct command map_commands[] = {
	{ .name = "map",
	  .operands = MAP_OPERANDS,
	  .summary = MAP_SUMMARY,
	  .options = map_options,
	  .operand = "image file",
	  .usage_status = EXIT_USAGE,
	  .run = run_map },
	{ .name = "unmap",
	  .operands = UNMAP_OPERANDS,
	  .summary = UNMAP_SUMMARY,
	  .options = unmap_options,
	  .operand = "what",
	  .usage_status = EXIT_USAGE,
	  .run = run_map },
	{ 0 },
};
