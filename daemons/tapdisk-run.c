/* SPDX-License-Identifier: BSD-3-Clause */
/* Signals, log and context of a tapdisk. A signal leaves a mark and wakes the
 * loop; everything else happens between the loop's turns. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <syslog.h>
#include <unistd.h>

#include "tapdisk.h"

#define FILES 65536
#define DEFAULT_POLL_US 50
#define MAX_POLL_US 1000

static struct blktap_context *volatile woken;
static volatile sig_atomic_t stop;

/* A lock or a socket that our parent forgot would live as long as we do. */
void close_inherited(void)
{
	close_range(3, ~0u, 0);
	open_stdio();
}

/* A disk may have a thousand clients: the soft limit is made for select(2). */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= FILES)
		return;
	limit.rlim_cur = limit.rlim_max < FILES ? limit.rlim_max : FILES;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Only what may be done in a handler: a mark, and a write that wakes the loop.
 * SIGCHLD wakes it as well, for the command of --run. */
static void on_signal(int sig)
{
	if (sig == SIGTERM || sig == SIGINT)
		stop = 1;
	if (woken)
		blktap_context_wake(woken);
}

static void take_signals(struct blktap_context *context)
{
	static const int taken[] = { SIGTERM, SIGINT, SIGCHLD };
	static const int ignored[] = { SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE,
				       SIGXFSZ };
	struct sigaction action = { .sa_handler = on_signal,
				    .sa_flags = SA_RESTART };
	sigset_t none;
	size_t i;

	woken = context;
	for (i = 0; i < sizeof(taken) / sizeof(*taken); i++)
		sigaction(taken[i], &action, NULL);
	action.sa_handler = SIG_IGN;
	for (i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		sigaction(ignored[i], &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A signal that comes later finds nothing to wake. */
void release_signals(void)
{
	woken = NULL;
}

/* A signal between the look and the sleep has written to what the loop sleeps
 * on, so it is not missed. */
bool run_once(struct blktap_context *context)
{
	if (!stop)
		blktap_context_run(context, -1);
	return !stop;
}

/* ---- log ------------------------------------------------------------------ */

static const char *const level_names[] = { "error", "warning", "info", "debug",
					   NULL };

static void log_to_stderr(void *opaque, enum blktap_log_level level,
			  const char *text)
{
	fprintf(stderr, "tapdisk: %s: %s\n", level_names[level], text);
}

static void log_to_syslog(void *opaque, enum blktap_log_level level,
			  const char *text)
{
	static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO,
					  LOG_DEBUG };

	syslog(priorities[level], "%s", text);
}

/* -1: there is no such level. */
static int find_level(const struct args *args, int otherwise)
{
	const char *name = arg_text(args, "log");
	int i;

	if (!name)
		name = getenv("BLKTAP_LOG");
	if (!name || !*name)
		return otherwise;
	for (i = 0; level_names[i]; i++)
		if (!strcmp(name, level_names[i]))
			return i;
	fprintf(stderr, "tapdisk: log level '%s' is unknown: %s (EINVAL)\n",
		name, strerror(EINVAL));
	name = suggest(name, level_names);
	fprintf(stderr, "hint: %s%s\n", name ? "did you mean " : "use ",
		name ? name : "error, warning, info or debug");
	return -1;
}

static int find_engine(const struct args *args)
{
	static const char *const names[] = { "auto", "io_uring", "libaio",
					     "sync", NULL };
	const char *name = arg_text(args, "engine");
	int i;

	for (i = 0; name && names[i]; i++)
		if (!strcmp(name, names[i]))
			return i;
	if (!name)
		return BLKTAP_ENGINE_AUTO;
	fprintf(stderr, "tapdisk: engine '%s' is unknown: %s (EINVAL)\n", name,
		strerror(EINVAL));
	name = suggest(name, names);
	fprintf(stderr, "hint: %s%s\n", name ? "did you mean " : "use ",
		name ? name : "io_uring, libaio or sync");
	return -1;
}

/* Microseconds; -1 where the option is none. */
static int find_poll(const struct args *args)
{
	const char *text = arg_text(args, "poll");
	char *end;
	long us;

	if (!text)
		return DEFAULT_POLL_US;
	errno = 0;
	us = strtol(text, &end, 10);
	if (!errno && end != text && !*end && us >= 0 && us <= MAX_POLL_US)
		return (int)us;
	fprintf(stderr, "tapdisk: poll time '%s' is none: %s (EINVAL)\n", text,
		strerror(EINVAL));
	fprintf(stderr, "hint: use 0 to %d microseconds\n", MAX_POLL_US);
	return -1;
}

static struct blktap_modules *modules;

/* The modules go last: the context's disks may be of them. */
void end_context(struct blktap_context *context)
{
	blktap_context_destroy(context);
	blktap_modules_destroy(modules);
	modules = NULL;
}

int create_context(const struct args *args, bool daemon,
		   struct blktap_context **out)
{
	int level =
		find_level(args, daemon ? BLKTAP_LOG_INFO : BLKTAP_LOG_WARNING);
	struct blktap_context_options options = { .size = sizeof(options) };
	struct blktap_error *err = NULL;
	int engine = find_engine(args), poll_us = find_poll(args), rc;

	if (level < 0 || engine < 0 || poll_us < 0)
		return EINVAL;
	options.engine = (enum blktap_engine)engine;
	options.poll_us = (uint32_t)poll_us;
	rc = load_modules(args, &modules);
	if (rc)
		return rc;
	rc = blktap_context_create(&options, out, &err);
	if (rc) {
		blktap_modules_destroy(modules);
		return report(args, NULL, rc, err);
	}
	blktap_context_set_modules(*out, modules);
	if (daemon)
		openlog("tapdisk", LOG_PID, LOG_DAEMON);
	blktap_context_set_log(*out, (enum blktap_log_level)level,
			       daemon ? log_to_syslog : log_to_stderr, NULL,
			       NULL);
	take_signals(*out);
	raise_limits();
	return 0;
}
