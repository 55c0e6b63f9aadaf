/* SPDX-License-Identifier: BSD-3-Clause */
/* Two kinds of functions: those that take names for text, and touch no file
 * (resolve, relative, same_directory, scheme, record); and those that ask the file
 * system or change it, which may block, and take names as this process sees them. */
#include "util/path.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* What stdio has kept is written before it is synced. */
static int write_text(const char *path, const char *text, bool sync)
{
	FILE *f = fopen(path, "we");
	int rc = 0;

	if (!f)
		return -errno;
	if (fputs(text, f) < 0 || fflush(f) < 0 ||
	    (sync && fdatasync(fileno(f)) < 0))
		rc = -errno;
	if (fclose(f) < 0 && !rc)
		rc = -errno;
	return rc;
}

int bt_path_replace(const char *path, const char *text, bool sync)
{
	char *temporary = NULL;
	int rc;

	if (asprintf(&temporary, "%s.new", path) < 0)
		return -ENOMEM;
	rc = write_text(temporary, text, sync);
	if (!rc && rename(temporary, path) < 0)
		rc = -errno;
	if (rc)
		unlink(temporary);
	free(temporary);
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

/* The real directory, and the name in it as it was given. */
static char *keep_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char *dir = slash ? strndup(path, (size_t)(name - path)) : strdup(".");
	char *real = dir ? realpath(dir, NULL) : NULL;
	char *grown = NULL;
	size_t at = real ? strlen(real) : 0;

	free(dir);
	if (real)
		grown = realloc(real, at + strlen(name) + 2);
	if (!grown) {
		free(real);
		return NULL;
	}
	if (at > 1) /* not the root */
		grown[at++] = '/';
	strcpy(grown + at, name);
	return grown;
}

char *bt_path_absolute(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return NULL;
	return S_ISBLK(st.st_mode) ? keep_name(path) : realpath(path, NULL);
}

/* A device may have several nodes, each a file of its own, and gets new ones; no
 * file has the number 0. */
struct bt_path_id bt_path_identify(const struct stat *st)
{
	if (S_ISBLK(st->st_mode))
		return (struct bt_path_id){ .dev = st->st_rdev };
	return (struct bt_path_id){ .dev = st->st_dev, .ino = st->st_ino };
}

bool bt_path_is_same(struct bt_path_id a, struct bt_path_id b)
{
	return a.dev == b.dev && a.ino == b.ino;
}

bool bt_path_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 &&
	       bt_path_is_same(bt_path_identify(&x), bt_path_identify(&y));
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
