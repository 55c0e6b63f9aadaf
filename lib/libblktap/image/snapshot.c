/* SPDX-License-Identifier: BSD-3-Clause */
/* The files of a snapshot. The live image keeps its name, and what was in it gets
 * another:
 *
 *   1. NAME becomes a second link to FILE, and its directory is synced
 *   2. a child of NAME is written next to FILE, and synced
 *   3. the child is renamed to FILE, and the directory synced
 *
 * After each step FILE names an image with all data: up to 2 the old one, from 3 on
 * an empty child of it. The running disk has the old one open all the while and
 * is swung to the child later; a crash before that loses nothing, since what it
 * writes goes to what the child stands on. Undoing is renaming NAME to FILE. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <blktap/image.h>

#include "core/error.h"
#include "image/image.h"
#include "port/args.h"
#include "util/path.h"

#define NUMBERS 100000

static int fail_errno(const char *path, int rc, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];

	return bt_fail(err, rc, NULL, "%s: %s", path, bt_strerror(rc, text));
}

void bt_snapshot_fini(struct bt_snapshot *s)
{
	free(s->path);
	free(s->name);
	memset(s, 0, sizeof(*s));
}

/* FILE.snapN, one more than the highest there is in a row from 1. */
static char *next_name(const char *path)
{
	struct stat st;
	char *name = NULL;
	int n;

	for (n = 1; n < NUMBERS; n++) {
		free(name);
		if (asprintf(&name, "%s.snap%d", path, n) < 0)
			return NULL;
		if (lstat(name, &st) < 0 && errno == ENOENT)
			return name;
	}
	free(name);
	return NULL;
}

/* Its images must be able to say what they stand on, and there must be a way to
 * make one. */
static int check_class(const struct blktap_class *cls, const char *spec,
		       struct blktap_error **err)
{
	if (cls->create && cls->get_parent)
		return 0;
	return bt_fail(err, -ENOTSUP,
		       "only images that can stand on others have snapshots: "
		       "qcow, qcow2, vhd",
		       "%s: a disk of type '%s' has no snapshots", spec,
		       cls->name);
}

/* The path is the class's first argument. A link is refused: renaming would
 * replace the link and leave the file. */
static int find_names(struct bt_snapshot *s, const struct bt_args *args,
		      const struct blktap_class *cls, const char *name,
		      struct blktap_error **err)
{
	const char *path =
		bt_args_string(args, blktap_class_get_param(cls, 0)->name);
	struct stat st;
	int rc = 0;

	s->path = path ? strdup(path) : NULL;
	if (!s->path)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (lstat(s->path, &st) < 0)
		return fail_errno(s->path, -errno, err);
	if (!S_ISREG(st.st_mode))
		return bt_fail(err, -EINVAL,
			       "name the image by its own file, not by a link",
			       "%s: is not a regular file", s->path);
	if (name)
		rc = bt_path_resolve(s->path, name, &s->name);
	else
		s->name = next_name(s->path);
	if (rc < 0 || !s->name)
		return bt_fail(err, rc < 0 ? rc : -ENOMEM, NULL,
			       "%s: no name for the snapshot", s->path);
	return 0;
}

/* The child, next to the image, by the name it was given for now. */
static int make_child(const struct bt_snapshot *s,
		      const struct blktap_class *cls, const char *child,
		      const char *below, uint64_t length,
		      struct blktap_error **err)
{
	struct blktap_image_options options;
	const char *slash = strrchr(s->name, '/');

	blktap_image_options_init(&options);
	options.length = length;
	/* relative, so that the directory may be moved as a whole; both are in
	 * it, as rename needs one file system anyway */
	options.backing = bt_path_same_directory(s->path, s->name) && slash
				  ? slash + 1
				  : s->name;
	options.backing_format = cls->name;
	return bt_image_create_over(cls->name, child, &options, below, err);
}

/* Whoever may use the image may use its child. */
static int take_owner(const struct bt_snapshot *s, const char *child)
{
	struct stat st;

	if (stat(s->path, &st) < 0)
		return -errno;
	if (geteuid() == 0 && chown(child, st.st_uid, st.st_gid) < 0)
		return -errno;
	return chmod(child, st.st_mode & 07777) < 0 ? -errno : 0;
}

/* The moment of change is the rename. */
static int swap_names(const struct bt_snapshot *s, const char *child,
		      struct blktap_error **err)
{
	int rc = take_owner(s, child);

	if (rc < 0)
		return fail_errno(child, rc, err);

	if (rename(child, s->path) < 0)
		return fail_errno(s->path, -errno, err);
	rc = bt_path_sync_directory(s->path);
	return rc < 0 ? fail_errno(s->path, rc, err) : 0;
}

/* link() fails where the name is taken, so no file of that name is lost. What
 * was made is taken back on any failure; where FILE has changed already,
 * undoing renames NAME over it. */
static int make_files(struct bt_snapshot *s, const struct blktap_class *cls,
		      const char *below, uint64_t length,
		      struct blktap_error **err)
{
	char *child = NULL;
	int rc;

	if (asprintf(&child, "%s.child-%d", s->path, (int)getpid()) < 0)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (link(s->path, s->name) < 0) {
		rc = fail_errno(s->name, -errno, err);
		free(child);
		return rc;
	}
	/* the image has no other name soon; this directory may be another one */
	rc = bt_path_sync_directory(s->name);
	if (rc < 0)
		fail_errno(s->name, rc, err);
	else
		rc = make_child(s, cls, child, below, length, err);
	if (!rc)
		rc = swap_names(s, child, err);
	if (rc < 0) {
		unlink(child);
		bt_snapshot_undo(s, err);
	}
	free(child);
	return rc;
}

/* Opens nothing of the running disk; files and names alone. */
int bt_snapshot_make(const char *spec, const char *name, uint64_t length,
		     struct bt_snapshot *s, struct blktap_error **err)
{
	const struct blktap_class *cls;
	struct bt_args *args;
	int rc;

	memset(s, 0, sizeof(*s));
	rc = bt_spec_parse(spec, &cls, &args, err);
	if (rc < 0)
		return rc;
	rc = check_class(cls, spec, err);
	if (!rc)
		rc = find_names(s, args, cls, name, err);
	if (!rc)
		rc = make_files(s, cls, bt_args_string(args, "backing_format"),
				length, err);
	bt_args_destroy(args);
	if (rc < 0)
		bt_snapshot_fini(s);
	return rc;
}

/* At whatever step it stopped: with both names on one file only the new name
 * goes. */
static int put_back(const struct bt_snapshot *s)
{
	/* two links to one file: rename would do nothing */
	if (bt_path_same_file(s->path, s->name))
		return unlink(s->name) < 0 ? -errno : 0;
	if (rename(s->name, s->path) < 0)
		return -errno;
	return bt_path_sync_directory(s->path);
}

/* Whoever finds two files must know which one has the data. */
void bt_snapshot_undo(const struct bt_snapshot *s, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];
	int rc = put_back(s);

	if (rc < 0)
		bt_error_prefix(err,
				"%s could not be put back, its data is in %s "
				"(%s), after",
				s->path, s->name, bt_strerror(rc, text));
}
