/* SPDX-License-Identifier: BSD-3-Clause */
/* The checkpoints in memory: their names, and a bit for each piece of the disk.
 * What is asked here is small and not on the data path, but for bt_bitmap_set,
 * which each write calls: it only sets bits, so it needs no look at what is
 * there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/log.h"
#include "module/bitmap.h"
#include "util/checked.h"

/* The next of the lines of a list; NULL after the last. A list argument is one
 * text, a value a line. */
static const char *next_name(const char **list, size_t *len)
{
	const char *name = *list;

	if (!name || !*name)
		return NULL;
	*len = strcspn(name, "\n");
	*list = name + *len + (name[*len] == '\n');
	return name;
}

/* No blank and no control character: the names go to NBD clients as parts of a
 * context's name, and stand in messages. Bytes above 0x7f are taken as they
 * are. */
static bool is_plain(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if ((unsigned char)name[i] <= ' ' || name[i] == 0x7f)
			return false;
	return len > 0 && len < BT_BITMAP_NAME;
}

/* By length and bytes: a name may begin as another does. */
static bool comes_again(const char *rest, const char *name, size_t len)
{
	const char *other;
	size_t n;

	while ((other = next_name(&rest, &n)))
		if (n == len && !memcmp(other, name, len))
			return true;
	return false;
}

int bt_bitmap_check_names(const char *list, struct blktap_error **err)
{
	const char *name;
	uint32_t count = 0;
	size_t len;

	while ((name = next_name(&list, &len))) {
		if (!is_plain(name, len))
			return bt_fail(err, -EINVAL,
				       "give 1 to 63 characters, no blanks",
				       "bitmap: '%.*s' is not a name",
				       (int)bt_min_u64(len, 80), name);
		if (comes_again(list, name, len))
			return bt_fail(err, -EEXIST, "name it once",
				       "bitmap: '%.*s' is named twice",
				       (int)len, name);
		if (++count > BT_BITMAP_MAX)
			return bt_fail(err, -E2BIG, "drop an older one",
				       "bitmap: more than %u checkpoints",
				       BT_BITMAP_MAX);
	}
	return 0;
}

static bool is_named(const char *list, const char *what)
{
	return comes_again(list, what, strlen(what));
}

/* The marks that are kept close up, in order: an index may be another mark's
 * behind this. */
static void drop_others(struct bt_bitmap *bm, const char *list)
{
	uint32_t i, kept = 0;

	for (i = 0; i < bm->count; i++)
		if (is_named(list, bm->marks[i].name))
			bm->marks[kept++] = bm->marks[i];
		else
			free(bm->marks[i].bits);
	bm->count = kept;
}

void bt_bitmap_drop_all(struct bt_bitmap *bm)
{
	drop_others(bm, "");
}

static bool is_there(const struct bt_bitmap *bm, const char *name, size_t len)
{
	uint32_t i;

	for (i = 0; i < bm->count; i++)
		if (strlen(bm->marks[i].name) == len &&
		    !memcmp(bm->marks[i].name, name, len))
			return true;
	return false;
}

/* Names were checked before; the tests here are for a list that was not. */
void bt_bitmap_set_names(struct bt_bitmap *bm, const char *list)
{
	const char *name;
	size_t len;

	if (!list)
		list = "";
	drop_others(bm, list);
	while ((name = next_name(&list, &len))) {
		struct bt_mark *mark = &bm->marks[bm->count];

		if (bm->count == BT_BITMAP_MAX || len >= BT_BITMAP_NAME ||
		    is_there(bm, name, len))
			continue;
		memset(mark, 0, sizeof(*mark));
		memcpy(mark->name, name, len);
		mark->bits = aligned_alloc(4096, bm->bits_len);
		if (mark->bits)
			memset(mark->bits, 0, bm->bits_len);
		else
			bt_log(bm->node->env->log, BLKTAP_LOG_WARNING,
			       "%s: no memory for '%s': all of it is dirty",
			       bm->node->name, mark->name);
		bm->count++;
		bm->begun++;
	}
}

/* Without memory, yes: too much is a longer backup, too little a wrong one. */
bool bt_bitmap_is_set(const struct bt_mark *mark, uint64_t bit)
{
	return !mark->bits || mark->bits[bit / 8] >> (bit % 8) & 1u;
}

/* Bits up to the first whole byte, whole bytes, and the rest. */
static void set_range(unsigned char *bits, uint64_t first, uint64_t last)
{
	while (first <= last && first % 8) {
		bits[first / 8] |= (unsigned char)(1u << (first % 8));
		first++;
	}
	if (first > last)
		return;
	memset(bits + first / 8, 0xff, (last + 1 - first) / 8);
	for (first = bt_align_down(last + 1, 8); first <= last; first++)
		bits[first / 8] |= (unsigned char)(1u << (first % 8));
}

/* length is not 0, or last would be before first. */
void bt_bitmap_set(struct bt_bitmap *bm, uint64_t offset, uint64_t length)
{
	uint64_t first = offset >> bm->shift;
	uint64_t last = (offset + length - 1) >> bm->shift;
	uint32_t i;

	for (i = 0; i < bm->count; i++)
		if (bm->marks[i].bits)
			set_range(bm->marks[i].bits, first, last);
}

/* Bits behind the disk's end are never set, so all of the bytes can be counted.
 */
uint64_t bt_bitmap_count(const struct bt_bitmap *bm, const struct bt_mark *mark)
{
	uint64_t i, n = 0;

	if (!mark->bits)
		return bm->bit_count;
	for (i = 0; i < bm->bits_len; i++)
		n += (uint64_t)__builtin_popcount(mark->bits[i]);
	return n;
}
