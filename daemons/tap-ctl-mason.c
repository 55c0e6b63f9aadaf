/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl mason: graphs described in files. What is here needs no tapdisk; the
 * verbs about running disks are in tap-ctl-graph.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap-ctl.h"

#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define EXIT_NOT_FOUND 4
#define TEXT_MAX ((size_t)2 << 20) /* more than the library takes */
#define DEFINES_MAX 32
#define VERBS_MAX 16

/* ---- files ----------------------------------------------------------------- */

static int read_stream(FILE *f, char **text, size_t *length)
{
	char *buf = malloc(TEXT_MAX);

	if (!buf)
		return -ENOMEM;
	errno = 0;
	*length = fread(buf, 1, TEXT_MAX, f);
	if (ferror(f)) {
		int rc = errno ? -errno : -EIO;

		free(buf);
		return rc;
	}
	*text = buf;
	return 0;
}

static int read_file(void *opaque, const char *path, char **text,
		     size_t *length)
{
	FILE *f;
	int rc;

	if (!strcmp(path, "-"))
		return read_stream(stdin, text, length);
	f = fopen(path, "rbe");
	if (!f)
		return -errno;
	rc = read_stream(f, text, length);
	fclose(f);
	return rc;
}

static int write_stream(int fd, const char *text)
{
	FILE *f = fdopen(fd, "wb");
	int rc = 0;

	if (!f) {
		rc = -errno;
		close(fd);
		return rc;
	}
	if (fputs(text, f) < 0 || fflush(f) || fsync(fd) < 0)
		rc = -errno;
	if (fclose(f) && !rc)
		rc = -errno;
	return rc;
}

/* The file is the old one or the new one, and keeps its mode. */
static int replace_file(const char *path, const char *text)
{
	char name[4096];
	struct stat st;
	int fd, rc;

	if (stat(path, &st) < 0)
		return -errno;
	if (snprintf(name, sizeof(name), "%s.XXXXXX", path) >=
	    (int)sizeof(name))
		return -ENAMETOOLONG;
	fd = mkstemp(name);
	if (fd < 0)
		return -errno;
	rc = fchmod(fd, st.st_mode & 07777) < 0 ? -errno : 0;
	if (rc)
		close(fd);
	else
		rc = write_stream(fd, text);
	if (!rc && rename(name, path) < 0)
		rc = -errno;
	if (rc)
		unlink(name);
	return rc;
}

/* ---- options --------------------------------------------------------------- */

static const char *defines[DEFINES_MAX + 1];
static struct blktap_modules *modules;

/* -D may be given many times, which the table of options has no word for: they
 * are taken out before it is asked. False where there are too many. */
static bool take_defines(int *argc, char **argv)
{
	int from, to = 1, n = 0;

	for (from = 1; from < *argc; from++) {
		const char *value = NULL;

		if (!strncmp(argv[from], "--define=", 9))
			value = argv[from] + 9;
		else if (!strncmp(argv[from], "-D", 2) && argv[from][2])
			value = argv[from] + 2;
		else if ((!strcmp(argv[from], "-D") ||
			  !strcmp(argv[from], "--define")) &&
			 argv[from + 1])
			value = argv[++from];
		if (!value)
			argv[to++] = argv[from];
		else if (n < DEFINES_MAX)
			defines[n++] = value;
		else
			return false;
	}
	argv[to] = NULL;
	*argc = to;
	return true;
}

const char *const *mason_defines(void)
{
	return defines;
}

static bool parse_size(const char *text, uint64_t *out)
{
	static const char units[] = "kMGT";
	const char *unit;
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || errno)
		return false;
	if (!*end)
		return true;
	unit = strchr(units, *end == 'K' ? 'k' : *end);
	if (!unit || end[1] || *out > UINT64_MAX >> (10 * (unit - units + 1)))
		return false;
	*out <<= 10 * (unit - units + 1);
	return true;
}

/* ---- verbs ----------------------------------------------------------------- */

static int fail(const struct args *args, int rc, struct blktap_error *err)
{
	report(args, err ? NULL : arg_text(args, "file"), rc, err);
	return rc == -ENOENT ? EXIT_NOT_FOUND : EXIT_FAILED;
}

static int load(const struct args *args, char **text, size_t *length)
{
	int rc = read_file(NULL, arg_text(args, "file"), text, length);

	return rc < 0 ? fail(args, rc, NULL) : 0;
}

static void end_check(struct blktap_mason *mason)
{
	blktap_mason_destroy(mason);
	blktap_modules_destroy(modules);
	modules = NULL;
}

/* *out is made wherever 0 is returned, with errors or without. */
static int check_file(const struct args *args, struct blktap_mason **out)
{
	struct blktap_mason_options options;
	struct blktap_error *err = NULL;
	size_t length;
	char *text;
	int rc;

	blktap_mason_options_init(&options);
	options.next_class = blktap_class_next;
	options.read = read_file;
	options.defines = defines;
	if (arg_is_set(args, "memory") &&
	    !parse_size(arg_text(args, "memory"), &options.memory_budget)) {
		fprintf(stderr,
			"%s: --memory '%s' is not a size\n"
			"hint: bytes, or a number with k, M, G or T\n",
			args->program, arg_text(args, "memory"));
		return EXIT_USAGE;
	}
	if (load_modules(args, &modules))
		return EXIT_FAILED;
	rc = load(args, &text, &length);
	if (rc) {
		end_check(NULL);
		return rc;
	}
	options.modules = modules;
	rc = blktap_mason_check(arg_text(args, "file"), text, length, &options,
				out, &err);
	free(text);
	if (rc < 0)
		end_check(NULL);
	return rc < 0 ? fail(args, rc, err) : 0;
}

static int check(const struct args *args)
{
	struct blktap_mason *mason;
	int rc = check_file(args, &mason);

	if (rc)
		return rc;
	rc = blktap_mason_get_errors(mason) ? EXIT_FAILED : 0;
	if (arg_is_set(args, "json"))
		puts(blktap_mason_get_report_json(mason));
	else
		fputs(blktap_mason_get_report(mason), stderr);
	if (!rc && !arg_is_set(args, "json"))
		printf("%s: %u nodes, %llu bytes of memory\n",
		       arg_text(args, "file"), blktap_mason_get_nodes(mason),
		       (unsigned long long)blktap_mason_get_memory(mason));
	end_check(mason);
	return rc;
}

static int draw(const struct args *args)
{
	struct blktap_error *err = NULL;
	struct blktap_mason *mason;
	char *out;
	int rc = check_file(args, &mason);

	if (rc)
		return rc;
	fputs(blktap_mason_get_report(mason), stderr);
	if (blktap_mason_get_errors(mason)) {
		rc = EXIT_FAILED;
	} else if ((rc = blktap_mason_dot(mason, &out, &err)) < 0) {
		rc = fail(args, rc, err);
	} else {
		fputs(out, stdout);
		free(out);
	}
	end_check(mason);
	return rc;
}

static int format(const struct args *args)
{
	const char *file = arg_text(args, "file");
	struct blktap_error *err = NULL;
	char *text, *out;
	size_t length;
	int rc = load(args, &text, &length);

	if (rc)
		return rc;
	rc = blktap_mason_format(file, text, length, &out, &err);
	if (!rc && !arg_is_set(args, "in-place"))
		fputs(out, stdout);
	else if (!rc && (strlen(out) != length || memcmp(out, text, length)))
		rc = replace_file(file, out);
	if (rc)
		rc = fail(args, rc, err);
	else
		free(out);
	free(text);
	return rc;
}

#define OPT_FILE                                                              \
	{                                                                     \
		0, "file", OPT_TEXT, "FILE", "the file; - is standard input", \
			OPT_REQUIRED, 0                                       \
	}
#define OPT_DEFINE                                                           \
	{                                                                    \
		'D', "define", OPT_TEXT, "NAME=VALUE",                       \
			"takes the place of 'let $NAME'; many may be given", \
			0, 0                                                 \
	}
#define OPT_MEMORY                                                    \
	{                                                             \
		0, "memory", OPT_TEXT, "SIZE",                        \
			"refuse a graph that takes more memory", 0, 0 \
	}

static const struct opt check_options[] = {
	OPT_FILE,
	OPT_DEFINE,
	OPT_MEMORY,
	{ 0, "json", OPT_FLAG, NULL, "messages as a JSON array", 0, 0 },
	{ 0 },
};

static const struct opt draw_options[] = {
	OPT_FILE,
	OPT_DEFINE,
	OPT_MEMORY,
	{ 0 },
};

static const struct opt format_options[] = {
	OPT_FILE,
	{ 'i', "in-place", OPT_FLAG, NULL, "write it back to the file", 0, 0 },
	{ 0 },
};

static const struct command verbs[] = {
	{ "check", NULL, "FILE", "say what is wrong with a file", check_options,
	  "file", EXIT_USAGE, check },
	{ "fmt", "format", "FILE", "print a file in its canonical form",
	  format_options, "file", EXIT_USAGE, format },
	{ "dot", "draw", "FILE", "draw a file's graph for Graphviz",
	  draw_options, "file", EXIT_USAGE, draw },
	{ 0 },
};

static void put_verbs(FILE *out)
{
	const struct command *c;

	for (c = verbs; c->name; c++)
		fprintf(out, "  %-10s %s\n", c->name, c->summary);
	for (c = graph_verbs; c->name; c++)
		fprintf(out, "  %-10s %s\n", c->name, c->summary);
}

static int no_verb(const struct args *args)
{
	show_usage(stderr, "tap-ctl", args->command);
	put_verbs(stderr);
	return EXIT_USAGE;
}

const struct command mason_commands[] = {
	{ .name = "mason",
	  .operands = "check|fmt|dot|plan|apply|.. FILE",
	  .summary = "check, print, draw and apply graphs described in files",
	  .usage_status = EXIT_USAGE,
	  .run = no_verb,
	  .more = put_verbs },
	{ 0 },
};

int run_mason(int argc, char **argv)
{
	const struct command *tables[] = { verbs, graph_verbs };
	const char *names[VERBS_MAX + 1] = { NULL };
	const struct command *c;
	const char *like;
	size_t i, n = 0;

	if (!take_defines(&argc, argv)) {
		fprintf(stderr, "tap-ctl mason: more than %d definitions\n",
			DEFINES_MAX);
		return EXIT_USAGE;
	}
	if (argc < 2 || argv[1][0] == '-')
		return run_command("tap-ctl", mason_commands, argc, argv);
	for (i = 0; i < 2; i++)
		for (c = tables[i]; c->name; c++) {
			if (!strcmp(c->name, argv[1]))
				return run_command("tap-ctl mason", c, argc - 1,
						   argv + 1);
			if (n < VERBS_MAX)
				names[n++] = c->name;
		}
	like = suggest(argv[1], names);
	fprintf(stderr, "tap-ctl mason: unknown command '%s'\n", argv[1]);
	if (like)
		fprintf(stderr, "hint: did you mean '%s'?\n", like);
	else
		put_verbs(stderr);
	return EXIT_USAGE;
}
