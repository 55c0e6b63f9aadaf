/* SPDX-License-Identifier: BSD-3-Clause */
/* What a check has to say: errors and warnings with their places, each at most
 * once, kept up to a bound, put into the order of the text, and rendered as
 *
 *   disk.mason:3:12: error: there is no class 'trottle'
 *   d0 :: disk("data") -> trottle(iops=500);
 *                         ^
 *   hint: did you mean 'throttle'?
 *   disk.mason:1:1: note: ...
 */
#include <stdlib.h>
#include <string.h>

#include "mason/private.h"
#include "util/json.h"

#define MAX_SHOWN_LINE 160u

/* Counted when asked: a check without mistakes never counts a line. */
const char *bt_mason_locate(const struct blktap_mason *m, struct bt_pos pos,
			    uint32_t *line, uint32_t *column)
{
	const struct bt_source *src = &m->sources[pos.file];
	uint32_t i, start = 0;

	*line = 1;
	for (i = 0; i < pos.at && i < src->len; i++)
		if (src->text[i] == '\n') {
			(*line)++;
			start = i + 1;
		}
	*column = pos.at - start + 1;
	return src->name;
}

/* ---- collecting ------------------------------------------------------------ */

/* A def that is used ten times has its mistakes once. */
static bool is_said(const struct blktap_mason *m, struct bt_pos pos,
		    const char *text)
{
	uint32_t i;

	for (i = 0; i < m->diag_count; i++)
		if (m->diags[i]->pos.file == pos.file &&
		    m->diags[i]->pos.at == pos.at &&
		    !strcmp(m->diags[i]->text, text))
			return true;
	return false;
}

/* What is too much is counted, so that a check with errors has errors whatever
 * it shows. */
static struct bt_diag *say(struct blktap_mason *m, struct bt_pos pos,
			   bool warning, const char *hint, const char *text)
{
	struct bt_diag *diag;

	if (!text || is_said(m, pos, text))
		return NULL;
	*(warning ? &m->warnings : &m->errors) += 1;
	if (m->diag_count == BT_MASON_MAX_SHOWN) {
		m->unshown++;
		return NULL;
	}
	diag = bt_mason_alloc(m, sizeof(*diag));
	if (!diag)
		return NULL;
	diag->warning = warning;
	diag->pos = pos;
	diag->text = text;
	diag->hint = hint ? bt_mason_printf(m, "%s", hint) : NULL;
	diag->notes_end = &diag->notes;
	m->diags[m->diag_count++] = diag;
	return diag;
}

/* The text of a message is one line, whatever bytes a name holds. */
static char *vtext(struct blktap_mason *m, const char *fmt, va_list ap)
{
	struct bt_strbuf sb = BT_STRBUF_INIT;
	char *out = NULL;

	bt_strbuf_vprintf(&sb, fmt, ap);
	if (!sb.failed)
		out = bt_mason_strndup(m, bt_strbuf_str(&sb), sb.len);
	bt_strbuf_fini(&sb);
	for (char *p = out; p && *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return out;
}

struct bt_diag *bt_mason_error(struct blktap_mason *m, struct bt_pos pos,
			       const char *hint, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = vtext(m, fmt, ap);
	va_end(ap);
	return say(m, pos, false, hint, text);
}

struct bt_diag *bt_mason_warn(struct blktap_mason *m, struct bt_pos pos,
			      const char *hint, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = vtext(m, fmt, ap);
	va_end(ap);
	return say(m, pos, true, hint, text);
}

/* Without a message, as it was said already or was one too many, there is nothing
 * to note; callers need not look. */
void bt_mason_note(struct blktap_mason *m, struct bt_diag *diag,
		   struct bt_pos pos, const char *fmt, ...)
{
	struct bt_note *note;
	va_list ap;

	if (!diag)
		return;
	note = bt_mason_alloc(m, sizeof(*note));
	if (!note)
		return;
	va_start(ap, fmt);
	note->text = vtext(m, fmt, ap);
	va_end(ap);
	note->pos = pos;
	if (!note->text)
		return;
	*diag->notes_end = note;
	diag->notes_end = &note->next;
}

/* With the text as the last word, so that the order does not depend on qsort.
 */
static int by_place(const void *a, const void *b)
{
	const struct bt_diag *x = *(struct bt_diag *const *)a;
	const struct bt_diag *y = *(struct bt_diag *const *)b;

	if (x->pos.file != y->pos.file)
		return x->pos.file < y->pos.file ? -1 : 1;
	if (x->pos.at != y->pos.at)
		return x->pos.at < y->pos.at ? -1 : 1;
	return strcmp(x->text, y->text);
}

/* Each file that was included says where, behind all other notes. */
static void add_include_notes(struct blktap_mason *m, struct bt_diag *diag)
{
	const struct bt_source *src = &m->sources[diag->pos.file];

	for (; src->depth; src = &m->sources[src->from.file])
		bt_mason_note(m, diag, src->from, "included here");
}

/* Notes on includes come last, when all others are there. */
void bt_mason_sort(struct blktap_mason *m)
{
	uint32_t i;

	qsort(m->diags, m->diag_count, sizeof(m->diags[0]), by_place);
	for (i = 0; i < m->diag_count; i++)
		add_include_notes(m, m->diags[i]);
}

/* ---- rendering ------------------------------------------------------------- */

static bool is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* The line, with what a terminal could take amiss replaced, and a caret.
 * Columns are bytes; the caret stands right for UTF-8 as well, as bytes that go
 * on a character take no column of a terminal. */
static void render_line(const struct blktap_mason *m, struct bt_pos pos,
			struct bt_strbuf *out)
{
	const struct bt_source *src = &m->sources[pos.file];
	uint32_t line, column, start, i;

	bt_mason_locate(m, pos, &line, &column);
	if (column > MAX_SHOWN_LINE)
		return;
	start = pos.at - (column - 1);
	bt_strbuf_putc(out, ' ');
	for (i = start;
	     i < src->len && i < start + MAX_SHOWN_LINE && src->text[i] != '\n';
	     i++) {
		unsigned char c = (unsigned char)src->text[i];

		bt_strbuf_putc(out, (c < ' ' && c != '\t') || c == 0x7f
					    ? '?'
					    : (char)c);
	}
	bt_strbuf_puts(out, "\n ");
	for (i = start; i < pos.at && i < src->len; i++)
		if (src->text[i] == '\t')
			bt_strbuf_putc(out, '\t');
		else if (!is_continuation(src->text[i]))
			bt_strbuf_putc(out, ' ');
	bt_strbuf_puts(out, "^\n");
}

/* As compilers write it, so that editors find the place. */
static void render_one(const struct blktap_mason *m, struct bt_pos pos,
		       const char *kind, const char *text, bool show_line,
		       struct bt_strbuf *out)
{
	uint32_t line, column;
	const char *file = bt_mason_locate(m, pos, &line, &column);

	bt_strbuf_printf(out, "%s:%u:%u: %s: %s\n", file, line, column, kind,
			 text);
	if (show_line)
		render_line(m, pos, out);
}

void bt_mason_render(struct blktap_mason *m, struct bt_strbuf *out)
{
	uint32_t i;

	for (i = 0; i < m->diag_count; i++) {
		const struct bt_diag *diag = m->diags[i];
		const struct bt_note *note;

		render_one(m, diag->pos, diag->warning ? "warning" : "error",
			   diag->text, !diag->hides_text, out);
		if (diag->hint)
			bt_strbuf_printf(out, "  hint: %s\n", diag->hint);
		for (note = diag->notes; note; note = note->next)
			render_one(m, note->pos, "note", note->text,
				   !diag->hides_text, out);
	}
	if (m->unshown)
		bt_strbuf_printf(out, "%s: %u more are not shown\n",
				 m->sources[0].name, m->unshown);
}

static void json_place(const struct blktap_mason *m, struct bt_pos pos,
		       const char *text, struct bt_json *json)
{
	uint32_t line, column;

	bt_json_string(json, "file", bt_mason_locate(m, pos, &line, &column));
	bt_json_u64(json, "line", line);
	bt_json_u64(json, "column", column);
	bt_json_string(json, "text", text);
}

void bt_mason_render_json(struct blktap_mason *m, struct bt_strbuf *out)
{
	struct bt_json json;
	uint32_t i;

	bt_json_init(&json, out, false);
	bt_json_array(&json, NULL);
	for (i = 0; i < m->diag_count; i++) {
		const struct bt_diag *diag = m->diags[i];
		const struct bt_note *note;

		bt_json_object(&json, NULL);
		bt_json_string(&json, "severity",
			       diag->warning ? "warning" : "error");
		json_place(m, diag->pos, diag->text, &json);
		if (diag->hint)
			bt_json_string(&json, "hint", diag->hint);
		bt_json_array(&json, "notes");
		for (note = diag->notes; note; note = note->next) {
			bt_json_object(&json, NULL);
			json_place(m, note->pos, note->text, &json);
			bt_json_object_end(&json);
		}
		bt_json_array_end(&json);
		bt_json_object_end(&json);
	}
	bt_json_array_end(&json);
}
