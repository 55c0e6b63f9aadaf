/* SPDX-License-Identifier: BSD-3-Clause */
/* Unmapping, in the order in which data moves: the loop device's cache, the
 * disk's, the mount; and then the daemon, which ends when its mount is gone and
 * leaves how its last flush went. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "map.h"

#define TIMEOUT_S 120
#define BUSY_HINT                                                            \
	"end what uses it (fuser -vm shows that), or unmap --lazy: it then " \
	"ends with its last user"

/* ---- dead ones ------------------------------------------------------------ */

/* Nobody answers behind it, so nothing can be flushed, and nothing waits. The
 * state goes only where all else went: otherwise the next one tries again. */
int map_clean_up(struct map_dir *dir, const struct map *map)
{
	int rc = 0, detached = 0;

	if (map->device && map->file)
		detached = map_loop_detach(map->device, map->file, true, 0);
	if (map->file)
		rc = map_unmount(map->file, true);
	if (!rc)
		rc = detached;
	if (!rc)
		map_remove(dir, map);
	return rc;
}

/* What cannot be taken away stays, and stays in the list. */
static int sweep_one(void *opaque, struct map *map)
{
	/* One that left an error waits for the unmap that asks for it. */
	if (!map->alive && !(map->done && map->result))
		map_clean_up(opaque, map);
	return 0;
}

void map_sweep(struct map_dir *dir)
{
	map_each(dir, sweep_one, dir);
}

/* A daemon that died is told of, but is no failure: what was asked for is done.
 */
static int stop_dead(const struct args *args, struct map_dir *dir,
		     const struct map *map)
{
	int rc = map_clean_up(dir, map);

	if (rc)
		return map_fail(args, rc, NULL, "%s, whose daemon is dead",
				map->name);
	if (map->done && map->result)
		return map_fail(args, map->result,
				"data written but not flushed may be lost",
				"%s: its last flush failed", map->name);
	fprintf(stderr,
		"%s: %s: its daemon had died; what it had not flushed may be "
		"lost\n",
		args->program, map->name);
	return 0;
}

/* ---- live ones ------------------------------------------------------------ */

/* The loop device has written its cache by now; this is for what others wrote
 * to the file. It fails here, where the map still stands and can be tried
 * again. */
static int flush(const char *file)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = fsync(fd) ? -errno : 0;
	close(fd);
	return rc;
}

/* By the lock on the state, which any end of the daemon lets go of. Polled,
 * since flock(2) cannot end after a time. */
static int wait_for_end(struct map *map, int timeout_s)
{
	struct timespec doze = { .tv_nsec = 5 * 1000 * 1000 };
	long turn;

	for (turn = 0; flock(map->fd, LOCK_EX | LOCK_NB); turn++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (turn >= timeout_s * 200L)
			return -ETIMEDOUT;
		nanosleep(&doze, NULL);
	}
	return 0;
}

static int fail_stop(const struct args *args, const struct map *map, int rc,
		     const char *what)
{
	return map_fail(args, rc, rc == -EBUSY ? BUSY_HINT : NULL, "%s: %s",
			map->name, what);
}

/* Waits for no user. The mount lives on for those who have the file open; the
 * daemon sees it go. */
static int stop_lazily(const struct args *args, struct map *map)
{
	int rc = 0;

	if (map->device)
		rc = map_loop_detach(map->device, map->file, true, 0);
	if (rc)
		return fail_stop(args, map, rc, map->device);
	rc = map_unmount(map->file, true);
	return rc ? fail_stop(args, map, rc, map->file) : 0;
}

/* What the daemon says last. It removes the state itself where all went well,
 * but our descriptor outlives the name. With our lock on the state, which
 * wait_for_end got. */
static int take_result(const struct args *args, struct map_dir *dir,
		       struct map *map)
{
	map_read_again(map);
	if (map->done && !map->result)
		return 0;
	map_dir_lock(dir);
	map_remove(dir, map);
	map_dir_unlock(dir);
	return fail_stop(args, map, map->done ? map->result : -EOWNERDEAD,
			 map->done ? "its last flush failed"
				   : "its daemon died before its last flush");
}

/* Each step leaves a map that works where it fails, until the mount is gone. */
static int stop(const struct args *args, struct map_dir *dir, struct map *map)
{
	int timeout_s = arg_number(args, "timeout", TIMEOUT_S), rc = 0;

	if (map->device)
		rc = map_loop_detach(map->device, map->file, false, timeout_s);
	if (rc)
		return fail_stop(args, map, rc, map->device);
	if (map_is_mounted(map->file))
		rc = flush(map->file);
	if (rc)
		return fail_stop(args, map, rc, "it cannot be flushed");
	rc = map_unmount(map->file, false);
	if (rc)
		return fail_stop(args, map, rc, map->file);
	rc = wait_for_end(map, timeout_s);
	if (rc)
		return fail_stop(args, map, rc, "it is still busy");
	return take_result(args, dir, map);
}

/* ---- which ---------------------------------------------------------------- */

struct search {
	const char *what;
	char *file;
	char name[MAP_NAME_MAX + 1];
};

static int compare(void *opaque, struct map *map)
{
	struct search *search = opaque;

	if (strcmp(map->name, search->what) &&
	    (!map->device || strcmp(map->device, search->what)) &&
	    (!map->file || !search->file || strcmp(map->file, search->file)))
		return 0;
	strcpy(search->name, map->name);
	return 1;
}

/* By name, device or file, whichever fits first. Read again by its name, since
 * map_each closes what it shows. */
static int find(struct map_dir *dir, const char *what, struct map *map)
{
	struct search search = { .what = what, .file = map_absolute(what) };
	int rc = map_each(dir, compare, &search);

	free(search.file);
	if (rc < 0)
		return rc;
	return rc ? map_read(dir, search.name, map) : -ENOENT;
}

int map_stop(const struct args *args)
{
	const char *what = arg_text(args, "what");
	struct map_dir dir;
	struct map map;
	int rc;

	if (!what) {
		fprintf(stderr, "%s: cannot unmap: name what\n", args->program);
		show_usage(stderr, args->program, args->command);
		return MAP_USAGE;
	}
	/* the directory is not made: nothing is mapped where there is none */
	rc = map_dir_open(args, MAP_CHANGE, &dir);
	if (rc)
		return rc;
	map_dir_lock(&dir);
	rc = find(&dir, what, &map);
	if (!rc && !map.alive) {
		rc = stop_dead(args, &dir, &map);
		map_dir_unlock(&dir);
		map_fini(&map);
		/* its name is claimed and not described yet: nothing to take away */
	} else if (!rc && !map.file) {
		map_dir_unlock(&dir);
		rc = fail_stop(args, &map, -EAGAIN, "it is being mapped");
		map_fini(&map);
	} else if (!rc) {
		map_dir_unlock(&dir);
		rc = arg_is_set(args, "lazy") ? stop_lazily(args, &map)
					      : stop(args, &dir, &map);
		map_fini(&map);
	} else {
		map_dir_unlock(&dir);
		rc = map_fail(args, rc, "'tap-ctl map --list' shows what is",
			      "%s: nothing of that name is mapped", what);
	}
	map_dir_close(&dir);
	return rc;
}
