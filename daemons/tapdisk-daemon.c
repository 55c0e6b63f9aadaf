/* SPDX-License-Identifier: BSD-3-Clause */
/* The tapdisk that tap-ctl drives. It tells where it listens only once it does,
 * and whoever waits for its output to end does not wait for the daemon. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tapdisk.h"

/* The child says how its start went by its end of a pipe. Returns in the child,
 * with the descriptor to write to; the parent waits, and ends. A byte means
 * that it listens. The end of the pipe without one means that the child has
 * ended or is about to, with its own exit status. Where the parent is killed
 * before, the child goes with it: who gave up waiting could not find it. */
static int become_daemon(void)
{
	struct pollfd parent = { 0 };
	int fds[2], status;
	char byte;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		close(fds[0]);
		setsid();
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		parent.fd = fds[1];
		if (poll(&parent, 1, 0)) /* it has gone already */
			_exit(EXIT_FAILURE);
		return fds[1];
	}
	close(fds[1]);
	if (read(fds[0], &byte, 1) == 1)
		_exit(0);
	/* It failed, and said why on stderr. */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
}

/* fd -1: in the foreground. Returns an exit status. The streams are given up
 * before the byte is written: whoever reads our output sees its end only after
 * all of us have closed it. */
static int tell_started(const char *path, int fd)
{
	int null, status;

	puts(path);
	status = flush_output("tapdisk");
	if (status || fd < 0)
		return status;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
	prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
	if (write(fd, "", 1) < 0)
		_exit(EXIT_FAILURE);
	close(fd);
	return 0;
}

/* Whoever writes to a block device to free memory waits for us, so we must not
 * wait for that: neither for a page of ours that is on it, nor by asking for
 * memory that only it can free. */
static void serve_reclaim(void)
{
	if (blktap_ring_probe(NULL))
		return;
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

/* Our name is told last: whoever reads it may connect at once. */
static int serve(const struct args *args, struct blktap_context *context,
		 int fd)
{
	struct blktap_control_server_options options;
	struct blktap_control_server *server;
	struct blktap_error *err = NULL;
	int rc, status;

	blktap_control_server_options_init(&options);
	options.rundir = arg_rundir(args);
	rc = blktap_control_server_create(context, &options, &server, &err);
	if (rc)
		return report(args, NULL, rc, err);
	if (fd >= 0 && chdir("/"))
		rc = -errno;
	serve_reclaim();
	status = confine_daemon(args, blktap_control_server_get_path(server));
	if (!status)
		status = tell_started(blktap_control_server_get_path(server),
				      fd);
	while (!status && !blktap_control_server_is_finished(server) &&
	       run_once(context))
		;
	rc = blktap_control_server_destroy(server);
	return rc && !status ? EXIT_FAILURE : status;
}

/* The fork comes before the context, whose engine belongs to one process. */
int run_daemon(const struct args *args)
{
	bool foreground = arg_is_set(args, "foreground");
	struct blktap_context *context;
	int fd = -1, status;

	umask(077);
	if (!foreground) {
		fd = become_daemon();
		if (fd < 0)
			return report(args, NULL, fd, NULL);
	}
	status = create_context(args, !foreground, &context);
	if (status)
		return status;
	status = serve(args, context, fd);
	release_signals();
	end_context(context);
	return status;
}
