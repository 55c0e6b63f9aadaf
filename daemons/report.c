/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

const char *arg_rundir(const struct args *args)
{
	const char *dir = arg_text(args, "rundir");

	return dir ? dir : getenv("BLKTAP_RUNDIR");
}

const char *get_deed(const struct args *args)
{
	const struct command *command = args->command;

	return command->deed ? command->deed : command->name;
}

int report(const struct args *args, const char *object, int rc,
	   struct blktap_error *err)
{
	const char *cause = strerror(-rc), *name = strerrorname_np(-rc);
	const char *message = err ? blktap_error_get_message(err) : NULL;

	/* The system's own words stand in every error: scripts look for them. */
	fprintf(stderr, "%s: cannot %s%s%s: ", args->program, get_deed(args),
		object ? " " : "", object ? object : "");
	if (message && strstr(message, cause))
		fprintf(stderr, "%s", message);
	else
		fprintf(stderr, "%s%s%s", message ? message : "",
			message ? ": " : "", cause);
	fprintf(stderr, " (%s)\n", name ? name : "?");
	if (err && *blktap_error_get_hint(err))
		fprintf(stderr, "hint: %s\n", blktap_error_get_hint(err));
	blktap_error_destroy(err);
	return -rc;
}

/* Edits that turn a into b, of those that fit in a row of bytes. */
static size_t distance(const char *a, const char *b)
{
	size_t row[64], i, j, m = strlen(b), diagonal, above;

	if (m >= sizeof(row) / sizeof(*row))
		return m;
	for (j = 0; j <= m; j++)
		row[j] = j;
	for (i = 1; *a; a++, i++) {
		diagonal = row[0];
		row[0] = i;
		for (j = 1; j <= m; j++) {
			above = row[j];
			row[j] = diagonal + (*a != b[j - 1]);
			if (above + 1 < row[j])
				row[j] = above + 1;
			if (row[j - 1] + 1 < row[j])
				row[j] = row[j - 1] + 1;
			diagonal = above;
		}
	}
	return row[m];
}

const char *suggest(const char *word, const char *const *names)
{
	size_t best = strlen(word) / 3 + 2, d;
	const char *found = NULL;

	for (; *names; names++) {
		d = distance(word, *names);
		if (d < best) {
			best = d;
			found = *names;
		}
	}
	return found;
}

void put_json_string(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < ' ')
			fprintf(out, "\\u%04x", c);
		else
			putc(c, out);
	}
	putc('"', out);
}
