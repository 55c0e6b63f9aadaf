/* SPDX-License-Identifier: BSD-3-Clause */
/* Taking mounts away, without touching what is mounted: it may be dead. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "map.h"

/* The kernel writes blanks, tabs, newlines and backslashes as \ooo. */
static void unescape(char *text)
{
	char *out = text;

	for (; *text; text++) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' &&
		    text[2] && text[3]) {
			*out++ = (char)((text[1] - '0') << 6 |
					(text[2] - '0') << 3 | (text[3] - '0'));
			text += 3;
		} else {
			*out++ = *text;
		}
	}
	*out = '\0';
}

/* "36 35 98:0 / /mnt rw,noatime ... - fuse.blktap spec rw": is it ours? */
static bool is_line_of(char *line, const char *file)
{
	static const char type[] = " - fuse." MAP_FS_TYPE " ";
	char *save, *point = NULL;
	int i;

	if (!strstr(line, type))
		return false;
	for (i = 0; i < 5; i++)
		point = strtok_r(i ? NULL : line, " ", &save);
	if (!point)
		return false;
	unescape(point);
	return !strcmp(point, file);
}

bool map_is_mounted(const char *file)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool found = false;
	char *line = NULL;
	size_t size = 0;

	if (!f)
		return false;
	while (!found && getline(&line, &size, f) >= 0)
		found = is_line_of(line, file);
	free(line);
	fclose(f);
	return found;
}

/* An unprivileged user's mounts are fusermount3's to take away. */
static int unmount_by_helper(const char *file, bool lazy)
{
	const char *argv[] = { "fusermount3", "-u", "-q", "--", file, NULL };
	const char *lazily[] = { "fusermount3", "-u", "-q", "-z",
				 "--",		file, NULL };
	int rc = map_run(lazy ? lazily : argv);

	/* It does not say why it failed. */
	return rc == -EIO ? -EBUSY : rc;
}

int map_unmount(const char *file, bool lazy)
{
	if (!map_is_mounted(file))
		return 0;
	if (!umount2(file, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)))
		return 0;
	return errno == EPERM ? unmount_by_helper(file, lazy) : -errno;
}
