/* SPDX-License-Identifier: BSD-3-Clause */
/* A growing string. After an allocation failure it is "failed": further calls
 * do nothing, and bt_strbuf_steal returns NULL. */
#ifndef BT_UTIL_STRBUF_H
#define BT_UTIL_STRBUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* To be looked at as well as asked: data has a NUL behind its len bytes, and is NULL
 * until something was appended. */
struct bt_strbuf {
	char *data;
	size_t len;
	size_t cap;
	bool failed;
};

#define BT_STRBUF_INIT            \
	{                         \
		NULL, 0, 0, false \
	}

/* Frees the text. sb is as new: empty, and not failed any more. */
void bt_strbuf_fini(struct bt_strbuf *sb);

/* These append a copy. data may hold any bytes, text ends at its NUL; neither may lie
 * in sb itself, whose text moves when it grows. */
void bt_strbuf_add(struct bt_strbuf *sb, const void *data, size_t len);
void bt_strbuf_puts(struct bt_strbuf *sb, const char *text);
void bt_strbuf_putc(struct bt_strbuf *sb, char c);
void bt_strbuf_printf(struct bt_strbuf *sb, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void bt_strbuf_vprintf(struct bt_strbuf *sb, const char *fmt, va_list ap);

/* A string as specs and Block Mason write it: in quotes, with \", \\ and \n. */
void bt_strbuf_quote(struct bt_strbuf *sb, const char *text, size_t len);

/* Letters, digits and the characters of safe as they are, all others as %XX. */
void bt_strbuf_put_escaped(struct bt_strbuf *sb, const char *text,
			   const char *safe);

/* The text so far, "" where there is none; owned by sb. */
const char *bt_strbuf_str(const struct bt_strbuf *sb);

/* The text, "" where there is none, to be freed by the caller; NULL where an
 * allocation failed. sb is as after bt_strbuf_fini, either way. */
char *bt_strbuf_steal(struct bt_strbuf *sb);

#endif
