/* SPDX-License-Identifier: BSD-3-Clause */
/* What is mapped, as files in "<rundir>/map"; see map.h for who may do what. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "map.h"

#define SUFFIX ".state"
#define STATE_MAX (16 * 1024) /* bytes of a state file that are looked at */
#define RUNDIR_HINT                                      \
	"run as root, or name a directory of your own: " \
	"BLKTAP_RUNDIR=$XDG_RUNTIME_DIR/blktap or --rundir"
#define OPEN_HINT \
	"use a directory of your own that only you can write to (chmod go-w)"

/* ---- the directory -------------------------------------------------------- */

/* Who could write here could have us unmount and remove other files: others, and
 * a group. One that is not there is made, or is nobody's. Root may look at a
 * user's, in which nothing is done. */
static int find_private(const char *path, enum map_use use)
{
	bool make = use == MAP_MAKE;
	struct stat st;

	if (make && mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	if (stat(path, &st))
		return errno == ENOENT && !make ? 0 : -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	if (use == MAP_LOOK && !geteuid())
		return 0;
	if ((st.st_uid != geteuid() && st.st_uid) ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)))
		return -EPERM;
	return 0;
}

/* The control library knows the default; it makes nothing. */
static int find_rundir(const struct args *args, char **out)
{
	struct blktap_control_options options;
	struct blktap_control *control;
	struct blktap_error *err = NULL;
	int rc;

	blktap_control_options_init(&options);
	options.rundir = arg_rundir(args);
	rc = blktap_control_create(&options, &control, &err);
	if (rc)
		return map_report(args, NULL, rc, err);
	*out = strdup(blktap_control_get_rundir(control));
	blktap_control_destroy(control);
	return *out ? 0 : map_fail(args, -ENOMEM, NULL, "anything");
}

/* The kernel names mounts and backing files without links, and the daemon leaves
 * the directory that a relative path begins in. */
static int resolve(char **path)
{
	char *real = realpath(*path, NULL);

	if (!real)
		return errno == ENOENT ? 0 : -errno;
	free(*path);
	*path = real;
	return 0;
}

/* Makes them where use says so; sets dir's paths. */
static int find_paths(struct map_dir *dir, enum map_use use)
{
	int rc = find_private(dir->rundir, use);

	if (!rc)
		rc = resolve(&dir->rundir);
	if (rc)
		return rc;
	if (asprintf(&dir->path, "%s/map", dir->rundir) < 0) {
		dir->path = NULL;
		return -ENOMEM;
	}
	rc = find_private(dir->path, use);
	return rc ? rc : resolve(&dir->path);
}

/* Who does not make one gets a directory with fd -1 where there is none, in which
 * nothing is found. */
int map_dir_open(const struct args *args, enum map_use use, struct map_dir *dir)
{
	int rc = find_rundir(args, &dir->rundir);

	dir->path = NULL;
	dir->fd = -1;
	if (rc)
		return rc;
	rc = find_paths(dir, use);
	if (!rc) {
		dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = dir->fd < 0 && (use == MAP_MAKE || errno != ENOENT)
			     ? -errno
			     : 0;
	}
	if (!rc)
		return 0;
	rc = map_fail(args, rc, rc == -EPERM ? OPEN_HINT : RUNDIR_HINT,
		      "anything: %s", dir->path ? dir->path : dir->rundir);
	map_dir_close(dir);
	return rc;
}

void map_dir_close(struct map_dir *dir)
{
	if (dir->fd >= 0)
		close(dir->fd);
	free(dir->path);
	free(dir->rundir);
	dir->fd = -1;
	dir->path = NULL;
	dir->rundir = NULL;
}

/* Not held over anything that waits for a daemon, but for a clean-up: a daemon
 * at its end waits for it. */
void map_dir_lock(struct map_dir *dir)
{
	while (dir->fd >= 0 && flock(dir->fd, LOCK_EX) && errno == EINTR)
		;
}

void map_dir_unlock(struct map_dir *dir)
{
	if (dir->fd >= 0)
		flock(dir->fd, LOCK_UN);
}

/* ---- names ---------------------------------------------------------------- */

static bool is_plain(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

/* It becomes the name of a file and a word of a line, and must not be mistaken
 * for an option or for a state. */
static bool is_name(const char *text)
{
	size_t n = strlen(text), end = strlen(SUFFIX), i;

	if (!n || n > MAP_NAME_MAX || *text == '.' || *text == '-')
		return false;
	for (i = 0; i < n; i++)
		if (!is_plain(text[i]))
			return false;
	return n < end || strcmp(text + n - end, SUFFIX) != 0;
}

/* The last part of the image's path, without what a shell could stumble over. */
static void make_name(const char *image, char name[MAP_NAME_MAX + 1])
{
	const char *colon = strchr(image, ':'), *slash = strrchr(image, '/');
	const char *from = slash ? slash + 1 : colon ? colon + 1 : image;
	size_t n = 0;

	/* room for "-2" to "-999" */
	for (; *from && n < MAP_NAME_MAX - 4; from++)
		if (is_plain(*from) && (n || isalnum((unsigned char)*from)))
			name[n++] = *from;
	name[n] = '\0';
	if (!is_name(name))
		strcpy(name, "disk");
}

/* ---- a state file --------------------------------------------------------- */

/* O_APPEND: parent and daemon both add lines, and none overwrites another's. */
static int open_state(struct map_dir *dir, const char *name, int flags)
{
	char file[MAP_NAME_MAX + sizeof(SUFFIX)];
	int fd;

	if (dir->fd < 0)
		return -ENOENT;
	snprintf(file, sizeof(file), "%s" SUFFIX, name);
	fd = openat(dir->fd, file,
		    O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
	return fd < 0 ? -errno : fd;
}

/* The descriptor goes to the daemon by fork, and the lock with it: the map is
 * alive until both have closed it. */
static int take_name(struct map_dir *dir, const char *name, struct map *out)
{
	int fd = open_state(dir, name, O_CREAT | O_EXCL);

	if (fd < 0)
		return fd;
	memset(out, 0, sizeof(*out));
	strcpy(out->name, name);
	out->fd = fd;
	out->alive = true;
	return flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
}

/* Names that are taken are passed over only where the name is ours to choose.
 */
int map_claim(struct map_dir *dir, const char *wanted, const char *image,
	      struct map *out)
{
	char base[MAP_NAME_MAX + 1], name[sizeof(base) + 16];
	int n, rc;

	if (wanted)
		return is_name(wanted) ? take_name(dir, wanted, out) : -EINVAL;
	make_name(image, base);
	rc = take_name(dir, base, out);
	for (n = 2; rc == -EEXIST && n < 1000; n++) {
		snprintf(name, sizeof(name), "%s-%d", base, n);
		rc = take_name(dir, name, out);
	}
	return rc;
}

int map_put(const struct map *map, const char *key, const char *value)
{
	char *line;
	int n = asprintf(&line, "%s=%s\n", key, value), rc = 0;

	if (n < 0)
		return -ENOMEM;
	errno = ENOSPC; /* what a short write means */
	if (write(map->fd, line, (size_t)n) != n)
		rc = -errno;
	free(line);
	return rc;
}

/* Without memory it is as if the line were not there. */
static void set_text(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
}

/* Later lines win. Keys of later versions are passed over. */
static void take_line(struct map *map, const char *key, const char *value)
{
	if (!strcmp(key, "image"))
		set_text(&map->image, value);
	else if (!strcmp(key, "file"))
		set_text(&map->file, value);
	else if (!strcmp(key, "device"))
		set_text(&map->device, value);
	else if (!strcmp(key, "pid"))
		map->pid = (pid_t)strtol(value, NULL, 10);
	else if (!strcmp(key, "made-file"))
		map->made_file = true;
	else if (!strcmp(key, "read-only"))
		map->read_only = true;
	else if (!strcmp(key, "done")) {
		map->done = true;
		map->result = -(int)strtol(value, NULL, 10);
	}
}

/* Each line comes from one write(2). */
void map_read_again(struct map *map)
{
	char text[STATE_MAX + 1], *line, *save, *equals;
	ssize_t n = pread(map->fd, text, STATE_MAX, 0);

	text[n > 0 ? n : 0] = '\0';
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		equals = strchr(line, '=');
		if (!equals)
			continue;
		*equals = '\0';
		take_line(map, line, equals + 1);
	}
}

/* A lock that we get is kept until map_fini: nobody lives behind it. Readers
 * hold the directory, so none takes another's lock for life. */
int map_read(struct map_dir *dir, const char *name, struct map *out)
{
	int fd = is_name(name) ? open_state(dir, name, 0) : -ENOENT;

	if (fd < 0)
		return fd;
	memset(out, 0, sizeof(*out));
	strcpy(out->name, name);
	out->fd = fd;
	out->alive = flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
	map_read_again(out);
	return 0;
}

void map_fini(struct map *map)
{
	close(map->fd);
	free(map->image);
	free(map->file);
	free(map->device);
	memset(map, 0, sizeof(*map));
	map->fd = -1;
}

/* The file was empty when we made it: what is not is not ours. */
static void remove_file(const char *file)
{
	struct stat st;

	if (!lstat(file, &st) && S_ISREG(st.st_mode) && !st.st_size)
		unlink(file);
}

/* Whoever found this map dead may have removed its state, and then another map
 * may have taken the name, and with it the file. The descriptor keeps the inode,
 * so its number is not another's meanwhile. */
static bool has_name(struct map_dir *dir, const struct map *map,
		     const char *file)
{
	struct stat own, named;

	return !fstat(map->fd, &own) &&
	       !fstatat(dir->fd, file, &named, AT_SYMLINK_NOFOLLOW) &&
	       own.st_ino == named.st_ino && own.st_dev == named.st_dev;
}

/* The state goes last: as long as it is there, somebody can clean up. */
void map_remove(struct map_dir *dir, const struct map *map)
{
	char file[MAP_NAME_MAX + sizeof(SUFFIX)];

	snprintf(file, sizeof(file), "%s" SUFFIX, map->name);
	if (!has_name(dir, map, file))
		return;
	if (map->made_file && map->file && !map_is_mounted(map->file))
		remove_file(map->file);
	unlinkat(dir->fd, file, 0);
}

/* ---- all of them ---------------------------------------------------------- */

static int is_state(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name), end = strlen(SUFFIX);

	return n > end && n <= MAP_NAME_MAX + end &&
	       !strcmp(entry->d_name + n - end, SUFFIX);
}

int map_each(struct map_dir *dir, int (*fn)(void *opaque, struct map *map),
	     void *opaque)
{
	struct dirent **entries;
	struct map map;
	int i, n, rc = 0;

	if (dir->fd < 0)
		return 0;
	n = scandirat(dir->fd, ".", &entries, is_state, versionsort);
	if (n < 0)
		return -errno;
	for (i = 0; i < n; i++) {
		entries[i]
			->d_name[strlen(entries[i]->d_name) - strlen(SUFFIX)] =
			'\0';
		if (!rc && !map_read(dir, entries[i]->d_name, &map)) {
			rc = fn(opaque, &map);
			map_fini(&map);
		}
		free(entries[i]);
	}
	free(entries);
	return rc;
}
