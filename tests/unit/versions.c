/* SPDX-License-Identifier: BSD-3-Clause */
#include "versions.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "unit.h"

#define KEPT 64u /* of a sector */
#define FLUSHES 256u
#define SECTOR 512u

static struct version history[VERSIONS_SECTORS][KEPT];
static uint32_t counts[VERSIONS_SECTORS];
static struct flush {
	uint64_t submitted, completed;
} flushes[FLUSHES];
static uint32_t flush_count;

void versions_reset(void)
{
	memset(counts, 0, sizeof(counts));
	flush_count = 0;
}

void versions_add(uint32_t sector, const struct version *what)
{
	uint32_t *count = &counts[sector];

	ck_assert_uint_lt(*count, KEPT);
	if (*count)
		ck_assert_msg(history[sector][*count - 1].completed <=
				      what->submitted,
			      "the test has two requests at once for sector %u",
			      sector);
	history[sector][(*count)++] = *what;
}

void versions_flushed(uint64_t submitted, uint64_t completed)
{
	ck_assert_uint_lt(flush_count, FLUSHES);
	flushes[flush_count].submitted = submitted;
	flushes[flush_count++].completed = completed;
}

void versions_fill(unsigned char *bytes, uint32_t sector, uint32_t tag)
{
	uint32_t i, words[2] = { sector, tag };

	memset(bytes, 0, SECTOR);
	for (i = 0; tag && i < SECTOR; i += sizeof(words))
		memcpy(bytes + i, words, sizeof(words));
}

static bool is_durable(const struct version *v, uint64_t covered, uint64_t at)
{
	return v->completed < covered || (v->fua && v->completed <= at);
}

/* Behind a discard it may be what it was before. */
static uint32_t oldest(uint32_t sector, uint64_t at)
{
	uint64_t covered = 0;
	uint32_t i, v;

	for (i = 0; i < flush_count; i++)
		if (flushes[i].completed <= at)
			covered = flushes[i].submitted;
	for (v = counts[sector]; v-- > 1;)
		if (!history[sector][v].discard &&
		    is_durable(&history[sector][v], covered, at))
			return v;
	return 0;
}

uint32_t versions_oldest_tag(uint32_t sector, uint64_t at)
{
	return history[sector][oldest(sector, at)].tag;
}

bool versions_allow(uint32_t sector, uint64_t at, const unsigned char *bytes)
{
	unsigned char want[SECTOR];
	uint32_t v;

	for (v = oldest(sector, at); v < counts[sector]; v++) {
		if (history[sector][v].submitted > at)
			break;
		versions_fill(want, sector, history[sector][v].tag);
		if (!memcmp(bytes, want, SECTOR))
			return true;
	}
	return false;
}

static uint64_t sooner(uint64_t next, uint64_t at, uint64_t after)
{
	return at > after && (!next || at < next) ? at : next;
}

uint64_t versions_next_durable(uint64_t after)
{
	uint64_t next = 0;
	uint32_t i, v;

	for (i = 0; i < flush_count; i++)
		next = sooner(next, flushes[i].completed, after);
	for (i = 0; i < VERSIONS_SECTORS; i++)
		for (v = 1; v < counts[i]; v++)
			if (history[i][v].fua)
				next = sooner(next, history[i][v].completed,
					      after);
	return next;
}

void versions_print(uint32_t sector, uint64_t at)
{
	uint32_t first = oldest(sector, at), v;

	for (v = 0; v < counts[sector]; v++)
		printf("%c sector %u: %08x from %" PRIu64 " to %" PRIu64
		       "%s%s\n",
		       v == first ? '>' : ' ', sector, history[sector][v].tag,
		       history[sector][v].submitted,
		       history[sector][v].completed,
		       history[sector][v].fua ? ", durable" : "",
		       history[sector][v].discard ? ", discard" : "");
	fflush(stdout);
}
