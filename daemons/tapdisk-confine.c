/* SPDX-License-Identifier: BSD-3-Clause */
/* How much a tapdisk gives up. System calls that it never makes: always. Files:
 * a tapdisk that serves one disk opens nothing any more once it is served, so it
 * loses all of them; the daemon opens what tap-ctl names later, so it loses only
 * what the user left out of --confine. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "confine.h"
#include "tapdisk.h"

static bool is_none(const char *text)
{
	return text && !strcmp(text, "none");
}

/* The directory of a file, or "". */
static void get_directory(const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');

	if (slash)
		snprintf(out, size, "%.*s",
			 slash > path ? (int)(slash - path) : 1, path);
	else
		snprintf(out, size, "%s", *path ? "." : "");
}

static int refuse(const struct args *args, const char *object, int rc,
		  const char *hint)
{
	rc = report(args, object, rc, NULL);
	fprintf(stderr, "hint: %s\n", hint);
	return rc;
}

/* "DIR:DIR" */
static int allow_named(const struct args *args, struct confine_files *c,
		       const char *text)
{
	char *copy = strdup(text), *rest = copy, *dir;
	int rc = copy ? 0 : report(args, NULL, -ENOMEM, NULL);

	while (!rc && (dir = strsep(&rest, ":"))) {
		rc = *dir ? confine_files_allow(c, dir, CONFINE_ALL) : 0;
		if (rc)
			rc = refuse(args, dir, rc,
				    "--confine takes directories that exist");
	}
	free(copy);
	return rc;
}

/* To what the user named, and one directory more. */
static int confine_to(const struct args *args, const char *text,
		      const char *directory, enum confine_right right)
{
	struct confine_files c;
	int rc = confine_files_init(&c);

	if (rc)
		return refuse(args, "--confine", rc,
			      "the kernel has no Landlock; without --confine "
			      "all files can be reached");
	rc = allow_named(args, &c, text);
	if (!rc && *directory) {
		rc = confine_files_allow(&c, directory, right);
		if (rc)
			rc = report(args, directory, rc, NULL);
	}
	if (rc) {
		confine_files_fini(&c);
		return rc;
	}
	rc = confine_files_enforce(&c);
	return rc ? report(args, "--confine", rc, NULL) : 0;
}

int confine_daemon(const struct args *args, const char *control)
{
	const char *text = arg_text(args, "confine");
	char directory[512];
	int rc = 0;

	if (!text)
		text = getenv("BLKTAP_CONFINE");
	if (is_none(text))
		return 0;
	get_directory(control, directory, sizeof(directory));
	if (text && *text)
		rc = confine_to(args, text, directory, CONFINE_ALL);
	if (!rc)
		confine_calls();
	return rc;
}

int confine_opening(const struct args *args, const char *base)
{
	const char *text = arg_text(args, "confine");
	char directory[512] = "";

	if (!text || is_none(text))
		return 0;
	if (arg_is_set(args, "run"))
		return misuse(args, NULL,
			      "--confine would confine the command of --run");
	if (base && arg_is_set(args, "unix"))
		get_directory(base, directory, sizeof(directory));
	else if (base)
		snprintf(directory, sizeof(directory), "%s", base);
	return confine_to(args, text, directory, CONFINE_SOCKET);
}

/* Whoever asked for nothing is told of nothing. */
static void drop_files(const char *socket, const char *directory)
{
	struct confine_files c;
	char parent[512];
	int rc = confine_files_init(&c);

	if (rc)
		return;
	get_directory(socket, parent, sizeof(parent));
	if (*parent)
		rc = confine_files_allow(&c, parent, CONFINE_SOCKET);
	get_directory(directory, parent, sizeof(parent));
	if (!rc && *parent)
		rc = confine_files_allow(&c, parent, CONFINE_RMDIR);
	if (rc)
		confine_files_fini(&c);
	else
		confine_files_enforce(&c);
}

void confine_serving(const struct args *args, const char *socket,
		     const char *directory)
{
	const char *text = arg_text(args, "confine");

	if (is_none(text))
		return;
	drop_files(socket, directory);
	confine_calls();
}
