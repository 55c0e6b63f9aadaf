/* SPDX-License-Identifier: BSD-3-Clause */
/* What an image says it stands on. The name is found from the image's own
 * directory; the format is the one recorded, or where there is none the one the
 * user gives: a guest can write any format's header into a raw base, so none is
 * ever guessed. What is given is for the whole chain, so it must not outdo what an
 * image records: a snapshot puts one that does over one that does not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "driver/qcow/qcow.h"
#include "port/args.h"
#include "util/path.h"

/* QEMU's names for what has another here. */
static const char *class_of(const char *format)
{
	if (!strcmp(format, "vpc"))
		return "vhd";
	if (!strcmp(format, "file") || !strcmp(format, "host_device"))
		return "raw";
	return format;
}

/* The image's own record goes before what the user gives. */
static int find_format(const struct bt_qcow *q, const struct bt_args *args,
		       const unsigned char *head, size_t length,
		       char format[BT_QCOW_FORMAT_MAX + 1],
		       struct blktap_error **err)
{
	const char *given = bt_args_string(args, "backing_format");
	struct bt_qcow_ext_info info;
	struct bt_fault fault;
	int rc = bt_qcow_ext_read(&q->header, head, length, &info, &fault);

	if (rc < 0)
		return bt_qcow_fault(q, rc, &fault, err);
	snprintf(format, BT_QCOW_FORMAT_MAX + 1, "%s",
		 *info.backing_format || !given ? info.backing_format : given);
	return 0;
}

/* QEMU takes URLs and json: there; a file name that has such a prefix would be
 * another file to it than to us. */
static int check_name(const struct bt_qcow *q, const char *name,
		      struct blktap_error **err)
{
	unsigned int scheme = bt_path_scheme(name);

	if (!scheme || !strncmp(name, "file:", 5))
		return 0;
	return bt_fail(err, -ENOTSUP, "copy the base to a file and rebase",
		       "%s: the backing file '%s' is not a plain file name",
		       q->f.path, name);
}

/* head: the header's span of the file. q->parent becomes the spec, which is
 * opened later, by whoever opens chains. */
int bt_qcow_find_parent(struct bt_qcow *q, const struct bt_args *args,
			const unsigned char *head, size_t length,
			struct blktap_error **err)
{
	char name[BT_QCOW_NAME_MAX + 1], format[BT_QCOW_FORMAT_MAX + 1];
	char *path = NULL;
	struct bt_fault fault;
	int rc = find_format(q, args, head, length, format, err);

	if (rc < 0)
		return rc;
	rc = bt_qcow_backing_name(&q->header, head, length, name, &fault);
	if (rc < 0)
		return bt_qcow_fault(q, rc, &fault, err);
	if (!*name)
		return 0;
	rc = check_name(q, name, err);
	if (rc < 0)
		return rc;
	if (!*format)
		return bt_fail(err, -EINVAL,
			       "say it: backing_format=raw, qcow, qcow2 or vhd",
			       "%s: does not record the format of its backing "
			       "file '%s', and it is not guessed",
			       q->f.path, name);
	rc = bt_path_resolve(
		q->f.path, strncmp(name, "file:", 5) ? name : name + 5, &path);
	if (!rc && asprintf(&q->parent, "%s:%s", class_of(format), path) < 0) {
		q->parent = NULL;
		rc = -ENOMEM;
	}
	free(path);
	return rc < 0 ? bt_image_file_fail(q->f.path, rc, err) : 0;
}
