/* SPDX-License-Identifier: BSD-3-Clause */
/* <blktap/mason.h>: a text in, an object with all that was found out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "mason/private.h"
#include "util/options.h"

void blktap_mason_options_init_sized(struct blktap_mason_options *options,
				     size_t size)
{
	struct blktap_mason_options all = { .size = size };

	bt_options_fill(options, size, &all, sizeof(all));
}

/* What the caller's headers know of; the rest keeps its default. */
static void copy_options(struct blktap_mason *m,
			 const struct blktap_mason_options *options)
{
	blktap_mason_options_init(&m->options);
	if (options)
		memcpy(&m->options, options,
		       options->size < sizeof(m->options) ? options->size
							  : sizeof(m->options));
}

/* The texts are copied: places in them are shown when the caller's are gone. */
static int add_source(struct blktap_mason *m, const char *name,
		      const char *text, size_t length)
{
	struct bt_source *src = &m->sources[m->source_count];

	src->name = bt_mason_strndup(m, name, strlen(name));
	src->text = bt_mason_strndup(m, text, length);
	src->len = length;
	if (m->failed)
		return -ENOMEM;
	m->source_count++;
	return 0;
}

static int open_text(const char *name, const char *text, size_t length,
		     struct blktap_mason **out, struct blktap_error **err)
{
	struct blktap_mason *m;

	if (length > BT_MASON_MAX_TEXT)
		return bt_fail(err, -E2BIG, NULL, "%s: larger than 1M", name);
	m = calloc(1, sizeof(*m));
	if (!m || add_source(m, name, text, length) < 0) {
		blktap_mason_destroy(m);
		return bt_fail(err, -ENOMEM, NULL, "%s: out of memory", name);
	}
	*out = m;
	return 0;
}

/* "name=value" of the command line. It is a source of its own, so that messages
 * have a line to show. Half of the files may be definitions, so that the other
 * half is there for includes. */
static void add_define(struct blktap_mason *m, const char *define)
{
	const char *equal = strchr(define, '=');
	struct bt_pos pos = { m->source_count, 0 };
	struct bt_value *value = bt_mason_alloc(m, sizeof(*value));
	struct bt_name *name;
	const char *key;

	if (m->source_count == BT_MASON_MAX_FILES / 2 ||
	    strlen(define) > BT_MASON_MAX_TEXT) {
		bt_mason_error(m, (struct bt_pos){ 0, 0 }, NULL,
			       "too many definitions");
		return;
	}
	if (!value || add_source(m, "-D", define, strlen(define)) < 0)
		return;
	if (!equal || equal == define) {
		bt_mason_error(m, pos, "write -D name=value",
			       "not a definition");
		return;
	}
	key = bt_mason_strndup(m, define, (size_t)(equal - define));
	value->kind = BT_VALUE_WORD;
	value->pos = pos;
	value->text = bt_mason_printf(m, "%s", equal + 1);
	if (m->failed)
		return;
	if (bt_names_find(&m->names, BT_NAME_LET, key)) {
		bt_mason_error(m, pos, NULL, "'$%s' is defined twice", key);
		return;
	}
	name = bt_names_add(m, &m->names, BT_NAME_LET, key, pos);
	if (!name)
		return;
	name->what = value;
	name->fixed = true;
}

/* Each step needs what the one before made, and is left out where that is not
 * there; mistakes of one step do not keep the next from its own unless it could
 * only repeat them. */
static void check(struct blktap_mason *m)
{
	const char *const *define = m->options.defines;
	struct bt_stmt *stmts;

	for (; define && *define && !m->failed; define++)
		add_define(m, *define);
	stmts = bt_mason_parse(m, 0);
	if (!m->failed)
		bt_mason_build(m, stmts);
	if (m->failed || m->too_many)
		return;
	bt_mason_check_asserts(m);
	/* where a node or link is missing, who writes what cannot be told */
	if (!bt_mason_check_shape(m) || m->errors || m->failed)
		return;
	bt_mason_check_flow(m);
	bt_mason_check_core(m);
	if (!m->failed)
		bt_mason_check_sizes(m);
}

/* An arena that is more than half full was the text's doing, most likely. */
static int out_of_bounds(const struct blktap_mason *m,
			 struct blktap_error **err)
{
	if (m->total > BT_MASON_MAX_ARENA / 2)
		return bt_fail(err, -E2BIG, NULL,
			       "%s: takes more memory than a check may",
			       m->sources[0].name);
	return bt_fail(err, -ENOMEM, NULL, "%s: out of memory",
		       m->sources[0].name);
}

/* 0 with mistakes too: they are the answer. An error is that there is none, for
 * lack of memory or for what a text may not ask for. */
int blktap_mason_check(const char *name, const char *text, size_t length,
		       const struct blktap_mason_options *options,
		       struct blktap_mason **out, struct blktap_error **err)
{
	struct blktap_mason *m;
	int rc = open_text(name, text, length, &m, err);

	if (rc < 0)
		return rc;
	copy_options(m, options);
	check(m);
	bt_mason_sort(m);
	bt_mason_render(m, &m->report);
	bt_mason_render_json(m, &m->json);
	if (m->failed || m->report.failed || m->json.failed) {
		rc = out_of_bounds(m, err);
		blktap_mason_destroy(m);
		return rc;
	}
	*out = m;
	return 0;
}

/* Arguments are the only thing outside of the arena, besides the two texts. */
void blktap_mason_destroy(struct blktap_mason *mason)
{
	uint32_t i;

	if (!mason)
		return;
	for (i = 0; i < mason->graph.count; i++) {
		bt_args_destroy(mason->graph.nodes[i]->args);
		bt_args_destroy(mason->graph.nodes[i]->core);
	}
	bt_strbuf_fini(&mason->report);
	bt_strbuf_fini(&mason->json);
	bt_mason_free_all(mason);
	free(mason);
}

uint32_t blktap_mason_get_errors(const struct blktap_mason *mason)
{
	return mason->errors;
}

uint32_t blktap_mason_get_warnings(const struct blktap_mason *mason)
{
	return mason->warnings;
}

const char *blktap_mason_get_report(const struct blktap_mason *mason)
{
	return bt_strbuf_str(&mason->report);
}

const char *blktap_mason_get_report_json(const struct blktap_mason *mason)
{
	return bt_strbuf_str(&mason->json);
}

/* As much as the caller's struct has room for. */
int blktap_mason_get_diagnostic(const struct blktap_mason *mason,
				uint32_t index,
				struct blktap_mason_diagnostic *out)
{
	struct blktap_mason_diagnostic found = { .size = out->size };
	const struct bt_diag *diag;

	if (index >= mason->diag_count)
		return -ENOENT;
	diag = mason->diags[index];
	found.is_warning = diag->warning;
	found.file =
		bt_mason_locate(mason, diag->pos, &found.line, &found.column);
	found.text = diag->text;
	found.hint = diag->hint ? diag->hint : "";
	memcpy(out, &found,
	       out->size < sizeof(found) ? out->size : sizeof(found));
	return 0;
}

/* Only a graph without mistakes is handed out, so whoever has one need not check
 * it: classes are known, arguments complete and in range, ports linked. */
const struct bt_mason_graph *bt_mason_get_graph(
	const struct blktap_mason *mason)
{
	return mason->errors ? NULL : &mason->graph;
}

uint32_t blktap_mason_get_nodes(const struct blktap_mason *mason)
{
	return mason->errors ? 0 : mason->graph.count;
}

uint64_t blktap_mason_get_memory(const struct blktap_mason *mason)
{
	return mason->errors ? 0 : mason->graph.memory;
}

/* Needs nothing but the text: includes are not read, and classes not looked up. */
int blktap_mason_format(const char *name, const char *text, size_t length,
			char **out, struct blktap_error **err)
{
	struct blktap_mason *m;
	int rc = open_text(name, text, length, &m, err);

	if (rc < 0)
		return rc;
	m->alone = true;
	bt_mason_parse(m, 0);
	bt_mason_sort(m);
	if (m->failed) {
		rc = out_of_bounds(m, err);
	} else if (m->errors) {
		uint32_t line, column;
		const char *hint = m->diags[0]->hint;

		bt_mason_locate(m, m->diags[0]->pos, &line, &column);
		rc = bt_fail(err, -EINVAL, hint, "%s:%u:%u: error: %s", name,
			     line, column, m->diags[0]->text);
	} else {
		rc = bt_mason_format(m, out);
		if (rc < 0)
			bt_fail(err, rc, NULL, "%s: out of memory", name);
	}
	blktap_mason_destroy(m);
	return rc;
}
