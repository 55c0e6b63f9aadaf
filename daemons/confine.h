/* SPDX-License-Identifier: BSD-3-Clause */
/* What a tapdisk gives up before it serves strangers, so that one of them who
 * got hold of it gets no further: privileges, system calls that it never makes,
 * and, where directories are named, all other files. Nothing here can be taken
 * back, and children inherit it. */
#ifndef BLKTAP_DAEMONS_CONFINE_H
#define BLKTAP_DAEMONS_CONFINE_H

#include <stdbool.h>
#include <stdint.h>

/* confine-calls.c */

/* No new privileges by exec, no programs, children, mounts, modules, other
 * processes, other users, or sockets but of the kinds that disks need: these
 * calls fail with EPERM. A kernel that cannot is no error. */
void confine_calls(void);
/* 0, or a negative errno: there is no such thing here. */
int confine_calls_probe(void);

/* confine-files.c */

enum confine_right {
	CONFINE_READ, /* files and directories */
	CONFINE_WRITE, /* read and write, but make and remove nothing */
	CONFINE_ALL, /* all of it */
	CONFINE_SOCKET, /* make and remove sockets, and directories */
	CONFINE_RMDIR, /* remove directories that are empty */
};

struct confine_files {
	int ruleset;
	uint64_t handled;
};

/* These return 0 or a negative errno. After init come any number of allow, for
 * what is at the path and below, and then either enforce or fini. */
int confine_files_init(struct confine_files *c);
int confine_files_allow(struct confine_files *c, const char *path,
			enum confine_right right);
/* Cuts off all that was not allowed. What a program cannot do without (its
 * libraries, names of hosts, /dev/null) stays readable, and what is open, open. */
int confine_files_enforce(struct confine_files *c);
void confine_files_fini(struct confine_files *c);
/* The version of what the kernel has, or a negative errno. */
int confine_files_probe(void);

#endif
