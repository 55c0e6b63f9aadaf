/* SPDX-License-Identifier: BSD-3-Clause */
/* vhd-util create, snapshot. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vhd-util.h"
#include "work.h"

#define MIB 1048576u
#define MAX_MIB (2040 << 10)

int check_mib(const struct args *args, const char *option)
{
	char cause[96];

	if (arg_number(args, option, 0) <= MAX_MIB)
		return 0;
	snprintf(cause, sizeof(cause),
		 "--%s '%s': a VHD holds at most %d MiB, which are 2040 GiB",
		 option, arg_text(args, option), MAX_MIB);
	return report_as(args, arg_text(args, "name"), -EINVAL, cause,
			 "make the disk smaller, or use qcow2");
}

static const struct opt create_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the new image", OPT_REQUIRED, 0 },
	{ 's', "size", OPT_NUMBER, "MIB", "size of the disk", OPT_REQUIRED, 0 },
	{ 'S', "max-size", OPT_NUMBER, "MIB",
	  "leave room in the tables to grow to this", 0, 0 },
	{ 'r', "reserve", OPT_FLAG, NULL, "a fixed disk, its space taken", 0,
	  0 },
	WORK_PROGRESS,
	{ 0 },
};

static int create(const struct args *args)
{
	const char *name = arg_text(args, "name");
	struct blktap_image_options options;
	struct blktap_error *err = NULL;
	struct work work;
	char extra[64];
	int rc = check_mib(args, "size");

	if (!rc)
		rc = check_mib(args, "max-size");
	if (!rc)
		rc = work_begin(&work, args, false);
	if (rc)
		return rc;

	blktap_image_options_init(&options);
	options.length = (uint64_t)arg_number(args, "size", 0) * MIB;
	/* as ever, a file that is there is replaced */
	options.flags = BLKTAP_CREATE_OVERWRITE;
	if (arg_is_set(args, "reserve")) {
		options.flags |= BLKTAP_CREATE_RESERVE;
		options.extra = "type=fixed,round=block";
	} else {
		snprintf(extra, sizeof(extra), "round=block,max_size=%dM",
			 arg_number(args, "max-size", 0));
		options.extra =
			arg_is_set(args, "max-size") ? extra : "round=block";
	}
	options.progress = work_progress;
	options.opaque = &work;
	rc = blktap_image_create("vhd", name, &options, &err);
	return work_end(&work, rc ? report(args, name, rc, err) : 0);
}

static const struct opt snapshot_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the new child", OPT_REQUIRED, 0 },
	{ 'p', "parent", OPT_TEXT, "FILE", "what it stands on", OPT_REQUIRED,
	  0 },
	{ 'S', "max-size", OPT_NUMBER, "MIB",
	  "leave room in the tables to grow to this", 0, 0 },
	{ 'l', "limit", OPT_NUMBER, "N", "refuse a longer chain", 0, 0 },
	{ 'm', "raw", OPT_FLAG, NULL, "the parent is a raw image", 0, 0 },
	{ 'e', "empty", OPT_FLAG, NULL,
	  "link to the parent even if it is empty", 0, 0 },
	{ 0 },
};

/* Images of the chain from path down; a raw one counts as well. */
static int depth_of(const char *path, bool raw, int *depth,
		    struct blktap_error **err)
{
	char *at = strdup(path), *next = NULL;
	int rc = at ? 0 : -ENOMEM;

	*depth = 0;
	while (!rc && at) {
		struct blktap_vhd_info info = { .struct_size = sizeof(info) };

		++*depth;
		if (raw)
			break;
		rc = blktap_vhd_get_info(at, &info, err);
		if (!rc)
			rc = blktap_vhd_get_parent(at, false, &next, err);
		raw = info.parent_is_raw;
		free(at);
		at = next;
		next = NULL;
	}
	free(at);
	return rc;
}

/* Whether two images are encrypted alike; a raw one is not. */
static int same_key(const char *a, const char *b, bool b_is_raw, bool *same,
		    struct blktap_error **err)
{
	struct blktap_vhd_key_hash hash[2] = { 0 };
	const char *const path[] = { a, b_is_raw ? NULL : b };
	struct blktap_vhd *vhd;
	int i, rc = 0;

	for (i = 0; !rc && i < 2 && path[i]; i++) {
		rc = blktap_vhd_open(path[i], 0, &vhd, err);
		if (rc)
			break;
		blktap_vhd_get_key_hash(vhd, &hash[i]);
		blktap_vhd_close(vhd);
	}
	*same = !memcmp(&hash[0], &hash[1], sizeof(hash[0]));
	return rc;
}

/* Parents that hold nothing are stepped over, down to one that does, or to one
 * from which the child would get another key; but not the one that the child would
 * replace, which others may stand on. */
static int skip_empty(const char *child, char **parent, bool *raw,
		      struct blktap_error **err)
{
	for (;;) {
		struct blktap_vhd_info info = { .struct_size = sizeof(info) };
		bool same;
		char *next;
		int rc;

		if (*raw || same_file(child, *parent))
			return 0;
		rc = blktap_vhd_get_info(*parent, &info, err);
		if (rc || info.type != BLKTAP_VHD_DIFFERENCING ||
		    info.allocated)
			return rc;
		rc = blktap_vhd_get_parent(*parent, false, &next, err);
		if (rc)
			return rc;
		rc = same_key(*parent, next, info.parent_is_raw, &same, err);
		if (rc || !same) {
			free(next);
			return rc;
		}
		*raw = info.parent_is_raw;
		free(*parent);
		*parent = next;
	}
}

/* The name of target as it is seen from the directory of from; both absolute. */
static char *relative(const char *from, const char *target)
{
	size_t same = 0, i, ups = 0, room;
	char *out;

	for (i = 0; from[i] && from[i] == target[i]; i++)
		if (from[i] == '/')
			same = i + 1;
	for (i = same; from[i]; i++)
		ups += from[i] == '/';
	room = ups * 3 + strlen(target + same) + 1;
	out = malloc(room);
	if (!out)
		return NULL;
	*out = '\0';
	while (ups--)
		strcat(out, "../");
	return strcat(out, target + same);
}

/* Absolute, and without links but for the name of a device: what that leads to is
 * another one after the next boot. */
static char *real_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir, *real, *out = NULL;
	struct stat st;

	if (stat(path, &st) < 0 || !S_ISBLK(st.st_mode))
		return realpath(path, NULL);
	dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	real = dir ? realpath(dir, NULL) : NULL;
	if (real && asprintf(&out, "%s/%s", strcmp(real, "/") ? real : "",
			     slash ? slash + 1 : path) < 0)
		out = NULL;
	free(dir);
	free(real);
	return out;
}

/* As it is recorded in the child: relative, so that a chain can be moved. */
static char *recorded(const char *child, const char *parent)
{
	const char *slash = strrchr(child, '/');
	char *dir = slash ? strndup(child, (size_t)(slash - child) + 1)
			  : strdup("./");
	char *absolute = real_name(parent);
	char *base = dir ? realpath(dir, NULL) : NULL;
	char *out = NULL, *file = NULL;

	if (absolute && base && asprintf(&file, "%s/", base) > 0)
		out = relative(!strcmp(base, "/") ? "/" : file, absolute);
	free(dir);
	free(absolute);
	free(base);
	free(file);
	return out;
}

static int link_child(const struct args *args, const char *parent, bool raw,
		      struct blktap_error **err)
{
	const char *name = arg_text(args, "name");
	char *backing = recorded(name, parent);
	struct blktap_image_options options;
	char extra[64];
	int rc;

	blktap_image_options_init(&options);
	options.flags = BLKTAP_CREATE_OVERWRITE;
	options.backing = backing ? backing : parent;
	options.backing_format = raw ? "raw" : "vhd";
	snprintf(extra, sizeof(extra), "max_size=%dM",
		 arg_number(args, "max-size", 0));
	if (arg_is_set(args, "max-size"))
		options.extra = extra;
	rc = blktap_image_create("vhd", name, &options, err);
	free(backing);
	return rc;
}

static int too_deep(const struct args *args, int depth, int limit)
{
	char cause[96];

	snprintf(cause, sizeof(cause),
		 "the chain of its parent has %d images, and -l allows %d",
		 depth, limit);
	return report_as(
		args, arg_text(args, "name"), -ENOSPC, cause,
		"coalesce the chain, or copy it: vhd-util coalesce, copy");
}

static int snapshot(const struct args *args)
{
	bool raw = arg_is_set(args, "raw");
	char *parent = strdup(arg_text(args, "parent"));
	struct blktap_error *err = NULL;
	int limit = arg_number(args, "limit", 0), depth = 0;
	int rc = check_mib(args, "max-size");

	if (rc) {
		free(parent);
		return rc;
	}
	rc = parent ? 0 : -ENOMEM;
	work_catch_signals(); /* so that an end leaves nothing behind */
	if (!rc && !arg_is_set(args, "empty"))
		rc = skip_empty(arg_text(args, "name"), &parent, &raw, &err);
	if (!rc && limit)
		rc = depth_of(parent, raw, &depth, &err);
	if (!rc && limit && depth >= limit) {
		free(parent);
		return too_deep(args, depth, limit);
	}
	if (!rc)
		rc = link_child(args, parent, raw, &err);
	free(parent);
	return work_status(rc ? report(args, arg_text(args, "name"), rc, err)
			      : 0);
}

const struct command vhd_create_commands[] = {
	{ .name = "create",
	  .summary = "makes an image",
	  .options = create_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = create },
	{ .name = "snapshot",
	  .summary = "makes a child of an image",
	  .options = snapshot_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = snapshot },
	{ 0 },
};
