/* SPDX-License-Identifier: BSD-3-Clause */
/* What a program owes to those who read its output: words go where they should,
 * or its exit status says that they did not. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

/* A descriptor that was closed becomes one that cannot do its work, so that
 * using it is an error, as it would be if it were closed still. */
void open_stdio(void)
{
	static const int modes[] = { O_WRONLY, O_RDONLY, O_RDONLY };
	int fd;

	for (fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", modes[fd]) != fd)
			_exit(EXIT_FAILURE);
}

void outlive_reader(void)
{
	signal(SIGPIPE, SIG_IGN);
}

int flush_output(const char *program)
{
	int rc = 0;

	errno = 0;
	if (fflush(stdout) || ferror(stdout))
		rc = errno ? errno : EIO; /* an earlier write failed */
	if (rc)
		fprintf(stderr,
			"%s: cannot write its output: %s (%s)\n"
			"hint: standard output is full or closed\n",
			program, strerror(rc), strerrorname_np(rc));
	return rc;
}

int end_output(const char *program, int status)
{
	return status ? status : flush_output(program);
}
