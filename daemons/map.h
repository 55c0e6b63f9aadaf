/* SPDX-License-Identifier: BSD-3-Clause */
/* A mapped disk: a daemon that serves it as one file through FUSE, and perhaps a
 * loop device on that file.
 *
 * What is mapped stands in "<rundir>/map":
 *
 *	<name>        the file itself, where no other was named
 *	<name>.state  lines "key=value"; the daemon holds a flock(2) on it
 *
 * So a map whose state is not locked is dead, whatever killed it, and whoever
 * comes by takes away what is left of it. Who makes, judges or removes a state
 * file holds a lock on the directory.
 *
 * Nothing that needs the daemon's answer may run in the daemon: detaching a loop
 * device writes its cache back through FUSE. Unmapping is therefore always the
 * work of another process, which the daemon starts itself when it is told to
 * end. For the same reason the daemon keeps no descriptor of the loop device,
 * and LO_FLAGS_AUTOCLEAR, which lives from one, is not used. */
#ifndef BLKTAP_DAEMONS_MAP_H
#define BLKTAP_DAEMONS_MAP_H

#include "common.h"

#define MAP_NAME_MAX 64
#define MAP_FS_TYPE "blktap" /* "fuse.blktap" among the mounts */

enum map_status {
	MAP_FAILURE = 1,
	MAP_USAGE = 2,
	MAP_NOT_FOUND = 4,
	MAP_BUSY = 75,
};

/* ---- map-util.c ----------------------------------------------------------- */

/* "tap-ctl: cannot map TEXT: cause (ENOENT)" and a hint, which may be NULL, to
 * stderr. rc is a negative errno. Returns the exit status. */
int map_fail(const struct args *args, int rc, const char *hint, const char *fmt,
	     ...) __attribute__((format(printf, 4, 5)));
/* The same for an error of the library, which it destroys. */
int map_report(const struct args *args, const char *object, int rc,
	       struct blktap_error *err);
/* Absolute, links resolved but for the last part, which need not be there; NULL
 * and errno. To be freed. */
char *map_absolute(const char *path);
/* Runs a program and waits; 0 where it exits with 0. */
int map_run(const char *const argv[]);

/* ---- map-state.c ---------------------------------------------------------- */

struct map_dir {
	char *rundir;
	char *path; /* "<rundir>/map" */
	int fd; /* -1: there is none yet */
};

enum map_use {
	MAP_LOOK, /* tells what is there */
	MAP_CHANGE,
	MAP_MAKE, /* where it is missing */
};

/* Reports what fails; returns the exit status. */
int map_dir_open(const struct args *args, enum map_use use,
		 struct map_dir *dir);
void map_dir_close(struct map_dir *dir);
void map_dir_lock(struct map_dir *dir);
void map_dir_unlock(struct map_dir *dir);

struct map {
	char name[MAP_NAME_MAX + 1];
	char *image; /* the spec */
	char *file;
	char *device; /* NULL: none */
	pid_t pid;
	bool made_file; /* ours to remove */
	bool read_only;
	bool alive;
	bool done; /* the daemon closed the disk; result says how */
	int result;
	int fd; /* the state file; where the map is dead, locked */
};

/* Takes a name, the wanted one or one made of image's, and locks its state.
 * -EEXIST: it is taken. With the directory locked. */
int map_claim(struct map_dir *dir, const char *wanted, const char *image,
	      struct map *out);
/* Adds a line to the state. */
int map_put(const struct map *map, const char *key, const char *value);
/* With the directory locked. -ENOENT: there is none of that name. */
int map_read(struct map_dir *dir, const char *name, struct map *out);
/* What the daemon left as its result; with its lock gone. */
void map_read_again(struct map *map);
void map_fini(struct map *map);
/* Removes its files, unless its name is another's by now. With the directory
 * locked. */
void map_remove(struct map_dir *dir, const struct map *map);
/* Calls fn for each, in the order of names, until it returns other than 0. With
 * the directory locked. */
int map_each(struct map_dir *dir, int (*fn)(void *opaque, struct map *map),
	     void *opaque);

/* ---- map-mount.c: the file ------------------------------------------------ */

bool map_is_mounted(const char *file);
/* 0 also where it is not mounted. lazy: in spite of users. */
int map_unmount(const char *file, bool lazy);

/* ---- map-loop.c: the block device ----------------------------------------- */

/* Sets map->device, on map->file; it stands in the state before it is taken. */
int map_loop_attach(struct map *map, uint32_t block_size, bool read_only);
/* 0 also where the device is not on file (any more). lazy: in spite of users,
 * and of data that cannot be written. */
int map_loop_detach(const char *device, const char *file, bool lazy,
		    int timeout_s);

/* ---- the verbs ------------------------------------------------------------ */

int map_start(const struct args *args); /* map-start.c */
int map_list(const struct args *args); /* map-list.c */
int map_stop(const struct args *args); /* map-stop.c */
/* Takes a map away whose daemon is dead, or never was. With the directory
 * locked. */
int map_clean_up(struct map_dir *dir, const struct map *map);
/* Takes away what dead maps left. With the directory locked. */
void map_sweep(struct map_dir *dir);

/* ---- the daemon ----------------------------------------------------------- */

/* What the daemon says to its parent once the file is there. It then serves, and
 * waits for a byte that says the rest went well; the end of the connection
 * without one says it did not. */
struct map_ready {
	uint32_t block_size;
	bool read_only;
};

struct map_daemon {
	const struct args *args;
	struct map_dir *dir;
	struct map *map;
	uint32_t flags; /* BLKTAP_OPEN_* */
	int parent; /* the connection; -1 once it has been used */
};

/* map-daemon.c: opens the disk, mounts it, serves it. Returns the exit status. */
int map_daemon_run(struct map_daemon *daemon);

/* map-fuse.c and map-ops.c: a disk as a file. */
struct map_fuse;
#define MAP_SLOTS 64 /* requests under way at once */

/* Mounts the disk on map's file. 0 or a negative errno. */
int map_fuse_create(const struct map *map, struct blktap_disk *disk,
		    struct map_fuse **out);
/* After the disk was closed. Unmounts it, if it still is. */
void map_fuse_destroy(struct map_fuse *fuse);
int map_fuse_get_fd(const struct map_fuse *fuse);
/* Whether there is room for another request. */
bool map_fuse_can_receive(const struct map_fuse *fuse);
/* Takes the requests that are there. */
void map_fuse_receive(struct map_fuse *fuse);
/* It is no longer mounted. */
bool map_fuse_is_over(const struct map_fuse *fuse);

#endif
