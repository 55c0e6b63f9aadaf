/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl allocate and free. */
#include <errno.h>

#include "tap-ctl.h"

static int allocate(const struct args *args)
{
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	int minor, rc;

	if (arg_is_set(args, "device"))
		return refuse_device(args);
	outlive_reader();
	rc = open_control(args, &control);
	if (rc)
		return rc;
	rc = blktap_control_allocate(control, &minor, &err);
	if (rc) {
		rc = report(args, "a minor", rc, err);
	} else {
		rc = put_minor(args, control, minor);
		if (rc)
			blktap_control_free(control, minor, NULL);
	}
	blktap_control_destroy(control);
	return rc;
}

static int free_minor(const struct args *args)
{
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	rc = blktap_control_free(control, arg_number(args, "minor", -1), &err);
	if (rc)
		rc = report(args, disk_object(args), rc, err);
	blktap_control_destroy(control);
	return rc;
}

static const struct opt allocate_options[] = {
	{ 'd', "device", OPT_TEXT, "NAME",
	  "name of a device node (not supported)", 0, 0 },
	{ 0 },
};

static const struct opt free_options[] = { OPT_MINOR, { 0 } };

const struct command minor_commands[] = {
	{ "allocate", NULL, NULL,
	  "allocate a minor and print what stands for it", allocate_options,
	  NULL, EINVAL, allocate },
	{ "free", NULL, NULL, "give a minor back", free_options, NULL, EINVAL,
	  free_minor },
	{ 0 },
};
