/* SPDX-License-Identifier: BSD-3-Clause */
/* The language's calls as a program, over the test classes:
 *
 *	mason-tool check|json|fmt|dot FILE [-D name=value].. [-m BUDGET]
 *
 * Messages go to stdout. Exits 0 where there were no errors, else 1. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <blktap/mason.h>

#include "classes.h"
#include "port/args.h"

static int read_file(void *opaque, const char *path, char **text,
		     size_t *length)
{
	FILE *f = fopen(path, "rb");
	int rc;

	if (!f)
		return -errno;
	*text = malloc(3 << 20);
	*length = *text ? fread(*text, 1, 3 << 20, f) : 0;
	rc = !*text ? -ENOMEM : ferror(f) ? -EIO : 0;
	if (rc < 0)
		free(*text);
	fclose(f);
	return rc;
}

static int fail(struct blktap_error *err)
{
	printf("%s\n", blktap_error_get_message(err));
	if (*blktap_error_get_hint(err))
		printf("  hint: %s\n", blktap_error_get_hint(err));
	blktap_error_destroy(err);
	return EXIT_FAILURE;
}

static int show(const char *verb, const char *file, const char *text,
		size_t length, const struct blktap_mason_options *options)
{
	struct blktap_error *err = NULL;
	struct blktap_mason *mason;
	char *out = NULL;
	int rc;

	if (!strcmp(verb, "fmt")) {
		if (blktap_mason_format(file, text, length, &out, &err) < 0)
			return fail(err);
		printf("%s", out);
		free(out);
		return EXIT_SUCCESS;
	}
	if (blktap_mason_check(file, text, length, options, &mason, &err) < 0)
		return fail(err);
	rc = blktap_mason_get_errors(mason) ? EXIT_FAILURE : EXIT_SUCCESS;
	if (!strcmp(verb, "json")) {
		printf("%s\n", blktap_mason_get_report_json(mason));
	} else if (!strcmp(verb, "check")) {
		printf("%s", blktap_mason_get_report(mason));
	} else if (blktap_mason_dot(mason, &out, &err) < 0) {
		rc = fail(err);
	} else {
		printf("%s", out);
		free(out);
	}
	blktap_mason_destroy(mason);
	return rc;
}

int main(int argc, char **argv)
{
	struct blktap_mason_options options;
	const char *defines[64] = { NULL };
	char *text = NULL;
	size_t length = 0, n = 0;
	int opt, rc;

	blktap_mason_options_init(&options);
	options.next_class = test_class_next;
	options.read = read_file;
	options.defines = defines;
	while ((opt = getopt(argc, argv, "D:m:")) != -1)
		if (opt == 'D' && n < 63)
			defines[n++] = optarg;
		else if (opt != 'm' ||
			 bt_parse_size(optarg, &options.memory_budget) < 0)
			return 2;
	if (argc - optind != 2)
		return 2;
	rc = read_file(NULL, argv[optind + 1], &text, &length);
	if (rc < 0) {
		fprintf(stderr, "%s: %s\n", argv[optind + 1], strerror(-rc));
		return 2;
	}
	rc = show(argv[optind], argv[optind + 1], text, length, &options);
	free(text);
	return rc;
}
