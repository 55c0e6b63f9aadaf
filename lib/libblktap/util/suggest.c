/* SPDX-License-Identifier: BSD-3-Clause */
/* A candidate is near that is reached from the word by no more edits than a third of
 * its letters, rounded up; of several that are as near the first one offered stays.
 * So the same offers in the same order give the same answer. */
#include "util/suggest.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX 32u

static unsigned int least(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int d = a < b ? a : b;

	return d < c ? d : c;
}

/* The locale has no say in what is near. */
static int lower(char c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

/* Edits from a to b, where two neighbours exchanged are one edit, and case counts
 * for nothing; words of more than WORD_MAX bytes are never near. */
static unsigned int distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), i, j;
	unsigned int rows[3][WORD_MAX + 1];

	if (la > WORD_MAX || lb > WORD_MAX)
		return UINT_MAX;
	for (j = 0; j <= lb; j++)
		rows[0][j] = (unsigned int)j;
	for (i = 1; i <= la; i++) {
		unsigned int *row = rows[i % 3], *last = rows[(i + 2) % 3];
		const unsigned int *before = rows[(i + 1) % 3];

		row[0] = (unsigned int)i;
		for (j = 1; j <= lb; j++) {
			row[j] = least(last[j] + 1, row[j - 1] + 1,
				       last[j - 1] + (lower(a[i - 1]) !=
						      lower(b[j - 1])));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1] && before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
	}
	return rows[la % 3][lb];
}

void bt_suggest_init(struct bt_suggest *s, const char *word)
{
	s->word = word;
	s->best = NULL;
	s->distance = (unsigned int)(strlen(word) + 2) / 3;
}

void bt_suggest_offer(struct bt_suggest *s, const char *candidate)
{
	unsigned int d = distance(s->word, candidate);

	if (d > s->distance || (s->best && d == s->distance))
		return;
	s->best = candidate;
	s->distance = d;
}

const char *bt_suggest_as(struct bt_suggest *s, const char *before)
{
	if (!s->best)
		return NULL;
	snprintf(s->hint, sizeof(s->hint), "did you mean '%s%s'?", before,
		 s->best);
	return s->hint;
}

const char *bt_suggest_hint(struct bt_suggest *s)
{
	return bt_suggest_as(s, "");
}
