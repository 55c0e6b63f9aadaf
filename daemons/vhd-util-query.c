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
	{ 0, "json", OPT_FLAG, NULL, "all of it, as one JSON object", 0, 0 },
	{ 0 },
};

void put_line(const char *text)
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

/* Images of the chain, a raw one counted as well. */
static int count_depth(const char *name, int *out, struct blktap_error **err)
{
	char *at = strdup(name);
	int depth = 0, rc = at ? 0 : -ENOMEM;

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
	*out = depth;
	return rc;
}

static int show_depth(const char *name, struct blktap_error **err)
{
	int depth, rc = count_depth(name, &depth, err);

	if (rc)
		printf("error checking chain depth: %d\n", rc);
	else
		printf("chain depth: %d\n", depth);
	return rc;
}

/* A parent only as it is stored: none is opened. */
static int show_json(const char *name, const struct blktap_vhd_info *info,
		     struct blktap_error **err)
{
	static const char *const types[] = {
		[BLKTAP_VHD_FIXED] = "fixed",
		[BLKTAP_VHD_DYNAMIC] = "dynamic",
		[BLKTAP_VHD_DIFFERENCING] = "differencing",
	};
	char *parent;
	int rc = blktap_vhd_get_parent(name, true, &parent, err);

	if (rc)
		return rc;
	printf("{\"name\":");
	put_json_string(stdout, name);
	printf(",\"type\":\"%s\",\"size\":%" PRIu64 ",\"file_size\":%" PRIu64
	       ",\"max_size\":%" PRIu64 ",\"block_size\":%" PRIu32
	       ",\"allocated\":%" PRIu32 ",\"hidden\":%" PRIu32
	       ",\"marker\":%" PRIu32,
	       types[info->type], info->length, info->file_size,
	       info->max_length, info->block_size, info->allocated,
	       info->hidden, info->marker);
	printf(",\"parent\":");
	if (parent)
		put_json_string(stdout, parent);
	else
		printf("null");
	printf(",\"parent_is_raw\":%s}\n",
	       info->parent_is_raw ? "true" : "false");
	free(parent);
	return 0;
}

static int query(const struct args *args)
{
	const char *name = arg_text(args, "name");
	struct blktap_vhd_info info = { .struct_size = sizeof(info) };
	struct blktap_error *err = NULL;
	int rc = blktap_vhd_get_info(name, &info, &err);

	if (rc) {
		/* each program has always had words of its own */
		printf("%s opening %s: %d\n",
		       strcmp(args->program, "td-util") ? "error" : "failed",
		       name, rc);
		return report(args, name, rc, err);
	}
	if (arg_is_set(args, "json")) {
		rc = show_json(name, &info, &err);
		return rc ? report(args, name, rc, err) : 0;
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
	{ 'I', "ignore-uuids", OPT_FLAG, NULL,
	  "with -p: a parent may be another disk than it was", 0, 0 },
	{ 'p', "parents", OPT_FLAG, NULL, "check what it stands on as well", 0,
	  0 },
	{ 'b', "bitmaps", OPT_FLAG, NULL,
	  "read every bitmap, and hold it against the batmap", 0, 0 },
	{ 'B', "no-overlaps", OPT_FLAG, NULL,
	  "do not look for blocks over each other; not with -s or -b", 0, 0 },
	{ 's', "stats", OPT_FLAG, NULL, "count blocks and sectors", 0, 0 },
	{ 't', "ignore-times", OPT_FLAG, NULL,
	  "as ever; times are not compared anyhow", 0, 0 },
	{ 0, "json", OPT_FLAG, NULL, "an object a line, for each image", 0, 0 },
	{ 0 },
};

struct check {
	const struct args *args;
	uint32_t flags;
	struct blktap_error *err;
};

static int put_stats(struct check *c, struct blktap_vhd *vhd)
{
	struct blktap_vhd_stats s = { .struct_size = sizeof(s) };
	int rc = blktap_vhd_get_stats(vhd, &s, &c->err);

	if (rc == -EINVAL && c->err) { /* a fixed disk has no blocks */
		blktap_error_destroy(c->err);
		c->err = NULL;
		return 0;
	}
	if (!rc)
		printf(arg_is_set(c->args, "json")
			       ? ",\"blocks\":%" PRIu32
				 ",\"allocated\":%" PRIu32 ",\"full\":%" PRIu32
				 ",\"sectors\":%" PRIu64
			       : "blocks: %" PRIu32 ", allocated: %" PRIu32
				 ", full: %" PRIu32 ", sectors: %" PRIu64 "\n",
		       s.blocks, s.allocated, s.full, s.sectors);
	return rc;
}

static int check_stats(struct check *c, const char *name)
{
	struct blktap_vhd *vhd;
	int rc = blktap_vhd_open(name, 0, &vhd, &c->err);

	if (rc)
		return rc;
	rc = put_stats(c, vhd);
	blktap_vhd_close(vhd);
	return rc;
}

static int check_json(struct check *c, const char *name)
{
	int rc = blktap_vhd_check(name, c->flags, &c->err);

	printf("{\"name\":");
	put_json_string(stdout, name);
	printf(",\"valid\":%s", rc ? "false" : "true");
	if (rc) {
		printf(",\"error\":");
		put_json_string(stdout, blktap_error_get_message(c->err));
	}
	if (!rc && arg_is_set(c->args, "stats"))
		rc = check_stats(c, name);
	printf("}\n");
	return rc;
}

static int check_one(struct check *c, const char *name)
{
	int rc;

	if (arg_is_set(c->args, "json"))
		return check_json(c, name);
	rc = blktap_vhd_check(name, c->flags, &c->err);
	if (!rc)
		printf("%s is valid\n", name);
	else
		printf("%s appears invalid; %s\n", name,
		       blktap_error_get_message(c->err));
	if (!rc && arg_is_set(c->args, "stats"))
		rc = check_stats(c, name);
	return rc;
}

/* The next image to look at; *next is NULL after a raw one, where any bytes are a
 * disk. */
static int check_next(struct check *c, const char *at, char **next)
{
	struct blktap_vhd_info info = { .struct_size = sizeof(info) };
	struct blktap_vhd *vhd;
	int rc = blktap_vhd_get_info(at, &info, &c->err);

	if (!rc)
		rc = blktap_vhd_open(at, 0, &vhd, &c->err);
	if (rc)
		return rc;
	rc = blktap_vhd_find_parent(vhd, arg_is_set(c->args, "ignore-uuids"),
				    next, &c->err);
	blktap_vhd_close(vhd);
	if (info.parent_is_raw) {
		free(*next);
		*next = NULL;
	}
	return rc;
}

static int check(const struct args *args)
{
	struct check c = { .args = args };
	const char *name = arg_text(args, "name");
	char *at = strdup(name), *next;
	int rc = at ? 0 : -ENOMEM;

	if (arg_is_set(args, "no-overlaps") &&
	    (arg_is_set(args, "stats") || arg_is_set(args, "bitmaps"))) {
		free(at);
		return misuse(args, NULL, "-B goes with neither -s nor -b");
	}
	if (arg_is_set(args, "ignore-footer"))
		c.flags |= BLKTAP_VHD_CHECK_NO_FOOTER;
	if (arg_is_set(args, "no-overlaps"))
		c.flags |= BLKTAP_VHD_CHECK_NO_OVERLAPS;
	if (arg_is_set(args, "bitmaps"))
		c.flags |= BLKTAP_VHD_CHECK_BITMAPS;
	while (!rc && at) {
		next = NULL;
		rc = check_one(&c, at);
		if (!rc && arg_is_set(args, "parents"))
			rc = check_next(&c, at, &next);
		free(at);
		at = next;
	}
	free(at);
	return rc ? report(args, name, rc, c.err) : 0;
}

const struct command vhd_query_commands[] = {
	{ .name = "query",
	  .summary = "prints what an image says of itself",
	  .options = query_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = query },
	{ .name = "set",
	  .summary = "sets a mark",
	  .options = set_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = set },
	{ .name = "check",
	  .summary = "looks for faults",
	  .options = check_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = check },
	{ 0 },
};
