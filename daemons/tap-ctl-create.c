/* SPDX-License-Identifier: BSD-3-Clause */
/* tap-ctl create, destroy and spawn. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tap-ctl.h"

#define GIVE_UP_S 10 /* after a signal, for what does not come */

int refuse_device(const struct args *args)
{
	int status = report(args, arg_text(args, "device"), -ENOTSUP, NULL);

	fputs("hint: leave --device away: the name follows from the minor\n",
	      stderr);
	return status;
}

int put_minor(const struct args *args, struct blktap_control *control,
	      int minor)
{
	char *path = blktap_control_minor_path(control, minor);

	if (!path)
		return report(args, "a minor", -ENOMEM, NULL);
	puts(path);
	free(path);
	return flush_output(args->program);
}

static volatile sig_atomic_t interrupted;

/* The second, or the alarm: then it is as if there were no handler. */
static void on_signal(int sig)
{
	if (interrupted) {
		signal(interrupted, SIG_DFL);
		raise(interrupted);
	}
	interrupted = sig;
	alarm(GIVE_UP_S);
}

/* Who ends us while a tapdisk is made would leave it behind: it is taken back when
 * it is there, or left where that takes too long. */
static void catch_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGALRM };
	struct sigaction action = { .sa_handler = on_signal,
				    .sa_flags = SA_RESTART };
	struct sigaction was;
	size_t i;

	for (i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		if (!sigaction(signals[i], NULL, &was) &&
		    was.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
}

static int create(const struct args *args)
{
	struct blktap_control_open_options options;
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	pid_t pid = -1;
	int minor, rc;
	char *spec;

	if (arg_is_set(args, "device"))
		return refuse_device(args);
	outlive_reader();
	catch_signals();
	rc = open_control(args, &control);
	if (rc)
		return rc;
	take_open_options(args, &options);
	spec = absolute_spec(arg_text(args, "args"));
	rc = blktap_control_start(control, spec, &options, &pid, &minor, &err);
	if (rc) {
		rc = report(args, spec, rc, err);
	} else {
		/* What nobody was told of is nobody's to destroy. */
		rc = interrupted ? 128 + interrupted
				 : put_minor(args, control, minor);
		if (rc)
			blktap_control_stop(control, pid, minor, 0, NULL);
	}
	free(spec);
	blktap_control_destroy(control);
	return rc;
}

static int destroy(const struct args *args)
{
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	rc = blktap_control_stop(control, arg_number(args, "pid", -1),
				 arg_number(args, "minor", -1),
				 (uint32_t)arg_number(args, "timeout", 0),
				 &err);
	if (rc)
		rc = report(args, disk_object(args), rc, err);
	blktap_control_destroy(control);
	return rc;
}

static int spawn(const struct args *args)
{
	struct blktap_error *err = NULL;
	struct blktap_control *control;
	pid_t pid;
	int rc = open_control(args, &control);

	if (rc)
		return rc;
	outlive_reader();
	catch_signals();
	rc = blktap_control_spawn(control, &pid, &err);
	blktap_control_destroy(control);
	if (rc)
		return report(args, "a tapdisk", rc, err);
	if (interrupted) {
		kill(pid, SIGTERM);
		return 128 + interrupted;
	}
	printf(isatty(STDOUT_FILENO) ? "tapdisk spawned with pid %d\n" : "%d\n",
	       (int)pid);
	rc = flush_output(args->program);
	if (rc)
		kill(pid, SIGTERM);
	return rc;
}

static const struct opt create_options[] = {
	{ 'a', "args", OPT_TEXT, "TYPE:PATH", "the image", OPT_REQUIRED, 0 },
	{ 'd', "device", OPT_TEXT, "NAME",
	  "name of a device node (not supported)", 0, 0 },
	OPEN_OPTIONS,
	{ 0 },
};

static const struct opt destroy_options[] = {
	OPT_PID,
	OPT_MINOR,
	{ 't', "timeout", OPT_NUMBER, "SECONDS", "give up after so long", 0,
	  UINT16_MAX },
	{ 0 },
};

const struct command create_commands[] = {
	{ "create", NULL, "[TYPE:PATH]",
	  "allocate, spawn, attach and open in one", create_options, "args",
	  EINVAL, create },
	{ "destroy", NULL, NULL, "close, detach and free in one",
	  destroy_options, NULL, EINVAL, destroy },
	{ "spawn", NULL, NULL, "start a tapdisk and print its process id", NULL,
	  NULL, EINVAL, spawn },
	{ 0 },
};
