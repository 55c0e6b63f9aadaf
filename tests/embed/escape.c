/* SPDX-License-Identifier: BSD-3-Clause */
/* A module that somebody else has taken over: whoever reads from escape(file=F)
 * gets told how it went when it tried to get out of its tapdisk. */
#define _GNU_SOURCE
#include <blktap/module.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* No process has it, so who may trace is told so. */
#define NOBODY 0x7fffffff

static const struct blktap_param params[] = {
	{ .name = "file",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_REQUIRED,
	  .help = "what it tries to open" },
	{ .name = NULL },
};

static const struct blktap_module_port ports[] = {
	{ .name = "lower", .help = "where writes go" },
	{ .name = NULL },
};

/* Returns an errno, or 0 where it worked. */
static int try_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int try_socket(int family, int type)
{
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int try_fork(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	return pid < 0 || waitpid(pid, NULL, 0) != pid ? errno : 0;
}

/* A program that is not there: the error is what tells. */
static int try_exec(void)
{
	char *argv[] = { NULL };

	execv("/no/such/program", argv);
	return errno;
}

static void tell(char *text, size_t size, const char *file)
{
	char beside[512];

	snprintf(beside, sizeof(beside), "%s.new", file);
	snprintf(text, size,
		 "read=%d write=%d make=%d exec=%d fork=%d unix=%d packet=%d "
		 "ptrace=%d mount=%d unshare=%d user=%d\n",
		 try_open(file, O_RDONLY), try_open(file, O_WRONLY),
		 try_open(beside, O_WRONLY | O_CREAT), try_exec(), try_fork(),
		 try_socket(AF_UNIX, SOCK_STREAM),
		 try_socket(AF_PACKET, SOCK_DGRAM),
		 ptrace(PTRACE_ATTACH, NOBODY, NULL, NULL) ? errno : 0,
		 mount("none", "/no/such/place", "tmpfs", 0, NULL) ? errno : 0,
		 unshare(CLONE_FS) ? errno : 0, setuid(getuid()) ? errno : 0);
}

static void escape_submit(struct blktap_node *node, struct blktap_request *req)
{
	char text[512] = "";
	uint64_t at = 0;
	size_t length;
	void *memory;

	if (blktap_request_get_offset(req) == 0)
		tell(text, sizeof(text), blktap_node_get_string(node, "file"));
	while (blktap_request_get_data(req, at, &memory, &length)) {
		memset(memory, 0, length);
		if (!at)
			memcpy(memory, text,
			       length < sizeof(text) ? length : sizeof(text));
		at += length;
	}
	blktap_request_complete(req, 0);
}

BLKTAP_MODULE_EXPORT const struct blktap_module blktap_module_class = {
	BLKTAP_MODULE_HEAD,
	.name = "escape",
	.summary = "tries to get out",
	.params = params,
	.ports = ports,
	.operations = 1u << BLKTAP_OP_READ,
	.passes = 1u << BLKTAP_OP_WRITE | 1u << BLKTAP_OP_FLUSH,
	.pause = BLKTAP_PAUSE_NONE,
	.submit = escape_submit,
};
