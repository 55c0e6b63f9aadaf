/* SPDX-License-Identifier: BSD-3-Clause */
/* New images: the codec says what their bytes are.
 *
 * The layout is planned in memory, then written in pieces to a file of another
 * name (image/create.c), so no order and no sync matters here. */
#include <blktap/image.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "driver/create.h"
#include "driver/qcow/qcow.h"
#include "libqcow/create.h"
#include "port/args.h"
#include "util/checked.h"

#define PIECE 65536u
#define SECTOR 512u

/* Other words are an error: "no" or "0" taken for true would be found out when
 * the image is full of data. */
static int parse_bool(const char *text, bool *out)
{
	*out = !strcmp(text, "true") || !strcmp(text, "on");
	return *out || !strcmp(text, "false") || !strcmp(text, "off") ? 0
								      : -EINVAL;
}

/* -ENOENT for a name, -EINVAL for a value that is not known; the caller says
 * which there are. */
static int set_extra(struct bt_qcow_create *c,
		     const struct bt_create_extra *extra)
{
	const char *name = extra->name, *value = extra->value;
	uint64_t number;

	if (c->version == 1)
		return strcmp(name, "xen") ? -ENOENT
					   : parse_bool(value, &c->xen);
	if (!strcmp(name, "version")) {
		c->version = strcmp(value, "2") ? 3 : 2;
		return !strcmp(value, "2") || !strcmp(value, "3") ? 0 : -EINVAL;
	}
	if (!strcmp(name, "lazy_refcounts"))
		return parse_bool(value, &c->lazy_refcounts);
	if (!strcmp(name, "refcount_bits")) {
		if (bt_parse_size(value, &number) || !bt_is_pow2(number) ||
		    number > 64)
			return -EINVAL;
		c->refcount_bits = (uint32_t)number;
		return 0;
	}
	if (!strcmp(name, "compression")) {
		c->compression =
			strcmp(value, "zstd") ? BT_QCOW_ZLIB : BT_QCOW_ZSTD;
		return !strcmp(value, "zlib") || !strcmp(value, "zstd")
			       ? 0
			       : -EINVAL;
	}
	return -ENOENT;
}

/* The first that is wrong ends it, with all that there are: who misspells one
 * has to look for it only once. */
static int set_extras(struct bt_qcow_create *c, const struct bt_create *create,
		      struct blktap_error **err)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < create->extra_count && !rc; i++) {
		rc = set_extra(c, &create->extra[i]);
		if (rc < 0)
			bt_fail(err, -EINVAL,
				c->version == 1 ? "there is: xen=true"
						: "there are: version=2|3, "
						  "lazy_refcounts=true|false, "
						  "refcount_bits=1..64, "
						  "compression=zlib|zstd",
				"%s: option %s=%s is not known", create->path,
				create->extra[i].name, create->extra[i].value);
	}
	return rc < 0 ? -EINVAL : 0;
}

/* A reserved image has all its tables to write, any other a few clusters.
 * Progress counts bytes twice: space set aside, and tables written. */
static int write_layout(const struct bt_qcow_layout *layout,
			const struct bt_create *create)
{
	bool reserve = create->flags & BLKTAP_CREATE_RESERVE;
	uint64_t at = 0, bytes, end = layout->file_bytes;
	char *buffer = malloc(PIECE);
	int rc = buffer ? 0 : -ENOMEM;

	if (!rc && reserve)
		rc = bt_create_reserve(create, end, 2 * end);
	else if (!rc && ftruncate(create->fd, (off_t)end) < 0)
		rc = -errno;
	while (!rc) {
		at = bt_qcow_layout_next(layout, at, &bytes);
		if (!bytes)
			break;
		bytes = bt_min_u64(bytes, PIECE);
		bt_qcow_layout_fill(layout, at, buffer, (size_t)bytes);
		rc = bt_create_write(create, at, buffer, (size_t)bytes);
		at += bytes;
		if (!rc && reserve)
			rc = bt_create_progress(create, end + at, 2 * end);
	}
	if (!rc && reserve)
		rc = bt_create_progress(create, 2 * end, 2 * end);
	free(buffer);
	return rc;
}

/* What QEMU calls the class; it reads the names we record. */
static const char *recorded_format(const char *name)
{
	return name && !strcmp(name, "vhd") ? "vpc" : name;
}

/* What the request cannot be is refused here in its own words; all else is the
 * codec's to judge, which plans before anything is written. */
static int create_image(const struct bt_create *create, uint32_t version,
			struct blktap_error **err)
{
	struct bt_qcow_create c = {
		.version = version,
		.size = create->size,
		.backing = create->backing,
		.reserve = create->flags & BLKTAP_CREATE_RESERVE,
	};
	struct bt_qcow_layout *layout;
	struct bt_fault fault;
	int rc = set_extras(&c, create, err);

	if (rc < 0)
		return rc;
	/* other readers leave out what is no whole sector */
	if (!bt_checked_align_up(c.size, SECTOR, &c.size))
		return bt_image_file_fail(create->path, -EFBIG, err);
	if (create->cluster_size && !bt_is_pow2(create->cluster_size))
		return bt_fail(err, -EINVAL, "use a power of two, e.g. 64K",
			       "%s: cluster size %llu is no power of two",
			       create->path,
			       (unsigned long long)create->cluster_size);
	if (create->cluster_size)
		c.cluster_bits =
			(uint32_t)__builtin_ctzll(create->cluster_size);
	c.backing_format = recorded_format(create->backing_format);
	layout = malloc(sizeof(*layout));
	if (!layout)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	rc = bt_qcow_layout_plan(&c, layout, &fault);
	if (rc < 0) {
		bt_fail(err, rc, fault.hint, "%s: %s %llu: %s", create->path,
			fault.field, (unsigned long long)fault.value,
			fault.reason);
	} else {
		rc = write_layout(layout, create);
		if (rc < 0)
			bt_image_file_fail(create->path, rc, err);
	}
	free(layout);
	return rc;
}

int bt_qcow_create_v1(const struct bt_create *create, struct blktap_error **err)
{
	return create_image(create, 1, err);
}

/* 3 unless version=2 is asked for: it can say that a cluster is zeroes, which
 * over a backing file takes no space. */
int bt_qcow_create_v2(const struct bt_create *create, struct blktap_error **err)
{
	return create_image(create, 3, err);
}
