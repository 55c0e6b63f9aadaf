/* SPDX-License-Identifier: BSD-3-Clause */
/* blktap-map: what tap-ctl runs for map and unmap. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "map-options.h"
#include "map.h"

#define EXIT_USAGE MAP_USAGE

static int map(const struct args *args)
{
	bool list = arg_is_set(args, "list");

	if (list != !arg_is_set(args, "image") ||
	    (!list && arg_is_set(args, "json"))) {
		fprintf(stderr, "%s: cannot map: name an image, or --list\n",
			args->program);
		show_usage(stderr, args->program, args->command);
		return EXIT_USAGE;
	}
	return list ? map_list(args) : map_start(args);
}

static const struct command commands[] = {
	{ .name = "map",
	  .operands = MAP_OPERANDS,
	  .summary = MAP_SUMMARY,
	  .options = map_options,
	  .operand = "image file",
	  .usage_status = EXIT_USAGE,
	  .run = map },
	{ .name = "unmap",
	  .operands = UNMAP_OPERANDS,
	  .summary = UNMAP_SUMMARY,
	  .options = unmap_options,
	  .operand = "what",
	  .usage_status = EXIT_USAGE,
	  .run = map_stop },
};

static void show_verbs(FILE *out)
{
	size_t i;

	fputs("usage: blktap-map COMMAND [OPTION]...\n", out);
	for (i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		fprintf(out, "  %-10s %s\n", commands[i].name,
			commands[i].summary);
}

/* tap-ctl runs us under its own name, which is what messages begin with. */
static int run(const char *program, int argc, char **argv)
{
	size_t i;

	if (argc > 1 &&
	    (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		show_verbs(stdout);
		return 0;
	}
	if (argc > 1 &&
	    (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))) {
		printf("blktap-map (blktap) %s\n", blktap_version());
		return 0;
	}
	for (i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return run_command(program, &commands[i], argc - 1,
					   argv + 1);
	show_verbs(stderr);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	const char *program =
		argc && !strcmp(argv[0], "tap-ctl") ? "tap-ctl" : "blktap-map";
	int status;

	open_stdio();
	close_range(3, ~0u, 0);
	umask(077);
	take_debug(&argc, argv);
	status = run(program, argc, argv);
	if (!status && flush_output(program))
		status = MAP_FAILURE;
	return status;
}
