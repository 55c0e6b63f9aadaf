/* SPDX-License-Identifier: BSD-3-Clause */
/* What disks stand on: the nodes of their graphs and the images below those, and
 * memory. */
#include "vbd/private.h"

#include <stdlib.h>
#include <string.h>

static bool is_at(const struct bt_node *node, const char *path)
{
	char *real = realpath(bt_node_path(node), NULL);
	bool same = real && !strcmp(real, path);

	free(real);
	return same;
}

/* A node and its own images: what the graph has below it is not looked at. */
static bool chain_stands_on(const struct bt_node *node, const char *path,
			    bool *writes)
{
	bool found = false;

	while (node) {
		if (is_at(node, path)) {
			found = true;
			*writes |= !node->limits.read_only;
		}
		node = node->port_count ? node->ports[0].lower : NULL;
		if (node && node->in_graph)
			break;
	}
	return found;
}

bool blktap_disk_stands_on(const struct blktap_disk *disk, const char *path,
			   bool *writes)
{
	const struct bt_run *run = disk->front.run;
	char *real = realpath(path, NULL);
	bool found = false;
	uint32_t i;

	*writes = false;
	if (!real)
		return false;
	if (!run)
		found = chain_stands_on(disk->root, real, writes);
	for (i = 0; run && i < run->file->graph->count; i++)
		if (run->nodes[i])
			found |= chain_stands_on(run->nodes[i], real, writes);
	free(real);
	return found;
}

const char *bt_vbd_get_volatile(const struct blktap_disk *disk)
{
	const struct bt_node *node = NULL;

	if (disk->root)
		node = bt_node_find_volatile(disk->root, disk->top.entry);
	return node ? node->name : NULL;
}
