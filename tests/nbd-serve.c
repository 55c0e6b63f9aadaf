/* SPDX-License-Identifier: BSD-3-Clause */
/* Serves a disk over NBD until SIGTERM, through the public interface alone: the
 * smallest server there is, for tests of the library without tapdisk.
 *
 *	nbd-serve [-brs] [-e ENGINE] [-p PORT] SOCKET SPEC
 *
 * -b: buffered, -r: read-only, -s: statistics at the end, -p: TCP on localhost
 * instead (SOCKET is not used). Prints the URI when clients may come. */
#include <blktap/blktap.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct blktap_context *context;
static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	stop = 1;
	blktap_context_wake(context);
}

static void die(const char *what, struct blktap_error *err)
{
	fprintf(stderr, "nbd-serve: %s: %s\n", what,
		err ? blktap_error_get_message(err) : "failed");
	exit(EXIT_FAILURE);
}

static enum blktap_engine engine(const char *name)
{
	if (!strcmp(name, "io_uring"))
		return BLKTAP_ENGINE_IO_URING;
	if (!strcmp(name, "libaio"))
		return BLKTAP_ENGINE_LIBAIO;
	if (!strcmp(name, "sync"))
		return BLKTAP_ENGINE_SYNC;
	return BLKTAP_ENGINE_AUTO;
}

int main(int argc, char **argv)
{
	struct blktap_context_options copts = { .size = sizeof(copts) };
	struct blktap_disk_options dopts;
	struct blktap_nbd_options nopts;
	struct blktap_nbd_server *server;
	struct blktap_error *err = NULL;
	struct blktap_disk *disk;
	bool stats = false;
	int c, rc = 0;

	blktap_disk_options_init(&dopts);
	blktap_nbd_options_init(&nopts);
	while ((c = getopt(argc, argv, "brse:p:")) != -1) {
		if (c == 'b')
			dopts.flags |= BLKTAP_OPEN_BUFFERED;
		else if (c == 'r')
			dopts.flags |= BLKTAP_OPEN_READ_ONLY;
		else if (c == 's')
			stats = true;
		else if (c == 'e')
			copts.engine = engine(optarg);
		else if (c == 'p')
			nopts.port = optarg;
		else
			return 2;
	}
	if (argc - optind != 2)
		return 2;
	nopts.host = nopts.port ? "localhost" : NULL;
	nopts.unix_path = nopts.port ? NULL : argv[optind];
	if (blktap_context_create(&copts, &context, &err))
		die("context", err);
	if (blktap_disk_open(context, argv[optind + 1], &dopts, &disk, &err))
		die("disk", err);
	if (blktap_nbd_server_create(disk, &nopts, &server, &err))
		die("server", err);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	printf("%s\n", blktap_nbd_server_get_uri(server));
	fflush(stdout);
	while (!stop)
		blktap_context_run(context, -1);
	rc = blktap_nbd_server_destroy(server);
	if (stats)
		puts(blktap_disk_get_stats_json(disk, false));
	rc |= blktap_disk_close(disk);
	blktap_context_destroy(context);
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
