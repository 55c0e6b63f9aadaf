/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of files that stand in other files. */
#ifndef BT_UTIL_PATH_H
#define BT_UTIL_PATH_H

#include <stdbool.h>
#include <stdint.h>

struct stat;

/* What name means to whoever finds it in the file at base: an absolute name is
 * itself, a relative one starts in base's directory. *out is a new string.
 * -EINVAL for an empty name, -ENOMEM. */
int bt_path_resolve(const char *base, const char *name, char **out);

/* The name of the file target as it is recorded in the file base: relative to
 * base's directory. Both are absolute and without links. *out is a new string. */
int bt_path_relative(const char *base, const char *target, char **out);

/* An absolute name of path, which is there, without links in it; but a block device
 * keeps the name it has in its directory, as what that leads to is another one after
 * the next boot. A new string; NULL with errno. */
char *bt_path_absolute(const char *path);

/* Which file it is, or which block device, whatever its node is called. */
struct bt_path_id {
	uint64_t dev, ino;
};
struct bt_path_id bt_path_identify(const struct stat *st);
bool bt_path_is_same(struct bt_path_id a, struct bt_path_id b);
/* Whether both names lead to one file, or one block device, whatever they are
 * like. False where either is not there. */
bool bt_path_same_file(const char *a, const char *b);

/* Whether both names, as they are written, lie in one directory. */
bool bt_path_same_directory(const char *a, const char *b);

/* What was done to the name path (made, renamed, removed) is on disk when this
 * returns 0. Blocks. */
int bt_path_sync_directory(const char *path);

/* Makes text all that is in the file path, by another name and a rename, so that
 * it is whole at every moment. sync: on disk before it has its name. Blocks. */
int bt_path_replace(const char *path, const char *text, bool sync);

/* The scheme of "scheme:rest" (letters, digits, + - .; at least two, and no
 * slash before the colon): its length, or 0 where there is none. */
unsigned int bt_path_scheme(const char *name);

/* A file's name as it is recorded: "./a:b" for "a:b", which would be read as
 * something else by the scheme a. *out is a new string. */
int bt_path_record(const char *name, char **out);

#endif
