/* SPDX-License-Identifier: BSD-3-Clause */
/* One disk, served until a signal comes or as long as a command runs. It needs
 * no runtime directory: the socket is where the user wants it, or in a directory
 * of its own that goes with it. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tapdisk.h"

struct serving {
	const struct args *args;
	struct blktap_context *context;
	struct blktap_disk *disk;
	struct blktap_nbd_server *server;
	bool own_socket; /* its directory is ours to make */
	char directory[64]; /* "" or what is to be removed */
	char socket[80];
	char *host; /* of --tcp */
};

/* XDG_RUNTIME_DIR, or /tmp. 40: the whole path has to fit in the 108 bytes that
 * a socket's address has, and in ours. */
static const char *get_base(void)
{
	const char *base = getenv("XDG_RUNTIME_DIR");

	if (!base || base[0] != '/' || strlen(base) > 40 ||
	    access(base, W_OK | X_OK))
		base = "/tmp";
	return base;
}

/* BASE/blktap.XXXXXX/socket */
static int make_socket_name(struct serving *s)
{
	const char *base = get_base();

	snprintf(s->directory, sizeof(s->directory), "%s/blktap.XXXXXX", base);
	if (!mkdtemp(s->directory)) {
		s->directory[0] = '\0';
		return report(s->args, base, -errno, NULL);
	}
	snprintf(s->socket, sizeof(s->socket), "%s/socket", s->directory);
	return 0;
}

/* "[::1]:10809" */
static int set_tcp(struct serving *s, const char *tcp,
		   struct blktap_nbd_options *options)
{
	const char *colon = strrchr(tcp, ':');
	size_t length = colon ? (size_t)(colon - tcp) : 0;

	if (!length || !colon[1]) {
		report(s->args, tcp, -EINVAL, NULL);
		fputs("hint: write it as HOST:PORT, e.g. 127.0.0.1:10809\n",
		      stderr);
		return EINVAL;
	}
	if (tcp[0] == '[' && colon[-1] == ']') {
		tcp++;
		length -= 2;
	}
	s->host = strndup(tcp, length);
	options->host = s->host;
	options->port = colon + 1;
	return s->host ? 0 : ENOMEM;
}

/* Certificates or keys without a mode ask for the strict one. */
static int set_tls(const struct args *args, struct blktap_nbd_options *options)
{
	static const char *const modes[] = {
		[BLKTAP_NBD_TLS_OFF] = "off",
		[BLKTAP_NBD_TLS_ON] = "on",
		[BLKTAP_NBD_TLS_REQUIRE] = "require",
	};
	const char *mode = arg_text(args, "tls");
	int i;

	options->tls_certificates = arg_text(args, "tls-certificates");
	options->tls_psk = arg_text(args, "tls-psk");
	options->tls_verify_peer = arg_is_set(args, "tls-verify-peer");
	if (!mode && (options->tls_certificates || options->tls_psk ||
		      options->tls_verify_peer))
		mode = modes[BLKTAP_NBD_TLS_REQUIRE];
	for (i = 0; mode && i < 3; i++) {
		if (strcmp(mode, modes[i]))
			continue;
		options->tls = (enum blktap_nbd_tls)i;
		return 0;
	}
	return mode ? misuse(args, NULL, "--tls is off, on or require") : 0;
}

static int start_server(struct serving *s)
{
	const char *tcp = arg_text(s->args, "tcp");
	const char *path = arg_text(s->args, "unix");
	struct blktap_nbd_options options;
	struct blktap_error *err = NULL;
	int rc;

	blktap_nbd_options_init(&options);
	rc = set_tls(s->args, &options);
	options.export_name = arg_text(s->args, "export");
	options.any_name = !options.export_name;
	if (!rc && tcp)
		rc = set_tcp(s, tcp, &options);
	if (!rc && s->own_socket) {
		rc = make_socket_name(s);
		path = s->socket;
	}
	if (rc)
		return rc;
	if (path && path != s->socket)
		snprintf(s->socket, sizeof(s->socket), "%s", path);
	options.unix_path = path;
	rc = blktap_nbd_server_create(s->disk, &options, &s->server, &err);
	return rc ? report(s->args, tcp ? tcp : path, rc, err) : 0;
}

static int open_disk(struct serving *s)
{
	const char *spec = arg_text(s->args, "disk");
	struct blktap_disk_options options;
	struct blktap_error *err = NULL;
	int rc;

	blktap_disk_options_init(&options);
	if (arg_is_set(s->args, "read-only"))
		options.flags |= BLKTAP_OPEN_READ_ONLY;
	if (arg_is_set(s->args, "buffered"))
		options.flags |= BLKTAP_OPEN_BUFFERED;
	if (arg_is_set(s->args, "force"))
		options.flags |= BLKTAP_OPEN_FORCE;
	options.busy_ms = BUSY_MS;
	rc = blktap_disk_open(s->context, spec, &options, &s->disk, &err);
	return rc ? report(s->args, spec, rc, err) : 0;
}

/* ---- the command ---------------------------------------------------------- */

static int start_command(struct serving *s, pid_t *pid)
{
	const char *uri = blktap_nbd_server_get_uri(s->server);
	char *argv[] = { (char *)"sh", (char *)"-c",
			 (char *)arg_text(s->args, "run"), NULL };
	posix_spawnattr_t attributes;
	sigset_t set;
	int rc;

	if (setenv("uri", uri, 1) || setenv("unixsocket", s->socket, 1))
		return report(s->args, argv[2], -errno, NULL);
	/* What we ignore is not for the command to ignore. */
	posix_spawnattr_init(&attributes);
	sigfillset(&set);
	posix_spawnattr_setsigdefault(&attributes, &set);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
	rc = posix_spawn(pid, "/bin/sh", NULL, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	return rc ? report(s->args, argv[2], -rc, NULL) : 0;
}

/* Its exit status, as a shell has it. SIGCHLD ends a turn of the loop, so the
 * end of the command is seen at once. Confined only now: exec is refused after.
 */
static int run_command_until_end(struct serving *s)
{
	bool asked = false;
	int status, rc;
	pid_t pid;

	rc = start_command(s, &pid);
	if (rc)
		return rc;
	confine_serving(s->args, s->socket, s->directory);
	while (waitpid(pid, &status, WNOHANG) != pid) {
		/* Asked to end, we ask the command, and serve it meanwhile. */
		if (!run_once(s->context)) {
			if (!asked)
				kill(pid, SIGTERM);
			asked = true;
			blktap_context_run(s->context, 1000);
		}
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Where the socket will be; NULL: there will be none. */
static const char *plan_socket(struct serving *s)
{
	const char *path = arg_text(s->args, "unix");

	/* A command may want either; one who gives an address wants that. */
	s->own_socket = !path && (!arg_text(s->args, "tcp") ||
				  arg_is_set(s->args, "run"));
	return s->own_socket ? get_base() : path;
}

/* Files are given up in two steps: what the user left out before the image is
 * opened, the rest when all is open. */
static int serve(struct serving *s)
{
	int status = confine_opening(s->args, plan_socket(s));

	if (!status)
		status = open_disk(s);
	if (!status)
		status = start_server(s);
	if (status)
		return status;
	if (arg_is_set(s->args, "run"))
		return run_command_until_end(s);
	confine_serving(s->args, s->socket, s->directory);
	puts(blktap_nbd_server_get_uri(s->server));
	status = flush_output(s->args->program);
	while (!status && run_once(s->context))
		;
	return status;
}

/* The server first: it has requests on the disk. The disk's last flush decides
 * the exit status where nothing else does. */
int run_serve(const struct args *args)
{
	struct serving s = { .args = args };
	int rc, status = create_context(args, false, &s.context);

	if (status)
		return status;
	status = serve(&s);
	blktap_nbd_server_destroy(s.server);
	rc = blktap_disk_close(s.disk);
	if (rc) {
		report(args, arg_text(args, "disk"), rc, NULL);
		status = status ? status : EXIT_FAILURE;
	}
	if (s.directory[0])
		rmdir(s.directory);
	free(s.host);
	release_signals();
	end_context(s.context);
	return status;
}
