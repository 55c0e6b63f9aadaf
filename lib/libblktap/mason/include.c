/* SPDX-License-Identifier: BSD-3-Clause */
/* Files that a file brings in. Their text comes from the caller; what is here
 * is the bookkeeping: each once, no loop, not too deep, not too many. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "mason/private.h"

/* name as seen from the file that includes it. Beside the file that includes
 * it, as with an include of C. */
static char *resolve(struct blktap_mason *m, const char *name, uint32_t from)
{
	const char *base = m->sources[from].name;
	const char *slash = strrchr(base, '/');

	if (name[0] == '/' || !slash)
		return bt_mason_printf(m, "%s", name);
	return bt_mason_printf(m, "%.*s%s", (int)(slash - base + 1), base,
			       name);
}

/* Whether the file is one of those that are being read; says so. Compared by
 * the resolved name: a loop over links in the file system ends at the depth's
 * bound. */
static bool is_loop(struct blktap_mason *m, const char *path, struct bt_pos pos)
{
	const struct bt_source *src = &m->sources[pos.file];

	for (;; src = &m->sources[src->from.file]) {
		if (!strcmp(src->name, path))
			break;
		if (!src->depth)
			return false;
	}
	/* the way here is in the notes "included here" */
	bt_mason_error(m, pos, NULL, "'%s' includes itself", path);
	return true;
}

/* A file that two others include is read once, where it comes first. */
static bool is_there(const struct blktap_mason *m, const char *path)
{
	uint32_t i;

	for (i = 0; i < m->source_count; i++)
		if (!strcmp(m->sources[i].name, path))
			return true;
	return false;
}

/* The text is the arena's; what the reader gave is freed. A length is checked
 * before it is copied. */
static struct bt_source *read_source(struct blktap_mason *m, const char *path,
				     struct bt_pos pos)
{
	struct bt_source *src = &m->sources[m->source_count];
	char buf[BT_STRERROR_MAX], *text = NULL;
	size_t len = 0;
	int rc;

	rc = m->options.read(m->options.read_opaque, path, &text, &len);
	if (rc < 0) {
		bt_mason_error(m, pos, NULL, "cannot read '%s': %s", path,
			       bt_strerror(rc, buf));
		return NULL;
	}
	if (len > BT_MASON_MAX_TEXT) {
		bt_mason_error(m, pos, NULL, "'%s' is larger than 1M", path);
		free(text);
		return NULL;
	}
	src->name = path;
	src->text = bt_mason_strndup(m, text, len);
	src->len = len;
	src->from = pos;
	src->depth = m->sources[pos.file].depth + 1;
	free(text);
	if (!src->text)
		return NULL;
	m->source_count++;
	return src;
}

struct bt_stmt *bt_mason_include(struct blktap_mason *m, const char *name,
				 struct bt_pos pos)
{
	char *path = resolve(m, name, pos.file);
	struct bt_source *src;

	if (!path || m->alone)
		return NULL;
	if (!m->options.read) {
		bt_mason_error(m, pos, NULL, "files cannot be included here");
		return NULL;
	}
	if (is_loop(m, path, pos) || is_there(m, path))
		return NULL;
	if (m->sources[pos.file].depth >= BT_MASON_MAX_DEPTH) {
		bt_mason_error(m, pos, NULL, "includes are more than %u deep",
			       BT_MASON_MAX_DEPTH);
		return NULL;
	}
	if (m->source_count == BT_MASON_MAX_FILES) {
		bt_mason_error(m, pos, NULL, "more than %u files",
			       BT_MASON_MAX_FILES);
		return NULL;
	}
	src = read_source(m, path, pos);
	if (!src) {
		m->syntax_errors = true;
		return NULL;
	}
	return bt_mason_parse(m, (uint32_t)(src - m->sources));
}
