/* SPDX-License-Identifier: BSD-3-Clause */
/* The bitmaps of a disk: those of the nodes from its top down, as long as each
 * shows the very bytes of the one below. Below a node that moves bytes (a slice, a
 * stripe, an image) offsets are not the disk's any more. */
#include "vbd/private.h"

#include <string.h>

static const struct bt_node *below(const struct bt_node *node, uint32_t entry)
{
	if (entry || !(node->cls->flags & BT_CLASS_SAME_BYTES) ||
	    !node->port_count || node->ports[0].entry)
		return NULL;
	return node->ports[0].lower;
}

/* The node that has the index-th bitmap, and in *index which of its own. */
static const struct bt_node *find(const struct blktap_disk *disk,
				  uint32_t *index)
{
	const struct bt_node *node = disk->top.lower;
	uint32_t entry = disk->top.entry;

	for (; node; node = below(node, entry), entry = 0) {
		uint32_t own = 0;

		if (!node->cls->get_bitmap)
			continue;
		while (node->cls->get_bitmap(node, own))
			if (own++ == *index) {
				*index = own - 1;
				return node;
			}
		*index -= own;
	}
	return NULL;
}

const char *bt_vbd_get_bitmap(const struct blktap_disk *disk, uint32_t index)
{
	const struct bt_node *node = find(disk, &index);

	return node ? node->cls->get_bitmap(node, index) : NULL;
}

uint64_t bt_vbd_get_dirty(const struct blktap_disk *disk, const char *name,
			  uint64_t offset, uint64_t length, bool *dirty)
{
	const char *other;
	uint32_t i;

	*dirty = true;
	for (i = 0; (other = bt_vbd_get_bitmap(disk, i)); i++) {
		uint32_t own = i;
		const struct bt_node *node = find(disk, &own);

		if (!strcmp(other, name))
			return node->cls->get_dirty(node, own, offset, length,
						    dirty);
	}
	return length;
}
