/* SPDX-License-Identifier: BSD-3-Clause */
/* img2qcow: copies a disk into a new qcow or qcow2 image. */
#include <string.h>

#include "convert.h"

static const struct opt options[] = {
	{ 0, "target", OPT_TEXT, "FILE", "the image to make", 0, 0 },
	{ 0, "source", OPT_TEXT, "FILE", "the disk to copy", 0, 0 },
	{ 'S', "source-format", OPT_TEXT, "TYPE",
	  "raw (the default), qcow, qcow2, vhd; never guessed", 0, 0 },
	{ 'f', "format", OPT_TEXT, "TYPE", "qcow (the default) or qcow2", 0,
	  0 },
	{ 'o', "option", OPT_TEXT, "NAME=VALUE,...", "what one format has", 0,
	  0 },
	{ 0, "force", OPT_FLAG, NULL, "replace a file that is there", 0, 0 },
	{ 0, "progress", OPT_TEXT, "FD", "write N/100 lines to this descriptor",
	  0, 0 },
	{ 0, "json", OPT_FLAG, NULL, "tell on stdout what was done", 0, 0 },
	{ 0 },
};

static int run(const struct args *args)
{
	struct blktap_image_options create;
	struct convert c = {
		.source = arg_text(args, "source"),
		.source_format = arg_text(args, "source-format"),
		.target = arg_text(args, "target"),
		.target_format = arg_text(args, "format"),
		.create = &create,
		.overwrite = arg_is_set(args, "force"),
		.may_force = true,
		.json = arg_is_set(args, "json"),
		.progress = arg_text(args, "progress"),
	};

	blktap_image_options_init(&create);
	create.extra = arg_text(args, "option");
	if (!c.source || !c.target) {
		return misuse(args, NULL, "the %s is missing",
			      c.target ? "source" : "target");
	}
	if (!c.source_format)
		c.source_format = "raw";
	if (!c.target_format)
		c.target_format = "qcow";
	if (strcmp(c.target_format, "qcow") &&
	    strcmp(c.target_format, "qcow2")) {
		return misuse(args, NULL, "format '%s' is not qcow or qcow2",
			      c.target_format);
	}
	return convert_run(args, &c);
}

static const struct command command = {
	"img2qcow",
	"make",
	"TARGET SOURCE",
	"Copies the disk SOURCE into the new image TARGET.",
	options,
	"target source",
	2,
	run,
	true
};

int main(int argc, char **argv)
{
	open_stdio();
	return end_output("img2qcow",
			  run_command("img2qcow", &command, argc, argv));
}
