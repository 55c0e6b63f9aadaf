/* SPDX-License-Identifier: BSD-3-Clause */
/* A loop device on the mounted file. Its own flags and its backing file are all
 * that is known of it later: no descriptor is kept (see map.h). */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "map.h"

/* Somebody else may take the free device that the kernel named first. */
#define ATTACH_TRIES 64

/* 10 ms */
static void doze(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 10 * 1000 * 1000 }, NULL);
}

/* The kernel names a free device, but does not reserve it: LOOP_CONFIGURE is
 * what takes it, in one step with all settings, and fails with EBUSY where
 * another was faster. The state names it before, so that none is taken that
 * nobody would find again; one that is named and not ours is known by its
 * backing file. */
static int configure(int control, struct loop_config *config, struct map *map)
{
	int n = ioctl(control, LOOP_CTL_GET_FREE), fd, rc;
	char *device;

	if (n < 0)
		return -errno;
	if (asprintf(&device, "/dev/loop%d", n) < 0)
		return -ENOMEM;
	rc = map_put(map, "device", device);
	fd = rc ? -1 : open(device, O_RDWR | O_CLOEXEC);
	if (!rc && (fd < 0 || ioctl(fd, LOOP_CONFIGURE, config)))
		rc = -errno;
	if (fd >= 0)
		close(fd);
	if (rc)
		free(device);
	else
		map->device = device;
	return rc;
}

/* Direct I/O: the disk is cached once, in the page cache of the loop device, and
 * what the file system on it writes is under way at once. The descriptors may
 * be closed after: the device has the file open by itself. */
int map_loop_attach(struct map *map, uint32_t block_size, bool read_only)
{
	struct loop_config config = { .block_size = block_size };
	const char *file = map->file;
	int control, tries, fd, rc = -EBUSY;

	config.info.lo_flags = LO_FLAGS_DIRECT_IO;
	if (read_only)
		config.info.lo_flags |= LO_FLAGS_READ_ONLY;
	strncpy((char *)config.info.lo_file_name, file, LO_NAME_SIZE - 1);
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return -errno;
	fd = open(file, (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
	if (fd < 0) {
		rc = -errno;
		close(control);
		return rc;
	}
	config.fd = (uint32_t)fd;
	for (tries = 0; rc == -EBUSY && tries < ATTACH_TRIES; tries++)
		rc = configure(control, &config, map);
	close(fd);
	close(control);
	return rc;
}

/* The device's number may long be another's. The kernel shows the file's path
 * without links, as it stands in the state. */
static bool is_on(const char *device, const char *file)
{
	const char *name = strrchr(device, '/');
	char path[128], line[4096];
	bool same = false;
	FILE *f;

	if (!name)
		return false;
	snprintf(path, sizeof(path), "/sys/block%s/loop/backing_file", name);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		same = !strcmp(line, file);
	}
	fclose(f);
	return same;
}

/* O_EXCL: not while a file system is mounted on it. Others who have it open keep
 * it alive until they close it, so look whether it has gone. */
int map_loop_detach(const char *device, const char *file, bool lazy,
		    int timeout_s)
{
	int fd, turn, rc = 0;

	if (!is_on(device, file))
		return 0;
	fd = open(device, O_RDONLY | O_CLOEXEC | (lazy ? 0 : O_EXCL));
	if (fd < 0)
		return -errno;
	/* an error of the cache is seen here, or by nobody: detaching drops it
	 */
	if (fsync(fd) && !lazy)
		rc = -errno;
	/* ENXIO: another was faster */
	if (!rc && ioctl(fd, LOOP_CLR_FD) && errno != ENXIO)
		rc = -errno;
	close(fd);
	for (turn = 0; !rc && !lazy && is_on(device, file); turn++) {
		if (turn >= timeout_s * 100)
			return -EBUSY;
		doze();
	}
	return rc;
}
