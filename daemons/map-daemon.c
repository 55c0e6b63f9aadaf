/* SPDX-License-Identifier: BSD-3-Clause */
/* The daemon of a mapped disk: one thread that looks at the kernel's requests,
 * the disk's completions, and signals.
 *
 * It ends when its mount is gone, and takes it away only by another process
 * (see map.h): on the first SIGTERM it starts one that unmaps lazily, so that
 * whoever still has the file open can finish; a second SIGTERM ends it at once.
 * Its disk is flushed in either case. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "map.h"

struct state {
	struct map_daemon *daemon;
	struct blktap_context *context;
	struct blktap_disk *disk;
	struct map_fuse *fuse;
	int signals; /* a signalfd */
	bool ending; /* somebody is unmapping us */
	bool stop;
};

static void log_to_stderr(void *opaque, enum blktap_log_level level,
			  const char *text)
{
	fprintf(stderr, "blktap-map: %s\n", text);
}

static void log_to_syslog(void *opaque, enum blktap_log_level level,
			  const char *text)
{
	syslog(level == BLKTAP_LOG_ERROR ? LOG_ERR : LOG_WARNING, "%s", text);
}

/* ---- the end -------------------------------------------------------------- */

/* Called in the loop. The helper is not waited for: what it does needs our
 * answers. Without --lazy it would fail while somebody has the file open. Where
 * it cannot be started, we stop, and unmap ourselves when we no longer answer.
 */
static void end(struct state *state)
{
	const char *const argv[] = { "blktap-map",
				     "unmap",
				     "--lazy",
				     "--rundir",
				     state->daemon->dir->rundir,
				     state->daemon->map->name,
				     NULL };
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid;

	state->stop = state->ending;
	if (state->ending)
		return;
	state->ending = true;
	/* ours are blocked for the signalfd, and a child would inherit that */
	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attr, &none);
	if (posix_spawn(&pid, "/proc/self/exe", NULL, &attr,
			(char *const *)argv, environ))
		state->stop = true;
	posix_spawnattr_destroy(&attr);
}

/* SIGTERM and SIGINT that came together are two: the second ends us at once. */
static void take_signal(struct state *state)
{
	struct signalfd_siginfo info;

	while (read(state->signals, &info, sizeof(info)) == sizeof(info))
		end(state);
}

/* ---- the start ------------------------------------------------------------ */

/* Up to here messages went to our parent's stderr. Whoever waits for its output
 * to end must not wait for us. */
static void detach(struct state *state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	openlog("blktap-map", LOG_PID, LOG_DAEMON);
	blktap_context_set_log(state->context, BLKTAP_LOG_WARNING,
			       log_to_syslog, NULL, NULL);
	if (null < 0)
		return;
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	close(null);
}

/* The parent's word that all went well, or its silence. Called whenever the
 * connection says something: a byte, its end, or an error of it. */
static void hear_parent(struct state *state)
{
	char byte;
	ssize_t n = recv(state->daemon->parent, &byte, 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	close(state->daemon->parent);
	state->daemon->parent = -1;
	if (n == 1)
		detach(state);
	else
		end(state);
}

/* The pid stands in the state before the parent knows of it, so that whoever
 * reads its answer can ask for it. */
static int tell_parent(struct state *state)
{
	struct blktap_disk_info info = { .size = sizeof(info) };
	struct map_ready ready;
	char pid[16];
	int rc;

	blktap_disk_get_info(state->disk, &info);
	memset(&ready, 0, sizeof(ready));
	ready.block_size = info.block_size;
	ready.read_only = info.read_only;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	rc = map_put(state->daemon->map, "pid", pid);
	if (!rc && info.read_only)
		rc = map_put(state->daemon->map, "read-only", "1");
	if (!rc && send(state->daemon->parent, &ready, sizeof(ready),
			MSG_NOSIGNAL) != sizeof(ready))
		rc = -EPIPE;
	return rc;
}

static int take_signals(struct state *state)
{
	sigset_t set;

	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_SETMASK, &set, NULL);
	state->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return state->signals < 0 ? -errno : 0;
}

/* The disk is opened here and not by the parent: a context belongs to the
 * process that made it. */
static int open_disk(struct state *state)
{
	struct map_daemon *daemon = state->daemon;
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	int rc = blktap_context_create(NULL, &state->context, &err);

	if (rc)
		return map_report(daemon->args, NULL, rc, err);
	blktap_context_set_log(state->context, BLKTAP_LOG_WARNING,
			       log_to_stderr, NULL, NULL);
	blktap_disk_options_init(&options);
	options.flags = daemon->flags;
	options.queue_depth = MAP_SLOTS;
	options.name = daemon->map->name;
	options.busy_ms = BUSY_MS;
	rc = blktap_disk_open(state->context, daemon->map->image, &options,
			      &state->disk, &err);
	return rc ? map_report(daemon->args, daemon->map->image, rc, err) : 0;
}

/* From here on the kernel sends requests; the parent's first one may come
 * before serve. */
static int mount_disk(struct state *state)
{
	const struct args *args = state->daemon->args;
	const struct map *map = state->daemon->map;
	int rc = map_fuse_create(map, state->disk, &state->fuse);

	if (rc)
		return map_fail(args, rc,
				"'tap-ctl doctor' shows what FUSE needs here",
				"%s on %s", map->image, map->file);
	rc = tell_parent(state);
	return rc ? map_fail(args, rc, NULL, "%s", map->image) : 0;
}

/* ---- the turn ------------------------------------------------------------- */

/* Requests are submitted to the context before it works, so that those of a turn
 * go to the kernel together; their answers leave from inside. */
static void turn(struct state *state)
{
	struct pollfd fds[] = {
		{ .fd = state->signals, .events = POLLIN },
		{ .fd = state->daemon->parent, .events = POLLIN },
		{ .fd = blktap_context_get_fd(state->context),
		  .events = POLLIN },
		{ .fd = map_fuse_can_receive(state->fuse)
				? map_fuse_get_fd(state->fuse)
				: -1,
		  .events = POLLIN },
	};

	if (poll(fds, 4, blktap_context_get_timeout(state->context)) < 0)
		return;
	if (fds[0].revents)
		take_signal(state);
	if (fds[1].revents)
		hear_parent(state);
	if (fds[3].revents)
		map_fuse_receive(state->fuse);
	blktap_context_process(state->context);
}

/* Writing the cache of a block device on us must not wait for memory that only
 * writing it would free. Children are not waited for: the one that unmaps us is
 * nobody's concern. The directory we were started in can be unmounted. */
static void serve(struct state *state)
{
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	signal(SIGCHLD, SIG_IGN);
	if (chdir("/"))
		syslog(LOG_WARNING, "chdir /: %m");
	while (!state->stop && !map_fuse_is_over(state->fuse))
		turn(state);
}

/* Leaves how it went; where it went well, nothing else. The lock on the state
 * goes with the process, so whoever waits for that finds the result written. */
static void leave(struct state *state, int rc)
{
	struct map_daemon *daemon = state->daemon;
	char text[16];

	if (rc)
		syslog(LOG_ERR, "%s: the last flush failed: %s",
		       daemon->map->image, strerror(-rc));
	snprintf(text, sizeof(text), "%d", -rc);
	map_put(daemon->map, "done", text);
	if (rc)
		return;
	map_dir_lock(daemon->dir);
	map_remove(daemon->dir, daemon->map);
	map_dir_unlock(daemon->dir);
}

/* The disk is closed, and so flushed, before the result is left; the session
 * goes after it, since requests under way still have to be answered. */
int map_daemon_run(struct map_daemon *daemon)
{
	struct state state = { .daemon = daemon, .signals = -1 };
	int rc = take_signals(&state), status;

	status = rc ? map_fail(daemon->args, rc, NULL, "%s", daemon->map->image)
		    : open_disk(&state);
	if (!status)
		status = mount_disk(&state);
	if (!status) {
		serve(&state);
		if (state.stop)
			map_unmount(daemon->map->file, true);
	}
	rc = blktap_disk_close(state.disk);
	map_fuse_destroy(state.fuse);
	if (!status)
		leave(&state, rc);
	blktap_context_destroy(state.context);
	if (state.signals >= 0)
		close(state.signals);
	return status ? status : rc ? MAP_FAILURE : 0;
}
