/* SPDX-License-Identifier: BSD-3-Clause */
/* What a child has goes into an image below it.
 *
 * Every sector that is written there is one the child has too, so whoever reads
 * the chain meanwhile, or after a cut, or after an end halfway, sees the child's:
 * nothing changes until the child is taken out of the chain. So doing it again is
 * always right, and a state file only saves time: it names the two images, the
 * child as it was, and the block up to which all is committed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/lock.h"
#include "driver/vhd/tool.h"
#include "util/path.h"

#define STATE_MAX 512 /* bytes of a state's text */

struct merge {
	struct bt_vhdimg *child;
	const struct blktap_vhd_coalesce_options *options;
	int guard; /* holds the locks on the target; or -1 */
	/* one of the two is the target */
	struct blktap_vhd into;
	struct bt_image_file raw;
	char *parent; /* the name that raw keeps */
	bool has_tool, has_raw;
	struct bt_vhdwriter *writer; /* NULL: written in place */
	struct bt_image_file *file;
	uint64_t size; /* the target's */
	uint8_t *bitmap; /* of the child's block */
	uint8_t *data; /* of one run in it */
	uint32_t total, done; /* blocks */
	uint32_t next; /* the first block that is not committed */
	uint64_t sectors;
	bool sparse; /* zeroes need not be written where none is needed */
};

/* ---- the target ----------------------------------------------------------- */

/* Readers of the chain are welcome, a second writer is not: neither one that
 * locks as images are locked, nor another coalesce. The flock is for coalesces
 * alone: they lock as readers do, and so would not see each other. On a descriptor
 * of its own, before the target is opened: opening for writing mends an image that
 * was not closed, and one that somebody writes to looks like that. */
static int lock_target(struct merge *m, const char *path,
		       struct blktap_error **err)
{
	int rc;

	/* for writing, without which NFS has no exclusive lock */
	m->guard = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (m->guard < 0)
		return bt_image_file_fail(path, -errno, err);
	rc = bt_image_lock(m->guard, false, path, NULL, err);
	if (rc < 0)
		return rc;
	if (flock(m->guard, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	return bt_fail(err, -EBUSY, "wait until that has ended",
		       "%s: another program coalesces into it", path);
}

/* into.img is NULL for a raw target. A fixed VHD is written in place like one,
 * at its data's offset 0. */
static int open_target(struct merge *m, const char *path, bool raw,
		       struct blktap_error **err)
{
	int rc = lock_target(m, path, err);

	if (rc < 0)
		return rc;
	if (raw) {
		rc = bt_vhdtool_open_raw(&m->into, path, &m->raw, err);
		m->has_raw = m->has_tool = !rc;
		m->file = &m->raw;
		m->size = m->raw.size;
		return rc;
	}
	rc = bt_vhdtool_open(&m->into, path, BLKTAP_OPEN_FORCE, true, err);
	if (rc < 0)
		return rc;
	m->has_tool = true;
	m->file = &m->into.img->f;
	m->size = m->into.img->size;
	return m->into.img->fixed
		       ? 0
		       : bt_vhdwriter_create(m->into.img, &m->writer, err);
}

/* What the child stands on, or the image that was named; nobody looks whether
 * that is below it. */
static int find_target(struct merge *m, struct blktap_vhd *vhd,
		       struct blktap_error **err)
{
	bool raw = bt_vhd_header_parent_is_raw(&m->child->header);
	int rc;

	if (!m->child->differencing)
		return bt_fail(err, -EINVAL, NULL, "%s: it has no parent",
			       m->child->f.path);
	if (m->options->into)
		return open_target(m, m->options->into, m->options->into_raw,
				   err);
	rc = blktap_vhd_find_parent(vhd, false, &m->parent, err);
	return rc ? rc : open_target(m, m->parent, raw, err);
}

/* A target that is larger keeps its end as it is. */
static int check_sizes(struct merge *m, struct blktap_error **err)
{
	if (m->child->size <= m->size)
		return 0;
	return bt_fail(err, -ENOSPC,
		       m->has_raw ? "grow it first: truncate -s, or a larger "
				    "device"
				  : "grow it first: vhd-util resize",
		       "%s: has %" PRIu64 " bytes, less than the %" PRIu64
		       " of its child",
		       m->file->path, m->size, m->child->size);
}

/* Blocks are copied as they are, so both must be encrypted alike. */
static int check_keys(struct merge *m, struct blktap_error **err)
{
	static const struct bt_vhd_keyhash none;
	const struct bt_vhd_keyhash *from = &m->child->keyhash;
	const struct bt_vhd_keyhash *to =
		m->into.img ? &m->into.img->keyhash : &none;

	if (!(from->cookie | to->cookie) || !memcmp(from, to, sizeof(*from)))
		return 0;
	return bt_fail(err, -EKEYREJECTED,
		       "copy the chain instead: vhd-util copy",
		       "%s and %s are not encrypted with the same key",
		       m->child->f.path, m->file->path);
}

/* ---- the state ------------------------------------------------------------ */

/* In the order of the bytes, without dashes: for comparing alone. */
static void put_uuid(char *out, const uint8_t *uuid)
{
	unsigned int i;

	for (i = 0; i < BT_VHD_UUID_SIZE; i++)
		sprintf(out + 2 * i, "%02x", uuid[i]);
}

/* Everything but the position: what has to be as it was. The child's size and
 * change time: it must not have been written to. The target's inode: that it is
 * the same file. */
static int describe(struct merge *m, char *text, size_t size)
{
	char child[2 * BT_VHD_UUID_SIZE + 1], into[sizeof(child)] = "raw";
	struct stat a, b;

	if (fstat(m->child->f.file.fd, &a) < 0 ||
	    fstat(m->file->file.fd, &b) < 0)
		return -errno;
	put_uuid(child, m->child->footer.uuid);
	if (m->into.img)
		put_uuid(into, m->into.img->footer.uuid);
	snprintf(text, size,
		 "coalesce 1\nchild %s %lld %lld.%09ld\ninto %s %llu\n", child,
		 (long long)a.st_size, (long long)a.st_ctim.tv_sec,
		 a.st_ctim.tv_nsec, into, (unsigned long long)b.st_ino);
	return 0;
}

/* Whole or not at all, and on disk. After a checkpoint, so it never says too
 * much. */
static int save_state(struct merge *m)
{
	const char *path = m->options->state;
	char text[STATE_MAX];
	size_t len;
	int rc;

	if (!path)
		return 0;
	rc = describe(m, text, sizeof(text));
	if (rc < 0)
		return rc;
	len = strlen(text);
	snprintf(text + len, sizeof(text) - len,
		 "block %" PRIu32 " %" PRIu64 "\n", m->next, m->sectors);
	return bt_path_replace(path, text, true);
}

/* Of other images, or of none, it is as if there were no state. A block number
 * that is too large only means that nothing is left to do; the copying does not
 * trust it with anything else. */
static void load_state(struct merge *m)
{
	char want[STATE_MAX], have[2 * STATE_MAX] = "";
	uint64_t sectors;
	uint32_t next;
	size_t len;
	FILE *f;

	if (!m->options->state || describe(m, want, sizeof(want)) < 0)
		return;
	f = fopen(m->options->state, "re");
	if (!f)
		return;
	have[fread(have, 1, sizeof(have) - 1, f)] = '\0';
	fclose(f);
	len = strlen(want);
	if (!strncmp(have, want, len) &&
	    sscanf(have + len, "block %" SCNu32 " %" SCNu64 "\n", &next,
		   &sectors) == 2) {
		m->next = next;
		m->sectors = sectors;
	}
}

/* ---- copying -------------------------------------------------------------- */

/* First the data is durable, then the state says so. */
static int checkpoint(struct merge *m, uint32_t next)
{
	int rc = m->writer ? bt_vhdwriter_commit(m->writer)
			   : bt_image_file_sync(m->file);

	if (rc < 0)
		return rc;
	m->next = next;
	return save_state(m);
}

/* n is a whole number of sectors. */
static bool is_zero(const uint8_t *p, size_t n)
{
	return !*p && !memcmp(p, p + 1, n - 1);
}

/* Zeroes to where nothing stands, neither here nor below. Only where the
 * target's block is not there at all, and would read as zeroes without it. */
static bool is_needless(const struct merge *m, uint32_t block, size_t bytes)
{
	return m->sparse && m->writer && !m->into.img->differencing &&
	       m->into.img->blocks.block_size == m->child->blocks.block_size &&
	       !bt_vhdwriter_has(m->writer, block) && is_zero(m->data, bytes);
}

/* At most a block of the child. The sectors are counted whether they had to be
 * written or not. */
static int copy_run(struct merge *m, uint32_t block, uint32_t entry,
		    uint32_t first, uint32_t count)
{
	const struct bt_vhd_blocks *b = &m->child->blocks;
	uint64_t at = ((uint64_t)block << b->block_shift) +
		      (uint64_t)first * BT_VHD_SECTOR;
	size_t bytes = (size_t)count * BT_VHD_SECTOR;
	int rc = bt_image_file_read(&m->child->f,
				    bt_vhd_data_offset(b, entry) +
					    (uint64_t)first * BT_VHD_SECTOR,
				    m->data, bytes);

	m->sectors += count;
	if (rc < 0 || is_needless(m, block, bytes))
		return rc;
	if (m->writer)
		return bt_vhdwriter_put(m->writer, at / BT_VHD_SECTOR, count,
					m->data);
	return bt_image_file_write(m->file, at, m->data, bytes);
}

/* The last block's bits past the end of the disk are not looked at. */
static int copy_bits(struct merge *m, uint32_t block, uint32_t entry)
{
	const struct bt_vhd_blocks *b = &m->child->blocks;
	uint32_t end = bt_vhd_block_visible_sec(b, block), at = 0, run;
	bool here;
	int rc = bt_image_file_read(&m->child->f, bt_vhd_bitmap_offset(entry),
				    m->bitmap, (size_t)bt_vhd_bitmap_bytes(b));

	while (!rc && at < end) {
		run = bt_vhdimg_bits_run(m->child, m->bitmap, at, end, &here);
		if (here)
			rc = copy_run(m, block, entry, at, run);
		at += run;
	}
	return rc;
}

/* -ECANCELED: the user ended it; what is done is committed. */
static int copy_block(void *opaque, uint32_t block, uint32_t entry)
{
	struct merge *m = opaque;
	bool did = false;
	int rc;

	m->done++;
	if (block < m->next)
		return 0;
	if (m->options->progress &&
	    m->options->progress(m->options->opaque, m->done - 1, m->total)) {
		rc = checkpoint(m, block);
		return rc < 0 ? rc : -ECANCELED;
	}
	rc = copy_bits(m, block, entry);
	if (!rc && m->writer)
		rc = bt_vhdwriter_pace(m->writer, &did);
	else if (!rc && m->done % 512 == 0)
		did = true;
	return !rc && did ? checkpoint(m, block + 1) : rc;
}

/* For progress: how many there will be. */
static int count_block(void *opaque, uint32_t block, uint32_t entry)
{
	++*(uint32_t *)opaque;
	return 0;
}

/* The state goes when all is done: the same job, begun anew, is another one. */
static int copy_all(struct merge *m, struct blktap_error **err)
{
	struct bt_vhdimg *child = m->child;
	uint64_t end;
	int rc;

	m->bitmap = malloc((size_t)bt_vhd_bitmap_bytes(&child->blocks));
	m->data = malloc(child->blocks.block_size);
	if (!m->bitmap || !m->data)
		return bt_image_file_fail(child->f.path, -ENOMEM, err);
	/* nothing is written from a table that lies */
	rc = bt_vhdimg_check_bat(child, child->data_end, true, &end, err);
	if (rc < 0)
		return rc;
	load_state(m);
	rc = bt_vhdtool_each_block(child, count_block, &m->total);
	if (!rc)
		rc = bt_vhdtool_each_block(child, copy_block, m);
	if (!rc)
		rc = checkpoint(m, UINT32_MAX);
	if (rc == -ECANCELED)
		return bt_fail(err, rc, "start it again to go on",
			       "%s: ended after block %" PRIu32 " of %" PRIu32,
			       child->f.path, m->done - 1, m->total);
	if (!rc && m->options->progress)
		m->options->progress(m->options->opaque, m->total, m->total);
	if (!rc && m->options->state)
		unlink(m->options->state);
	return rc ? bt_image_file_fail(m->file->path, rc, err) : 0;
}

/* The child is only read, and stays in the chain: taking it out is the
 * caller's. */
int blktap_vhd_coalesce(struct blktap_vhd *vhd,
			const struct blktap_vhd_coalesce_options *options,
			uint64_t *sectors, struct blktap_error **err)
{
	struct blktap_vhd_coalesce_options o = { .struct_size = sizeof(o) };
	struct merge m = { .child = vhd->img, .options = &o, .guard = -1 };
	int rc;

	if (options && options->struct_size > sizeof(o))
		return bt_fail(err, -E2BIG, "build with this library's headers",
			       "coalesce options are of a newer version");
	if (options)
		memcpy(&o, options, options->struct_size);
	m.sparse = o.flags & BLKTAP_VHD_COALESCE_SPARSE;
	rc = find_target(&m, vhd, err);
	if (!rc)
		rc = check_sizes(&m, err);
	if (!rc)
		rc = check_keys(&m, err);
	if (!rc)
		rc = copy_all(&m, err);
	*sectors = m.sectors;
	bt_vhdwriter_destroy(m.writer);
	if (m.has_raw)
		bt_image_file_close(&m.raw);
	if (m.has_tool)
		bt_vhdtool_close(&m.into);
	if (m.guard >= 0) {
		bt_image_unlock(m.guard);
		close(m.guard);
	}
	free(m.parent);
	free(m.bitmap);
	free(m.data);
	return rc;
}
