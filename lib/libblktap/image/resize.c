/* SPDX-License-Identifier: BSD-3-Clause */
/* Larger images. By a spec and with an engine of its own, as a resize is for images
 * at rest: a running disk is paused for it, and so has let its image go. How the
 * class makes room, and what a cut leaves, is told where it does it. */
#include <blktap/image.h>
#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "engine/engine.h"
#include "image/image.h"

#define SECTOR 512u

/* length is whole sectors, as every disk has. */
static int grow(struct bt_node *node, uint64_t length, bool exact,
		struct blktap_error **err)
{
	uint64_t size = node->limits.size;

	if (length % SECTOR || length > INT64_MAX)
		return bt_fail(err, -EINVAL, "give whole sectors, e.g. 10G",
			       "%s: a disk cannot have %" PRIu64 " bytes",
			       node->name, length);
	if (length < size && exact)
		return bt_fail(err, -EINVAL, "copy it to a smaller one",
			       "%s: has %" PRIu64
			       " bytes, and is not made smaller",
			       node->name, size);
	if (length <= size)
		return 0;
	if (!node->cls->grow)
		return bt_fail(err, -ENOTSUP, NULL,
			       "a disk of type '%s' has one size",
			       node->cls->name);
	return node->cls->grow(node, length, err);
}

/* Opens the image by itself, with its lock, so it fails where somebody has it
 * open. The node is closed whatever came of it: its class may have moved tables
 * (cls->grow). */
int bt_image_grow(const char *spec, uint64_t length, bool exact,
		  struct blktap_error **err)
{
	struct bt_env env = { .log = NULL };
	struct bt_node *node = NULL;
	char text[BT_STRERROR_MAX];
	int rc = bt_loop_create(BT_CLOCK_MONOTONIC, NULL, &env.loop);

	if (!rc)
		rc = bt_engine_create(env.loop, NULL, BLKTAP_ENGINE_SYNC, 0,
				      &env.engine, err);
	if (!rc)
		rc = bt_image_open(&env, spec, 0, &node, err);
	if (!rc)
		rc = grow(node, length, exact, err);
	bt_node_destroy(node);
	bt_engine_destroy(env.engine);
	bt_loop_destroy(env.loop);
	return rc < 0 ? bt_fail(err, rc, NULL, "%s: cannot be resized: %s",
				spec, bt_strerror(rc, text))
		      : 0;
}

int blktap_image_resize(const char *spec, uint64_t length,
			struct blktap_error **err)
{
	return bt_image_grow(spec, length, true, err);
}
