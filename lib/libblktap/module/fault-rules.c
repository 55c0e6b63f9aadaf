/* SPDX-License-Identifier: BSD-3-Clause */
/* The rules of the fault module, from their text. */
#include "module/fault.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "port/args.h"
#include "util/checked.h"
#include "util/suggest.h"

#define WORD_MAX 32u
#define EXAMPLE "write it as \"write 1M..2M EIO p=1%\""

static const struct {
	const char *name;
	uint32_t operations;
} ops[] = {
	{ "any", BT_OPS_ALL },
	{ "read", 1u << BLKTAP_OP_READ },
	{ "write", BT_OPS_WRITING },
	{ "flush", 1u << BLKTAP_OP_FLUSH },
	{ "discard", 1u << BLKTAP_OP_DISCARD },
	{ "zero", 1u << BLKTAP_OP_WRITE_ZEROES },
};

static const struct {
	const char *name;
	enum bt_fault_action action;
	int error;
} actions[] = {
	{ "EIO", BT_FAULT_ERROR, -EIO },
	{ "ENOSPC", BT_FAULT_ERROR, -ENOSPC },
	{ "EAGAIN", BT_FAULT_ERROR, -EAGAIN },
	{ "EBUSY", BT_FAULT_ERROR, -EBUSY },
	{ "EINTR", BT_FAULT_ERROR, -EINTR },
	{ "EINVAL", BT_FAULT_ERROR, -EINVAL },
	{ "ENOMEM", BT_FAULT_ERROR, -ENOMEM },
	{ "ENOTSUP", BT_FAULT_ERROR, -ENOTSUP },
	{ "EPERM", BT_FAULT_ERROR, -EPERM },
	{ "EROFS", BT_FAULT_ERROR, -EROFS },
	{ "ETIMEDOUT", BT_FAULT_ERROR, -ETIMEDOUT },
	{ "lost", BT_FAULT_LOST, 0 },
	{ "torn", BT_FAULT_TORN, -EIO },
	{ "corrupt", BT_FAULT_CORRUPT, 0 },
};

static int fail(const char *text, const char *word, const char *why,
		struct blktap_error **err)
{
	return bt_fail(err, -EINVAL, EXAMPLE, "fault: rule \"%s\": '%s' %s",
		       text, word, why);
}

/* Words of all kinds are offered, as their order is free. */
static int unknown(const char *text, const char *word,
		   struct blktap_error **err)
{
	struct bt_suggest s;
	size_t i;

	bt_suggest_init(&s, word);
	for (i = 0; i < BT_ARRAY_SIZE(ops); i++)
		bt_suggest_offer(&s, ops[i].name);
	for (i = 0; i < BT_ARRAY_SIZE(actions); i++)
		bt_suggest_offer(&s, actions[i].name);
	return bt_fail(err, -EINVAL, bt_suggest_hint(&s),
		       "fault: rule \"%s\": '%s' is not known", text, word);
}

/* What follows reads one word each; -EINVAL is turned into a message by
 * condition(). This one: a whole number; nothing behind it. */
static int number(const char *word, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*word))
		return -EINVAL;
	errno = 0;
	*out = strtoull(word, &end, 10);
	return *end || errno ? -EINVAL : 0;
}

/* 12%, 0.5%: in parts of a million, without a locale's comma. */
static int percent(const char *word, uint32_t *ppm)
{
	uint64_t value = 0, scale = 0;

	for (; isdigit((unsigned char)*word) || (*word == '.' && !scale);
	     word++) {
		if (*word == '.') {
			scale = 10000;
			continue;
		}
		if (!scale) {
			value = value * 10 + (uint64_t)(*word - '0') * 10000;
		} else {
			scale /= 10;
			value += (uint64_t)(*word - '0') * scale;
		}
		if (value > BT_FAULT_MILLION)
			return -EINVAL;
	}
	*ppm = (uint32_t)value;
	return strcmp(word, "%") || !value ? -EINVAL : 0;
}

/* At most an hour, so that a time in nanoseconds cannot run over. */
static int duration(const char *word, uint64_t *ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = { { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 } };
	size_t digits = strspn(word, "0123456789"), i;
	char *end;
	uint64_t value = strtoull(word, &end, 10);

	for (i = 0; digits && i < BT_ARRAY_SIZE(units); i++)
		if (!strcmp(word + digits, units[i].name))
			return bt_checked_mul(value, units[i].ns, ns) &&
					       *ns <= 3600 * 1000000000ull
				       ? 0
				       : -EINVAL;
	return -EINVAL;
}

/* A word is no longer than WORD_MAX, so its first half fits. The end is 0 in a
 * rule without a range, and so no range may end there. */
static int range(const char *word, const char *dots, struct bt_fault_rule *rule)
{
	char start[WORD_MAX + 1];

	memcpy(start, word, (size_t)(dots - word));
	start[dots - word] = '\0';
	if (bt_parse_size(start, &rule->start) < 0 ||
	    bt_parse_size(dots + 2, &rule->end) < 0)
		return -EINVAL;
	return rule->start < rule->end ? 0 : -EINVAL;
}

/* name=value; 1 where the word is not such a one. delay= looks like a
 * condition, but is the action. */
static int condition(const char *text, const char *word,
		     struct bt_fault_rule *rule, bool *acts,
		     struct blktap_error **err)
{
	int rc = 1;

	if (!strncmp(word, "p=", 2))
		rc = percent(word + 2, &rule->ppm);
	else if (!strncmp(word, "after=", 6))
		rc = number(word + 6, &rule->after);
	else if (!strncmp(word, "times=", 6))
		rc = number(word + 6, &rule->times);
	else if (!strncmp(word, "delay=", 6))
		rc = duration(word + 6, &rule->delay_ns);
	else
		return 1;
	if (rc < 0)
		return fail(text, word, "has no valid value", err);
	if (*word != 'd')
		return 0;
	if (*acts)
		return fail(text, word, "is a second action", err);
	*acts = true;
	rule->action = BT_FAULT_DELAY;
	return 0;
}

/* The order of the words is free, but each rule has one action; a later op or
 * range counts. */
static int word_of(const char *text, const char *word,
		   struct bt_fault_rule *rule, bool *acts,
		   struct blktap_error **err)
{
	const char *dots = strstr(word, "..");
	int rc = condition(text, word, rule, acts, err);
	size_t i;

	if (rc <= 0)
		return rc;
	if (dots)
		return range(word, dots, rule) < 0
			       ? fail(text, word, "is not a range", err)
			       : 0;
	for (i = 0; i < BT_ARRAY_SIZE(ops); i++)
		if (!strcmp(word, ops[i].name)) {
			rule->operations = ops[i].operations;
			return 0;
		}
	for (i = 0; i < BT_ARRAY_SIZE(actions); i++)
		if (!strcmp(word, actions[i].name)) {
			if (*acts)
				return fail(text, word, "is a second action",
					    err);
			*acts = true;
			rule->action = actions[i].action;
			rule->error = actions[i].error;
			return 0;
		}
	return unknown(text, word, err);
}

/* What an action cannot do is left out of the rule, and a rule without anything
 * left is a mistake. */
static int check(const char *text, struct bt_fault_rule *rule, bool acts,
		 struct blktap_error **err)
{
	if (!acts)
		return bt_fail(err, -EINVAL, EXAMPLE,
			       "fault: rule \"%s\" does nothing", text);
	if (rule->action == BT_FAULT_LOST)
		rule->operations &= BT_OPS_WRITING | 1u << BLKTAP_OP_FLUSH;
	if (rule->action == BT_FAULT_TORN)
		rule->operations &= 1u << BLKTAP_OP_WRITE;
	if (rule->action == BT_FAULT_CORRUPT)
		rule->operations &= 1u << BLKTAP_OP_READ;
	if (!rule->operations)
		return bt_fail(err, -EINVAL, EXAMPLE,
			       "fault: rule \"%s\": the operation cannot be "
			       "treated like that",
			       text);
	return 0;
}

/* Without op, range or condition a rule is about everything, always. */
int bt_fault_parse(const char *text, struct bt_fault_rule *rule,
		   struct blktap_error **err)
{
	char word[WORD_MAX + 1];
	const char *at = text;
	bool acts = false;
	int rc = 0;

	memset(rule, 0, sizeof(*rule));
	rule->operations = BT_OPS_ALL;
	rule->ppm = BT_FAULT_MILLION;
	while (!rc) {
		size_t len;

		at += strspn(at, " \t");
		len = strcspn(at, " \t");
		if (!len)
			break;
		if (len > WORD_MAX)
			return fail(text, at, "is too long", err);
		memcpy(word, at, len);
		word[len] = '\0';
		at += len;
		rc = word_of(text, word, rule, &acts, err);
	}
	return rc ? rc : check(text, rule, acts, err);
}
