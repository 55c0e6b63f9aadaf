/* SPDX-License-Identifier: BSD-3-Clause */
/* The two ways to write a spec:
 *
 *   type:path                     the rest is the first argument, as it stands
 *   class(value, name=value, ..)  values are bare words or "strings"; in a
 *                                 string, \" \\ and \n are escapes
 *
 * A spec is text from a command line, a toolstack or an image; its path is
 * taken as it stands. Nothing is opened here. */
#include "image/image.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "port/args.h"
#include "util/strbuf.h"
#include "util/suggest.h"

#define NAME_MAX_BYTES 64u

/* isalnum of an unsigned char, as a negative one would be outside of its
 * table. */
static size_t name_length(const char *text)
{
	size_t n = 0;

	while (isalnum((unsigned char)text[n]) || text[n] == '_' ||
	       text[n] == '-')
		n++;
	return n;
}

/* A name that is nearly right gets the right one as a hint, any other the
 * list. */
int bt_image_unknown_type(const char *name, struct blktap_error **err)
{
	static const char *const reserved[] = { "sync", "vmdk", "vhdsync" };
	const struct blktap_class *cls = NULL;
	struct bt_strbuf all = BT_STRBUF_INIT;
	struct bt_suggest s;
	const char *hint;
	size_t i;
	int rc;

	for (i = 0; i < BT_ARRAY_SIZE(reserved); i++)
		if (!strcmp(name, reserved[i]))
			return bt_fail(err, -ENOSYS,
				       "use raw (or aio) for plain files, vhd "
				       "for VHDs",
				       "type '%s' is reserved and not built",
				       name);
	bt_suggest_init(&s, name);
	while ((cls = blktap_class_next(cls)))
		if (blktap_class_is_driver(cls))
			bt_suggest_offer(&s, blktap_class_get_name(cls));
	hint = bt_suggest_hint(&s);
	bt_strbuf_puts(&all, "there are");
	while (!hint && (cls = blktap_class_next(cls)))
		if (blktap_class_is_driver(cls))
			bt_strbuf_printf(&all, " %s",
					 blktap_class_get_name(cls));
	rc = bt_fail(err, -ENOENT, hint ? hint : bt_strbuf_str(&all),
		     "there is no type '%s'", name);
	bt_strbuf_fini(&all);
	return rc;
}

/* The name is copied, since it has no end of its own. */
static int find_class(const char *spec, size_t len,
		      const struct blktap_class **out,
		      struct blktap_error **err)
{
	char name[NAME_MAX_BYTES + 1];

	if (!len || len > NAME_MAX_BYTES)
		return bt_fail(err, -EINVAL,
			       "write it as type:path, e.g. raw:/img/a.raw",
			       "'%s' does not begin with a type", spec);
	memcpy(name, spec, len);
	name[len] = '\0';
	*out = blktap_class_find(name);
	return *out ? 0 : bt_image_unknown_type(name, err);
}

static void skip_space(const char **at)
{
	while (isspace((unsigned char)**at))
		(*at)++;
}

/* *at is moved behind the closing quote. A backslash before anything else than
 * n stands for what follows. */
static int read_string(const char **at, struct bt_strbuf *out,
		       struct blktap_error **err)
{
	const char *p = *at + 1;

	for (; *p && *p != '"'; p++) {
		if (*p == '\\' && p[1]) {
			p++;
			bt_strbuf_putc(out, *p == 'n' ? '\n' : *p);
		} else {
			bt_strbuf_putc(out, *p);
		}
	}
	if (!*p)
		return bt_fail(err, -EINVAL, "close the string with a \"",
			       "the string %s has no end", *at);
	*at = p + 1;
	return 0;
}

/* A bare word ends where the language could go on. */
static int read_value(const char **at, struct bt_strbuf *out,
		      struct blktap_error **err)
{
	size_t len;

	if (**at == '"')
		return read_string(at, out, err);
	len = strcspn(*at, ",()\" \t\n");
	if (!len)
		return bt_fail(err, -EINVAL,
			       "put values with odd characters in \"quotes\"",
			       "a value is missing before '%s'", *at);
	bt_strbuf_add(out, *at, len);
	*at += len;
	return 0;
}

/* [name=]value: by its place, as long as none has been named; what is set twice
 * is refused by bt_args_set. */
static int read_argument(const char **at, struct bt_args *args, uint32_t index,
			 bool *named, struct blktap_error **err)
{
	struct bt_strbuf value = BT_STRBUF_INIT;
	size_t len = name_length(*at);
	const char *end = *at + len;
	char *name = NULL;
	int rc;

	skip_space(&end);
	if (len && *end == '=') {
		name = strndup(*at, len);
		*at = end + 1;
		skip_space(at);
		*named = true;
	} else if (*named) {
		return bt_fail(err, -EINVAL, "write it as name=value",
			       "'%s' stands after a named argument", *at);
	}
	rc = read_value(at, &value, err);
	if (!rc && (value.failed || (*named && !name)))
		rc = bt_fail(err, -ENOMEM, NULL, "out of memory");
	if (!rc)
		rc = name ? bt_args_set(args, name, bt_strbuf_str(&value), err)
			  : bt_args_set_at(args, index, bt_strbuf_str(&value),
					   err);
	bt_strbuf_fini(&value);
	free(name);
	return rc;
}

/* What stands between the parentheses, and nothing after them. */
static int read_arguments(const char *at, struct bt_args *args,
			  struct blktap_error **err)
{
	bool named = false;
	uint32_t index = 0;
	int rc;

	skip_space(&at);
	while (*at && *at != ')') {
		rc = read_argument(&at, args, index++, &named, err);
		if (rc < 0)
			return rc;
		skip_space(&at);
		if (*at == ',')
			at++;
		else if (*at != ')')
			break;
		skip_space(&at);
	}
	if (*at != ')')
		return bt_fail(err, -EINVAL,
			       "write it as class(value, name=value)",
			       *at ? "',' or ')' is missing before '%s'"
				   : "')' is missing at the end%s",
			       at);
	at++;
	skip_space(&at);
	if (*at)
		return bt_fail(err, -EINVAL, NULL,
			       "there is more after the description: '%s'", at);
	return 0;
}

int bt_spec_parse(const char *spec, const struct blktap_class **cls,
		  struct bt_args **args, struct blktap_error **err)
{
	size_t len = name_length(spec);
	int rc;

	if (spec[len] != ':' && spec[len] != '(')
		return bt_fail(err, -EINVAL,
			       "write it as type:path, e.g. raw:/img/a.raw",
			       "'%s' does not begin with a type", spec);
	rc = find_class(spec, len, cls, err);
	return rc < 0 ? rc : bt_spec_parse_as(*cls, spec, args, err);
}

/* In type:path nothing is an escape and nothing ends the path, so every path
 * can be written so. */
int bt_spec_parse_as(const struct blktap_class *cls, const char *spec,
		     struct bt_args **args, struct blktap_error **err)
{
	size_t len = strcspn(spec, ":(");
	struct bt_args *made;
	int rc = bt_args_create(cls, &made);

	if (rc < 0)
		return bt_fail(err, rc, NULL, "out of memory");
	if (spec[len] == '(')
		rc = read_arguments(spec + len + 1, made, err);
	else if (spec[len + 1])
		rc = bt_args_set_at(made, 0, spec + len + 1, err);
	if (!rc)
		rc = bt_args_finish(made, err);
	if (rc < 0)
		bt_args_destroy(made);
	else
		*args = made;
	return rc;
}
