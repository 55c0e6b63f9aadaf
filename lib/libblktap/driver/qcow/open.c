/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening and closing. Blocking, as the opening of files is. A read-only open
 * writes nothing.
 *
 *   open    file -> header -> alignment -> key -> Xen's checksum
 *           -> (writable) repair, end of what is used, guard -> memory -> cache
 *   close   reclaimer and commits end -> tables out -> Xen's checksum -> all freed
 *
 * Nothing is written before the header has been validated for writing. An open
 * that fails gives everything back (release), whatever of it there was. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "driver/qcow/qcow.h"
#include "port/args.h"
#include "util/bytes.h"
#include "util/checked.h"

#define SMALL_BLOCKS 16u /* of the cache: pages of L1 and counts */

int bt_qcow_fault(const struct bt_qcow *q, int rc, const struct bt_fault *fault,
		  struct blktap_error **err)
{
	return bt_fail(err, rc, fault->hint, "%s: %s is %" PRIu64 ": %s",
		       q->f.path, fault->field, fault->value, fault->reason);
}

/* qcow is version 1, qcow2 is 2 and 3: who says one does not mean the other. A
 * guest can write a header of another version into a raw image; the class that
 * was asked for is what decides. */
static int check_version(const struct bt_qcow *q, struct blktap_error **err)
{
	bool is_one = q->header.version == 1;
	bool wants_one = !strcmp(q->node->cls->name, "qcow");

	if (is_one == wants_one)
		return 0;
	return bt_fail(err, -EINVAL,
		       is_one ? "open it as qcow" : "open it as qcow2",
		       "%s: version is %" PRIu32 ", not of the type '%s'",
		       q->f.path, q->header.version, q->node->cls->name);
}

/* In two steps: the fixed part says how far names and extensions reach (a
 * cluster in versions 2 and 3), and the rest is read when that is known to be
 * sane. FOR_WRITE makes validate refuse what may only be read: snapshots, an
 * image that is marked corrupt. */
static int read_header(struct bt_qcow *q, const struct bt_args *args,
		       uint32_t flags, struct blktap_error **err)
{
	unsigned char probe[BT_QCOW_HEADER_PROBE], *head;
	unsigned int use =
		(q->f.read_only ? 0 : BT_QCOW_FOR_WRITE) |
		(bt_args_is_set(args, "key") ? BT_QCOW_WITH_KEY : 0) |
		(flags & BT_OPEN_LOOK ? BT_QCOW_FOR_INFO : 0);
	struct bt_fault fault;
	size_t length = sizeof(probe);
	int rc = bt_image_file_read(&q->f, 0, probe, sizeof(probe));

	if (rc < 0)
		return bt_image_file_fail(q->f.path, rc, err);
	if (q->f.size < length)
		length = (size_t)q->f.size;
	rc = bt_qcow_header_decode(&q->header, probe, length, &fault);
	if (!rc)
		rc = check_version(q, err);
	if (!rc)
		rc = bt_qcow_header_validate(&q->header, q->f.size, use,
					     &fault);
	if (rc < 0)
		return bt_qcow_fault(q, rc, &fault, err);
	bt_qcow_geometry_init(&q->geo, &q->header);
	if (!q->geo.size)
		return bt_fail(err, -EINVAL, "grow it: qemu-img resize",
			       "%s: has a size of 0, and a disk needs one",
			       q->f.path);
	length = (size_t)bt_qcow_header_span(&q->header);
	head = malloc(length);
	rc = head ? bt_image_file_read(&q->f, 0, head, length) : -ENOMEM;
	if (rc < 0)
		bt_image_file_fail(q->f.path, rc, err);
	else
		rc = bt_qcow_find_parent(q, args, head, length, err);
	free(head);
	return rc;
}

/* O_DIRECT where clusters, pages and the size are as aligned as it asks.
 * Everything that goes through the engine is aligned to clusters, table pages
 * or the disk's size. */
static int settle_alignment(struct bt_qcow *q, struct blktap_error **err)
{
	uint64_t align = q->f.file.offset_align;

	q->f.file.eof_ok = true; /* the last cluster may be short */
	if (bt_qcow_cluster(q) < align || q->geo.entry_align < align ||
	    q->geo.size % align || q->geo.l2_bytes < align)
		return bt_image_file_drop_direct(&q->f, err);
	return 0;
}

/* A quarter of the cache at most goes to anything but L2 pages, and no more to these
 * than there can be: a chain may have a thousand small images. */
static int make_cache(struct bt_qcow *q, uint64_t bytes)
{
	struct bt_meta_kind kinds[QCOW_KINDS] = {
		[QCOW_REFBLOCK] = { .block_size = q->ref_page,
				    .block_count = SMALL_BLOCKS },
		[QCOW_REFTABLE] = { .block_size = q->ref_page,
				    .block_count = SMALL_BLOCKS / 2 },
		[QCOW_L2] = { .block_size = q->l2_page },
		[QCOW_L1] = { .block_size = QCOW_L1_PAGE,
			      .block_count = SMALL_BLOCKS },
	};
	uint64_t page = (uint64_t)q->l2_page * 2;
	uint64_t pages = (uint64_t)q->geo.l1_entries *
			 ((q->geo.l2_bytes + q->l2_page - 1) / q->l2_page);
	uint32_t i;

	for (i = 0; i < QCOW_KINDS; i++)
		kinds[i].rank = i;
	if (!q->f.read_only && q->geo.version > 1)
		kinds[QCOW_REFBLOCK].block_count = (uint32_t)bt_max_u64(
			bytes / 8 / (q->ref_page * 2), SMALL_BLOCKS);
	kinds[QCOW_L2].block_count = (uint32_t)bt_min_u64(
		bytes * 3 / 4 / page, bt_min_u64(pages, 1u << 24));
	return bt_meta_create(q->node->env->loop, &q->f.file, kinds, QCOW_KINDS,
			      &q->meta);
}

/* What is not written does not change. Of a larger one pages go through the
 * cache, as of one that is written to. */
static int keep_l1(struct bt_qcow *q)
{
	size_t bytes = (size_t)q->geo.l1_entries * 8;

	if (bytes > QCOW_L1_SMALL)
		return 0;
	q->l1 = malloc(bytes);
	return q->l1 ? bt_image_file_read(&q->f, q->geo.l1_offset, q->l1, bytes)
		     : -ENOMEM;
}

/* All that requests need later: nothing is allocated on their way. */
static int make_memory(struct bt_qcow *q)
{
	size_t extents = QCOW_EXTENTS * sizeof(struct bt_qcow_extent);
	int rc;

	rc = bt_pool_create(QCOW_RUNS, sizeof(struct bt_qcow_pooled), 64,
			    &q->pool);
	if (!rc)
		rc = bt_qcow_unpack_init(q);
	if (!rc && q->f.read_only)
		return keep_l1(q);
	if (rc < 0)
		return rc;
	q->free.list = malloc(extents);
	q->reclaimer.dropped.list = malloc(extents);
	if (!q->free.list || !q->reclaimer.dropped.list ||
	    posix_memalign((void **)&q->bounces, 4096,
			   (size_t)QCOW_RUNS * QCOW_BOUNCE))
		return -ENOMEM;
	return 0;
}

static int write_head(struct bt_qcow *q, const void *head, size_t bytes)
{
	int rc = bt_image_file_write(&q->f, 0, head, bytes);

	return rc ? rc : bt_image_file_sync(&q->f);
}

/* After an error the file has the one or the other, and what the caller does next
 * may be right for one of them alone: so the old one is written over it. */
int bt_qcow_put_head(struct bt_qcow *q, const void *old, const void *head,
		     size_t bytes)
{
	int rc = q->header_lost ? -EIO : write_head(q, head, bytes);

	if (rc && !q->header_lost && write_head(q, old, bytes)) {
		q->header_lost = true;
		bt_log(q->node->env->log, BLKTAP_LOG_ERROR,
		       "%s: its header could not be written, nor put back: it "
		       "is not written again until the image is opened anew",
		       q->node->name);
	}
	return rc;
}

/* Rewrites the fixed header: what this code does not know stays. The fields are
 * in one sector, which is written in one piece. */
int bt_qcow_write_header(struct bt_qcow *q)
{
	unsigned char old[BT_QCOW_HEADER_PROBE], sector[BT_QCOW_HEADER_PROBE];
	int rc = bt_image_file_read(&q->f, 0, old, sizeof(old));

	if (rc)
		return rc;
	memcpy(sector, old, sizeof(old));
	rc = bt_qcow_header_encode(&q->header, sector, sizeof(sector));
	return rc < 0 ? rc : bt_qcow_put_head(q, old, sector, sizeof(sector));
}

/* What a writer owes the image before its first write: refcounts that a crash
 * left behind are set right, and features that a writer who does not know them
 * would break are marked as void. A clean file ends where its data ends, so its
 * length is the end of what is used; a device does not, so there all tables are
 * walked. Bits are cleared only behind what they asked for. */
static int prepare_to_write(struct bt_qcow *q, const struct bt_args *args,
			    struct blktap_error **err)
{
	bool dirty = q->header.incompatible & BT_QCOW_INCOMPAT_DIRTY;
	uint64_t end;
	int rc;

	rc = bt_qcow_xen_convert(q, args, err);
	if (rc < 0)
		return rc;
	end = q->f.size;
	if (dirty || q->f.is_device)
		rc = bt_qcow_scan(q, dirty, &end, err);
	if (rc < 0)
		return rc;
	if (!bt_checked_align_up(end, bt_qcow_cluster(q), &q->file_end))
		return bt_fail(err, -EFBIG, NULL, "%s: too large", q->f.path);
	if (dirty || q->header.autoclear) {
		q->header.incompatible &= ~BT_QCOW_INCOMPAT_DIRTY;
		q->header.autoclear = 0;
		rc = bt_qcow_write_header(q);
		if (rc < 0)
			return bt_image_file_fail(q->f.path, rc, err);
	}
	q->finder.end = q->geo.version > 1 ? q->file_end : 0;
	return bt_qcow_guard_load(q, err);
}

/* Also in the middle of an open: what was not made is zero, and harmless. */
static void release(struct bt_qcow *q)
{
	bt_work_cancel(&q->reclaimer.step);
	bt_work_cancel(&q->grower.work);
	bt_meta_destroy(q->meta);
	bt_qcow_guard_fini(q);
	bt_qcow_unpack_fini(q);
	bt_qcow_cipher_destroy(q->cipher);
	bt_pool_destroy(q->pool);
	free(q->free.list);
	free(q->reclaimer.dropped.list);
	free(q->bounces);
	free(q->l1);
	free(q->parent);
	bt_image_file_close(&q->f);
}

int bt_qcow_open(struct bt_node *node, const struct bt_args *args,
		 uint32_t flags, struct blktap_error **err)
{
	struct bt_qcow *q = node->data;
	int rc;

	q->node = node;
	bt_list_init(&q->short_of_runs);
	bt_list_init(&q->allocs);
	bt_list_init(&q->blocked);
	bt_list_init(&q->maker.waiting);
	bt_list_init(&q->allocator.wishes);
	bt_qcow_reclaim_init(q);
	bt_qcow_grow_init(q);
	q->discard = !strcmp(bt_args_string(args, "discard"), "unmap");
	rc = bt_image_file_open(&q->f, node, bt_args_string(args, "path"),
				flags, bt_args_bool(args, "ro"), err);
	if (rc < 0)
		return rc;
	rc = read_header(q, args, flags, err);
	if (!rc)
		rc = settle_alignment(q, err);
	q->l2_page = (uint32_t)bt_min_u64(4096, q->geo.l2_bytes);
	q->ref_page = (uint32_t)bt_min_u64(4096, bt_qcow_cluster(q));
	q->native_l1 = !rc && bt_qcow_l1_is_native(&q->header);
	if (!rc)
		rc = bt_qcow_crypt_open(q, args, flags, err);
	if (!rc)
		rc = bt_qcow_xen_check(q, err);
	if (!rc && !q->f.read_only)
		rc = prepare_to_write(q, args, err);
	if (!rc) {
		rc = make_memory(q);
		if (!rc)
			rc = make_cache(q, bt_args_number(args, "cache"));
		if (rc < 0)
			bt_image_file_fail(q->f.path, rc, err);
	}
	if (rc < 0)
		release(q);
	return rc;
}

/* A commit may still run that nobody waits for, and clusters may still be given
 * back. */
static bool is_idle(void *opaque)
{
	struct bt_qcow *q = opaque;

	return !q->reclaimer.busy && bt_meta_is_idle(q->meta);
}

/* Where the last flush failed, clusters may still be given back. */
void bt_qcow_close(struct bt_node *node)
{
	struct bt_qcow *q = node->data;
	int rc = 0;

	if (!is_idle(q))
		bt_loop_run_until(node->env->loop, is_idle, q, -1);
	if (!q->f.read_only)
		rc = bt_meta_write_out(q->meta);
	if (!rc && !q->f.read_only)
		rc = bt_qcow_xen_close(q);
	if (rc < 0)
		bt_log(node->env->log, BLKTAP_LOG_ERROR,
		       "%s: what was changed since the last flush is lost",
		       node->name);
	release(q);
}
