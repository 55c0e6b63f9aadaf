/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl check, major and upgrade: what is about the kernel ring alone. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tap-ctl.h"

/* Calls it missing on standard output, where scripts look for it. */
static int missing(void)
{
	puts("blktap kernel module not installed");
	fputs("hint: disks are served over NBD all the same; "
	      "see tap-ctl doctor\n",
	      stderr);
	return ENOSYS;
}

/* The number beside name in /proc/misc or a section of /proc/devices; -1. */
static int look_up(const char *file, const char *section, const char *name)
{
	char line[256], word[128];
	bool inside = !section;
	int number, found = -1;
	FILE *f = fopen(file, "re");

	if (!f)
		return -1;
	while (found < 0 && fgets(line, sizeof(line), f)) {
		if (section && strstr(line, "devices:"))
			inside = !strncmp(line, section, strlen(section));
		else if (inside &&
			 sscanf(line, "%d %127s", &number, word) == 2 &&
			 !strcmp(word, name))
			found = number;
	}
	fclose(f);
	return found;
}

static int check(const struct args *args)
{
	bool found = look_up("/proc/misc", NULL, "blktap-control") >= 0 ||
		     look_up("/proc/misc", NULL, "blktap/control") >= 0;

	if (arg_is_set(args, "json")) {
		printf("{\"kernel_ring\":%s}\n", found ? "true" : "false");
		return found ? 0 : ENOSYS;
	}
	if (!found)
		return missing();
	puts("ok");
	return 0;
}

static int major(const struct args *args)
{
	bool is_char = arg_is_set(args, "char");
	int number = is_char ? look_up("/proc/devices", "Character", "blktap2")
			     : look_up("/proc/devices", "Block", "tapdev");

	if (number < 0)
		return missing();
	printf(arg_is_set(args, "json") ? "{\"major\":%d}\n" : "%d\n", number);
	return 0;
}

static int upgrade(const struct args *args)
{
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	pid_t pid;
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	rc = blktap_control_upgrade(control, arg_number(args, "minor", -1),
				    &pid, &err);
	if (rc)
		rc = report(args, disk_object(args), rc, err);
	else
		printf("%d\n", (int)pid);
	blktap_control_destroy(control);
	return rc;
}

#define OPT_JSON                                                    \
	{                                                           \
		0, "json", OPT_FLAG, NULL, "as a JSON object", 0, 0 \
	}

static const struct opt check_options[] = { OPT_JSON, { 0 } };

static const struct opt major_options[] = {
	{ 'b', "block", OPT_FLAG, NULL, "of the block devices (default)", 0,
	  0 },
	{ 'c', "char", OPT_FLAG, NULL, "of the rings", 0, 0 },
	OPT_JSON,
	{ 0 },
};

static const struct opt upgrade_options[] = { OPT_MINOR, { 0 } };

const struct command kernel_commands[] = {
	{ "check", NULL, NULL, "say whether the kernel ring is there",
	  check_options, NULL, EINVAL, check },
	{ "major", NULL, NULL,
	  "print the major number of the kernel ring's devices", major_options,
	  NULL, EINVAL, major },
	{ "upgrade", NULL, NULL,
	  "have another tapdisk serve a block device that stays",
	  upgrade_options, NULL, EINVAL, upgrade },
	{ 0 },
};
