/* SPDX-License-Identifier: BSD-3-Clause */
/* The module's devices: its system calls, and minors. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "frontend/ring.h"

/* The minor's device: this open file is what the module knows us by. */
static int system_open(void *opaque, uint32_t minor)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), BT_RING_DIR "/blktap%u",
		 (unsigned int)minor);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int system_ioctl(void *opaque, int fd, unsigned long cmd, void *arg)
{
	int rc = ioctl(fd, cmd, arg);

	return rc < 0 ? -errno : rc;
}

/* MAP_SHARED: it is the module's memory, and what is put there is seen by it.
 */
static int system_map(void *opaque, int fd, size_t bytes, void **out)
{
	void *map =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	*out = map;
	return 0;
}

static void system_unmap(void *opaque, void *map, size_t bytes)
{
	munmap(map, bytes);
}

static void system_close(void *opaque, int fd)
{
	close(fd);
}

const struct bt_ring_ops bt_ring_system = {
	.open = system_open,
	.ioctl = system_ioctl,
	.map = system_map,
	.unmap = system_unmap,
	.close = system_close,
};

/* By the ops, so that a test can be the module. */
int bt_ring_call(struct blktap_ring *ring, unsigned long cmd, void *arg)
{
	return ring->ops->ioctl(ring->opaque, ring->fd, cmd, arg);
}

/* -EPERM for a ring that is not attached: it harms nobody else's device. */
int bt_ring_remove(struct blktap_ring *ring, uint32_t flags)
{
	struct blktap_remove remove = { .size = sizeof(remove),
					.flags = flags };

	return bt_ring_call(ring, BLKTAP_RING_REMOVE, &remove);
}

/* ---- minors --------------------------------------------------------------- */

/* ENXIO, ENODEV: a node that is left without its module. */
static int open_control(struct blktap_error **err)
{
	int fd = open(BT_RING_DIR "/control", O_RDWR | O_CLOEXEC), rc;
	char text[BT_STRERROR_MAX];

	if (fd >= 0)
		return fd;
	rc = errno == ENXIO || errno == ENODEV ? -ENOENT : -errno;
	return bt_fail(err, rc,
		       rc == -ENOENT ? "modprobe blktap" : "run as root",
		       rc == -ENOENT ? "kernel module blktap is not loaded"
				     : "kernel module blktap cannot be used: "
				       "%s",
		       bt_strerror(rc, text));
}

/* The control device is opened for each call: nobody holds it, so the module
 * can be unloaded. */
static int control(unsigned long cmd, void *arg, struct blktap_error **err)
{
	int fd = open_control(err), rc;

	if (fd < 0)
		return fd;
	rc = system_ioctl(NULL, fd, cmd, arg);
	close(fd);
	return rc;
}

/* What it needs of a module: the version, and that a device outlives its
 * daemon. */
int blktap_ring_probe(struct blktap_error **err)
{
	struct blktap_version v = { .size = sizeof(v) };
	struct blktap_error *cause = NULL;
	int rc = control(BLKTAP_CTL_VERSION, &v, &cause);

	if (cause) {
		if (err)
			*err = cause;
		else
			blktap_error_destroy(cause);
		return rc;
	}
	if (!rc && v.abi == BLKTAP_ABI_VERSION &&
	    v.features & BLKTAP_FEATURE_RECOVERY)
		return 0;
	return bt_fail(err, -EPROTO,
		       "install module and library of one version",
		       "kernel module blktap speaks version %u, and this "
		       "library %u",
		       rc ? 0 : (unsigned int)v.abi, BLKTAP_ABI_VERSION);
}

/* -EEXIST is left as it is: who looks for a free number asks for the next. */
int blktap_ring_allocate(int wanted, int *minor, struct blktap_error **err)
{
	struct blktap_alloc alloc = { .size = sizeof(alloc), .minor = wanted };
	char text[BT_STRERROR_MAX];
	int rc = control(BLKTAP_CTL_ALLOC, &alloc, err);

	/* It has none of that number, or none left. */
	if (rc == -EINVAL && wanted >= 0)
		rc = -ENOSPC;
	if (!rc)
		*minor = alloc.minor;
	else
		bt_fail(err, rc,
			rc == -ENOSPC ? "load the module with max_minors="
				      : NULL,
			"kernel minor %d cannot be made: %s", wanted,
			bt_strerror(rc, text));
	return rc;
}

/* EBUSY while anybody has the disk open. */
int blktap_ring_free(int minor, struct blktap_error **err)
{
	struct blktap_free arg = { .size = sizeof(arg),
				   .minor = (uint32_t)minor };
	char text[BT_STRERROR_MAX];
	int rc = control(BLKTAP_CTL_FREE, &arg, err);

	if (rc)
		bt_fail(err, rc,
			rc == -EBUSY ? "unmount it, and close what has it open"
				     : NULL,
			"kernel minor %d cannot be freed: %s", minor,
			bt_strerror(rc, text));
	return rc;
}
