/* SPDX-License-Identifier: BSD-3-Clause */
/* Signals leave a mark, which the work looks at between its steps; its own way
 * out then tidies up. */
#include "work.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;
static volatile sig_atomic_t asked;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		asked = 1;
	else
		interrupted = sig;
}

/* 0 to 65535, as descriptors are; "" is none. */
static int open_progress(struct work *work, const char *to)
{
	char *end;
	long fd;

	errno = 0;
	fd = strtol(to, &end, 10);
	work->to = *to && !errno && !*end && fd >= 0 && fd < 65536
			   ? fdopen((int)fd, "w")
			   : NULL;
	if (work->to)
		return 0;
	return misuse(work->args, NULL, "--progress '%s' is no open descriptor",
		      to);
}

void work_catch_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1 };
	struct sigaction action = { .sa_handler = on_signal };
	size_t i;

	for (i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaction(signals[i], &action, NULL);
	outlive_reader();
}

int work_begin(struct work *work, const struct args *args, bool show)
{
	const char *to = arg_text(args, "progress");

	memset(work, 0, sizeof(*work));
	work->args = args;
	/* none yet, so that 0 is shown */
	work->shown = 101;
	work_catch_signals();
	if (to)
		return open_progress(work, to);
	work->bar = show || isatty(STDERR_FILENO);
	work->to = work->bar ? stderr : NULL;
	return 0;
}

/* In double: done * 100 could overflow. What is not 0 ends the work. */
int work_progress(void *opaque, uint64_t done, uint64_t total)
{
	struct work *work = opaque;
	unsigned int percent =
		total ? (unsigned int)((double)done * 100 / (double)total)
		      : 100;

	if (work_is_asked()) {
		fprintf(stderr, "%u %% done, %llu of %llu\n", percent,
			(unsigned long long)done, (unsigned long long)total);
	}
	if (percent == work->shown || !work->to)
		return interrupted;
	work->shown = percent;
	if (work->bar)
		fprintf(work->to, "\r%3u %%%s", percent,
			percent == 100 ? "\n" : "");
	else
		fprintf(work->to, "%u/100\n", percent);
	fflush(work->to);
	return interrupted;
}

bool work_is_over(void)
{
	return interrupted;
}

/* A signal between the two lines may be lost; the next one is not. */
bool work_is_asked(void)
{
	bool was = asked;

	asked = 0;
	return was;
}

/* As a shell reports a death by signal. Work that was done before the signal
 * came in is done. */
int work_status(int status)
{
	return status && interrupted ? 128 + interrupted : status;
}

int work_end(struct work *work, int status)
{
	if (work->bar && work->shown < 100)
		fputc('\n', stderr);
	return work_status(status);
}
