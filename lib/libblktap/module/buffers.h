/* SPDX-License-Identifier: BSD-3-Clause */
/* Buffers of one size for a module's data path: made when it opens, aligned for
 * O_DIRECT, never allocated later. Who finds none waits on a list of his own. */
#ifndef BT_MODULE_BUFFERS_H
#define BT_MODULE_BUFFERS_H

#include <stdint.h>

struct bt_buffers {
	char *memory;
	uint32_t size; /* of one */
	uint32_t count;
	uint32_t left;
	uint32_t *free; /* the indices of those left */
};

/* size is a multiple of 4096. -ENOMEM, and then nothing is held. */
int bt_buffers_init(struct bt_buffers *b, uint32_t count, uint32_t size);
/* Harmless where b is zeroed. */
void bt_buffers_fini(struct bt_buffers *b);
/* NULL where none is left. */
void *bt_buffers_take(struct bt_buffers *b);
/* One that was taken from b, once. */
void bt_buffers_give(struct bt_buffers *b, void *buffer);

/* What such buffers take, for get_memory. */
static inline uint64_t bt_buffers_memory(uint32_t count, uint32_t size)
{
	return (uint64_t)count * (size + sizeof(uint32_t));
}

#endif
