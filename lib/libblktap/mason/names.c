/* SPDX-License-Identifier: BSD-3-Clause */
/* Names by their full text: a hash table with open addressing, at most half
 * full. */
#include <string.h>

#include "mason/private.h"
#include "util/suggest.h"

/* The kind is part of it: a node and a let may have one name. FNV-1a, 32 bit. */
static uint32_t hash(enum bt_name_kind kind, const char *text)
{
	uint32_t h = 2166136261u + (uint32_t)kind;

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 16777619u;
	return h;
}

/* The slot that holds the name, or the free one where it would go. There is
 * always a free slot, as the table is at most half full. */
static struct bt_name **probe(const struct bt_names *names,
			      enum bt_name_kind kind, const char *text,
			      uint32_t h)
{
	uint32_t i = h & (names->cap - 1);

	for (;; i = (i + 1) & (names->cap - 1)) {
		struct bt_name *at = names->slots[i];

		if (!at || (at->hash == h && at->kind == kind &&
			    !strcmp(at->text, text)))
			return &names->slots[i];
	}
}

struct bt_name *bt_names_find(const struct bt_names *names,
			      enum bt_name_kind kind, const char *text)
{
	return names->cap ? *probe(names, kind, text, hash(kind, text)) : NULL;
}

/* The old table stays in the arena. */
static bool rehash(struct blktap_mason *m, struct bt_names *names)
{
	struct bt_names bigger = { .cap = names->cap ? names->cap * 2 : 64 };
	uint32_t i;

	bigger.slots = bt_mason_alloc(m, bigger.cap * sizeof(*bigger.slots));
	if (!bigger.slots)
		return false;
	for (i = 0; i < names->cap; i++) {
		struct bt_name *at = names->slots[i];

		if (at)
			*probe(&bigger, at->kind, at->text, at->hash) = at;
	}
	bigger.count = names->count;
	*names = bigger;
	return true;
}

/* Grown first, so that the table keeps its free half. */
struct bt_name *bt_names_add(struct blktap_mason *m, struct bt_names *names,
			     enum bt_name_kind kind, const char *text,
			     struct bt_pos pos)
{
	struct bt_name *name = bt_mason_alloc(m, sizeof(*name));

	if (!name || !text)
		return NULL;
	if (names->count * 2 >= names->cap && !rehash(m, names))
		return NULL;
	name->text = text;
	name->kind = kind;
	name->hash = hash(kind, text);
	name->pos = pos;
	*probe(names, kind, text, name->hash) = name;
	names->count++;
	return name;
}

void bt_names_offer(const struct bt_names *names, enum bt_name_kind kind,
		    const char *prefix, struct bt_suggest *s)
{
	size_t len = strlen(prefix);
	uint32_t i;

	for (i = 0; i < names->cap; i++) {
		const struct bt_name *at = names->slots[i];

		/* of a def's inside, only what its own scope can say */
		if (at && at->kind == kind && !strncmp(at->text, prefix, len) &&
		    !strchr(at->text + len, '.'))
			bt_suggest_offer(s, at->text + len);
	}
}
