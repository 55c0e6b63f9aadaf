/* SPDX-License-Identifier: BSD-3-Clause */
/* The runtime directory: its names, and who has which minor.
 *
 * A minor is allocated while "tapdisk/tapdisk-<minor>" exists. Who makes or
 * removes such a mark holds a lock on the directory "tapdisk"; who has the minor
 * attached holds one on the mark. Both are flock(2), so that a dead process
 * holds nothing. A mark that was opened may have been removed before it was
 * locked: hence the look at its link count after. */
#ifndef BT_CONTROL_RUNDIR_H
#define BT_CONTROL_RUNDIR_H

#include <blktap/error.h>
#include <sys/un.h>

#include "control/mark.h"
#include "core/error.h"

/* The text of a negative errno, for the rest of the block it stands in. */
#define STRERROR(code) bt_strerror((code), (char[BT_STRERROR_MAX]){ 0 })

struct bt_rundir {
	char *path;
};

/* Checks that sockets fit; touches nothing. path NULL: the default. */
int bt_rundir_init(struct bt_rundir *dir, const char *path,
		   struct blktap_error **err);
void bt_rundir_fini(struct bt_rundir *dir);

/* Makes it and its sub-directory, mode 0700. -EPERM where it is not ours: others
 * could swap what is in it. */
int bt_rundir_make(const struct bt_rundir *dir, struct blktap_error **err);

/* Bytes a socket's name may take, its NUL included. */
#define BT_SUN_PATH sizeof(((struct sockaddr_un *)0)->sun_path)

/* The sockets of a tapdisk, and of its minor. They fit, since bt_rundir_init looked. */
void bt_rundir_control_path(const struct bt_rundir *dir, pid_t pid,
			    char out[BT_SUN_PATH]);
void bt_rundir_nbd_path(const struct bt_rundir *dir, pid_t pid, int minor,
			char out[BT_SUN_PATH]);
/* NULL where memory is short. */
char *bt_rundir_minor_path(const struct bt_rundir *dir, int minor);

/* -EINVAL for a number that no minor can have. */
int bt_minor_check(int minor, struct blktap_error **err);
/* ring: where the kernel module can be used, with a minor of the module's of the
 * same number, which free and unlock (remove) take away again. */
int bt_minor_allocate(const struct bt_rundir *dir, bool ring, int *minor,
		      struct blktap_error **err);
int bt_minor_free(const struct bt_rundir *dir, int minor,
		  struct blktap_error **err);
/* What its mark says; -ENOENT where it is not allocated. */
int bt_minor_get_mark(const struct bt_rundir *dir, int minor,
		      struct bt_mark *mark);
/* Takes the minor; *fd is the lock. -EINVAL where it is not allocated, -EBUSY
 * where somebody has it. Does not wait. */
int bt_minor_lock(const struct bt_rundir *dir, int minor, int *fd,
		  struct blktap_error **err);
/* Gives it back. remove: and frees it. */
void bt_minor_unlock(const struct bt_rundir *dir, int minor, int fd,
		     bool remove);

/* Calls fn for each number N of an entry "<prefix>N" of the directory (sub NULL)
 * or its sub-directory, smallest first, until fn returns other than 0. A
 * directory that is not there is empty. */
int bt_rundir_each(const struct bt_rundir *dir, const char *sub,
		   const char *prefix, int (*fn)(void *opaque, int number),
		   void *opaque, struct blktap_error **err);

/* Removes the sockets of tapdisks that are no more. */
void bt_rundir_sweep(const struct bt_rundir *dir);

#endif
