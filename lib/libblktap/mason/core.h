/* SPDX-License-Identifier: BSD-3-Clause */
/* The arguments with an @, carried out. */
#ifndef BT_MASON_CORE_H
#define BT_MASON_CORE_H

#include "mason/mason.h"

#define BT_FINGERPRINT_MAX 24

/* Takes over what g says; allocates nothing. A node that was stopped goes on: then
 * bt_env_unpark. */
void bt_core_set(const struct bt_mason_node *g, struct bt_node *node);

/* -ESTALE and a text where the open node's data is not what g expects. */
int bt_core_expect(const struct bt_mason_node *g, const struct bt_node *node,
		   struct blktap_error **err);

/* What @expect compares with; -ENOTSUP where the node is no image of files. */
int bt_core_fingerprint(const struct bt_node *node, char *text, size_t size);

#endif
