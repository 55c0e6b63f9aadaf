/* SPDX-License-Identifier: BSD-3-Clause */
/* vhd-util query, set, check. Toolstacks read these lines. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vhd-util.h"

#define MIB 1048576u

static const struct opt query_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 'v', "size", OPT_FLAG, NULL, "size of the disk in MiB", 0, 0 },
	{ 's', "physical", OPT_FLAG, NULL, "size of the file in bytes", 0, 0 },
	{ 'p', "parent", OPT_FLAG, NULL, "the parent's path", 0, 0 },
	{ 'f', "fields", OPT_FLAG, NULL, "the mark 'hidden'", 0, 0 },
	{ 'm', "marker", OPT_FLAG, NULL, "the mark 'marker'", 0, 0 },
	{ 'd', "depth", OPT_FLAG, NULL, "images in the chain", 0, 0 },
	{ 'S', "max-size", OPT_FLAG, NULL,
	  "size it can grow to in its place, in MiB", 0, 0 },
	{ 'a', "allocated", OPT_FLAG, NULL, "blocks that are there", 0, 0 },
	{ 'u', "unresolved", OPT_FLAG, NULL, "the parent as it is stored", 0,
	  0 },
	{ 0 },
};

/* A line break in a name would make two lines of one. */
static void put_line(const char *text)
{
	for (; *text; text++)
		putchar((unsigned char)*text < ' ' ? '?' : *text);
	putchar('\n');
}

static int show_parent(const struct args *args, const char *name, bool stored,
		       struct blktap_error **err)
{
	char *parent;
	int rc = blktap_vhd_get_parent(name, stored, &parent, err);

	if (rc)
		printf("query failed\n");
	else if (parent)
		put_line(parent);
	else
		printf("%s has no parent\n", name);
	free(parent);
	return rc;
}

static int show_depth(const char *name, struct blktap_error **err)
{
	char *at = strdup(name);
	int depth = 0, rc = 0;

	while (at && !rc) {
		struct blktap_vhd_info info = { .struct_size = sizeof(info) };
		char *next = NULL;

		depth++;
		rc = blktap_vhd_get_info(at, &info, err);
		if (!rc)
			rc = blktap_vhd_get_parent(at, false, &next, err);
		free(at);
		at = next;
		if (info.parent_is_raw && at) {
			depth++;
			free(at);
			at = NULL;
		}
	}
	if (rc)
		printf("error checking chain depth: %d\n", rc);
	else
		printf("chain depth: %d\n", depth);
	return rc;
}

static int query(const struct args *args)
{
	const char *name = arg_text(args, "name");
	struct blktap_vhd_info info = { .struct_size = sizeof(info) };
	struct blktap_error *err = NULL;
	int rc = blktap_vhd_get_info(name, &info, &err);

	if (rc) {
		printf("error opening %s: %d\n", name, rc);
		return report(args, name, rc, err);
	}
	if (arg_is_set(args, "size"))
		printf("%" PRIu64 "\n", info.length / MIB);
	if (arg_is_set(args, "physical"))
		printf("%" PRIu64 "\n", info.file_size);
	if (arg_is_set(args, "parent") || arg_is_set(args, "unresolved"))
		rc = show_parent(args, name, arg_is_set(args, "unresolved"),
				 &err);
	if (arg_is_set(args, "fields"))
		printf("hidden: %" PRIu32 "\n", info.hidden);
	if (arg_is_set(args, "marker"))
		printf("marker: %" PRIu32 "\n", info.marker);
	if (!rc && arg_is_set(args, "depth"))
		rc = show_depth(name, &err);
	if (arg_is_set(args, "allocated"))
		printf("%" PRIu32 "\n", info.allocated);
	if (arg_is_set(args, "max-size"))
		printf("%" PRIu64 "\n", info.max_length / MIB);
	return rc ? report(args, name, rc, err) : 0;
}

static const struct opt set_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 'f', "field", OPT_TEXT, "FIELD", "hidden or marker", OPT_REQUIRED,
	  0 },
	{ 'v', "value", OPT_NUMBER, "N", "0 to 255", OPT_REQUIRED, 255 },
	{ 0 },
};

static int set(const struct args *args)
{
	const char *name = arg_text(args, "name");
	struct blktap_error *err = NULL;
	int rc = blktap_vhd_set_mark(name, arg_text(args, "field"),
				     (uint32_t)arg_number(args, "value", 0),
				     &err);

	return rc ? report(args, name, rc, err) : 0;
}

static const struct opt check_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 'i', "ignore-footer", OPT_FLAG, NULL,
	  "the footer at the end may be missing", 0, 0 },
	{ 'p', "parents", OPT_FLAG, NULL, "check what it stands on as well", 0,
	  0 },
	{ 'B', "no-overlaps", OPT_FLAG, NULL,
	  "do not look for blocks over each other", 0, 0 },
	{ 't', "ignore-times", OPT_FLAG, NULL,
	  "as ever; times are not compared anyhow", 0, 0 },
	{ 0 },
};

static int check_one(const char *name, uint32_t flags,
		     struct blktap_error **err)
{
	int rc = blktap_vhd_check(name, flags, err);

	if (!rc)
		printf("%s is valid\n", name);
	else
		printf("%s appears invalid; %s\n", name,
		       blktap_error_get_message(*err));
	return rc;
}

static int check(const struct args *args)
{
	const char *name = arg_text(args, "name");
	uint32_t flags = 0;
	struct blktap_error *err = NULL;
	char *at = strdup(name), *next;
	int rc = at ? 0 : -ENOMEM;

	if (arg_is_set(args, "ignore-footer"))
		flags |= BLKTAP_VHD_CHECK_NO_FOOTER;
	if (arg_is_set(args, "no-overlaps"))
		flags |= BLKTAP_VHD_CHECK_NO_OVERLAPS;
	while (!rc && at) {
		struct blktap_vhd_info info = { .struct_size = sizeof(info) };

		next = NULL;
		rc = check_one(at, flags, &err);
		if (!rc && arg_is_set(args, "parents"))
			rc = blktap_vhd_get_info(at, &info, &err);
		if (!rc && arg_is_set(args, "parents"))
			rc = blktap_vhd_get_parent(at, false, &next, &err);
		free(at);
		at = next;
		if (info.parent_is_raw) { /* any bytes are a raw disk */
			free(at);
			at = NULL;
		}
	}
	free(at);
	return rc ? report(args, name, rc, err) : 0;
}

const struct command vhd_query_commands[] = {
	{ .name = "query",
	  .summary = "prints what an image says of itself",
	  .options = query_options,
	  .usage_status = EINVAL,
	  .run = query },
	{ .name = "set",
	  .summary = "sets a mark",
	  .options = set_options,
	  .usage_status = EINVAL,
	  .run = set },
	{ .name = "check",
	  .summary = "looks for faults",
	  .options = check_options,
	  .usage_status = EINVAL,
	  .run = check },
	{ 0 },
};
