/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that O_DIRECT can take, for callers whose own it cannot. Pages of a
 * buffer that were never touched cost nothing, so buffers are as large as one
 * pass of a large io and small ios use the first page. */
#include "engine/private.h"

#include <stdlib.h>

#define BOUNCE_ALIGN 4096

void *bt_bounce_get(struct bt_bounce_pool *pool)
{
	void *buffer;

	if (pool->free_count)
		return pool->free[--pool->free_count];
	if (pool->made == BT_BOUNCE_MAX)
		return NULL;
	buffer = aligned_alloc(BOUNCE_ALIGN, BT_BOUNCE_BYTES);
	if (buffer)
		pool->made++;
	return buffer;
}

void bt_bounce_put(struct bt_bounce_pool *pool, void *buffer)
{
	pool->free[pool->free_count++] = buffer;
}

/* No buffer is out, so none will come back. */
bool bt_bounce_is_idle(const struct bt_bounce_pool *pool)
{
	return pool->free_count == pool->made;
}

void bt_bounce_fini(struct bt_bounce_pool *pool)
{
	while (pool->free_count)
		free(pool->free[--pool->free_count]);
}
