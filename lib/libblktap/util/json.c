/* SPDX-License-Identifier: BSD-3-Clause */
/* A value never fails: what cannot be written marks the strbuf as failed, which the
 * caller sees once, at its end. Bytes that are not UTF-8 (file names may be any) are
 * replaced, so the output is JSON whatever comes. */
#include "util/json.h"

#include <inttypes.h>
#include <string.h>

void bt_json_init(struct bt_json *json, struct bt_strbuf *out, bool spaced)
{
	json->out = out;
	json->comma = false;
	json->spaced = spaced;
}

/* Bytes of the well-formed UTF-8 sequence at p, 0 where it is none. */
static size_t utf8_length(const unsigned char *p)
{
	unsigned int lead = p[0];
	size_t i, len;

	if (lead < 0x80)
		return 1;
	if (lead >= 0xc2 && lead <= 0xdf)
		len = 2;
	else if (lead >= 0xe0 && lead <= 0xef)
		len = 3;
	else if (lead >= 0xf0 && lead <= 0xf4)
		len = 4;
	else
		return 0;
	for (i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((lead == 0xe0 && p[1] < 0xa0) || (lead == 0xed && p[1] > 0x9f) ||
	    (lead == 0xf0 && p[1] < 0x90) || (lead == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

static void put_char(struct bt_strbuf *out, const unsigned char **pos)
{
	const unsigned char *p = *pos;
	size_t len = utf8_length(p);

	if (!len)
		bt_strbuf_puts(out, "\\ufffd");
	else if (*p == '"' || *p == '\\')
		bt_strbuf_printf(out, "\\%c", *p);
	else if (*p == '\n')
		bt_strbuf_puts(out, "\\n");
	else if (*p < 0x20 || *p == 0x7f)
		bt_strbuf_printf(out, "\\u%04x", *p);
	else
		bt_strbuf_add(out, p, len);
	*pos = p + (len ? len : 1);
}

static void put_quoted(struct bt_strbuf *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	bt_strbuf_putc(out, '"');
	while (*p)
		put_char(out, &p);
	bt_strbuf_putc(out, '"');
}

static void lead_in(struct bt_json *json, const char *key)
{
	if (json->comma)
		bt_strbuf_puts(json->out, json->spaced ? ", " : ",");
	json->comma = true;
	if (!key)
		return;
	put_quoted(json->out, key);
	bt_strbuf_puts(json->out, json->spaced ? ": " : ":");
}

static void open_group(struct bt_json *json, const char *key, char bracket)
{
	lead_in(json, key);
	bt_strbuf_putc(json->out, bracket);
	if (json->spaced)
		bt_strbuf_putc(json->out, ' ');
	json->comma = false;
}

static void close_group(struct bt_json *json, char bracket)
{
	if (json->spaced && json->comma)
		bt_strbuf_putc(json->out, ' ');
	bt_strbuf_putc(json->out, bracket);
	json->comma = true;
}

void bt_json_object(struct bt_json *json, const char *key)
{
	open_group(json, key, '{');
}

void bt_json_object_end(struct bt_json *json)
{
	close_group(json, '}');
}

void bt_json_array(struct bt_json *json, const char *key)
{
	open_group(json, key, '[');
}

void bt_json_array_end(struct bt_json *json)
{
	close_group(json, ']');
}

void bt_json_string(struct bt_json *json, const char *key, const char *value)
{
	lead_in(json, key);
	put_quoted(json->out, value);
}

void bt_json_u64(struct bt_json *json, const char *key, uint64_t value)
{
	lead_in(json, key);
	bt_strbuf_printf(json->out, "%" PRIu64, value);
}

void bt_json_i64(struct bt_json *json, const char *key, int64_t value)
{
	lead_in(json, key);
	bt_strbuf_printf(json->out, "%" PRId64, value);
}

void bt_json_bool(struct bt_json *json, const char *key, bool value)
{
	lead_in(json, key);
	bt_strbuf_puts(json->out, value ? "true" : "false");
}

void bt_json_null(struct bt_json *json, const char *key)
{
	lead_in(json, key);
	bt_strbuf_puts(json->out, "null");
}

void bt_json_raw(struct bt_json *json, const char *key, const char *value)
{
	lead_in(json, key);
	bt_strbuf_puts(json->out, value);
}
