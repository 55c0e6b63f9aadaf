/* SPDX-License-Identifier: BSD-3-Clause */
/* A text that runs, or is about to: what was read, checked, and kept. Every file
 * that went into it is held beside it, so that the same graph can be made again
 * whatever became of the files. */
#ifndef BT_MASON_FILE_H
#define BT_MASON_FILE_H

#include "mason/mason.h"

struct bt_mason_text {
	char *name;
	char *text; /* ended by a NUL that is not counted */
	size_t length;
};

struct bt_mason_file {
	struct bt_mason_text *texts; /* [0]: the file itself; then includes */
	uint32_t count;
	bool closed_set; /* includes come from texts alone */
	char **defines; /* ended by NULL; or NULL */
	struct blktap_mason *mason;
	const struct bt_mason_graph *graph;
};

struct bt_mason_source {
	const char *name; /* the file's path; includes lie beside it */
	const char *text; /* NULL: it is read from the file */
	size_t length;
	const char *const *defines; /* ended by NULL; or NULL */
	blktap_mason_class_fn *next_class;
	const struct blktap_modules *modules; /* or NULL */
	/* texts of an earlier check, the file itself first; then none is read */
	const struct bt_mason_text *texts;
	uint32_t text_count;
};

/* Checks a text; one with mistakes is -EINVAL and its whole report. */
int bt_mason_file_create(const struct bt_mason_source *source,
			 struct bt_mason_file **out, struct blktap_error **err);
void bt_mason_file_destroy(struct bt_mason_file *file);

#endif
