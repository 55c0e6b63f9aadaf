/* SPDX-License-Identifier: BSD-3-Clause */
/* vhd-util repair, modify, resize, revert: changes that take a moment. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "vhd-util.h"

#define MIB 1048576u

static const struct opt repair_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 'b', "backup", OPT_FLAG, NULL,
	  "believe the copy of the footer at the start, whatever is at the "
	  "end",
	  0, 0 },
	{ 0 },
};

static int repair(const struct args *args)
{
	const char *name = arg_text(args, "name");
	struct blktap_error *err = NULL;
	int rc = blktap_vhd_repair(
		name, arg_is_set(args, "backup") ? BLKTAP_VHD_REPAIR_BACKUP : 0,
		&err);

	return rc ? report(args, name, rc, err) : 0;
}

static const struct opt modify_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 'p', "parent", OPT_TEXT, "FILE", "what it stands on from now on", 0,
	  0 },
	{ 'm', "raw", OPT_FLAG, NULL, "with -p: that is a raw image", 0, 0 },
	{ 's', "file-size", OPT_NUMBER, "BYTES",
	  "length of the file, its footer at the end", 0, LONG_MAX },
	{ 'z', "zap", OPT_FLAG, NULL, "drop all data", 0, 0 },
	{ 0 },
};

static int modify(const struct args *args)
{
	const char *name = arg_text(args, "name");
	const char *parent = arg_text(args, "parent");
	struct blktap_error *err = NULL;
	struct blktap_vhd *vhd;
	int rc;

	if (arg_is_set(args, "raw") && !parent)
		return misuse(args, NULL, "-m goes with -p alone");
	rc = blktap_vhd_open(name, BLKTAP_VHD_WRITE, &vhd, &err);
	if (rc) {
		printf("error opening %s: %d\n", name, rc);
		return report(args, name, rc, err);
	}
	if (parent)
		rc = blktap_vhd_set_parent(vhd, parent, arg_is_set(args, "raw"),
					   &err);
	if (!rc && arg_is_set(args, "zap"))
		rc = blktap_vhd_drop_data(vhd, &err);
	if (!rc && arg_is_set(args, "file-size"))
		rc = blktap_vhd_set_file_size(
			vhd, (uint64_t)arg_long(args, "file-size", 0), &err);
	blktap_vhd_close(vhd);
	return rc ? report(args, name, rc, err) : 0;
}

static const struct opt resize_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 's', "size", OPT_NUMBER, "MIB", "its size from now on", OPT_REQUIRED,
	  0 },
	{ 'j', "journal", OPT_TEXT, "FILE",
	  "keep there what is changed, until it is done", 0, 0 },
	{ 'f', "fast", OPT_FLAG, NULL, "only what the tables have room for", 0,
	  0 },
	{ 0 },
};

/* The end of a disk is cut off where a journal is kept, as ever: a size in the
 * wrong unit must not do it. What the geometry rounds off is no end. */
static int check_shrink(const struct args *args)
{
	struct blktap_vhd_info info = { .struct_size = sizeof(info) };
	const char *name = arg_text(args, "name");
	struct blktap_error *err = NULL;
	char cause[96];
	int rc;

	if (arg_is_set(args, "journal") || arg_is_set(args, "fast"))
		return 0;
	rc = blktap_vhd_get_info(name, &info, &err);
	if (rc) {
		printf("error opening %s: %d\n", name, rc);
		return report(args, name, rc, err);
	}
	if ((uint64_t)arg_long(args, "size", 0) >= info.length / MIB)
		return 0;
	snprintf(cause, sizeof(cause),
		 "it has %" PRIu64 " MiB: what lies behind the new end would "
		 "be lost",
		 info.length / MIB);
	return report_as(args, name, -EINVAL, cause,
			 "to cut it off, keep a journal: -j FILE");
}

static int resize(const struct args *args)
{
	const char *name = arg_text(args, "name");
	struct blktap_error *err = NULL;
	struct blktap_vhd *vhd;
	int rc = check_mib(args, "size");

	if (!rc)
		rc = check_shrink(args);
	if (rc)
		return rc;
	rc = blktap_vhd_open(name, BLKTAP_VHD_WRITE, &vhd, &err);
	if (rc) {
		printf("error opening %s: %d\n", name, rc);
		return report(args, name, rc, err);
	}
	rc = blktap_vhd_resize(
		vhd, (uint64_t)arg_long(args, "size", 0) * MIB,
		arg_text(args, "journal"),
		arg_is_set(args, "fast") ? BLKTAP_VHD_RESIZE_FAST : 0, &err);
	blktap_vhd_close(vhd);
	return rc ? report(args, name, rc, err) : 0;
}

static const struct opt revert_options[] = {
	{ 'n', "name", OPT_TEXT, "FILE", "the image", OPT_REQUIRED, 0 },
	{ 'j', "journal", OPT_TEXT, "FILE", "what the resize left",
	  OPT_REQUIRED, 0 },
	{ 0 },
};

static int revert(const struct args *args)
{
	const char *name = arg_text(args, "name");
	struct blktap_error *err = NULL;
	int rc = blktap_vhd_revert(name, arg_text(args, "journal"), &err);

	return rc ? report(args, name, rc, err) : 0;
}

const struct command vhd_change_commands[] = {
	{ .name = "repair",
	  .summary = "writes the footer anew",
	  .options = repair_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = repair },
	{ .name = "modify",
	  .summary = "sets the parent or the length of the file, or drops data",
	  .options = modify_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = modify },
	{ .name = "resize",
	  .summary = "makes the disk larger or smaller",
	  .options = resize_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = resize },
	{ .name = "revert",
	  .summary = "undoes a resize that was interrupted",
	  .options = revert_options,
	  .usage_status = EINVAL,
	  .files_only = true,
	  .run = revert },
	{ 0 },
};
