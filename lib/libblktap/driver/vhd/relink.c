/* SPDX-License-Identifier: BSD-3-Clause */
/* What a differencing disk that runs stands on, and its size, changed. Another
 * parent takes a new header behind the data (move.c). To stand alone it needs no
 * more than another type, which both footers have: the end first, as the end is
 * believed where both are whole. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "driver/vhd/tool.h"
#include "util/path.h"

/* BAT and bitmaps stay: sectors that were "the parent's" are zeroes now. On
 * failure memory says what the file last said; the end may have the new type
 * already. */
static int cut_off(struct bt_vhdimg *img, struct blktap_error **err)
{
	struct bt_vhd_footer old = img->footer;
	int rc;

	img->footer.type = BT_VHD_DYNAMIC;
	rc = bt_vhdtool_write_footers(img);
	if (rc < 0) {
		img->footer = old;
		return bt_image_file_fail(img->f.path, rc, err);
	}
	img->differencing = false;
	return 0;
}

/* path is found from the image's directory, as its locators will be. */
static int put_on(struct bt_node *node, const char *name, const char *format,
		  struct blktap_error **err)
{
	struct bt_vhdimg *img = node->data;
	struct blktap_vhd vhd = { .node = node, .img = img };
	char *path = NULL;
	int rc;

	if (strcmp(format, "vhd") != 0 && strcmp(format, "raw") != 0)
		return bt_fail(err, -ENOTSUP, "convert it",
			       "%s: a VHD stands on a raw image or on a VHD, "
			       "not on %s",
			       img->f.path, format);
	rc = bt_path_resolve(img->f.path, name, &path);
	if (rc < 0)
		return bt_image_file_fail(img->f.path, rc, err);
	rc = blktap_vhd_set_parent(&vhd, path, !strcmp(format, "raw"), err);
	free(path);
	return rc;
}

/* footer_bytes is what the next batch writes at the end, so it must be of the
 * new footer. */
int bt_vhdimg_set_parent(struct bt_node *node, const char *name,
			 const char *format, struct blktap_error **err)
{
	struct bt_vhdimg *img = node->data;
	int rc;

	if (!img->differencing)
		return bt_fail(err, -EINVAL, NULL, "%s: stands alone",
			       img->f.path);
	rc = name ? put_on(node, name, format, err) : cut_off(img, err);
	/* what is written behind new blocks from now on */
	bt_vhd_footer_encode(&img->footer, img->footer_bytes);
	return rc;
}

/* The node is closed after it: its tables may be in another place now. What the
 * parent has beyond the old end would show, as nothing of it is in the
 * child. */
int bt_vhdimg_grow_disk(struct bt_node *node, uint64_t size,
			struct blktap_error **err)
{
	struct bt_vhdimg *img = node->data;
	struct blktap_vhd vhd = { .node = node, .img = img };
	const struct bt_node *parent = node->ports[0].lower;

	if (parent && parent->limits.size > img->size)
		return bt_fail(err, -ENOTSUP, "stream it first: tap-ctl job",
			       "%s: stands on a larger image, whose data would "
			       "be seen",
			       img->f.path);
	return blktap_vhd_resize(&vhd, size, NULL, 0, err);
}
