/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory for payloads. Free buffers are chained through their first bytes, last
 * in first out, so that a lone request always gets the one the processor's cache
 * still holds. What nobody took for a second goes back to the system. */
#include "frontend/nbd.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* From here on a buffer is a mapping of its own, which the system gets back
 * whole; the heap would keep it. */
#define MAP_SHIFT 16

#define TRIM_NS 1000000000ULL

/* Aligned for O_DIRECT either way. */
static void *buffer_new(uint32_t shift)
{
	size_t size = (size_t)1 << shift;
	void *p;

	if (shift < MAP_SHIFT)
		return aligned_alloc(4096, size);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* As it was made. */
static void buffer_free(void *buffer, uint32_t shift)
{
	if (shift < MAP_SHIFT)
		free(buffer);
	else
		munmap(buffer, (size_t)1 << shift);
}

/* No buffer taken since the last look: then all that is kept goes, and the
 * timer ends until one is given back. */
static void trim(struct bt_timer *timer)
{
	struct bt_nbd_cache *cache =
		bt_container_of(timer, struct bt_nbd_cache, trim);

	if (cache->taken == cache->taken_then) {
		bt_nbd_cache_drop(cache);
#ifdef __GLIBC__
		/* a thousand clients leave holes that the heap would keep */
		malloc_trim(0);
#endif
		return;
	}
	cache->taken_then = cache->taken;
	bt_timer_arm(cache->loop, timer, bt_loop_now(cache->loop) + TRIM_NS);
}

/* Nothing is allocated before somebody needs it. */
void bt_nbd_cache_init(struct bt_nbd_cache *cache, struct bt_loop *loop)
{
	memset(cache, 0, sizeof(*cache));
	cache->loop = loop;
	bt_timer_init(&cache->trim, trim);
}

void bt_nbd_cache_fini(struct bt_nbd_cache *cache)
{
	bt_timer_cancel(&cache->trim);
	bt_nbd_cache_drop(cache);
}

/* Buffers that are in use stay: they are on no list. */
void bt_nbd_cache_drop(struct bt_nbd_cache *cache)
{
	uint32_t i;

	for (i = 0; i < BT_ARRAY_SIZE(cache->free); i++) {
		while (cache->free[i]) {
			void *buffer = cache->free[i];

			cache->free[i] = *(void **)buffer;
			buffer_free(buffer, i + BT_NBD_BUFFER_SHIFT_MIN);
		}
	}
	cache->kept = 0;
}

/* One timer for all: it looks a second after the first that gave something
 * back. */
void bt_nbd_cache_trim_soon(struct bt_nbd_cache *cache)
{
	if (cache->trim.loop)
		return;
	cache->taken_then = cache->taken;
	/* no memory for the timer is no harm: a later one will do */
	bt_timer_arm(cache->loop, &cache->trim,
		     bt_loop_now(cache->loop) + TRIM_NS);
}

uint32_t bt_nbd_buffer_shift(uint64_t length)
{
	uint32_t shift = BT_NBD_BUFFER_SHIFT_MIN;

	while (((uint64_t)1 << shift) < length)
		shift++;
	return shift;
}

void *bt_nbd_buffer_take(struct bt_nbd_cache *cache, uint32_t shift)
{
	void **slot = &cache->free[shift - BT_NBD_BUFFER_SHIFT_MIN];
	void *buffer = *slot;

	if (buffer) {
		*slot = *(void **)buffer;
		cache->kept -= (uint64_t)1 << shift;
	} else {
		buffer = buffer_new(shift);
		if (!buffer)
			return NULL;
	}
	cache->used += (uint64_t)1 << shift;
	cache->taken++;
	return buffer;
}

/* Its first bytes hold the list's next: who gives a buffer back must be done
 * with what was in it. */
void bt_nbd_buffer_give(struct bt_nbd_cache *cache, void *buffer,
			uint32_t shift)
{
	void **slot = &cache->free[shift - BT_NBD_BUFFER_SHIFT_MIN];

	*(void **)buffer = *slot;
	*slot = buffer;
	cache->kept += (uint64_t)1 << shift;
	cache->used -= (uint64_t)1 << shift;
	bt_nbd_cache_trim_soon(cache);
}
