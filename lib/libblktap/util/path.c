/* SPDX-License-Identifier: BSD-3-Clause */
#include "util/path.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int bt_path_resolve(const char *base, const char *name, char **out)
{
	const char *slash = strrchr(base, '/');
	size_t dir = slash ? (size_t)(slash - base) + 1 : 0;
	size_t len = strlen(name);
	char *path;

	if (!len)
		return -EINVAL;
	if (*name == '/')
		dir = 0;
	path = malloc(dir + len + 1);
	if (!path)
		return -ENOMEM;
	memcpy(path, base, dir);
	memcpy(path + dir, name, len + 1);
	*out = path;
	return 0;
}

int bt_path_relative(const char *base, const char *target, char **out)
{
	size_t same = 0, ups = 0, rest, i;
	char *at;

	for (i = 0; base[i] && base[i] == target[i]; i++)
		if (base[i] == '/')
			same = i + 1;
	for (i = same; base[i]; i++)
		ups += base[i] == '/';
	rest = strlen(target + same) + 1;
	*out = at = malloc(ups * 3 + rest);
	if (!at)
		return -ENOMEM;
	for (; ups; ups--, at += 3)
		memcpy(at, "../", 3);
	memcpy(at, target + same, rest);
	return 0;
}

int bt_path_sync_directory(const char *path)
{
	char *dir = NULL;
	int fd, rc = bt_path_resolve(path, ".", &dir);

	if (rc < 0)
		return rc;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (fd < 0)
		return -errno;
	/* EINVAL: the file system has nothing to sync */
	rc = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
	close(fd);
	return rc;
}

unsigned int bt_path_scheme(const char *name)
{
	unsigned int n = 0;

	while (isalnum((unsigned char)name[n]) || name[n] == '+' ||
	       name[n] == '-' || name[n] == '.')
		n++;
	return n > 1 && name[n] == ':' ? n : 0;
}

bool bt_path_same_directory(const char *a, const char *b)
{
	const char *ends[2] = { strrchr(a, '/'), strrchr(b, '/') };

	if (!ends[0] || !ends[1])
		return ends[0] == ends[1];
	return ends[0] - a == ends[1] - b &&
	       !memcmp(a, b, (size_t)(ends[0] - a));
}

int bt_path_record(const char *name, char **out)
{
	size_t length = strlen(name) + 1;
	size_t before = bt_path_scheme(name) ? 2 : 0;

	*out = malloc(before + length);
	if (!*out)
		return -ENOMEM;
	memcpy(*out, "./", before);
	memcpy(*out + before, name, length);
	return 0;
}
