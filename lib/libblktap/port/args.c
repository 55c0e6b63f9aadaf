/* SPDX-License-Identifier: BSD-3-Clause */
/* Values are kept as the text they were given as, beside the number it stands for:
 * plans compare the texts, and dumps show what the user wrote. All checks are here,
 * before a node is made; a class reads what is right already. A value of kind SECRET
 * is only the name of one (module/secret.c), so nothing here has to be wiped. */
#include "port/args.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "util/checked.h"
#include "util/strbuf.h"
#include "util/suggest.h"

struct bt_value {
	char *text; /* NULL: neither given nor defaulted */
	uint64_t number; /* of INT, SIZE, DURATION, RATE, PERCENT, BOOL */
	bool given;
};

struct bt_args {
	const struct blktap_class *cls;
	uint32_t count;
	struct bt_value values[];
};

static const struct blktap_param *param(const struct bt_args *args, uint32_t i)
{
	return blktap_class_get_param(args->cls, i);
}

/* A decimal number and the unit behind it. */
static int parse_scaled(const char *text, uint64_t *number, const char **unit)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	*number = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	*unit = end;
	return 0;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static int apply_unit(const struct unit *units, const char *name,
		      uint64_t number, uint64_t *out)
{
	for (; units->name; units++)
		if (!strcmp(units->name, name))
			return bt_checked_mul(number, units->factor, out)
				       ? 0
				       : -ERANGE;
	return -EINVAL;
}

int bt_parse_size(const char *text, uint64_t *out)
{
	static const struct unit units[] = {
		{ "", 1 },	     { "b", 1 },	  { "B", 1 },
		{ "k", 1ull << 10 }, { "K", 1ull << 10 }, { "M", 1ull << 20 },
		{ "G", 1ull << 30 }, { "T", 1ull << 40 }, { "P", 1ull << 50 },
		{ NULL, 0 },
	};
	const char *unit;
	uint64_t number;
	int rc = parse_scaled(text, &number, &unit);

	return rc < 0 ? rc : apply_unit(units, unit, number, out);
}

static int parse_duration(const char *text, uint64_t *out)
{
	static const struct unit units[] = {
		{ "us", 1000ull },
		{ "ms", 1000000ull },
		{ "s", 1000000000ull },
		{ "m", 60 * 1000000000ull },
		{ "h", 3600 * 1000000000ull },
		{ "d", 86400 * 1000000000ull },
		{ NULL, 0 },
	};
	const char *unit;
	uint64_t number;
	int rc = parse_scaled(text, &number, &unit);

	return rc < 0 ? rc : apply_unit(units, unit, number, out);
}

static int parse_int(const char *text, uint64_t *out)
{
	const char *unit;
	int rc = parse_scaled(text, out, &unit);

	return rc < 0 ? rc : *unit ? -EINVAL : 0;
}

/* A size with "/s" behind it, which may be left out. */
static int parse_rate(const char *text, uint64_t *out)
{
	size_t len = strlen(text);
	char size[32];

	if (len >= 2 && !strcmp(text + len - 2, "/s"))
		len -= 2;
	if (len >= sizeof(size))
		return -ERANGE;
	memcpy(size, text, len);
	size[len] = '\0';
	return bt_parse_size(size, out);
}

static int parse_percent(const char *text, uint64_t *out)
{
	const char *unit;
	int rc = parse_scaled(text, out, &unit);

	if (rc < 0)
		return rc;
	return *out <= 100 && !strcmp(unit, "%") ? 0 : -EINVAL;
}

static int parse_bool(const char *text, uint64_t *out)
{
	*out = !strcmp(text, "true") || !strcmp(text, "yes") ||
	       !strcmp(text, "on");
	return *out || !strcmp(text, "false") || !strcmp(text, "no") ||
			       !strcmp(text, "off")
		       ? 0
		       : -EINVAL;
}

static bool is_choice(const char *choices, const char *text)
{
	size_t len = strlen(text);
	const char *at = choices;

	while (len && (at = strstr(at, text))) {
		if ((at == choices || at[-1] == '|') &&
		    (!at[len] || at[len] == '|'))
			return true;
		at++;
	}
	return false;
}

static int parse_value(const struct blktap_param *p, const char *text,
		       uint64_t *number)
{
	switch (p->type) {
	case BLKTAP_PARAM_STRING:
		return 0;
	case BLKTAP_PARAM_PATH:
		return *text ? 0 : -EINVAL;
	case BLKTAP_PARAM_BOOL:
		return parse_bool(text, number);
	case BLKTAP_PARAM_INT:
		return parse_int(text, number);
	case BLKTAP_PARAM_SIZE:
		return bt_parse_size(text, number);
	case BLKTAP_PARAM_DURATION:
		return parse_duration(text, number);
	case BLKTAP_PARAM_ENUM:
		return is_choice(p->choices, text) ? 0 : -EINVAL;
	case BLKTAP_PARAM_RATE:
		return parse_rate(text, number);
	case BLKTAP_PARAM_PERCENT:
		return parse_percent(text, number);
	case BLKTAP_PARAM_LIST:
		return 0;
	}
	return -EINVAL;
}

static bool is_number(const struct blktap_param *p)
{
	return p->type == BLKTAP_PARAM_INT || p->type == BLKTAP_PARAM_SIZE ||
	       p->type == BLKTAP_PARAM_DURATION ||
	       p->type == BLKTAP_PARAM_RATE || p->type == BLKTAP_PARAM_PERCENT;
}

static const char *expectation(const struct blktap_param *p)
{
	static const char *const hints[] = {
		[BLKTAP_PARAM_STRING] = "give a string",
		[BLKTAP_PARAM_PATH] = "give a path that is not empty",
		[BLKTAP_PARAM_BOOL] = "give true or false",
		[BLKTAP_PARAM_INT] = "give a whole number",
		[BLKTAP_PARAM_SIZE] =
			"give bytes, or a number with k, M, G or T",
		[BLKTAP_PARAM_DURATION] =
			"give a number with us, ms, s, m, h or d",
		[BLKTAP_PARAM_RATE] = "give a number with k, M, G or T, and /s",
		[BLKTAP_PARAM_PERCENT] = "give 0% to 100%",
		[BLKTAP_PARAM_LIST] = "give strings",
	};

	return p->type == BLKTAP_PARAM_ENUM ? NULL : hints[p->type];
}

static int bad_value(const struct bt_args *args, const struct blktap_param *p,
		     const char *text, struct blktap_error **err)
{
	if (p->type == BLKTAP_PARAM_ENUM)
		return bt_fail(err, -EINVAL, NULL, "%s: %s=%s is not one of %s",
			       blktap_class_get_name(args->cls), p->name, text,
			       p->choices);
	return bt_fail(err, -EINVAL, expectation(p),
		       "%s: %s=%s is not a valid value",
		       blktap_class_get_name(args->cls), p->name, text);
}

#define US 1000ull
#define MS (1000 * US)
#define S (1000 * MS)

/* A bound as it would be written: "1ms", "64k". */
static const char *bound(const struct blktap_param *p, uint64_t number,
			 char *text, size_t size)
{
	static const struct {
		enum blktap_param_type type;
		uint64_t unit;
		const char *name;
	} units[] = {
		{ BLKTAP_PARAM_DURATION, 86400 * S, "d" },
		{ BLKTAP_PARAM_DURATION, 3600 * S, "h" },
		{ BLKTAP_PARAM_DURATION, 60 * S, "m" },
		{ BLKTAP_PARAM_DURATION, S, "s" },
		{ BLKTAP_PARAM_DURATION, MS, "ms" },
		{ BLKTAP_PARAM_DURATION, US, "us" },
		{ BLKTAP_PARAM_SIZE, 1ull << 40, "T" },
		{ BLKTAP_PARAM_SIZE, 1ull << 30, "G" },
		{ BLKTAP_PARAM_SIZE, 1ull << 20, "M" },
		{ BLKTAP_PARAM_SIZE, 1ull << 10, "k" },
	};
	const char *name = "";
	size_t i;

	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (number && p->type == units[i].type &&
		    number % units[i].unit == 0) {
			number /= units[i].unit;
			name = units[i].name;
			break;
		}
	snprintf(text, size, "%" PRIu64 "%s", number, name);
	return text;
}

static int check_range(const struct bt_args *args, const struct blktap_param *p,
		       const char *text, uint64_t number,
		       struct blktap_error **err)
{
	char most[32];

	if (number < p->min)
		return bt_fail(err, -ERANGE, NULL, "%s: %s=%s is less than %s",
			       blktap_class_get_name(args->cls), p->name, text,
			       bound(p, p->min, most, sizeof(most)));
	if (p->max && number > p->max)
		return bt_fail(err, -ERANGE, NULL, "%s: %s=%s is more than %s",
			       blktap_class_get_name(args->cls), p->name, text,
			       bound(p, p->max, most, sizeof(most)));
	return 0;
}

static int store(struct bt_args *args, uint32_t i, const char *text,
		 struct blktap_error **err)
{
	const struct blktap_param *p = param(args, i);
	struct bt_value *value = &args->values[i];
	uint64_t number = 0;
	char *copy;
	int rc;

	if (parse_value(p, text, &number) < 0)
		return bad_value(args, p, text, err);
	rc = is_number(p) ? check_range(args, p, text, number, err) : 0;
	if (rc < 0)
		return rc;
	copy = strdup(text);
	if (!copy)
		return bt_fail(err, -ENOMEM, NULL, "out of memory");
	free(value->text);
	value->text = copy;
	value->number = number;
	return 0;
}

int bt_args_create(const struct blktap_class *cls, struct bt_args **out)
{
	struct bt_args *args;
	uint32_t i, count = 0;

	while (blktap_class_get_param(cls, count))
		count++;
	args = calloc(1, sizeof(*args) + count * sizeof(args->values[0]));
	if (!args)
		return -ENOMEM;
	args->cls = cls;
	args->count = count;
	for (i = 0; i < count; i++) {
		int rc = 0;

		if (param(args, i)->fallback)
			rc = store(args, i, param(args, i)->fallback, NULL);
		if (rc < 0) {
			bt_args_destroy(args);
			return rc;
		}
	}
	*out = args;
	return 0;
}

void bt_args_destroy(struct bt_args *args)
{
	uint32_t i;

	if (!args)
		return;
	for (i = 0; i < args->count; i++)
		free(args->values[i].text);
	free(args);
}

int bt_args_copy(const struct bt_args *args, struct bt_args **out)
{
	struct bt_args *copy;
	uint32_t i;
	int rc = bt_args_create(args->cls, &copy);

	if (rc < 0)
		return rc;
	for (i = 0; !rc && i < args->count; i++)
		if (args->values[i].given)
			rc = bt_args_set_at(copy, i, args->values[i].text,
					    NULL);
	if (rc < 0) /* the values are right: there is no memory */
		bt_args_destroy(copy);
	else
		*out = copy;
	return rc < 0 ? -ENOMEM : 0;
}

static int find(const struct bt_args *args, const char *name)
{
	uint32_t i;

	for (i = 0; i < args->count; i++)
		if (!strcmp(param(args, i)->name, name))
			return (int)i;
	return -1;
}

static int unknown(const struct bt_args *args, const char *name,
		   struct blktap_error **err)
{
	struct bt_strbuf all = BT_STRBUF_INIT;
	struct bt_suggest s;
	const char *hint;
	uint32_t i;
	int rc;

	bt_suggest_init(&s, name);
	bt_strbuf_puts(&all, args->count ? "there are" : "it takes none");
	for (i = 0; i < args->count; i++) {
		bt_suggest_offer(&s, param(args, i)->name);
		bt_strbuf_printf(&all, " %s", param(args, i)->name);
	}
	hint = bt_suggest_hint(&s);
	rc = bt_fail(err, -ENOENT, hint ? hint : bt_strbuf_str(&all),
		     "%s: there is no argument '%s'",
		     blktap_class_get_name(args->cls), name);
	bt_strbuf_fini(&all);
	return rc;
}

int bt_args_set(struct bt_args *args, const char *name, const char *text,
		struct blktap_error **err)
{
	int i = find(args, name);

	return i < 0 ? unknown(args, name, err)
		     : bt_args_set_at(args, (uint32_t)i, text, err);
}

int bt_args_set_at(struct bt_args *args, uint32_t index, const char *text,
		   struct blktap_error **err)
{
	int rc;

	if (index >= args->count)
		return bt_fail(err, -EINVAL, NULL,
			       "%s: '%s' is one argument too many",
			       blktap_class_get_name(args->cls), text);
	if (args->values[index].given)
		return bt_fail(err, -EEXIST, NULL, "%s: %s is given twice",
			       blktap_class_get_name(args->cls),
			       param(args, index)->name);
	rc = store(args, index, text, err);
	if (!rc)
		args->values[index].given = true;
	return rc;
}

int bt_args_finish(const struct bt_args *args, struct blktap_error **err)
{
	uint32_t i;

	for (i = 0; i < args->count; i++)
		if (param(args, i)->flags & BLKTAP_PARAM_REQUIRED &&
		    !args->values[i].given)
			return bt_fail(err, -EINVAL, param(args, i)->help,
				       "%s: %s is missing",
				       blktap_class_get_name(args->cls),
				       param(args, i)->name);
	return 0;
}

static const struct bt_value *lookup(const struct bt_args *args,
				     const char *name)
{
	static const struct bt_value none;
	int i = find(args, name);

	return i < 0 ? &none : &args->values[i];
}

const char *bt_args_string(const struct bt_args *args, const char *name)
{
	return lookup(args, name)->text;
}

uint64_t bt_args_number(const struct bt_args *args, const char *name)
{
	return lookup(args, name)->number;
}

bool bt_args_bool(const struct bt_args *args, const char *name)
{
	return lookup(args, name)->number != 0;
}

bool bt_args_is_set(const struct bt_args *args, const char *name)
{
	return lookup(args, name)->given;
}

bool bt_args_hold(const struct bt_args *args, const char *condition)
{
	const char *equal = strchr(condition, '='), *text;
	char name[64];

	if (!equal || (size_t)(equal - condition) >= sizeof(name))
		return !*condition;
	memcpy(name, condition, (size_t)(equal - condition));
	name[equal - condition] = '\0';
	text = bt_args_string(args, name);
	return text && !strcmp(text, equal + 1);
}
