/* SPDX-License-Identifier: BSD-3-Clause */
/* What the programs share: options from a table, help from the same table, and
 * errors in one form. */
#ifndef BLKTAP_DAEMONS_COMMON_H
#define BLKTAP_DAEMONS_COMMON_H

#include <blktap/blktap.h>
#include <stdio.h>

enum opt_kind {
	OPT_FLAG,
	OPT_TEXT,
	OPT_NUMBER, /* 0 to max */
};

#define BUSY_MS 1000 /* for an image whose last user was killed just now */

#define OPT_REQUIRED 0x1u

struct opt {
	char letter; /* 0: none */
	const char *name; /* NULL ends the table */
	enum opt_kind kind;
	const char *arg; /* as help shows it */
	const char *help;
	uint32_t flags;
	long max; /* 0: INT_MAX */
};

#define OPT_MAX 32 /* options of a command */

struct args;

struct command {
	const char *name; /* NULL ends a table */
	const char *deed; /* as errors call it; NULL: the name */
	const char *operands; /* as help shows them, or NULL */
	const char *summary;
	const struct opt *options;
	/* The options that operands stand for, one after the other, with a
	 * blank between; NULL: there are none. */
	const char *operand;
	int usage_status; /* the exit status where its use is wrong */
	int (*run)(const struct args *args);
	bool files_only; /* it has no --rundir */
	void (*more)(FILE *out); /* of its help; or NULL */
};

struct args {
	const char *program; /* "tap-ctl" */
	const struct command *command;
	const char *values[OPT_MAX]; /* "" for a flag; NULL: not given */
	long numbers[OPT_MAX];
};

/* The program's own options, which every command has. */
extern const struct opt common_options[];
/* Takes --debug, which may stand anywhere, out of argv; true where it was there.
 */
bool take_debug(int *argc, char **argv);

/* Parses argv from argv[1] on and runs the command, or shows its help. Returns
 * the exit status. */
int run_command(const char *program, const struct command *command, int argc,
		char **argv);
/* The line "usage: ..." of a command. */
void show_usage(FILE *out, const char *program, const struct command *command);
/* "tap-ctl: cannot open: TEXT (EINVAL)", the usage, and the option that was meant,
 * which may be NULL, to stderr. Returns the exit status. */
int misuse(const struct args *args, const char *meant, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void show_help(const char *program, const struct command *command);

/* By the option's name, which its table must have. */
bool arg_is_set(const struct args *args, const char *name);
const char *arg_text(const struct args *args, const char *name);
/* otherwise where it was not given */
int arg_number(const struct args *args, const char *name, int otherwise);
long arg_long(const struct args *args, const char *name, long otherwise);

/* The directory the user wants: option, environment, or NULL. */
const char *arg_rundir(const struct args *args);

/* The one of names (ended by NULL) that is most like word; NULL where none is. */
const char *suggest(const char *word, const char *const *names);

/* What the command does, for "cannot ...". */
const char *get_deed(const struct args *args);

/* "tap-ctl: cannot open aio:/x: cause (ENOENT)" and a hint, to stderr. rc is a
 * negative errno. Destroys err, which may be NULL. Returns the exit status that
 * legacy commands have: the errno. */
int report(const struct args *args, const char *object, int rc,
	   struct blktap_error *err);

/* stdio.c. The first thing that a program does: its standard streams are open
 * after, so that no image can have the number of one and get the words that are
 * written there. */
void open_stdio(void);
/* For what makes something that its output tells of: where nobody reads that any
 * more, it is an error to undo by, and not our end. */
void outlive_reader(void);
/* Writes out what was printed so far. 0, or the errno of what was lost, which it
 * has told of. */
int flush_output(const char *program);
/* The last thing: the exit status, which is the errno where all went well but for
 * the output. */
int end_output(const char *program, int status);

/* Whether both names lead to one file or block device; false where either is not
 * there. */
bool same_file(const char *a, const char *b);

/* The length of "type:" where a file's name follows, which must not depend on the
 * directory a tapdisk runs in; else 0. */
size_t path_in_spec(const char *spec);

/* The same with a cause and a hint, which may be NULL, in the program's words. */
int report_as(const struct args *args, const char *object, int rc,
	      const char *cause, const char *hint);

/* A JSON string, quoted. */
void put_json_string(FILE *out, const char *text);

/* The text of the first member of that name, without its escapes. */
void print_member(FILE *out, const char *json, const char *key);

/* Opens a handle on the runtime directory; reports what fails. */
int open_control(const struct args *args, struct blktap_control **out);

/* modules.c: loads the modules of BLKTAP_MODULE_DIR, or of the directory that was
 * configured, if it is there. Reports what fails. */
int load_modules(const struct args *args, struct blktap_modules **out);

#endif
