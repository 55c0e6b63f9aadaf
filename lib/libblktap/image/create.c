/* SPDX-License-Identifier: BSD-3-Clause */
/* New images: checked, written under another name, synced, renamed.
 *
 *   1. is there something by that name, and may it be replaced
 *   2. what is below it: is it there, in that format, and how large
 *   3. written to NAME.new-PID-N in the same directory, synced
 *   4. renamed to NAME, and the directory synced
 *
 * A crash leaves NAME as it was, or whole; at worst a file of the other name
 * stays. What is replaced is locked from before 3 until it has gone, so it is no
 * image that somebody has open. An image on a device is written where it is, by
 * its class, which locks it. */
#include <blktap/image.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "driver/lock.h"
#include "engine/engine.h"
#include "image/image.h"
#include "util/options.h"
#include "util/path.h"

#define EXTRA_MAX 16u
#define NAME_TRIES 100

struct making {
	struct bt_create create;
	struct bt_create_extra extra[EXTRA_MAX];
	char *extra_text; /* what extra points into */
	char *backing_path;
	char *backing_name; /* as the image has it */
	char *temporary;
	int replaced_fd; /* what the rename takes the name of, or -1 */
	bool on_device;
	const char *below; /* see bt_image_create_over */
	const struct blktap_class *cls;
};

void blktap_image_options_init_sized(struct blktap_image_options *options,
				     size_t size)
{
	struct blktap_image_options all = { .struct_size = size };

	bt_options_fill(options, size, &all, sizeof(all));
}

/* bt_fail keeps what was said before. */
static int fail_errno(const char *path, int rc, struct blktap_error **err)
{
	char text[BT_STRERROR_MAX];

	return bt_fail(err, rc, NULL, "%s: %s", path, bt_strerror(rc, text));
}

/* extra points into the copy of the text, which is cut at its commas. */
static int read_extra(struct making *m, const char *text,
		      struct blktap_error **err)
{
	char *at, *save = NULL;

	m->create.extra = m->extra;
	if (!text)
		return 0;
	m->extra_text = strdup(text);
	if (!m->extra_text)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	for (at = strtok_r(m->extra_text, ",", &save); at;
	     at = strtok_r(NULL, ",", &save)) {
		struct bt_create_extra *extra =
			&m->extra[m->create.extra_count];
		char *equals = strchr(at, '=');

		if (!equals || m->create.extra_count == EXTRA_MAX)
			return bt_fail(err, -EINVAL,
				       "write options as name=value,name=value",
				       "'%s' is no option", at);
		*equals = '\0';
		extra->name = at;
		extra->value = equals + 1;
		m->create.extra_count++;
	}
	return 0;
}

/* Replacing a file that the new image is to stand on would lose its data. (Another
 * link to that file may be replaced.) */
static int check_replaced(const struct making *m, const struct bt_node *node,
			  struct blktap_error **err)
{
	char *mine = realpath(m->create.path, NULL), *theirs;
	int rc = 0;

	while (mine && node && !rc) {
		theirs = realpath(bt_node_path(node), NULL);
		if (theirs && !strcmp(mine, theirs))
			rc = bt_fail(err, -EINVAL,
				     "give the new image another name",
				     "%s: would replace what it is to stand on",
				     m->create.path);
		free(theirs);
		node = node->port_count ? node->ports[0].lower : NULL;
	}
	free(mine);
	return rc;
}

/* What stands below must be there, in the format given; its size may be ours.
 * With a loop and an engine of its own, as there is no context here. The whole
 * chain is opened: one that cannot be would make an image that cannot be. */
static int look_at_backing(struct making *m, struct blktap_error **err)
{
	struct bt_env env = { .log = NULL };
	struct bt_node *node = NULL;
	char *spec = NULL;
	int rc;

	if (asprintf(&spec, "%s:%s", m->create.backing_format,
		     m->backing_path) < 0)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	rc = bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &env.loop);
	if (!rc)
		rc = bt_engine_create(env.loop, NULL, BLKTAP_ENGINE_SYNC, 0,
				      &env.engine, err);
	if (!rc)
		/* only looked at: it may be in use as the live disk that this
		 * is to be the child of */
		rc = bt_image_open_base(&env, spec,
					BLKTAP_OPEN_READ_ONLY |
						BLKTAP_OPEN_FORCE |
						BT_OPEN_LOOK,
					m->below, &node, err);
	if (!rc && !m->create.size)
		m->create.size = node->limits.size;
	if (!rc)
		rc = check_replaced(m, node, err);
	bt_node_destroy(node);
	bt_engine_destroy(env.engine);
	bt_loop_destroy(env.loop);
	free(spec);
	if (rc < 0) {
		fail_errno(m->backing_path, rc, err);
		bt_error_prefix(err, "backing of %s", m->create.path);
	}
	return rc;
}

/* The name is looked up from the new image's directory, and recorded as it was
 * given. */
static int read_backing(struct making *m,
			const struct blktap_image_options *options,
			struct blktap_error **err)
{
	const struct blktap_class *cls;
	int rc;

	if (!options->backing)
		return 0;
	if (!options->backing_format)
		return bt_fail(
			err, -EINVAL,
			"say which: raw, qcow2, vhd; it is never guessed",
			"%s: the backing file's format is not given",
			m->create.path);
	cls = blktap_class_find(options->backing_format);
	if (!cls)
		return bt_image_unknown_type(options->backing_format, err);
	rc = bt_path_resolve(m->create.path, options->backing,
			     &m->backing_path);
	if (rc < 0)
		return fail_errno(options->backing, rc, err);
	rc = bt_path_record(options->backing, &m->backing_name);
	if (rc < 0)
		return fail_errno(options->backing, rc, err);
	m->create.backing = m->backing_name;
	m->create.backing_path = m->backing_path;
	m->create.backing_format = blktap_class_get_name(cls);
	return look_at_backing(m, err);
}

/* A device has the image where it is; its names are links as a rule. Any other link is
 * not replaced, as its file might be somebody's. Whether the name is free is asked
 * again by the rename. */
static int check_target(struct making *m, struct blktap_error **err)
{
	const char *path = m->create.path;
	struct stat st;

	m->on_device = m->cls->creates_on_device && stat(path, &st) == 0 &&
		       S_ISBLK(st.st_mode);
	if (!m->on_device && lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : fail_errno(path, -errno, err);
	if (!(m->create.flags & BLKTAP_CREATE_OVERWRITE))
		return bt_fail(err, -EEXIST,
			       "choose another name, or ask to overwrite it",
			       "%s: is there already", path);
	if (!m->on_device && !S_ISREG(st.st_mode))
		return bt_fail(err, -EINVAL, "choose another name",
			       "%s: is not a regular file, and is not replaced",
			       path);
	return 0;
}

/* O_EXCL, so nobody's file is written over; the number is for what a killed
 * process of the same id left. */
static int open_temporary(struct making *m, struct blktap_error **err)
{
	int i, rc = -EEXIST;

	for (i = 0; i < NAME_TRIES && rc == -EEXIST; i++) {
		free(m->temporary);
		if (asprintf(&m->temporary, "%s.new-%d-%d", m->create.path,
			     (int)getpid(), i) < 0) {
			m->temporary = NULL;
			return bt_fail(err, -ENOMEM, NULL, "out of memory");
		}
		m->create.fd =
			open(m->temporary,
			     O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		rc = m->create.fd < 0 ? -errno : 0;
	}
	if (rc < 0) {
		fail_errno(m->create.path, rc, err);
		free(m->temporary);
		m->temporary = NULL;
	}
	return rc;
}

/* Whoever could not read the image that goes must not read the one in its place.
 * The owner before the mode, which giving a file away may clear. */
static int take_owner(const struct making *m)
{
	struct stat st;

	if (lstat(m->create.path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	/* a file system may know no owners: then it is ours, as it was before */
	if (geteuid() == 0 && fchown(m->create.fd, st.st_uid, st.st_gid) < 0 &&
	    errno != EPERM && errno != EOPNOTSUPP)
		return -errno;
	return fchmod(m->create.fd, st.st_mode & 07777) < 0 ? -errno : 0;
}

/* NOREPLACE settles who comes first where two make the same image. */
static int put_in_place(struct making *m)
{
	const char *path = m->create.path;
	bool replace = m->create.flags & BLKTAP_CREATE_OVERWRITE;
	int rc = replace ? take_owner(m) : 0;

	if (rc < 0)
		return rc;
	if (fsync(m->create.fd) < 0)
		return -errno;
	if (replace) {
		rc = rename(m->temporary, path);
	} else {
		rc = renameat2(AT_FDCWD, m->temporary, AT_FDCWD, path,
			       RENAME_NOREPLACE);
		/* file systems without it have hard links, or neither */
		if (rc < 0 && errno == EINVAL) {
			rc = link(m->temporary, path);
			if (!rc)
				unlink(m->temporary);
		}
	}
	if (rc < 0)
		return -errno;
	free(m->temporary);
	m->temporary = NULL;
	return bt_path_sync_directory(path);
}

/* What has it open for itself (a mount, a volume group) keeps it. */
static int write_device(struct making *m, struct blktap_error **err)
{
	off_t size;
	int rc;

	m->create.fd = open(m->create.path, O_RDWR | O_EXCL | O_CLOEXEC);
	if (m->create.fd < 0)
		return fail_errno(m->create.path, -errno, err);
	size = lseek(m->create.fd, 0, SEEK_END);
	if (size > 0) {
		m->create.device_size = (uint64_t)size;
		rc = m->cls->create(&m->create, err);
	} else {
		rc = fail_errno(m->create.path, size ? -errno : -ENOSPC, err);
	}
	close(m->create.fd);
	return rc;
}

/* As a writer, who shares with nobody: a disk that is running, or the parent of
 * one, would go on without its name, and what it writes would be lost with it.
 * NONBLOCK, NOFOLLOW: another may have put a FIFO or a link there since
 * check_target looked. */
static int lock_replaced(struct making *m, struct blktap_error **err)
{
	const char *path = m->create.path;

	if (!(m->create.flags & BLKTAP_CREATE_OVERWRITE))
		return 0;
	m->replaced_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY |
					    O_NONBLOCK | O_NOFOLLOW);
	if (m->replaced_fd < 0)
		return errno == ENOENT ? 0 : fail_errno(path, -errno, err);
	return bt_image_lock(m->replaced_fd, true, path, NULL, err);
}

static void unlock_replaced(struct making *m)
{
	if (m->replaced_fd < 0)
		return;
	bt_image_unlock(m->replaced_fd);
	close(m->replaced_fd);
}

/* The file goes where anything fails before it has its name. */
static int write_image(struct making *m, struct blktap_error **err)
{
	int rc = lock_replaced(m, err);

	if (!rc)
		rc = open_temporary(m, err);
	if (rc < 0)
		return rc;
	rc = m->cls->create(&m->create, err);
	if (!rc) {
		rc = put_in_place(m);
		if (rc < 0)
			fail_errno(m->create.path, rc, err);
	}
	close(m->create.fd);
	if (m->temporary)
		unlink(m->temporary);
	return rc;
}

/* What costs nothing is looked at first. */
static int make(struct making *m, const struct blktap_image_options *options,
		struct blktap_error **err)
{
	int rc = check_target(m, err);

	if (!rc)
		rc = read_extra(m, options->extra, err);
	if (!rc)
		rc = read_backing(m, options, err);
	if (!rc && !m->create.size)
		rc = bt_fail(err, -EINVAL, "give it a size, e.g. 10G",
			     "%s: an image needs a size", m->create.path);
	if (rc)
		return rc;
	return m->on_device ? write_device(m, err) : write_image(m, err);
}

int blktap_image_create(const char *format, const char *path,
			const struct blktap_image_options *options,
			struct blktap_error **err)
{
	return bt_image_create_over(format, path, options, NULL, err);
}

/* options may be shorter than ours, from a program that was built earlier: what
 * it has not got is the default. */
int bt_image_create_over(const char *format, const char *path,
			 const struct blktap_image_options *options,
			 const char *below, struct blktap_error **err)
{
	struct blktap_image_options opts;
	struct making m = { .create = { .fd = -1, .path = path },
			    .replaced_fd = -1,
			    .below = below };
	int rc;

	blktap_image_options_init(&opts);
	if (options && options->struct_size > sizeof(opts))
		return bt_fail(err, -E2BIG, "build with this library's headers",
			       "image options are of a newer version");
	if (options)
		memcpy(&opts, options, options->struct_size);
	m.cls = blktap_class_find(format);
	if (!m.cls)
		return bt_image_unknown_type(format, err);
	if (!m.cls->create)
		return bt_fail(err, -ENOTSUP, NULL,
			       "a disk of type '%s' has no file to make",
			       format);
	m.create.size = opts.length;
	m.create.flags = opts.flags;
	m.create.cluster_size = opts.cluster_size;
	m.create.progress = opts.progress;
	m.create.opaque = opts.opaque;
	rc = make(&m, &opts, err);
	unlock_replaced(&m);
	free(m.temporary);
	free(m.backing_path);
	free(m.backing_name);
	free(m.extra_text);
	return rc;
}
