/* SPDX-License-Identifier: BSD-3-Clause */
/* A stack of indices: the buffer given back last is taken next, while it is in the
 * processor's cache, and those that a quiet disk never needs are never touched. */
#include "module/buffers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int bt_buffers_init(struct bt_buffers *b, uint32_t count, uint32_t size)
{
	void *memory;

	memset(b, 0, sizeof(*b));
	if (posix_memalign(&memory, 4096, (size_t)count * size))
		return -ENOMEM;
	b->memory = memory;
	b->free = calloc(count, sizeof(*b->free));
	if (!b->free) {
		bt_buffers_fini(b);
		return -ENOMEM;
	}
	b->size = size;
	b->count = count;
	/* low ones first, so that what is never needed is never touched */
	while (b->left < count) {
		b->free[b->left] = count - 1 - b->left;
		b->left++;
	}
	return 0;
}

void bt_buffers_fini(struct bt_buffers *b)
{
	free(b->memory);
	free(b->free);
	memset(b, 0, sizeof(*b));
}

/* No list of who waits: each module has its own order, and serves it when it
 * gives a buffer back. */
void *bt_buffers_take(struct bt_buffers *b)
{
	if (!b->left)
		return NULL;
	return b->memory + (size_t)b->free[--b->left] * b->size;
}

/* buffer is one of ours, which is not checked; its index follows from where it
 * lies. */
void bt_buffers_give(struct bt_buffers *b, void *buffer)
{
	size_t at = (size_t)((char *)buffer - b->memory);

	b->free[b->left++] = (uint32_t)(at / b->size);
}
