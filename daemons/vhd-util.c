/* SPDX-License-Identifier: BSD-3-Clause */
/* vhd-util: makes, asks, checks and changes VHD images. Options, output and exit status
 * are those that toolstacks have always had from it: the status is the errno, 22
 * for wrong use, and 0 where nothing was asked. */
#include <errno.h>
#include <string.h>

#include "vhd-util.h"

static const struct command *const groups[] = {
	vhd_create_commands, vhd_query_commands, vhd_read_commands,
	vhd_change_commands, vhd_long_commands,	 vhd_scan_commands,
	vhd_key_commands,    vhd_copy_commands,
};

#define GROUPS (sizeof(groups) / sizeof(*groups))

static void show_verbs(FILE *out)
{
	const struct command *c;
	size_t i;

	fprintf(out, "usage: vhd-util COMMAND [OPTION]...\n\n");
	for (i = 0; i < GROUPS; i++)
		for (c = groups[i]; c->name; c++)
			fprintf(out, "  %-10s %s\n", c->name, c->summary);
	fprintf(out, "\n'vhd-util COMMAND --help' tells more of one.\n");
}

static int unknown(const char *verb)
{
	const char *names[32] = { NULL };
	const struct command *c;
	const char *like;
	size_t i, n = 0;

	for (i = 0; i < GROUPS; i++)
		for (c = groups[i]; c->name && n < 31; c++)
			names[n++] = c->name;
	fprintf(stderr, "vhd-util: cannot run '%s': unknown command (EINVAL)\n",
		verb);
	like = suggest(verb, names);
	if (like)
		fprintf(stderr, "hint: did you mean '%s'?\n", like);
	else
		fprintf(stderr, "hint: vhd-util --help lists the commands\n");
	return EINVAL;
}

static int run(int argc, char **argv)
{
	const struct command *c;
	size_t i;

	if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		show_verbs(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("vhd-util (blktap) %s\n", blktap_version());
		return 0;
	}
	for (i = 0; i < GROUPS; i++)
		for (c = groups[i]; c->name; c++)
			if (!strcmp(c->name, argv[1]))
				return run_command("vhd-util", c, argc - 1,
						   argv + 1);
	return unknown(argv[1]);
}

int main(int argc, char **argv)
{
	open_stdio();
	take_debug(&argc, argv);
	return end_output("vhd-util", run(argc, argv));
}
