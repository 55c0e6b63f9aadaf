/* SPDX-License-Identifier: BSD-3-Clause */
/* Where memory runs out the text stays as it was and `failed` is set for good: so
 * many appends are followed by one look. Sizes grow by doubling, checked. */
#include "util/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/checked.h"

static bool grow(struct bt_strbuf *sb, size_t more)
{
	size_t need, cap = sb->cap ? sb->cap : 64;
	char *data;

	if (sb->failed)
		return false;
	if (!bt_checked_add(sb->len, more, &need) ||
	    !bt_checked_add(need, (size_t)1, &need))
		goto fail;
	while (cap < need)
		if (!bt_checked_mul(cap, (size_t)2, &cap))
			goto fail;
	if (cap == sb->cap)
		return true;
	data = realloc(sb->data, cap);
	if (!data)
		goto fail;
	sb->data = data;
	sb->cap = cap;
	return true;
fail:
	sb->failed = true;
	return false;
}

void bt_strbuf_fini(struct bt_strbuf *sb)
{
	free(sb->data);
	memset(sb, 0, sizeof(*sb));
}

void bt_strbuf_add(struct bt_strbuf *sb, const void *data, size_t len)
{
	if (!grow(sb, len))
		return;
	if (len)
		memcpy(sb->data + sb->len, data, len);
	sb->len += len;
	sb->data[sb->len] = '\0';
}

void bt_strbuf_puts(struct bt_strbuf *sb, const char *text)
{
	bt_strbuf_add(sb, text, strlen(text));
}

void bt_strbuf_putc(struct bt_strbuf *sb, char c)
{
	bt_strbuf_add(sb, &c, 1);
}

void bt_strbuf_vprintf(struct bt_strbuf *sb, const char *fmt, va_list ap)
{
	va_list again;
	int len;

	va_copy(again, ap);
	len = vsnprintf(NULL, 0, fmt, ap);
	if (len >= 0 && grow(sb, (size_t)len)) {
		vsnprintf(sb->data + sb->len, (size_t)len + 1, fmt, again);
		sb->len += (size_t)len;
	} else {
		sb->failed = true;
	}
	va_end(again);
}

void bt_strbuf_printf(struct bt_strbuf *sb, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	bt_strbuf_vprintf(sb, fmt, ap);
	va_end(ap);
}

void bt_strbuf_quote(struct bt_strbuf *sb, const char *text, size_t len)
{
	bt_strbuf_putc(sb, '"');
	for (; len--; text++) {
		if (*text == '"' || *text == '\\')
			bt_strbuf_putc(sb, '\\');
		if (*text == '\n')
			bt_strbuf_puts(sb, "\\n");
		else
			bt_strbuf_putc(sb, *text);
	}
	bt_strbuf_putc(sb, '"');
}

/* By hand and not by isalnum: what a letter is depends on the locale there. */
void bt_strbuf_put_escaped(struct bt_strbuf *sb, const char *text,
			   const char *safe)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') || strchr(safe, c))
			bt_strbuf_putc(sb, (char)c);
		else
			bt_strbuf_printf(sb, "%%%02X", c);
	}
}

const char *bt_strbuf_str(const struct bt_strbuf *sb)
{
	return sb->data ? sb->data : "";
}

char *bt_strbuf_steal(struct bt_strbuf *sb)
{
	char *text = NULL;

	if (!sb->data)
		bt_strbuf_puts(sb, "");
	if (!sb->failed) {
		text = sb->data;
		sb->data = NULL;
	}
	bt_strbuf_fini(sb);
	return text;
}
