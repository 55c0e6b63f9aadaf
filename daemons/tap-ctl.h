/* SPDX-License-Identifier: BSD-3-Clause */
/* The verbs of tap-ctl: a table in each file, one file a group. */
#ifndef BLKTAP_DAEMONS_TAP_CTL_H
#define BLKTAP_DAEMONS_TAP_CTL_H

#include "common.h"

/* Each ends with an entry without a name. */
extern const struct command list_commands[]; /* list, stats */
extern const struct command minor_commands[]; /* allocate, free */
extern const struct command create_commands[]; /* create, destroy, spawn */
extern const struct command disk_commands[]; /* attach ... unpause */
extern const struct command map_commands[]; /* map, unmap */
extern const struct command kernel_commands[]; /* check, major */
extern const struct command doctor_commands[];
extern const struct command job_commands[];
extern const struct command mason_commands[];

/* The words behind "job": a table of its own. argv[0] is "job". */
int run_job(int argc, char **argv);

/* The words behind "mason": a table of its own. argv[0] is "mason". */
int run_mason(int argc, char **argv);
/* Of these, those about running disks; and the -D of the command line. */
extern const struct command graph_verbs[];
const char *const *mason_defines(void);

/* Options that name a disk. */
#define OPT_PID                                                             \
	{                                                                   \
		'p', "pid", OPT_NUMBER, "PID", "process id of the tapdisk", \
			OPT_REQUIRED, 0                                     \
	}
#define OPT_MINOR                                                      \
	{                                                              \
		'm', "minor", OPT_NUMBER, "MINOR", "the disk's minor", \
			OPT_REQUIRED, BLKTAP_MINOR_MAX - 1             \
	}

/* Options of who opens an image; see take_open_options. */
#define OPEN_OPTIONS                                                              \
	{ 'R', "read-only", OPT_FLAG, NULL, "refuse writes", 0, 0 },              \
		{ 'D', "buffered", OPT_FLAG, NULL, "do not use O_DIRECT", 0, 0 }, \
		{ 't',                                                            \
		  "timeout",                                                      \
		  OPT_NUMBER,                                                     \
		  "SECONDS",                                                      \
		  "for a request to be reported late (120)",                      \
		  0,                                                              \
		  UINT16_MAX },                                                   \
		{ 0, "tcp", OPT_TEXT, "HOST:PORT", "serve NBD there too", 0, 0 }, \
		{ 0,                                                              \
		  "tls",                                                          \
		  OPT_TEXT,                                                       \
		  "MODE",                                                         \
		  "there: on (clients may use TLS) or require",                   \
		  0,                                                              \
		  0 },                                                            \
		{ 0,                                                              \
		  "tls-certificates",                                             \
		  OPT_TEXT,                                                       \
		  "DIR",                                                          \
		  "of ca-cert.pem, server-cert.pem and server-key.pem",           \
		  0,                                                              \
		  0 },                                                            \
		{ 0,                                                              \
		  "tls-psk",                                                      \
		  OPT_TEXT,                                                       \
		  "FILE",                                                         \
		  "keys that both sides know, USER:HEX on each line",             \
		  0,                                                              \
		  0 },                                                            \
		{ 0,                                                              \
		  "tls-verify-peer",                                              \
		  OPT_FLAG,                                                       \
		  NULL,                                                           \
		  "clients must have a certificate, too",                         \
		  0,                                                              \
		  0 },                                                            \
		{ 'e',                                                            \
		  "parent",                                                       \
		  OPT_NUMBER,                                                     \
		  "MINOR",                                                        \
		  "another tapdisk's disk as parent",                             \
		  0,                                                              \
		  BLKTAP_MINOR_MAX - 1 },                                         \
		{ 'r',                                                            \
		  "leaf-cache",                                                   \
		  OPT_FLAG,                                                       \
		  NULL,                                                           \
		  "keep in the image what is read below",                         \
		  0,                                                              \
		  0 },                                                            \
		{ '2',                                                            \
		  "secondary",                                                    \
		  OPT_TEXT,                                                       \
		  "TYPE:PATH",                                                    \
		  "mirror writes there",                                          \
		  0,                                                              \
		  0 },                                                            \
		{ 's',                                                            \
		  "standby",                                                      \
		  OPT_FLAG,                                                       \
		  NULL,                                                           \
		  "use the secondary when space runs out",                        \
		  0,                                                              \
		  0 },                                                            \
	{                                                                         \
		'C', "cbt-log", OPT_TEXT, "FILE", "log which blocks change",      \
			0, 0                                                      \
	}

/* Fills options from OPEN_OPTIONS. */
void take_open_options(const struct args *args,
		       struct blktap_control_open_options *options);

/* The spec with an absolute path where its type has a path: a tapdisk does not
 * run in our directory. To be freed; ends the program where memory is short. */
char *absolute_spec(const char *spec);

/* --device: tells why not. Returns the exit status. */
int refuse_device(const struct args *args);
/* Prints what stands for the minor, at once. 0, or an exit status. */
int put_minor(const struct args *args, struct blktap_control *control,
	      int minor);

/* "minor 3", "tapdisk 4711 minor 3": what an error is about. Owned by nobody and
 * good until the next call. */
const char *disk_object(const struct args *args);

#endif
