/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow-create: makes an empty qcow or qcow2 image. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "convert.h"
#include "work.h"

#define MIB (1ull << 20)
#define USAGE_STATUS 255 /* as it has always been */

static const struct opt options[] = {
	{ 's', "size", OPT_TEXT, "SIZE",
	  "10G, 512M, or a bare number of MiB; 0: the backing file's", 0, 0 },
	{ 0, "file", OPT_TEXT, "FILE", "the image to make", 0, 0 },
	{ 'b', "backing", OPT_TEXT, "FILE",
	  "what the image stands on; it is not changed any more", 0, 0 },
	{ 'F', "backing-format", OPT_TEXT, "TYPE",
	  "the backing file's: raw, qcow, qcow2, vhd; never guessed", 0, 0 },
	{ 'f', "format", OPT_TEXT, "TYPE", "qcow (the default) or qcow2", 0,
	  0 },
	{ 'c', "cluster-size", OPT_TEXT, "SIZE", "64k; what suits the format",
	  0, 0 },
	{ 'o', "option", OPT_TEXT, "NAME=VALUE,...", "what one format has", 0,
	  0 },
	{ 'r', "reserve", OPT_FLAG, NULL, "take all space at once", 0, 0 },
	{ 0, "force", OPT_FLAG, NULL, "replace a file that is there", 0, 0 },
	WORK_PROGRESS,
	{ 0 },
};

static int fill(const struct args *args, struct blktap_image_options *o)
{
	const char *size = arg_text(args, "size");
	const char *cluster = arg_text(args, "cluster-size");

	blktap_image_options_init(o);
	if (!size || !arg_text(args, "file"))
		return misuse(args, NULL, "the %s is missing",
			      size ? "file" : "size");
	if (parse_bytes(size, MIB, &o->length) < 0)
		return misuse(args, NULL,
			      "'%s' is no size like 10G, 512M, or a number of "
			      "MiB",
			      size);
	if (cluster && parse_bytes(cluster, 1, &o->cluster_size) < 0)
		return misuse(args, NULL, "'%s' is no cluster size like 64k",
			      cluster);
	o->backing = arg_text(args, "backing");
	o->backing_format = arg_text(args, "backing-format");
	o->extra = arg_text(args, "option");
	if (o->backing)
		o->length = 0; /* a child is as large as what it stands on */
	if (arg_is_set(args, "reserve"))
		o->flags |= BLKTAP_CREATE_RESERVE;
	if (arg_is_set(args, "force"))
		o->flags |= BLKTAP_CREATE_OVERWRITE;
	return 0;
}

/* What has an option that mends it, which the library does not know. */
static bool is_refused(const struct args *args, const char *file,
		       const struct blktap_image_options *o)
{
	if (o->backing && !o->backing_format)
		report_as(args, file, -EINVAL,
			  "the backing file's format is not given",
			  "say which: -F raw, qcow, qcow2 or vhd; it is never "
			  "guessed");
	else if (!(o->flags & BLKTAP_CREATE_OVERWRITE) &&
		 access(file, F_OK) == 0)
		report_as(args, file, -EEXIST, "it is there already",
			  "choose another name, or --force to replace it");
	else
		return false;
	return true;
}

static int create(const struct args *args)
{
	const char *format = arg_text(args, "format");
	const char *file = arg_text(args, "file");
	struct blktap_image_options o;
	struct blktap_error *err = NULL;
	struct work work;
	int rc = fill(args, &o);

	if (rc)
		return rc;
	if (!format)
		format = "qcow";
	if (strcmp(format, "qcow") && strcmp(format, "qcow2"))
		return misuse(args, NULL, "format '%s' is not qcow or qcow2",
			      format);
	/* the one layout that has it, as -r always made it */
	if (arg_is_set(args, "reserve") && !o.extra && !strcmp(format, "qcow"))
		o.extra = "xen=true";
	if (is_refused(args, file, &o))
		return 1;
	rc = work_begin(&work, args, false);
	if (rc)
		return rc;
	o.progress = work_progress;
	o.opaque = &work;
	rc = blktap_image_create(format, file, &o, &err);
	if (rc)
		report(args, file, rc, err);
	return work_end(&work, rc != 0);
}

static const struct command command = {
	"qcow-create",
	"create",
	"SIZE FILE [BACKING]",
	"Makes an empty image of SIZE, or a child of BACKING.",
	options,
	"size file backing",
	USAGE_STATUS,
	create,
	true
};

int main(int argc, char **argv)
{
	open_stdio();
	return end_output("qcow-create",
			  run_command("qcow-create", &command, argc, argv));
}
