/* SPDX-License-Identifier: BSD-3-Clause */
/* cbt-util: logs of changed blocks, with the options and output toolstacks know. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

#define UUID_TEXT 36

static void put_uuid(const uint8_t uuid[16])
{
	int i;

	for (i = 0; i < 16; i++)
		printf("%s%02x",
		       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
		       uuid[i]);
	putchar('\n');
}

static int read_uuid(const char *text, uint8_t out[16])
{
	unsigned int byte;
	int i, n;

	if (strlen(text) != UUID_TEXT)
		return -EINVAL;
	for (i = 0; i < 16; i++) {
		text += *text == '-' && (i == 4 || i == 6 || i == 8 || i == 10);
		if (sscanf(text, "%2x%n", &byte, &n) != 1 || n != 2)
			return -EINVAL;
		out[i] = (uint8_t)byte;
		text += 2;
	}
	return *text ? -EINVAL : 0;
}

static int failed(const struct args *args, const char *name, int rc,
		  struct blktap_error *err)
{
	if (rc == -ENOENT)
		fprintf(stderr, "Failed to open log file %s. %s\n", name,
			strerror(ENOENT));
	return report(args, name, rc, err);
}

static const struct opt create_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the new log", OPT_REQUIRED, 0 },
	{ 's', "size", OPT_NUMBER, "BYTES", "size of the disk", OPT_REQUIRED,
	  LONG_MAX },
	{ 0 },
};

static int create(const struct args *args)
{
	const char *name = arg_text(args, "name");
	struct blktap_error *err = NULL;
	int rc = blktap_cbt_create(name, (uint64_t)arg_long(args, "size", 0),
				   &err);

	return rc ? failed(args, name, rc, err) : 0;
}

static const struct opt get_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the log", OPT_REQUIRED, 0 },
	{ 'p', "parent", OPT_FLAG, NULL, "uuid of the parent", 0, 0 },
	{ 'c', "child", OPT_FLAG, NULL, "uuid of the child", 0, 0 },
	{ 'f', "consistent", OPT_FLAG, NULL, "1 where all changes are in it", 0,
	  0 },
	{ 's', "size", OPT_FLAG, NULL, "size of the disk in bytes", 0, 0 },
	{ 'b', "bitmap", OPT_FLAG, NULL, "the bits, as raw bytes", 0, 0 },
	{ 0, "json", OPT_FLAG, NULL, "all but the bits as JSON", 0, 0 },
	{ 0 },
};

static int put_map(const char *name, struct blktap_error **err)
{
	size_t size;
	void *map;
	int rc = blktap_cbt_read_map(name, &map, &size, err);

	if (rc)
		return rc;
	rc = fwrite(map, 1, size, stdout) == size && !fflush(stdout) ? 0 : -EIO;
	free(map);
	return rc;
}

static void put_json(const struct blktap_cbt_info *info)
{
	int i;

	printf("{\"parent\":\"");
	for (i = 0; i < 16; i++)
		printf("%02x", info->parent[i]);
	printf("\",\"child\":\"");
	for (i = 0; i < 16; i++)
		printf("%02x", info->child[i]);
	printf("\",\"consistent\":%s,\"size\":%" PRIu64 "}\n",
	       info->is_consistent ? "true" : "false", info->length);
}

static int get(const struct args *args)
{
	struct blktap_cbt_info info = { .struct_size = sizeof(info) };
	const char *name = arg_text(args, "name");
	struct blktap_error *err = NULL;
	int rc = blktap_cbt_get_info(name, &info, &err);

	if (!rc && arg_is_set(args, "json"))
		put_json(&info);
	if (!rc && arg_is_set(args, "parent"))
		put_uuid(info.parent);
	if (!rc && arg_is_set(args, "child"))
		put_uuid(info.child);
	if (!rc && arg_is_set(args, "consistent"))
		printf("%d\n", info.is_consistent);
	if (!rc && arg_is_set(args, "size"))
		printf("%" PRIu64 "\n", info.length);
	if (!rc && arg_is_set(args, "bitmap"))
		rc = put_map(name, &err);
	return rc ? failed(args, name, rc, err) : 0;
}

static const struct opt set_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the log", OPT_REQUIRED, 0 },
	{ 'p', "parent", OPT_TEXT, "UUID", "uuid of the parent", 0, 0 },
	{ 'c', "child", OPT_TEXT, "UUID", "uuid of the child", 0, 0 },
	{ 'f', "consistent", OPT_NUMBER, "0|1", "whether all changes are in it",
	  0, 1 },
	{ 's', "size", OPT_NUMBER, "BYTES", "size of the disk", 0, LONG_MAX },
	{ 0 },
};

static int set(const struct args *args)
{
	struct blktap_cbt_info info = { .struct_size = sizeof(info) };
	const char *name = arg_text(args, "name");
	const char *parent = arg_text(args, "parent");
	const char *child = arg_text(args, "child");
	struct blktap_error *err = NULL;
	int rc;

	if (parent && read_uuid(parent, info.parent))
		return misuse(args, NULL, "'%s' is no uuid", parent);
	if (child && read_uuid(child, info.child))
		return misuse(args, NULL, "'%s' is no uuid", child);
	rc = blktap_cbt_get_info(name, &info, &err);
	if (!rc && parent)
		read_uuid(parent, info.parent);
	if (!rc && child)
		read_uuid(child, info.child);
	info.is_consistent = arg_number(args, "consistent", info.is_consistent);
	info.length = (uint64_t)arg_long(args, "size", (long)info.length);
	if (!rc)
		rc = blktap_cbt_set_info(name, &info, &err);
	return rc ? failed(args, name, rc, err) : 0;
}

static const struct opt coalesce_options[] = {
	{ 'p', "parent", OPT_TEXT, "FILE", "the older log", OPT_REQUIRED, 0 },
	{ 'c', "child", OPT_TEXT, "FILE", "the log that gets its bits",
	  OPT_REQUIRED, 0 },
	{ 0 },
};

static int coalesce(const struct args *args)
{
	const char *child = arg_text(args, "child");
	struct blktap_error *err = NULL;
	const char *parent = arg_text(args, "parent");
	int rc = blktap_cbt_coalesce(parent, child, &err);

	if (!rc)
		return 0;
	/* the one that is missing */
	return failed(args,
		      rc == -ENOENT && access(parent, F_OK) ? parent : child,
		      rc, err);
}

#define COMMAND(verb, what)                                                \
	{                                                                  \
		.name = #verb, .summary = what, .options = verb##_options, \
		.usage_status = EINVAL, .files_only = true, .run = verb    \
	}

static const struct command commands[] = {
	COMMAND(create, "makes a log"),
	COMMAND(get, "prints what a log says"),
	COMMAND(set, "sets what a log says"),
	COMMAND(coalesce, "adds the bits of a log to its child's"),
	{ 0 },
};

static void show_verbs(FILE *out)
{
	const struct command *c;

	fprintf(out, "usage: cbt-util COMMAND [OPTION]...\n\n");
	for (c = commands; c->name; c++)
		fprintf(out, "  %-10s %s\n", c->name, c->summary);
}

static int run(int argc, char **argv)
{
	const struct command *c;

	if (argc > 1 &&
	    (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		show_verbs(stdout);
		return 0;
	}
	if (argc > 1 && !strcmp(argv[1], "--version")) {
		printf("cbt-util (blktap) %s\n", blktap_version());
		return 0;
	}
	for (c = commands; argc > 1 && c->name; c++)
		if (!strcmp(c->name, argv[1]))
			return run_command("cbt-util", c, argc - 1, argv + 1);
	if (argc > 1)
		fprintf(stderr, "cbt-util: unknown command '%s'\n", argv[1]);
	show_verbs(stderr);
	return EINVAL;
}

int main(int argc, char **argv)
{
	open_stdio();
	take_debug(&argc, argv);
	return end_output("cbt-util", run(argc, argv));
}
