/* SPDX-License-Identifier: BSD-3-Clause */
#include "image/image.h"

#include "core/error.h"

int bt_image_open(struct bt_env *env, const char *spec, uint32_t flags,
		  struct bt_node **out, struct blktap_error **err)
{
	const struct blktap_class *cls;
	struct bt_args *args;
	struct bt_node *node;
	int rc = bt_spec_parse(spec, &cls, &args, err);

	if (rc < 0)
		return rc;
	rc = bt_node_create(env, cls, spec, args, &node, err);
	if (rc < 0)
		return rc;
	rc = bt_node_open(node, flags, err);
	if (rc < 0) {
		bt_node_destroy(node);
		return rc;
	}
	*out = node;
	return 0;
}
