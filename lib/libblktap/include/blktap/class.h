/* SPDX-License-Identifier: BSD-3-Clause */
/* What kinds of node there are, and what arguments they take: the same table
 * that checks a spec, prints --help and fills the manual. */
#ifndef BLKTAP_CLASS_H
#define BLKTAP_CLASS_H

#include <blktap/base.h>

BLKTAP_BEGIN_DECLS

struct blktap_class;

enum blktap_param_type {
	BLKTAP_PARAM_STRING,
	BLKTAP_PARAM_PATH, /* a string that names a file */
	BLKTAP_PARAM_BOOL, /* true, false */
	BLKTAP_PARAM_INT,
	BLKTAP_PARAM_SIZE, /* bytes; 10G */
	BLKTAP_PARAM_DURATION, /* nanoseconds; 5s */
	BLKTAP_PARAM_ENUM, /* one of choices */
	BLKTAP_PARAM_RATE, /* per second; 200M/s */
	BLKTAP_PARAM_PERCENT, /* 0% to 100% */
	BLKTAP_PARAM_LIST /* of strings, one a line */
};

#define BLKTAP_PARAM_REQUIRED 0x1u
#define BLKTAP_PARAM_IDENTITY 0x2u /* says which data the node stands for */
#define BLKTAP_PARAM_LIVE 0x4u /* may change while the node runs */
#define BLKTAP_PARAM_SECRET 0x8u /* secret:NAME, fd:N or file:/PATH */

struct blktap_param {
	const char *name;
	enum blktap_param_type type;
	uint32_t flags;
	const char *fallback; /* the default as it would be written, or NULL */
	const char *choices; /* ENUM: "none|writeback" */
	uint64_t min, max; /* of what is a number; max 0: no limit */
	const char *help; /* one line, no full stop */
};

/* The class after previous, or the first where it is NULL; NULL after the last.
 * Static. Any thread. Since 0.1. */
BLKTAP_API const struct blktap_class *blktap_class_next(
	const struct blktap_class *previous);

/* The class of that name or alias, or NULL. Since 0.1. */
BLKTAP_API const struct blktap_class *blktap_class_find(const char *name);

/* Static text; aliases is "" or "name,name". Since 0.1. */
BLKTAP_API const char *blktap_class_get_name(const struct blktap_class *cls);
BLKTAP_API const char *blktap_class_get_aliases(const struct blktap_class *cls);
BLKTAP_API const char *blktap_class_get_summary(const struct blktap_class *cls);

/* The parameters in positional order: index counts from 0, NULL after the last.
 * Since 0.1. */
BLKTAP_API const struct blktap_param *blktap_class_get_param(
	const struct blktap_class *cls, uint32_t index);

/* What a user of the class has to know, as a section of a manual page in POD;
 * the caller frees it with free(). 0 or -ENOMEM. Since 0.1. */
BLKTAP_API int blktap_class_get_pod(const struct blktap_class *cls, char **out);

/* The operations it serves, 1u << enum blktap_op. Since 0.1. */
BLKTAP_API uint32_t blktap_class_get_operations(const struct blktap_class *cls);

/* Whether it can stand alone, so that `type:path` opens it; the others stand on
 * nodes that a Block Mason file gives them. Since 0.1. */
BLKTAP_API bool blktap_class_is_driver(const struct blktap_class *cls);

BLKTAP_END_DECLS

#endif
