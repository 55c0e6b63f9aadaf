/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2raw: copies an image into a raw file or onto a block device. */
#include <string.h>
#include <unistd.h>

#include "convert.h"

static const struct opt options[] = {
	{ 0, "target", OPT_TEXT, "FILE", "the file or block device to write", 0,
	  0 },
	{ 0, "source", OPT_TEXT, "FILE", "the image to copy", 0, 0 },
	{ 'S', "source-format", OPT_TEXT, "TYPE",
	  "qcow (the default), qcow2, vhd, raw; never guessed", 0, 0 },
	{ 0, "force", OPT_FLAG, NULL, "replace a file that is there", 0, 0 },
	{ 0, "progress", OPT_TEXT, "FD", "write N/100 lines to this descriptor",
	  0, 0 },
	{ 0, "json", OPT_FLAG, NULL, "tell on stdout what was done", 0, 0 },
	{ 0 },
};

/* The question it has always asked; no answer is no. */
static bool may_replace(const char *target)
{
	char answer[16];

	if (access(target, F_OK) < 0)
		return false;
	fprintf(stderr, "%s exists; replace it? (y/n) ", target);
	if (!fgets(answer, sizeof(answer), stdin)) {
		fputc('\n', stderr);
		return false;
	}
	return *answer == 'y' || *answer == 'Y';
}

static int run(const struct args *args)
{
	struct blktap_image_options create;
	struct convert c = {
		.source = arg_text(args, "source"),
		.source_format = arg_text(args, "source-format"),
		.target = arg_text(args, "target"),
		.target_format = "raw",
		.create = &create,
		.overwrite = arg_is_set(args, "force"),
		.may_force = true,
		.json = arg_is_set(args, "json"),
		.progress = arg_text(args, "progress"),
	};
	int status;

	blktap_image_options_init(&create);
	if (!c.source || !c.target) {
		return misuse(args, NULL, "the %s is missing",
			      c.target ? "source" : "target");
	}
	if (!c.source_format)
		c.source_format = "qcow";
	if (!c.overwrite)
		c.overwrite = may_replace(c.target);
	status = convert_run(args, &c);
	if (!status)
		fprintf(stderr, "TRANSFER COMPLETE\n");
	return status;
}

static const struct command command = {
	"qcow2raw",
	"write",
	"TARGET SOURCE",
	"Copies the image SOURCE to the raw file or block device TARGET.",
	options,
	"target source",
	2,
	run,
	true
};

int main(int argc, char **argv)
{
	open_stdio();
	return end_output("qcow2raw",
			  run_command("qcow2raw", &command, argc, argv));
}
