/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors in the form all programs have, with the exit statuses of map and
 * unmap; paths; programs. */
#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "map.h"

/* What scripts tell apart: not there, to be tried again, and the rest. */
static int status_of(int rc)
{
	switch (-rc) {
	case ENOENT:
		return MAP_NOT_FOUND;
	case EBUSY:
	case ETXTBSY:
	case EAGAIN:
		return MAP_BUSY;
	default:
		return MAP_FAILURE;
	}
}

int map_fail(const struct args *args, int rc, const char *hint, const char *fmt,
	     ...)
{
	const char *name = strerrorname_np(-rc);
	va_list ap;

	fprintf(stderr, "%s: cannot %s ", args->program, get_deed(args));
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, ": %s (%s)\n", strerror(-rc), name ? name : "?");
	if (hint)
		fprintf(stderr, "hint: %s\n", hint);
	return status_of(rc);
}

int map_report(const struct args *args, const char *object, int rc,
	       struct blktap_error *err)
{
	report(args, object, rc, err);
	return status_of(rc);
}

/* The last part is not followed, as the file need not exist. One that names a
 * directory (a slash at the end, "." or "..") has to. */
char *map_absolute(const char *path)
{
	char *copy = strdup(path), *slash, *dir, *out = NULL;
	const char *last;

	if (!copy)
		return NULL;
	slash = strrchr(copy, '/');
	last = slash ? slash + 1 : copy;
	if (!*last || !strcmp(last, ".") || !strcmp(last, "..")) {
		out = realpath(copy, NULL);
		free(copy);
		return out;
	}
	if (slash == copy) {
		dir = strdup("");
	} else {
		if (slash)
			*slash = '\0';
		dir = realpath(slash ? copy : ".", NULL);
		if (dir && !strcmp(dir, "/"))
			*dir = '\0';
	}
	if (dir && asprintf(&out, "%s/%s", dir, last) < 0)
		out = NULL;
	free(dir);
	free(copy);
	return out;
}

/* Its output is ours. Where SIGCHLD is ignored, as in the daemon, how it went is
 * lost (ECHILD); nobody there looks at it. */
int map_run(const char *const argv[])
{
	int status, rc;
	pid_t pid;

	rc = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv,
			  environ);
	if (rc)
		return -rc;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EIO;
}
