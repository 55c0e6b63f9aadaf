/* SPDX-License-Identifier: BSD-3-Clause */
/* The file below a driver: opened, locked, and handed to the engine. Only the
 * drivers include this. What a driver keeps of a node begins with its
 * bt_image_file, so relock and get_stamp of their classes are the two below.
 *
 * The blocking calls are for opening and closing an image; they take any offset
 * and length, with O_DIRECT too. */
#ifndef BT_DRIVER_FILE_H
#define BT_DRIVER_FILE_H

#include "engine/engine.h"
#include "port/port.h"

struct bt_image_file {
	struct bt_file file;
	struct bt_node *node;
	const char *path; /* the node's argument */
	uint64_t size; /* bytes, when it was opened */
	bool read_only;
	bool is_device;
};

/* Opens path, read-only where flags (BLKTAP_OPEN_*) or read_only say so, with
 * O_DIRECT unless BLKTAP_OPEN_BUFFERED is given or the file does not take it,
 * and locks it unless BLKTAP_OPEN_FORCE is given. On failure nothing is left. */
int bt_image_file_open(struct bt_image_file *f, struct bt_node *node,
		       const char *path, uint32_t flags, bool read_only,
		       struct blktap_error **err);
/* The class's relock. */
int bt_image_file_relock(struct bt_node *node, enum bt_lock_mode mode,
			 struct blktap_error **err);
/* The class's get_stamp. */
int bt_image_file_stamp(const struct bt_node *node, struct bt_stamp *stamp);
/* Nothing is in flight. */
void bt_image_file_close(struct bt_image_file *f);

/* From O_DIRECT to the page cache, for an image whose parts are less aligned
 * than O_DIRECT asks. Harmless where it is not direct. */
int bt_image_file_drop_direct(struct bt_image_file *f,
			      struct blktap_error **err);

/* Blocking. Bytes past the end of the file read as zeroes. */
int bt_image_file_read(struct bt_image_file *f, uint64_t offset, void *buf,
		       size_t length);
int bt_image_file_write(struct bt_image_file *f, uint64_t offset,
			const void *buf, size_t length);
int bt_image_file_sync(struct bt_image_file *f);

/* The extent at `at`: its end, at most end, and whether it is a hole. A device, and
 * a file system without SEEK_DATA, are all data. */
uint64_t bt_image_file_extent(const struct bt_image_file *f, uint64_t at,
			      uint64_t end, bool *hole);

/* "path: cause", with a hint where one helps; returns rc. */
int bt_image_file_fail(const char *path, int rc, struct blktap_error **err);

#endif
