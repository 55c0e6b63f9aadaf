/* SPDX-License-Identifier: BSD-3-Clause */
/* Options and help from one table, so that they cannot disagree. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

#define LONG_BASE 256 /* of what getopt_long returns: the option's index */

const struct opt common_options[] = {
	{ 0, "rundir", OPT_TEXT, "DIR",
	  "runtime directory, also BLKTAP_RUNDIR in the environment", 0, 0 },
	{ 'h', "help", OPT_FLAG, NULL, "show this help", 0, 0 },
	{ 0 },
};

/* Commands on image files alone have no runtime directory. --rundir is the
 * first of the common ones. */
static const struct opt *get_common(const struct command *command)
{
	return common_options + command->files_only;
}

/* Before the table is asked, since it may stand in front of the command. */
bool take_debug(int *argc, char **argv)
{
	bool found = false;
	int from, to = 1;

	for (from = 1; from < *argc; from++) {
		if (!strcmp(argv[from], "--debug"))
			found = true;
		else
			argv[to++] = argv[from];
	}
	argv[to] = NULL;
	*argc = to;
	return found;
}

/* Those of the command, then those of all. */
static const struct opt *get_opt(const struct command *command, int index)
{
	const struct opt *o = command->options;

	for (; o && o->name; o++, index--)
		if (!index)
			return o;
	for (o = get_common(command); o->name; o++, index--)
		if (!index)
			return o;
	return NULL;
}

/* An option is known by its index in the tables, one behind the other: the same
 * that args->values and getopt_long's val use. */
static int find_opt(const struct command *command, const char *name)
{
	const struct opt *o;
	int i;

	for (i = 0; (o = get_opt(command, i)); i++)
		if (!strcmp(o->name, name))
			return i;
	abort(); /* the program asks for an option it does not have */
}

bool arg_is_set(const struct args *args, const char *name)
{
	return args->values[find_opt(args->command, name)];
}

const char *arg_text(const struct args *args, const char *name)
{
	return args->values[find_opt(args->command, name)];
}

int arg_number(const struct args *args, const char *name, int otherwise)
{
	int i = find_opt(args->command, name);

	return args->values[i] ? (int)args->numbers[i] : otherwise;
}

long arg_long(const struct args *args, const char *name, long otherwise)
{
	int i = find_opt(args->command, name);

	return args->values[i] ? args->numbers[i] : otherwise;
}

/* ---- help ----------------------------------------------------------------- */

static void put_name(FILE *out, const char *program,
		     const struct command *command)
{
	fputs(program, out);
	if (strcmp(program, command->name))
		fprintf(out, " %s", command->name);
}

void show_usage(FILE *out, const char *program, const struct command *command)
{
	const struct opt *o;

	fputs("usage: ", out);
	put_name(out, program, command);
	for (o = command->options; o && o->name; o++)
		if (o->flags & OPT_REQUIRED && o->letter)
			fprintf(out, " -%c %s", o->letter, o->arg);
	fprintf(out, " [OPTION]...%s%s\n", command->operands ? " " : "",
		command->operands ? command->operands : "");
}

void show_help(const char *program, const struct command *command)
{
	const struct opt *o;
	int i;

	show_usage(stdout, program, command);
	printf("%s\n\n", command->summary);
	if (command->more) {
		command->more(stdout);
		putchar('\n');
	}
	for (i = 0; (o = get_opt(command, i)); i++) {
		char text[64];

		snprintf(text, sizeof(text), "--%s%s%s", o->name,
			 o->arg ? " " : "", o->arg ? o->arg : "");
		printf("  %c%c%s %-23s %s\n", o->letter ? '-' : ' ',
		       o->letter ? o->letter : ' ', o->letter ? "," : " ", text,
		       o->help);
	}
}

/* ---- parsing -------------------------------------------------------------- */

int misuse(const struct args *args, const char *hint, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: cannot %s: ", args->program, get_deed(args));
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, ": %s (EINVAL)\n", strerror(EINVAL));
	show_usage(stderr, args->program, args->command);
	if (hint)
		fprintf(stderr, "hint: did you mean '--%s'?\n", hint);
	return args->command->usage_status;
}

static int bad_option(const struct args *args, const char *text)
{
	const char *names[OPT_MAX + 1] = { NULL };
	const struct opt *o;
	char word[64];
	int i;

	for (i = 0; i < OPT_MAX && (o = get_opt(args->command, i)); i++)
		names[i] = o->name;
	if (strncmp(text, "--", 2)) {
		snprintf(word, sizeof(word), "-%c", optopt);
		return misuse(args, NULL, "option '%s' is unknown", word);
	}
	snprintf(word, sizeof(word), "%.*s", (int)strcspn(text + 2, "="),
		 text + 2);
	return misuse(args, suggest(word, names), "option '%s' is unknown",
		      text);
}

/* Given twice, the last one counts. strtol takes blanks and signs in front,
 * which no number here may have. */
static int set_value(struct args *args, int i, const char *text)
{
	const struct opt *o = get_opt(args->command, i);
	char *end;

	args->values[i] = text ? text : "";
	if (o->kind != OPT_NUMBER)
		return 0;
	errno = 0;
	args->numbers[i] = strtol(text, &end, 10);
	if (*text >= '0' && *text <= '9' && !*end && !errno &&
	    args->numbers[i] <= (o->max ? o->max : INT_MAX))
		return 0;
	return misuse(args, NULL, "--%s '%s' is not a number from 0 to %ld",
		      o->name, text, o->max ? o->max : (long)INT_MAX);
}

/* The two tables of getopt_long. ":" first: getopt_long then tells a missing
 * value from an unknown option. */
static void make_tables(const struct command *command, char *letters,
			struct option *table)
{
	const struct opt *o;
	int i;

	*letters++ = ':';
	for (i = 0; i < OPT_MAX && (o = get_opt(command, i)); i++) {
		table[i].name = o->name;
		table[i].has_arg =
			o->kind == OPT_FLAG ? no_argument : required_argument;
		table[i].val = LONG_BASE + i;
		if (!o->letter)
			continue;
		*letters++ = o->letter;
		if (o->kind != OPT_FLAG)
			*letters++ = ':';
	}
	*letters = '\0';
}

static int index_of(const struct command *command, int c)
{
	const struct opt *o;
	int i;

	if (c >= LONG_BASE)
		return c - LONG_BASE;
	for (i = 0; (o = get_opt(command, i)); i++)
		if (o->letter == c)
			return i;
	return -1;
}

/* getopt_long moves operands behind the options, where parse_operands finds
 * them from optind on. */
static int parse_options(struct args *args, int argc, char **argv)
{
	struct option table[OPT_MAX + 1] = { { 0 } };
	char letters[2 * OPT_MAX + 2];
	int c, at = 1, status = 0;

	make_tables(args->command, letters, table);
	opterr = 0;
	optind = 1;
	while (!status) {
		at = optind;
		c = getopt_long(argc, argv, letters, table, NULL);
		if (c < 0)
			break;
		if (c == ':')
			status = misuse(args, NULL, "option '%s' needs a value",
					argv[optind - 1]);
		else if (c == '?')
			status = bad_option(args,
					    argv[optopt ? at : optind - 1]);
		else
			status = set_value(args, index_of(args->command, c),
					   optarg);
	}
	return status;
}

/* The option that operand n stands for; -1: there are not so many. */
static int operand_opt(const struct command *command, int n)
{
	const char *names = command->operand;
	char name[32];

	while (names && n-- > 0) {
		names = strchr(names, ' ');
		names = names ? names + 1 : NULL;
	}
	if (!names)
		return -1;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(names, " "), names);
	return find_opt(command, name);
}

/* An operand is another way to give an option, so the same cannot come by both.
 */
static int parse_operands(struct args *args, int argc, char **argv)
{
	int i, n, status = 0;

	for (n = 0; !status && optind + n < argc; n++) {
		i = operand_opt(args->command, n);
		if (i < 0 && !n)
			return misuse(args, NULL, "'%s' is not wanted here",
				      argv[optind]);
		if (i < 0 || args->values[i])
			return misuse(args, NULL, "'%s' is one too many",
				      argv[argc - 1]);
		status = set_value(args, i, argv[optind + n]);
	}
	return status;
}

static int check_required(struct args *args)
{
	const struct opt *o;
	int i;

	for (i = 0; (o = get_opt(args->command, i)); i++)
		if ((o->flags & OPT_REQUIRED) && !args->values[i])
			return misuse(args, NULL, "option '--%s' is missing",
				      o->name);
	return 0;
}

/* Help comes before what is required is asked for. */
int run_command(const char *program, const struct command *command, int argc,
		char **argv)
{
	struct args args = { .program = program, .command = command };
	int status = parse_options(&args, argc, argv);

	if (!status && arg_is_set(&args, "help")) {
		show_help(program, command);
		return 0;
	}
	if (!status)
		status = parse_operands(&args, argc, argv);
	if (!status)
		status = check_required(&args);
	return status ? status : command->run(&args);
}
