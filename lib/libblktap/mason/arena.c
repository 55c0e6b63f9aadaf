/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory of a check: handed out in pieces, bounded, freed all at once. */
#include <stdlib.h>
#include <string.h>

#include "mason/private.h"
#include "util/checked.h"

#define BLOCK_BYTES ((size_t)32 << 10)
#define ALIGNMENT ((size_t)16)

struct bt_block {
	struct bt_block *next;
	size_t cap;
	_Alignas(16) unsigned char data[];
};

/* A new block in front; what is left of the one before is lost. */
static bool add_block(struct blktap_mason *m, size_t bytes)
{
	size_t cap = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
	struct bt_block *block;

	if (cap > BT_MASON_MAX_ARENA - m->total)
		return false;
	block = calloc(1, sizeof(*block) + cap);
	if (!block)
		return false;
	block->cap = cap;
	block->next = m->blocks;
	m->blocks = block;
	m->block_used = 0;
	m->total += cap;
	return true;
}

/* Sizes are bounded before they are rounded up, so nothing runs over. Memory is
 * zeroed once by calloc and never given back, so it is zero here. */
void *bt_mason_alloc(struct blktap_mason *m, size_t bytes)
{
	void *out;

	if (m->failed || bytes > BT_MASON_MAX_ARENA)
		goto fail;
	bytes = (bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	if (!m->blocks || bytes > m->blocks->cap - m->block_used)
		if (!add_block(m, bytes))
			goto fail;
	out = m->blocks->data + m->block_used;
	m->block_used += bytes;
	return out;
fail:
	m->failed = true;
	return NULL;
}

char *bt_mason_strndup(struct blktap_mason *m, const char *text, size_t len)
{
	char *out = bt_mason_alloc(m, len + 1);

	if (out && len)
		memcpy(out, text, len);
	return out;
}

/* A message that is too long for the arena ends the check as any other
 * allocation does. */
char *bt_mason_printf(struct blktap_mason *m, const char *fmt, ...)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	char *out = NULL;
	va_list ap;

	va_start(ap, fmt);
	bt_strbuf_vprintf(&sb, fmt, ap);
	va_end(ap);
	if (sb.failed)
		m->failed = true;
	else
		out = bt_mason_strndup(m, bt_strbuf_str(&sb), sb.len);
	bt_strbuf_fini(&sb);
	return out;
}

/* The old array stays in the arena, unused: at twice the size each time, that
 * is no more than the new one takes. */
void *bt_mason_grow(struct blktap_mason *m, void *old, uint32_t count,
		    uint32_t *cap, size_t each)
{
	uint32_t more = *cap ? *cap * 2 : 16;
	void *out;

	if (count < *cap)
		return old;
	out = bt_mason_alloc(m, more * each);
	if (!out)
		return NULL;
	if (count)
		memcpy(out, old, count * each);
	*cap = more;
	return out;
}

void bt_mason_free_all(struct blktap_mason *m)
{
	while (m->blocks) {
		struct bt_block *next = m->blocks->next;

		free(m->blocks);
		m->blocks = next;
	}
}
