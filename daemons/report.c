/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors in one form, and JSON: what every program writes, and what it reads of
 * tapdisk's answers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
	else if (message)
		/* further lines, of files with mistakes, come behind */
		fprintf(stderr, "%.*s: %s", (int)strcspn(message, "\n"),
			message, cause);
	else
		fprintf(stderr, "%s", cause);
	fprintf(stderr, " (%s)\n", name ? name : "?");
	if (message && !strstr(message, cause) && strchr(message, '\n'))
		fprintf(stderr, "%s\n", strchr(message, '\n') + 1);
	if (err && *blktap_error_get_hint(err))
		fprintf(stderr, "hint: %s\n", blktap_error_get_hint(err));
	blktap_error_destroy(err);
	return -rc;
}

int report_as(const struct args *args, const char *object, int rc,
	      const char *cause, const char *hint)
{
	const char *name = strerrorname_np(-rc);

	fprintf(stderr, "%s: cannot %s %s: %s: %s (%s)\n", args->program,
		get_deed(args), object, cause, strerror(-rc),
		name ? name : "?");
	if (hint)
		fprintf(stderr, "hint: %s\n", hint);
	return -rc;
}

/* Edits that turn a into b, of those that fit in a row of bytes. Levenshtein's,
 * with one row: row[j] is the distance of what was read of a from the first j
 * bytes of b. */
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

/* A third of the word may be wrong, and one edit more. */
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

/* As the library's own: a device may have several nodes, each a file. */
bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	if (stat(a, &x) < 0 || stat(b, &y) < 0)
		return false;
	if (S_ISBLK(x.st_mode) && S_ISBLK(y.st_mode))
		return x.st_rdev == y.st_rdev;
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Only "type:path": a spec with brackets says what is a path by its parameters,
 * and must have absolute ones. */
size_t path_in_spec(const char *spec)
{
	const char *colon = strchr(spec, ':');
	const struct blktap_param *param = NULL;
	const struct blktap_class *cls;
	char type[64] = "";

	if (!colon || !colon[1] || (size_t)(colon - spec) >= sizeof(type))
		return 0;
	memcpy(type, spec, (size_t)(colon - spec));
	cls = blktap_class_find(type);
	if (cls)
		param = blktap_class_get_param(cls, 0);
	/* files that describe disks belong to no class */
	if (strcmp(type, "mason") != 0 && strcmp(type, "x-chain") != 0 &&
	    (!param || param->type != BLKTAP_PARAM_PATH))
		return 0;
	return (size_t)(colon - spec) + 1;
}

/* How many bytes the character at text has; 0: they are not UTF-8, which a name of
 * a file need not be. */
static int character_length(const char *text)
{
	static const struct {
		unsigned char first, last; /* of the lead byte */
		unsigned char low, high; /* of the byte behind it */
		int length;
	} forms[] = {
		{ 0x01, 0x7f, 0x00, 0xff, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 }, { 0 },
	};
	const unsigned char *p = (const unsigned char *)text;
	int n, i = 0;

	while (forms[i].length && (*p < forms[i].first || *p > forms[i].last))
		i++;
	if (p[1] < forms[i].low || p[1] > forms[i].high)
		return 0;
	for (n = 2; n < forms[i].length; n++)
		if ((p[n] & 0xc0) != 0x80)
			return 0;
	return forms[i].length;
}

/* A byte that is not UTF-8 becomes U+FFFD, and the text is then not the name of
 * the file any more: JSON has no other way. */
void put_json_string(FILE *out, const char *text)
{
	int n;

	putc('"', out);
	for (; *text; text += n ? n : 1) {
		unsigned char c = (unsigned char)*text;

		n = character_length(text);
		if (!n)
			fputs("\\ufffd", out);
		else if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < ' ' || c == 0x7f)
			fprintf(out, "\\u%04x", c);
		else
			fwrite(text, 1, (size_t)n, out);
	}
	putc('"', out);
}

/* Our own side escapes control characters, and with U+FFFD what is not UTF-8. */
static const char *put_character(FILE *out, const char *at)
{
	static const char from[] = "nrtbf", to[] = "\n\r\t\b\f";
	const char *found;

	if (*at != '\\') {
		putc(*at, out);
		return at + 1;
	}
	at++;
	if (*at == 'u' && strlen(at) > 4) {
		char hex[] = { at[1], at[2], at[3], at[4], '\0' };
		long code = strtol(hex, NULL, 16);

		if (code < 0x80)
			putc((int)code, out);
		else
			fputs("\xef\xbf\xbd", out); /* U+FFFD */
		return at + 5;
	}
	found = *at ? strchr(from, *at) : NULL;
	putc(found ? to[found - from] : *at, out);
	return *at ? at + 1 : at;
}

/* Looks for the text of the key: enough for answers in which it is the first of
 * its kind, and strings have their quotes escaped. */
void print_member(FILE *out, const char *json, const char *key)
{
	char start[64];
	const char *at;

	snprintf(start, sizeof(start), "\"%s\":\"", key);
	at = strstr(json, start);
	if (!at)
		return;
	for (at += strlen(start); *at && *at != '"';)
		at = put_character(out, at);
}
