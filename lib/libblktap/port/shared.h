/* SPDX-License-Identifier: BSD-3-Clause */
/* What nodes of one context have in common, by name: the first that asks makes it,
 * the last that leaves frees it. */
#ifndef BT_PORT_SHARED_H
#define BT_PORT_SHARED_H

#include "port/port.h"

/* First in what is shared. */
struct bt_shared {
	struct bt_list link;
	const struct blktap_class *cls;
	char *name;
	uint32_t refs;
};

/* Nodes of cls that give the same name get the same; bytes of it, zeroed but for
 * its head, where it is new (refs is 1). 0 or -ENOMEM. */
int bt_shared_get(struct bt_env *env, const struct blktap_class *cls,
		  const char *name, size_t bytes, struct bt_shared **out);
/* The next put frees it. */
bool bt_shared_is_last(const struct bt_shared *shared);
void bt_shared_put(struct bt_shared *shared);

#endif
