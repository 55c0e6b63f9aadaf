/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes the disk that a power cut would have left from a writelog's store:
 *
 *	writelog-replay [-n ENTRY] [-c nothing|all|some|torn] [-s SEED] LOG IMAGE
 *	writelog-replay -l LOG
 *
 * IMAGE is the disk as it was when the log began, and is changed. Without -n the
 * cut is behind the last entry. -l lists the entries. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "module/writelog.h"
#include "util/checked.h"

static const char zeroes[65536];

static void die(const char *what, int error)
{
	fprintf(stderr, "writelog-replay: %s: %s\n", what, strerror(-error));
	exit(EXIT_FAILURE);
}

static int open_file(const char *path, int flags, uint64_t *size)
{
	int fd = open(path, flags | O_CLOEXEC);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (end < 0)
		die(path, -errno);
	*size = (uint64_t)end;
	return fd;
}

static int read_log(void *opaque, uint64_t offset, void *data, size_t length)
{
	ssize_t n = pread(*(int *)opaque, data, length, (off_t)offset);

	if (n < 0)
		return -errno;
	return (size_t)n == length ? 0 : -EIO;
}

static int write_image(void *opaque, uint64_t offset, const void *data,
		       uint64_t length)
{
	const char *from = data;

	while (length) {
		size_t part =
			data ? length : bt_min_u64(length, sizeof(zeroes));
		ssize_t n = pwrite(*(int *)opaque, data ? from : zeroes, part,
				   (off_t)offset);

		if (n < 0)
			return -errno;
		from = data ? from + n : NULL;
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

static int list(void *opaque, const struct bt_writelog_entry *entry,
		const void *data)
{
	static const char *const kinds[] = { "", "write", "zero", "discard",
					     "flush" };

	printf("%" PRIu64 " %s %" PRIu64 "+%" PRIu64 "%s began=%" PRIu64 "\n",
	       entry->sequence, kinds[entry->kind], entry->offset,
	       entry->length, entry->flags & BT_WRITELOG_FUA ? " fua" : "",
	       entry->began);
	return 0;
}

static enum bt_cut cut_of(const char *name)
{
	static const char *const names[BT_CUTS] = { "nothing", "all", "some",
						    "torn" };
	int i;

	for (i = 0; i < BT_CUTS; i++)
		if (!strcmp(name, names[i]))
			return (enum bt_cut)i;
	die(name, -EINVAL);
	return BT_CUTS;
}

int main(int argc, char **argv)
{
	struct bt_replay replay = { .read = read_log };
	uint64_t at = UINT64_MAX, seed = 1, size;
	enum bt_cut cut = BT_CUT_ALL;
	bool lists = false;
	int c, log, image, rc;

	while ((c = getopt(argc, argv, "c:ln:s:")) != -1) {
		if (c == 'c')
			cut = cut_of(optarg);
		else if (c == 'l')
			lists = true;
		else if (c == 'n')
			at = strtoull(optarg, NULL, 10);
		else if (c == 's')
			seed = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	if (argc - optind != (lists ? 1 : 2))
		return 2;
	log = open_file(argv[optind], O_RDONLY, &replay.log_size);
	replay.opaque = &log;
	rc = bt_replay_open(&replay);
	if (rc < 0)
		die(argv[optind], rc);
	if (lists)
		return bt_replay_each(&replay, list, NULL) ? EXIT_FAILURE
							   : EXIT_SUCCESS;
	image = open_file(argv[optind + 1], O_RDWR, &size);
	if (size != replay.disk_size)
		die(argv[optind + 1], -EINVAL);
	rc = bt_replay_cut(&replay, bt_min_u64(at, replay.entries), cut, &seed,
			   write_image, &image);
	if (rc < 0 || close(image) < 0)
		die(argv[optind + 1], rc < 0 ? rc : -errno);
	return EXIT_SUCCESS;
}
