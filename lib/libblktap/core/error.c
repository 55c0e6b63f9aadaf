/* SPDX-License-Identifier: BSD-3-Clause */
/* An error is described once, by whoever knows most: the lowest. Callers above put
 * their object before it (bt_error_prefix) or add nothing, since bt_fail keeps what
 * is there. Where there is no memory to describe one, all get the same constant
 * object: so *err is set whenever a call was refused, and may be destroyed. */
#include "core/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "util/strbuf.h"

struct blktap_error {
	int code;
	char *message;
	char *hint;
};

/* Stands for an error that there was no memory to describe; never freed. */
static const struct blktap_error out_of_memory = {
	.code = -ENOMEM,
	.message = (char *)"out of memory",
};

static struct blktap_error *describe(int code, const char *hint,
				     const char *fmt, va_list ap)
{
	struct blktap_error *e = calloc(1, sizeof(*e));
	struct bt_strbuf sb = BT_STRBUF_INIT;

	if (!e)
		return (struct blktap_error *)&out_of_memory;
	e->code = code;
	bt_strbuf_vprintf(&sb, fmt, ap);
	e->message = bt_strbuf_steal(&sb);
	if (hint)
		e->hint = strdup(hint);
	if (!e->message || (hint && !e->hint)) {
		blktap_error_destroy(e);
		return (struct blktap_error *)&out_of_memory;
	}
	return e;
}

int bt_fail(struct blktap_error **err, int code, const char *hint,
	    const char *fmt, ...)
{
	va_list ap;

	if (err && !*err) {
		va_start(ap, fmt);
		*err = describe(code, hint, fmt, ap);
		va_end(ap);
	}
	return code;
}

/* Whose message begins with the object already, as a module's own name, has said
 * it. */
void bt_error_prefix(struct blktap_error **err, const char *fmt, ...)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	va_list ap;
	char *text;

	if (!err || !*err || *err == &out_of_memory)
		return;
	va_start(ap, fmt);
	bt_strbuf_vprintf(&sb, fmt, ap);
	va_end(ap);
	bt_strbuf_puts(&sb, ": ");
	if (!sb.failed && !strncmp((*err)->message, sb.data, sb.len)) {
		bt_strbuf_fini(&sb);
		return;
	}
	bt_strbuf_puts(&sb, (*err)->message);
	text = bt_strbuf_steal(&sb);
	if (!text)
		return;
	free((*err)->message);
	(*err)->message = text;
}

const char *bt_strerror(int code, char buf[BT_STRERROR_MAX])
{
	return strerror_r(-code, buf, BT_STRERROR_MAX);
}

const char *bt_errno_name(int code)
{
	return strerrorname_np(-code);
}

int blktap_error_get_code(const struct blktap_error *err)
{
	return err->code;
}

const char *blktap_error_get_message(const struct blktap_error *err)
{
	return err->message;
}

const char *blktap_error_get_hint(const struct blktap_error *err)
{
	return err->hint ? err->hint : "";
}

void blktap_error_destroy(struct blktap_error *err)
{
	if (!err || err == &out_of_memory)
		return;
	free(err->message);
	free(err->hint);
	free(err);
}
