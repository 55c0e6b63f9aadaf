/* SPDX-License-Identifier: BSD-3-Clause */
/* A mounted disk: its session with the kernel and the memory of its requests. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "map-fuse.h"

#define HEADERS 80 /* of a write: fuse_in_header and fuse_write_in */
#define MAX_PAGES 256 /* the most the kernel asks for at once */
#define BATCH 32 /* requests between two looks at the disk */

/* ---- slots ---------------------------------------------------------------- */

/* Only what requests touch is ever backed by memory. No huge pages: a small
 * request would cost one. */
static int make_slots(struct map_fuse *fuse)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), i;
	/* The header's page, the data, and what libfuse adds to a buffer. */
	size_t stride = page * (MAX_PAGES + 2) + 4096;

	stride = (stride + page - 1) / page * page;
	fuse->capacity = page * MAX_PAGES;
	fuse->memory_size = stride * MAP_SLOTS;
	fuse->memory = mmap(NULL, fuse->memory_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (fuse->memory == MAP_FAILED) {
		fuse->memory = NULL;
		return -errno;
	}
	madvise(fuse->memory, fuse->memory_size, MADV_NOHUGEPAGE);
	madvise(fuse->memory, fuse->memory_size, MADV_DONTFORK);
	for (i = 0; i < MAP_SLOTS; i++) {
		fuse->slots[i].fuse = fuse;
		fuse->slots[i].data = fuse->memory + i * stride + page;
		map_slot_put(&fuse->slots[i]);
	}
	return 0;
}

void map_slot_put(struct slot *slot)
{
	slot->next = slot->fuse->free;
	slot->fuse->free = slot;
}

bool map_fuse_can_receive(const struct map_fuse *fuse)
{
	return fuse->free;
}

/* ---- session -------------------------------------------------------------- */

int map_fuse_get_fd(const struct map_fuse *fuse)
{
	return fuse_session_fd(fuse->session);
}

bool map_fuse_is_over(const struct map_fuse *fuse)
{
	return fuse_session_exited(fuse->session);
}

/* An operation that needs its slot for longer takes it from fuse->current. The
 * request is read into a free slot, so that a write's data needs no copy. Where
 * the operation did not take the slot, it is free again when it returns. */
static bool receive_one(struct map_fuse *fuse)
{
	struct slot *slot = fuse->free;
	struct fuse_buf buf = { .mem = slot->data - HEADERS };
	int rc;

	fuse->free = slot->next;
	fuse->current = slot;
	rc = fuse_session_receive_buf(fuse->session, &buf);
	if (rc > 0)
		fuse_session_process_buf(fuse->session, &buf);
	if (fuse->current)
		map_slot_put(slot);
	fuse->current = NULL;
	return rc > 0;
}

/* A bound: completions of the disk would wait for an endless stream of
 * requests. Where no slot is free the rest stays in the kernel. */
void map_fuse_receive(struct map_fuse *fuse)
{
	int n = 0;

	while (n++ < BATCH && fuse->free && !map_fuse_is_over(fuse) &&
	       receive_one(fuse))
		;
}

/* The image's spec is what `mount` shows as the source. */
static int add_options(struct fuse_args *args, const struct map *map, bool ro)
{
	char *source;
	int rc;

	if (fuse_opt_add_arg(args, "blktap-map") ||
	    fuse_opt_add_arg(args, "-osubtype=" MAP_FS_TYPE))
		return -ENOMEM;
	if (ro && fuse_opt_add_arg(args, "-oro"))
		return -ENOMEM;
	if (asprintf(&source, "-ofsname=%s", map->image) < 0)
		return -ENOMEM;
	/* A comma would end the option. */
	for (rc = 0; source[rc]; rc++)
		if (source[rc] == ',' || source[rc] == '\\')
			source[rc] = '_';
	rc = fuse_opt_add_arg(args, source) ? -ENOMEM : 0;
	free(source);
	return rc;
}

static int mount_file(struct map_fuse *fuse, const struct map *map)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int rc = add_options(&args, map, fuse->info.read_only);

	if (!rc) {
		fuse->session = fuse_session_new(&args, &map_ops,
						 sizeof(map_ops), fuse);
		rc = fuse->session ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	errno = 0;
	if (!rc && fuse_session_mount(fuse->session, map->file)) {
		rc = errno ? -errno : -EIO;
		fuse_session_destroy(fuse->session);
		fuse->session = NULL;
	}
	if (!rc)
		/* the loop looks until nothing is there; it must not block in
		 * that look */
		fcntl(map_fuse_get_fd(fuse), F_SETFL, O_NONBLOCK);
	return rc;
}

int map_fuse_create(const struct map *map, struct blktap_disk *disk,
		    struct map_fuse **out)
{
	struct map_fuse *fuse = calloc(1, sizeof(*fuse));
	int rc;

	if (!fuse)
		return -ENOMEM;
	fuse->disk = disk;
	fuse->info.size = sizeof(fuse->info);
	blktap_disk_get_info(disk, &fuse->info);
	clock_gettime(CLOCK_REALTIME, &fuse->since);
	rc = make_slots(fuse);
	if (!rc)
		rc = mount_file(fuse, map);
	if (rc) {
		map_fuse_destroy(fuse);
		return rc;
	}
	*out = fuse;
	return 0;
}

/* No request is under way: closing the disk has ended them, and their answers
 * were sent. */
void map_fuse_destroy(struct map_fuse *fuse)
{
	if (!fuse)
		return;
	if (fuse->session) {
		fuse_session_unmount(fuse->session);
		fuse_session_destroy(fuse->session);
	}
	if (fuse->memory)
		munmap(fuse->memory, fuse->memory_size);
	free(fuse);
}
