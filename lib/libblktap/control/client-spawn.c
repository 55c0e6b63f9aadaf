/* SPDX-License-Identifier: BSD-3-Clause */
/* Starting a tapdisk. It says where its control socket is on its standard
 * output once it listens, or on standard error why it does not; the end of both
 * is the end of its start. Nothing but these two pipes is passed on to it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/client.h"
#include "core/error.h"

#define TEXT_MAX 4096

struct child {
	pid_t pid; /* of the process that leaves the tapdisk behind */
	int pipes[2][2]; /* standard output, standard error */
	char text[2][TEXT_MAX];
	size_t length[2];
};

/* O_CLOEXEC, as the caller may start others meanwhile; dup2 in the child takes
 * it off. */
static int open_pipes(struct child *child)
{
	int i;

	for (i = 0; i < 2; i++)
		if (pipe2(child->pipes[i], O_CLOEXEC))
			return -errno;
	return 0;
}

/* -1 says that it is closed, so closing twice is harmless. */
static void close_pipe(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* A daemon must not begin with what its starter blocks or ignores. */
static int set_attributes(posix_spawnattr_t *attributes)
{
	sigset_t set;
	int rc;

	/* Ours may be blocked or ignored; a daemon starts from the beginning. */
	sigemptyset(&set);
	rc = posix_spawnattr_setsigmask(attributes, &set);
	sigfillset(&set);
	if (!rc)
		rc = posix_spawnattr_setsigdefault(attributes, &set);
	if (!rc)
		rc = posix_spawnattr_setflags(attributes,
					      POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
	return rc;
}

/* In the order in which the child does them; closefrom comes last, behind the
 * two that it keeps. */
static int set_actions(posix_spawn_file_actions_t *actions,
		       const struct child *child)
{
	int rc = posix_spawn_file_actions_addopen(actions, 0, "/dev/null",
						  O_RDONLY, 0);

	if (!rc)
		rc = posix_spawn_file_actions_adddup2(actions,
						      child->pipes[0][1], 1);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(actions,
						      child->pipes[1][1], 2);
	if (!rc)
		rc = posix_spawn_file_actions_addclosefrom_np(actions, 3);
	return rc;
}

/* argv[0] is what others look for in the list of processes. Nothing of ours is
 * inherited but the two pipes: no descriptor from 3 on, no signal mask, and the
 * environment that the caller gave. */
static int start(const struct blktap_control *control, struct child *child)
{
	char *argv[] = { (char *)"tapdisk", (char *)"--rundir",
			 control->dir.path, NULL };
	char *const empty[] = { NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return -rc;
	rc = posix_spawnattr_init(&attributes);
	if (!rc) {
		rc = set_attributes(&attributes);
		if (!rc)
			rc = set_actions(&actions, child);
		if (!rc)
			rc = posix_spawn(&child->pid, control->tapdisk,
					 &actions, &attributes, argv,
					 control->environment
						 ? control->environment
						 : empty);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

/* What does not fit is dropped, so that the child never waits for us. */
static bool take_text(struct child *child, int i)
{
	char rest[256];
	size_t room = TEXT_MAX - 1 - child->length[i];
	ssize_t n = read(child->pipes[i][0],
			 room ? child->text[i] + child->length[i] : rest,
			 room ? room : sizeof(rest));

	if (n > 0 && room)
		child->length[i] += (size_t)n;
	return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

/* Reads both to their ends. The end of both pipes is the end of the start: the
 * daemon closes them when it listens, or it has ended. */
static int collect(struct child *child, uint32_t timeout_ms)
{
	uint64_t deadline = bt_client_now() + timeout_ms * (uint64_t)1000000;
	struct pollfd p[2];
	int i, n;

	while (child->pipes[0][0] >= 0 || child->pipes[1][0] >= 0) {
		for (i = 0; i < 2; i++) {
			p[i].fd = child->pipes[i][0];
			p[i].events = POLLIN;
			p[i].revents = 0;
		}
		n = poll(p, 2, bt_client_timeout(deadline));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (!n)
			return -ETIMEDOUT;
		for (i = 0; i < 2 && n > 0; i++)
			if (p[i].revents && !take_text(child, i))
				close_pipe(&child->pipes[i][0]);
	}
	return 0;
}

/* The pid at the end of "/run/blktap-control/ctl4711\n". Of the last "/ctl":
 * the directory's name may have one, too. */
static pid_t parse_pid(const char *text)
{
	const char *p = NULL;
	char *end;
	long pid;

	while ((text = strstr(text, "/ctl")))
		p = text += 4;
	if (!p)
		return -1;
	pid = strtol(p, &end, 10);
	return end == p || *end != '\n' || pid <= 0 || pid > INT32_MAX
		       ? -1
		       : (pid_t)pid;
}

/* "tapdisk: cannot ...: cause (ENAME)\nhint: action\n", as far as it is like that.
 * The name of the error is for who prints ours to add. */
static int fail_start(struct child *child, const char *tapdisk, int status,
		      struct blktap_error **err)
{
	char *text = child->text[1], *hint, *end;
	int code = WIFEXITED(status) ? -WEXITSTATUS(status) : 0;

	if (code >= 0 || code < -125)
		code = -EIO;
	if (!strncmp(text, "tapdisk: ", 9))
		text += 9;
	hint = strstr(text, "\nhint: ");
	if (hint)
		hint += 7;
	end = strchr(text, '\n');
	if (end)
		*end = '\0';
	end = strstr(text, " (E");
	if (end && !strchr(end + 2, ' '))
		*end = '\0';
	end = hint ? strchr(hint, '\n') : NULL;
	if (end)
		*end = '\0';
	if (*text)
		return bt_fail(err, code, hint, "%s", text);
	if (WIFSIGNALED(status))
		return bt_fail(err, code, NULL, "%s died of signal %d", tapdisk,
			       WTERMSIG(status));
	return bt_fail(err, code, "see whether TAPDISK names a tapdisk",
		       "%s did not say where it listens (exit status %d)",
		       tapdisk, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* A tapdisk without a minor would stay for ever. */
void bt_client_dismiss(const struct blktap_control *control, pid_t pid)
{
	struct bt_message msg = { .type = BT_WIRE_EXIT };
	struct bt_message answer;

	bt_session_run(control, pid, control->timeout_ms, &msg, BT_WIRE_EXIT,
		       &answer, NULL);
}

/* One that hangs in its start serves nothing, and goes with the process that it
 * was started by; one that did start is asked. Not by its number where the
 * caller ignores SIGCHLD: then that may be another process's by now. */
static void give_up(const struct blktap_control *control, struct child *child)
{
	pid_t pid = parse_pid(child->text[0]);
	int status;

	if (!waitpid(child->pid, &status, WNOHANG)) {
		kill(child->pid, SIGKILL);
		while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	if (pid > 0)
		bt_client_dismiss(control, pid);
}

/* Our ends of the writing sides are closed first, or the pipes would never end.
 */
static int finish(const struct blktap_control *control, struct child *child,
		  pid_t *pid, struct blktap_error **err)
{
	int i, status = 0, rc;

	for (i = 0; i < 2; i++)
		close_pipe(&child->pipes[i][1]);
	rc = collect(child, control->start_timeout_ms);
	if (rc) {
		give_up(control, child);
		return bt_fail(err, rc, NULL, "%s does not get started: %s",
			       control->tapdisk, STRERROR(rc));
	}
	/* ECHILD: the caller ignores SIGCHLD, and the text must do. */
	while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
		;
	*pid = parse_pid(child->text[0]);
	if (status || *pid < 0)
		return fail_start(child, control->tapdisk, status, err);
	return 0;
}

/* Blocks until the tapdisk listens, or says that it will not. */
int blktap_control_spawn(struct blktap_control *control, pid_t *pid,
			 struct blktap_error **err)
{
	struct child child = { .pipes = { { -1, -1 }, { -1, -1 } } };
	int i, rc = open_pipes(&child);

	if (rc)
		bt_fail(err, rc, NULL, "pipe: %s", STRERROR(rc));
	if (!rc) {
		rc = start(control, &child);
		if (rc)
			bt_fail(err, rc,
				"name the program in the environment: "
				"TAPDISK=/path/to/tapdisk",
				"%s cannot be run: %s", control->tapdisk,
				STRERROR(rc));
		else
			rc = finish(control, &child, pid, err);
	}
	for (i = 0; i < 2; i++) {
		close_pipe(&child.pipes[i][0]);
		close_pipe(&child.pipes[i][1]);
	}
	return rc;
}
