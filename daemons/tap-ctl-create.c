/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl create, destroy and spawn. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tap-ctl.h"

static int create(const struct args *args)
{
	struct blktap_control_open_options options;
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	char *path, *spec;
	int minor, rc;

	if (arg_is_set(args, "device"))
		return report(args, arg_text(args, "device"), -ENOTSUP, NULL);
	rc = open_control(args, &control);
	if (rc)
		return rc;
	take_open_options(args, &options);
	spec = absolute_spec(arg_text(args, "args"));
	rc = blktap_control_start(control, spec, &options, NULL, &minor, &err);
	if (rc) {
		rc = report(args, spec, rc, err);
	} else {
		path = blktap_control_minor_path(control, minor);
		if (path)
			puts(path);
		free(path);
	}
	free(spec);
	blktap_control_destroy(control);
	return rc;
}

static int destroy(const struct args *args)
{
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	rc = blktap_control_stop(control, arg_number(args, "pid", -1),
				 arg_number(args, "minor", -1),
				 (uint32_t)arg_number(args, "timeout", 0),
				 &err);
	if (rc)
		rc = report(args, disk_object(args), rc, err);
	blktap_control_destroy(control);
	return rc;
}

static int spawn(const struct args *args)
{
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	pid_t pid;
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	rc = blktap_control_spawn(control, &pid, &err);
	blktap_control_destroy(control);
	if (rc)
		return report(args, "a tapdisk", rc, err);
	printf(isatty(STDOUT_FILENO) ? "tapdisk spawned with pid %d\n" : "%d\n",
	       (int)pid);
	return 0;
}

static const struct opt create_options[] = {
	{ 'a', "args", OPT_TEXT, "TYPE:PATH", "the image", OPT_REQUIRED, 0 },
	{ 'd', "device", OPT_TEXT, "NAME",
	  "name of a device node (not supported)", 0, 0 },
	OPEN_OPTIONS,
	{ 0 },
};

static const struct opt destroy_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 't', "timeout", OPT_NUMBER, "SECONDS", "give up after so long", 0,
	  UINT16_MAX },
	{ 0 },
};

const struct command create_commands[] = {
	{ "create", NULL, "[TYPE:PATH]",
	  "allocate, spawn, attach and open in one", create_options, "args",
	  EINVAL, create },
	{ "destroy", NULL, NULL, "close, detach and free in one",
	  destroy_options, NULL, EINVAL, destroy },
	{ "spawn", NULL, NULL, "start a tapdisk and print its process id", NULL,
	  NULL, EINVAL, spawn },
	{ 0 },
};
