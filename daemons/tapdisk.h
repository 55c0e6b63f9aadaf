/* SPDX-License-Identifier: BSD-3-Clause */
/* The two ways tapdisk runs: driven by tap-ctl, or serving one disk. */
#ifndef BLKTAP_DAEMONS_TAPDISK_H
#define BLKTAP_DAEMONS_TAPDISK_H

#include "common.h"

/* tapdisk-daemon.c: serves what tap-ctl asks for. */
int run_daemon(const struct args *args);
/* tapdisk-serve.c: serves one disk until a signal, or while a command runs. */
int run_serve(const struct args *args);

/* tapdisk-run.c: what both need. */

/* Closes what was inherited but the standard streams, which are open after. */
void close_inherited(void);
/* Makes the context that --engine and --log ask for, with its log on stderr or,
 * for a daemon, in syslog; and has signals end or wake it. Reports what fails. */
int create_context(const struct args *args, bool daemon,
		   struct blktap_context **out);
/* Before the context goes. */
void release_signals(void);
/* Destroys it, and what it was given. */
void end_context(struct blktap_context *context);
/* One turn; false once a signal asked for the end. */
bool run_once(struct blktap_context *context);

/* tapdisk-confine.c: each gives up, for good, what the process needs no more
 * (confine.h), by what --confine says. They return an exit status. */

/* The daemon, which goes on to open images for tap-ctl. control is its socket. */
int confine_daemon(const struct args *args, const char *control);
/* One disk, before it is open: what the user named. base is where its socket
 * will be made, or NULL. */
int confine_opening(const struct args *args, const char *base);
/* One disk, once it is served: all files but those that are open. The socket and
 * the directory that goes with it, each "" or a path, may be removed. */
void confine_serving(const struct args *args, const char *socket,
		     const char *directory);

#endif
