/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the parent of a differencing disk is.
 *
 * The child names it by locators, in the order of bt_vhd_locator_order: relative
 * ones, which start in the child's own directory, come first. A VHD parent has to
 * be the one that the child was made over, by its uuid; of a raw parent nothing is
 * recorded. Whether it is raw or a VHD the child says; it is never guessed. */
#include "driver/vhd/vhd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "libvhd/geometry.h"
#include "libvhd/locator.h"
#include "util/path.h"
#include "util/strbuf.h"

#define UUID_TEXT 37u /* 32 digits, 4 dashes, the end */

/* The length was bounded when it was checked, so what is allocated is small. */
char *bt_vhdimg_read_locator(struct bt_vhdimg *img, unsigned int index)
{
	const struct bt_vhd_locator *loc = &img->header.locator[index];
	char *path = malloc(BT_VHD_PATH_MAX);
	void *text = NULL;
	int rc = path ? bt_vhd_locator_check(&img->header, index, img->f.size,
					     NULL)
		      : -ENOMEM;

	if (!rc)
		text = malloc((size_t)loc->data_len + 1);
	if (!rc && !text)
		rc = -ENOMEM;
	if (!rc)
		rc = bt_image_file_read(&img->f, loc->data_offset, text,
					loc->data_len);
	if (!rc)
		rc = bt_vhd_locator_decode(loc->code, text, loc->data_len, path,
					   BT_VHD_PATH_MAX, NULL);
	free(text);
	if (!rc)
		return path;
	free(path);
	return NULL;
}

/* What the text means here. Of a Windows path only the name helps. Windows
 * paths have '/' here, the locator's decoding saw to that. */
static char *locate(const char *child, const char *text)
{
	const char *name = text, *slash;
	char *path;

	if (bt_vhd_path_kind(text) == BT_VHD_PATH_WINDOWS) {
		slash = strrchr(text, '/');
		name = slash ? slash + 1 : text;
	}
	return bt_path_resolve(child, name, &path) < 0 ? NULL : path;
}

/* As others print it: five groups in the order of the bytes. */
static void uuid_text(const uint8_t uuid[BT_VHD_UUID_SIZE], char out[UUID_TEXT])
{
	unsigned int i;

	for (i = 0; i < BT_VHD_UUID_SIZE; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		sprintf(out, "%02x", uuid[i]);
		out += 2;
	}
}

/* Not locked and not through a node: a look at a file that may be in use.
 * O_NONBLOCK, as the name may be that of a FIFO. */
int bt_vhdimg_read_footer(const char *path, struct bt_vhd_footer *footer,
			  struct bt_fault *fault)
{
	uint8_t head[BT_VHD_PICK_HEAD], tail[BT_VHD_PICK_TAIL];
	struct bt_vhd_footer_choice choice;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t got_head = 0, got_tail = 0;
	off_t size;

	if (fd < 0)
		return -errno;
	size = lseek(fd, 0, SEEK_END);
	if (size > 0) {
		off_t from = size > (off_t)sizeof(tail)
				     ? size - (off_t)sizeof(tail)
				     : 0;

		got_head = pread(fd, head, sizeof(head), 0);
		got_tail = pread(fd, tail, sizeof(tail), from);
	}
	close(fd);
	if (size < 0 || got_head < 0 || got_tail < 0)
		return -EIO;
	return bt_vhd_footer_pick(head, (size_t)got_head, tail,
				  (size_t)got_tail, (uint64_t)size, footer,
				  &choice, fault);
}

/* 0 where the file at path is the parent; else tells why not. A raw parent has
 * no footer to look at. any_uuid is a tool's, which only wants the name. */
static int check_parent(struct bt_vhdimg *img, const char *path,
			struct blktap_error **err)
{
	char want[UUID_TEXT], have[UUID_TEXT], text[BT_STRERROR_MAX];
	struct bt_vhd_footer footer;
	struct bt_fault fault = { 0 };
	int rc;

	if (bt_vhd_header_parent_is_raw(&img->header))
		return 0;
	rc = bt_vhdimg_read_footer(path, &footer, &fault);
	if (rc < 0)
		return bt_fail(
			err, rc, "set the right parent: vhd-util modify -p",
			"%s: its parent %s: %s", img->f.path, path,
			fault.reason ? fault.reason : bt_strerror(rc, text));
	if (img->any_uuid ||
	    !bt_vhd_header_check_parent(&img->header, &footer, NULL))
		return 0;
	uuid_text(img->header.parent_uuid, want);
	uuid_text(footer.uuid, have);
	return bt_fail(err, -EINVAL,
		       "restore the right file, or set the right parent: "
		       "vhd-util modify -p",
		       "%s: its parent %s has the uuid %s, but it was made "
		       "over %s",
		       img->f.path, path, have, want);
}

/* The type is what the child says. */
static int found(struct bt_vhdimg *img, const char *path, char **spec,
		 struct blktap_error **err)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;

	bt_strbuf_printf(&sb, "%s:%s",
			 bt_vhd_header_parent_is_raw(&img->header) ? "raw"
								   : "vhd",
			 path);
	*spec = bt_strbuf_steal(&sb);
	return *spec ? 0
		     : bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
			       img->f.path);
}

/* All places that were looked at, in the order in which they were. */
static int not_found(struct bt_vhdimg *img, const char *tried,
		     struct blktap_error **err)
{
	return bt_fail(err, -ENOENT, "set the right parent: vhd-util modify -p",
		       *tried ? "%s: its parent is missing: looked for %s"
			      : "%s: no locator of its parent can be read%s",
		       img->f.path, tried);
}

/* Tries one place; -ENOENT where there is no file. Only that a file is there
 * and of the right uuid; it is opened later, by the chain. */
static int try_place(struct bt_vhdimg *img, const char *path,
		     struct bt_strbuf *tried, char **spec,
		     struct blktap_error **err)
{
	struct stat st;
	int rc;

	if (stat(path, &st) < 0) {
		bt_strbuf_printf(tried, "%s%s", tried->len ? ", " : "", path);
		return -ENOENT;
	}
	rc = check_parent(img, path, err);
	return rc < 0 ? rc : found(img, path, spec, err);
}

/* The first locator that leads to the right file wins. Where none does, what
 * was wrong with the first file that was there is told, else all places. */
int bt_vhdimg_get_parent(struct bt_node *node, char **spec,
			 struct blktap_error **err)
{
	struct bt_vhdimg *img = node->data;
	uint8_t order[BT_VHD_LOCATORS];
	struct bt_strbuf tried = BT_STRBUF_INIT;
	struct blktap_error *first = NULL;
	char *child;
	unsigned int i, n;
	int rc = -ENOENT;

	*spec = NULL;
	if (!img->differencing)
		return 0;
	child = bt_path_absolute(img->f.path);
	n = child ? bt_vhd_locator_order(&img->header, order) : 0;
	for (i = 0; i < n && !*spec; i++) {
		char *text = bt_vhdimg_read_locator(img, order[i]);
		char *path = text ? locate(child, text) : NULL;

		if (path && !first)
			rc = try_place(img, path, &tried, spec, &first);
		else if (path)
			try_place(img, path, &tried, spec, NULL);
		free(path);
		free(text);
	}
	free(child);
	if (*spec)
		rc = 0;
	else if (first)
		rc = bt_fail(err, rc, blktap_error_get_hint(first), "%s",
			     blktap_error_get_message(first));
	else
		rc = not_found(img, bt_strbuf_str(&tried), err);
	blktap_error_destroy(first);
	bt_strbuf_fini(&tried);
	return rc;
}

static int raw_size(const char *path, uint64_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	int rc = end < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	*size = (uint64_t)end;
	return rc;
}

/* Of the parent that its locators lead to, by its footer or its file's length. */
int bt_vhdimg_parent_size(struct bt_node *node, uint64_t *size)
{
	struct bt_vhdimg *img = node->data;
	struct bt_vhd_footer footer;
	char *spec = NULL, *path;
	int rc = bt_vhdimg_get_parent(node, &spec, NULL);

	if (rc < 0)
		return rc;
	if (!spec)
		return -ENOENT;
	path = strchr(spec, ':') + 1;
	if (bt_vhd_header_parent_is_raw(&img->header)) {
		rc = raw_size(path, size);
	} else {
		rc = bt_vhdimg_read_footer(path, &footer, NULL);
		if (!rc)
			*size = bt_vhd_virtual_size(&footer, NULL);
	}
	free(spec);
	return rc;
}
