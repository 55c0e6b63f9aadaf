/* SPDX-License-Identifier: BSD-3-Clause */
/* From a spec to an open node: the table of drivers, the two ways to write a
 * spec, and the opening of what it names. */
#ifndef BT_IMAGE_IMAGE_H
#define BT_IMAGE_IMAGE_H

#include "port/port.h"

/* Reads `type:path` or `class(arg, name=value)`. *args is the caller's. -EINVAL
 * for what is neither, -ENOENT for an unknown class, -ENOSYS for a type that is
 * reserved but not built. */
int bt_spec_parse(const char *spec, const struct blktap_class **cls,
		  struct bt_args **args, struct blktap_error **err);

/* The same where the class is known: what stands before the first ':' or '(' is
 * its name. */
int bt_spec_parse_as(const struct blktap_class *cls, const char *spec,
		     struct bt_args **args, struct blktap_error **err);

/* -ENOENT, or -ENOSYS for a name that others use: says which types there are, or
 * which was meant. */
int bt_image_unknown_type(const char *name, struct blktap_error **err);

struct blktap_image_options;

/* Opens the image that spec names, with all it stands on: parents are opened
 * read-only, in the format that the child recorded; none is ever guessed. flags
 * are BLKTAP_OPEN_*. -ELOOP where an image stands on itself. Opening blocks,
 * and fails whole: nothing stays open. */
int bt_image_open(struct bt_env *env, const char *spec, uint32_t flags,
		  struct bt_node **out, struct blktap_error **err);

/* The same; format is that of what stands below images that record none. */
int bt_image_open_base(struct bt_env *env, const char *spec, uint32_t flags,
		       const char *format, struct bt_node **out,
		       struct blktap_error **err);
/* Opens what spec names and nothing below it; its edges lead nowhere yet. */
int bt_image_open_one(struct bt_env *env, const char *spec, uint32_t flags,
		      struct bt_node **out, struct blktap_error **err);

/* The same, for an image that child stands on, or is to: what was given for the
 * child and holds for both, its key, holds here. */
int bt_image_open_like(struct bt_env *env, const char *spec, uint32_t flags,
		       const struct bt_node *child, struct bt_node **out,
		       struct blktap_error **err);

/* How the open image node is opened by itself: with the arguments that it has from
 * what stood on it. A new string; NULL where memory lacks. */
char *bt_image_spec_of(const struct bt_node *node);

/* blktap_image_create for an image in whose chain there are some that do not record
 * the format of what they stand on; below is that, or NULL. */
int bt_image_create_over(const char *format, const char *path,
			 const struct blktap_image_options *options,
			 const char *below, struct blktap_error **err);

/* A spec that names a file with a chain in it, see xchain.c. */
bool bt_xchain_is(const char *spec);
/* Opens all that stands in the file; as bt_image_open. */
int bt_xchain_open(struct bt_env *env, const char *spec, uint32_t flags,
		   struct bt_node **out, struct blktap_error **err);

/* Opens a node of a driver that is made and linked. Where nothing is linked to
 * its first port and its image says that it stands on something, that is opened
 * and linked, as above. */
int bt_image_open_node(struct bt_node *node, uint32_t flags,
		       struct blktap_error **err);

/* Makes the image that spec names at least so long. exact: -EINVAL where it is
 * longer. Nobody has it open. Blocks. */
int bt_image_grow(const char *spec, uint64_t length, bool exact,
		  struct blktap_error **err);

/* The files of a snapshot, see snapshot.c. */
struct bt_snapshot {
	char *path; /* the live image's file: now an empty child */
	char *name; /* where what was in it is found from now on */
};

/* Makes them. name is the snapshot's, found from the image's directory; NULL:
 * FILE.snapN. length: of the disk. On failure nothing has changed. Blocks. */
int bt_snapshot_make(const char *spec, const char *name, uint64_t length,
		     struct bt_snapshot *s, struct blktap_error **err);
/* Puts things back as they were; nothing was written to the child. Where that fails,
 * *err, which says why there is something to undo, tells of it. */
void bt_snapshot_undo(const struct bt_snapshot *s, struct blktap_error **err);
void bt_snapshot_fini(struct bt_snapshot *s);

#endif
