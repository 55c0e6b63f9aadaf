/* SPDX-License-Identifier: BSD-3-Clause */
/* td-util: the verbs of vhd-util with operands for options, and raw images. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vhd-util.h"

#define MIB 1048576u
#define BAD_TYPE 255

static const struct opt aio_options[] = {
	{ 's', "size", OPT_NUMBER, "MIB", "size of the disk", 0, 0 },
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 'v', "show-size", OPT_FLAG, NULL, "print its size in MiB", 0, 0 },
	{ 0 },
};

static int aio_create(const struct args *args)
{
	const char *name = arg_text(args, "name");
	struct blktap_image_options options;
	struct blktap_error *err = NULL;
	int rc;

	blktap_image_options_init(&options);
	options.length = (uint64_t)arg_long(args, "size", 0) * MIB;
	options.flags = BLKTAP_CREATE_OVERWRITE;
	rc = blktap_image_create("raw", name, &options, &err);
	return rc ? report(args, name, rc, err) : 0;
}

static int aio_query(const struct args *args)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	const char *name = arg_text(args, "name");
	struct blktap_disk_options options;
	struct blktap_context *context = NULL;
	struct blktap_disk *disk;
	struct blktap_error *err = NULL;
	char *spec = NULL;
	int rc;

	blktap_disk_options_init(&options);
	options.flags = BLKTAP_OPEN_READ_ONLY | BLKTAP_OPEN_FORCE;
	if (asprintf(&spec, "raw:%s", name) < 0)
		return report(args, name, -ENOMEM, NULL);
	rc = blktap_context_create(NULL, &context, &err);
	if (!rc)
		rc = blktap_disk_open(context, spec, &options, &disk, &err);
	free(spec);
	if (rc) {
		printf("failed opening %s: %d\n", name, rc);
		blktap_context_destroy(context);
		return report(args, name, rc, err);
	}
	blktap_disk_get_info(disk, &info);
	if (arg_is_set(args, "show-size"))
		printf("%" PRIu64 "\n", info.length / MIB);
	blktap_disk_close(disk);
	blktap_context_destroy(context);
	return 0;
}

static const struct verb {
	const char *name;
	const struct command *vhd; /* the group that has it */
	const char *operand, *operands;
	int (*aio)(const struct args *args); /* NULL: not of a raw image */
} verbs[] = {
	{ "create", vhd_create_commands, "size name", "MIB FILE", aio_create },
	{ "snapshot", vhd_create_commands, "name parent", "CHILD PARENT",
	  NULL },
	{ "query", vhd_query_commands, "name", "FILE", aio_query },
	{ "set", vhd_query_commands, "name field value", "FILE hidden N",
	  NULL },
};

#define VERBS (sizeof(verbs) / sizeof(*verbs))

static int usage(FILE *out, int status)
{
	size_t i;

	fprintf(out, "usage: td-util COMMAND TYPE [OPTION]... OPERAND...\n\n");
	for (i = 0; i < VERBS; i++)
		fprintf(out, "  %-8s vhd%s %s\n", verbs[i].name,
			verbs[i].aio ? "|aio" : "    ", verbs[i].operands);
	return status;
}

/* The command of vhd-util, with -b, which callers give to query and which says
 * nothing. */
static int run_vhd(const struct verb *verb, int argc, char **argv)
{
	struct opt options[OPT_MAX] = {
		{ 'b', "allocated-blocks", OPT_FLAG, NULL,
		  "as ever; it makes no difference", 0, 0 },
	};
	const struct command *from = verb->vhd;
	struct command command;
	size_t i;

	while (strcmp(from->name, verb->name) != 0)
		from++;
	for (i = 0; i < OPT_MAX - 2 && from->options[i].name; i++)
		options[i + 1] = from->options[i];
	command = *from;
	command.options = options;
	command.operand = verb->operand;
	command.operands = verb->operands;
	return run_command("td-util", &command, argc, argv);
}

static int run_aio(const struct verb *verb, int argc, char **argv)
{
	struct command command = {
		.name = verb->name,
		.summary = "of a raw image",
		.options = aio_options,
		.operand = verb->operand,
		.operands = verb->operands,
		.usage_status = EINVAL,
		.files_only = true,
		.run = verb->aio,
	};

	return run_command("td-util", &command, argc, argv);
}

/* Says what of "COMMAND TYPE" is wrong, where there is something. */
static int misused(int argc, char **argv)
{
	size_t i;

	for (i = 0; argc > 1 && i < VERBS; i++)
		if (!strcmp(argv[1], verbs[i].name))
			break;
	if (argc > 1 && i == VERBS)
		fprintf(stderr, "td-util: unknown command '%s'\n", argv[1]);
	else if (argc > 2)
		fprintf(stderr, "td-util: cannot %s type '%s'\n", argv[1],
			argv[2]);
	return usage(stderr, BAD_TYPE);
}

static int run(int argc, char **argv)
{
	size_t i;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return usage(stdout, 0);
	if (argc > 1 && !strcmp(argv[1], "--version")) {
		printf("td-util (blktap) %s\n", blktap_version());
		return 0;
	}
	for (i = 0; argc > 2 && i < VERBS; i++) {
		if (strcmp(argv[1], verbs[i].name) != 0)
			continue;
		if (!strcmp(argv[2], "vhd"))
			return run_vhd(&verbs[i], argc - 2, argv + 2);
		if (!strcmp(argv[2], "aio") && verbs[i].aio)
			return run_aio(&verbs[i], argc - 2, argv + 2);
	}
	return misused(argc, argv);
}

int main(int argc, char **argv)
{
	open_stdio();
	take_debug(&argc, argv);
	return end_output("td-util", run(argc, argv));
}
