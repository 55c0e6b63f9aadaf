/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that O_DIRECT can take, for callers whose own it cannot. Pages of a
 * buffer that were never touched cost nothing, so buffers are as large as one
 * pass of a large io and small ios use the first page. */
#include "engine/private.h"

#include <sys/mman.h>

/* Last in, first out: the one that the processor's cache still has. */
void *bt_bounce_get(struct bt_bounce_pool *pool)
{
	void *buffer;

	if (pool->free_count)
		return pool->free[--pool->free_count];
	if (pool->made == BT_BOUNCE_MAX)
		return NULL;
	buffer = mmap(NULL, BT_BOUNCE_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer == MAP_FAILED)
		return NULL;
	pool->made++;
	return buffer;
}

/* Never unmapped before the end: BT_BOUNCE_MAX bounds what that costs, and free
 * has room for all of them. */
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
		munmap(pool->free[--pool->free_count], BT_BOUNCE_BYTES);
}
