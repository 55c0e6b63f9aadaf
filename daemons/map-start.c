/* SPDX-License-Identifier: BSD-3-Clause */
/* Mapping: everything is looked at before anything is made; then a name is
 * claimed, the daemon started, and the loop device, whose making needs the
 * daemon's answers, made from here. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "map.h"

struct plan {
	const struct args *args;
	struct map_dir dir;
	struct map map;
	char *image;
	char *file; /* NULL: the one that goes with the name */
	bool file_exists;
};

/* ---- what was asked for --------------------------------------------------- */

/* `type:` or `class(` begins a spec, and everything else is the path of a raw
 * file: what the image contains never says what it is. */
static bool is_spec(const char *text)
{
	size_t n = 0;

	while (isalnum((unsigned char)text[n]) || text[n] == '_' ||
	       text[n] == '-')
		n++;
	return n && (text[n] == ':' || text[n] == '(');
}

/* A relative path would be looked up in the daemon's directory, and shown to
 * others who are elsewhere. */
static int make_spec(const char *text, char **out)
{
	size_t at = is_spec(text) ? path_in_spec(text) : 0;
	char *path;
	int rc = 0;

	*out = NULL;
	if (is_spec(text) && !at) {
		*out = strdup(text);
		return *out ? 0 : -ENOMEM;
	}
	path = map_absolute(text + at);
	if (!path)
		return -errno;
	if (asprintf(out, "%.*s%s", at ? (int)at : 4,
		     at ? text : "raw:", path) < 0)
		rc = -ENOMEM;
	free(path);
	return rc;
}

#define NO_CONTROL "lists of disks have a line each: rename the file"

static bool has_control(const char *text)
{
	for (; *text; text++)
		if (iscntrl((unsigned char)*text))
			return true;
	return false;
}

static int look_at_image(struct plan *plan)
{
	const char *image = arg_text(plan->args, "image");
	int rc;

	if (!image) {
		fprintf(stderr, "%s: cannot map: name an image\n",
			plan->args->program);
		show_usage(stderr, plan->args->program, plan->args->command);
		return MAP_USAGE;
	}
	rc = has_control(image) ? -EINVAL : make_spec(image, &plan->image);
	return rc ? map_fail(plan->args, rc,
			     has_control(image) ? NO_CONTROL : NULL, "%s",
			     image)
		  : 0;
}

/* Called behind the sweep, which may have taken away a dead mount that stat(2)
 * would fail on. */
static int look_at_file(struct plan *plan)
{
	const char *file = arg_text(plan->args, "file");
	struct stat st;
	int rc = 0;

	if (!file)
		return 0;
	plan->file = has_control(file) ? NULL : map_absolute(file);
	if (!plan->file)
		return map_fail(plan->args,
				has_control(file) ? -EINVAL : -errno,
				has_control(file) ? NO_CONTROL
						  : "make its directory first",
				"%s", file);
	if (stat(plan->file, &st)) {
		rc = errno == ENOENT ? 0 : -errno;
		return rc ? map_fail(plan->args, rc, NULL, "%s", file) : 0;
	}
	if (!S_ISREG(st.st_mode))
		return map_fail(
			plan->args, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
			"a disk appears as a regular file: name one, or "
			"one that is not there yet",
			"on %s", file);
	plan->file_exists = true;
	free(plan->file);
	plan->file = realpath(file, NULL); /* as the kernel will call it */
	if (!plan->file)
		return map_fail(plan->args, -errno, NULL, "%s", file);
	if (map_is_mounted(plan->file))
		rc = map_fail(plan->args, -EBUSY, "name another file",
			      "on %s, where a disk is", file);
	return rc;
}

/* Asked before anything is made, since these errors have a remedy that the
 * failing calls would not name. */
static int look_at_machine(const struct args *args)
{
	bool block = arg_is_set(args, "block");

	if (block && geteuid())
		return map_fail(args, -EPERM,
				"run as root, or map it as a file",
				"to a block device");
	if (access("/dev/fuse", F_OK))
		return map_fail(args, -errno, "modprobe fuse", "by /dev/fuse");
	if (block && access("/dev/loop-control", F_OK))
		return map_fail(args, -errno, "modprobe loop",
				"by /dev/loop-control");
	return 0;
}

/* ---- claiming a name ------------------------------------------------------ */

/* O_EXCL: what is there already is mounted on and stays; what we make is
 * removed at the end. */
static int make_file(struct plan *plan)
{
	int fd = open(plan->file,
		      O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW,
		      0600);

	if (fd < 0)
		return -errno;
	close(fd);
	plan->map.made_file = true;
	return 0;
}

/* All that taking it away needs stands in the state before it is made. */
static int describe(struct plan *plan)
{
	struct map *map = &plan->map;
	int rc;

	if (!plan->file &&
	    asprintf(&plan->file, "%s/%s", plan->dir.path, map->name) < 0)
		return -ENOMEM;
	map->image = strdup(plan->image);
	map->file = strdup(plan->file);
	if (!map->image || !map->file)
		return -ENOMEM;
	rc = map_put(map, "image", map->image);
	if (!rc)
		rc = map_put(map, "file", map->file);
	if (!rc && !plan->file_exists)
		rc = map_put(map, "made-file", "1");
	if (!rc && !plan->file_exists)
		rc = make_file(plan);
	return rc;
}

/* With the directory locked. */
static int claim(struct plan *plan)
{
	const char *wanted = arg_text(plan->args, "name");
	int rc = map_claim(&plan->dir, wanted, plan->image, &plan->map);

	if (rc)
		return map_fail(plan->args, rc,
				rc == -EINVAL ? "use letters, digits, '-', '_' "
						"and '.', 64 at most"
					      : "choose another --name",
				"as %s", wanted ? wanted : plan->image);
	rc = describe(plan);
	if (!rc)
		return 0;
	rc = map_fail(plan->args, rc, NULL, "%s on %s", plan->image,
		      plan->file ? plan->file : plan->map.name);
	map_remove(&plan->dir, &plan->map);
	map_fini(&plan->map);
	return rc;
}

/* ---- daemon and device ---------------------------------------------------- */

/* By fork, since the daemon needs the locked descriptor and the arguments.
 * Nothing has made threads, a context or a disk so far. What stdio holds would
 * be written twice. */
static pid_t start_daemon(struct plan *plan, int *connection)
{
	struct map_daemon daemon = { .args = plan->args,
				     .dir = &plan->dir,
				     .map = &plan->map };
	int ends[2];
	pid_t pid;

	if (arg_is_set(plan->args, "read-only"))
		daemon.flags |= BLKTAP_OPEN_READ_ONLY;
	if (arg_is_set(plan->args, "buffered"))
		daemon.flags |= BLKTAP_OPEN_BUFFERED;
	if (arg_is_set(plan->args, "force"))
		daemon.flags |= BLKTAP_OPEN_FORCE;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -errno;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		close(ends[0]);
		setsid();
		daemon.parent = ends[1];
		_exit(map_daemon_run(&daemon));
	}
	close(ends[1]);
	*connection = ends[0];
	return pid < 0 ? -errno : pid;
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return MAP_FAILURE;
	return WIFEXITED(status) ? WEXITSTATUS(status) : MAP_FAILURE;
}

/* In this process, whose opening of the file and ioctl the daemon answers. */
static int make_device(struct plan *plan, const struct map_ready *ready)
{
	struct map *map = &plan->map;
	uint32_t block_size = ready->block_size;
	int rc;

	/* What loop devices can have. */
	if (block_size < 512 || block_size > 4096 ||
	    (block_size & (block_size - 1)))
		block_size = 512;
	rc = map_loop_attach(map, block_size, ready->read_only);
	return rc ? map_fail(plan->args, rc, "'tap-ctl doctor' may know more",
			     "%s to a loop device", map->file)
		  : 0;
}

/* The daemon has said why where it failed. Output comes before the last byte: a
 * name that nobody could be told is not worth a map. Without that byte the
 * daemon ends. */
static int finish(struct plan *plan, pid_t pid, int connection)
{
	struct map_ready ready;
	ssize_t n;
	int rc = 0;

	do
		n = recv(connection, &ready, sizeof(ready), 0);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(ready)) {
		rc = wait_for(pid);
		return rc ? rc : MAP_FAILURE;
	}
	if (arg_is_set(plan->args, "block"))
		rc = make_device(plan, &ready);
	if (rc)
		return rc;
	outlive_reader();
	puts(plan->map.device ? plan->map.device : plan->map.file);
	if (flush_output(plan->args->program))
		return MAP_FAILURE;
	if (send(connection, "", 1, MSG_NOSIGNAL) != 1)
		return map_fail(plan->args, -EOWNERDEAD, NULL, "%s",
				plan->image);
	return 0;
}

/* Where it fails, nothing is left. The daemon still answers while its loop
 * device and mount are taken away; its end is not waited for. */
static int start(struct plan *plan)
{
	int connection = -1, rc;
	pid_t pid = start_daemon(plan, &connection);

	if (pid < 0)
		rc = map_fail(plan->args, pid, NULL, "%s", plan->image);
	else
		rc = finish(plan, pid, connection);
	if (rc) {
		map_dir_lock(&plan->dir);
		map_clean_up(&plan->dir, &plan->map);
		map_dir_unlock(&plan->dir);
	}
	if (connection >= 0)
		close(connection); /* the end, for a daemon that still waits */
	return rc;
}

/* The lock is not held while the daemon starts: opening a disk may take long,
 * and the state says that the name is taken. */
static int run(struct plan *plan)
{
	int rc = look_at_image(plan);

	if (!rc)
		rc = look_at_machine(plan->args);
	if (!rc)
		rc = map_dir_open(plan->args, MAP_MAKE, &plan->dir);
	if (rc)
		return rc;
	map_dir_lock(&plan->dir);
	map_sweep(&plan->dir); /* a dead one may be in our way */
	rc = look_at_file(plan);
	if (!rc)
		rc = claim(plan);
	map_dir_unlock(&plan->dir);
	if (!rc) {
		rc = start(plan);
		map_fini(&plan->map);
	}
	map_dir_close(&plan->dir);
	return rc;
}

int map_start(const struct args *args)
{
	struct plan plan = { .args = args };
	int rc = run(&plan);

	free(plan.image);
	free(plan.file);
	return rc;
}
