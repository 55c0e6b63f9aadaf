/* SPDX-License-Identifier: BSD-3-Clause */
/* What nodes of one context have in common, by name. It is counted, and nothing else is
 * known of it here: what lies behind its head is the class's, who makes it when refs is
 * 1 and ends it before the last put. */
#include "port/shared.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The context may have been made as zeroes. */
static struct bt_list *get_list(struct bt_env *env)
{
	if (!env->shared.next)
		bt_list_init(&env->shared);
	return &env->shared;
}

int bt_shared_get(struct bt_env *env, const struct blktap_class *cls,
		  const char *name, size_t bytes, struct bt_shared **out)
{
	struct bt_list *list = get_list(env), *pos;
	struct bt_shared *shared;

	bt_list_for_each (pos, list) {
		shared = bt_list_entry(pos, struct bt_shared, link);
		if (shared->cls != cls || strcmp(shared->name, name) != 0)
			continue;
		shared->refs++;
		*out = shared;
		return 0;
	}
	shared = calloc(1, bytes);
	if (!shared)
		return -ENOMEM;
	shared->name = strdup(name);
	if (!shared->name) {
		free(shared);
		return -ENOMEM;
	}
	shared->cls = cls;
	shared->refs = 1;
	bt_list_add_tail(list, &shared->link);
	*out = shared;
	return 0;
}

bool bt_shared_is_last(const struct bt_shared *shared)
{
	return shared->refs == 1;
}

void bt_shared_put(struct bt_shared *shared)
{
	if (--shared->refs)
		return;
	bt_list_del(&shared->link);
	free(shared->name);
	free(shared);
}
