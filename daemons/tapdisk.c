/* SPDX-License-Identifier: BSD-3-Clause */
/* tapdisk: serves disks. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tapdisk.h"

/* They say nothing to a tapdisk that opens what tap-ctl asks for. */
static const char *const disk_options[] = { "run",	 "unix",
					    "tcp",	 "export",
					    "tls",	 "tls-certificates",
					    "tls-psk",	 "tls-verify-peer",
					    "read-only", "buffered",
					    "force",	 NULL };

static int run(const struct args *args)
{
	size_t i;

	if (arg_is_set(args, "disk"))
		return run_serve(args);
	for (i = 0; disk_options[i]; i++)
		if (arg_is_set(args, disk_options[i]))
			return misuse(args, NULL,
				      "--%s goes with a disk, as in tapdisk "
				      "--%s ... raw:FILE",
				      disk_options[i], disk_options[i]);
	return run_daemon(args);
}

static const struct opt options[] = {
	{ 'D', "foreground", OPT_FLAG, NULL, "do not become a daemon", 0, 0 },
	{ 0, "run", OPT_TEXT, "COMMAND",
	  "serve while the command runs; it finds $uri and $unixsocket", 0, 0 },
	{ 0, "disk", OPT_TEXT, "TYPE:PATH", "the disk to serve", 0, 0 },
	{ 0, "unix", OPT_TEXT, "PATH", "serve it on this socket", 0, 0 },
	{ 0, "tcp", OPT_TEXT, "HOST:PORT", "serve it on this address", 0, 0 },
	{ 0, "export", OPT_TEXT, "NAME", "the only name clients may ask for", 0,
	  0 },
	{ 0, "tls", OPT_TEXT, "MODE",
	  "off, on (clients may use TLS) or require (they must)", 0, 0 },
	{ 0, "tls-certificates", OPT_TEXT, "DIR",
	  "of ca-cert.pem, server-cert.pem and server-key.pem", 0, 0 },
	{ 0, "tls-psk", OPT_TEXT, "FILE",
	  "keys that both sides know, USER:HEX on each line", 0, 0 },
	{ 0, "tls-verify-peer", OPT_FLAG, NULL,
	  "clients must have a certificate, too", 0, 0 },
	{ 'R', "read-only", OPT_FLAG, NULL, "refuse writes", 0, 0 },
	{ 0, "buffered", OPT_FLAG, NULL, "do not use O_DIRECT", 0, 0 },
	{ 0, "force", OPT_FLAG, NULL, "open it in spite of another's lock", 0,
	  0 },
	{ 0, "engine", OPT_TEXT, "NAME", "io_uring, libaio or sync", 0, 0 },
	{ 0, "confine", OPT_TEXT, "DIR[:DIR]...",
	  "reach no files but below these; none: give up nothing", 0, 0 },
	{ 0, "poll", OPT_TEXT, "MICROSECONDS",
	  "look so long for the next request before sleeping", 0, 0 },
	{ 0, "log", OPT_TEXT, "LEVEL",
	  "error, warning, info or debug, also BLKTAP_LOG", 0, 0 },
	{ 0 },
};

static const struct command command = {
	"tapdisk",
	"serve",
	"[TYPE:PATH]",
	"Serves the disk over NBD; without one, serves what tap-ctl asks for.",
	options,
	"disk",
	2,
	run
};

/* Others look for a process whose argv[0] is just that. */
static void be_called_tapdisk(char **argv)
{
	char path[4096];
	ssize_t n;

	if (!strcmp(argv[0], "tapdisk") || getenv("BLKTAP_NO_REEXEC"))
		return;
	n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n <= 0)
		return;
	path[n] = '\0';
	argv[0] = (char *)"tapdisk";
	execv(path, argv);
}

static int start(int argc, char **argv)
{
	if (argc > 1 &&
	    (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))) {
		printf("tapdisk (blktap) %s\n", blktap_version());
		return 0;
	}
	be_called_tapdisk(argv);
	close_inherited();
	return run_command("tapdisk", &command, argc, argv);
}

int main(int argc, char **argv)
{
	open_stdio();
	return end_output("tapdisk", start(argc, argv));
}
