/* SPDX-License-Identifier: BSD-3-Clause */
/* "did you mean 'throttle'?": the candidate nearest to a word that was not
 * found, where one is near enough to be a slip. */
#ifndef BT_UTIL_SUGGEST_H
#define BT_UTIL_SUGGEST_H

struct bt_suggest {
	const char *word;
	const char *best; /* NULL: none near enough */
	unsigned int distance;
	char hint[96];
};

/* word must live as long as s. Nothing is allocated, and there is nothing to be freed. */
void bt_suggest_init(struct bt_suggest *s, const char *word);
/* candidate must live as long as s. */
void bt_suggest_offer(struct bt_suggest *s, const char *candidate);
/* The sentence, or NULL where no candidate was near; owned by s, until the next of
 * these two calls. */
const char *bt_suggest_hint(struct bt_suggest *s);
/* The same with what such words have before them, "$" or "@". */
const char *bt_suggest_as(struct bt_suggest *s, const char *before);

#endif
