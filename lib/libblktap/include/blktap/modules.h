/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets of modules that are not part of blktap, for who wants them in his graphs.
 * How to write one: <blktap/module.h>. */
#ifndef BLKTAP_MODULES_H
#define BLKTAP_MODULES_H

#include <blktap/class.h>
#include <blktap/context.h>

BLKTAP_BEGIN_DECLS

struct blktap_modules;

/* Makes an empty set. Since 0.1. */
BLKTAP_API int blktap_modules_create(struct blktap_modules **out,
				     struct blktap_error **err);

/* Unloads the set; no context uses it any more. NULL is fine. Since 0.1. */
BLKTAP_API void blktap_modules_destroy(struct blktap_modules *modules);

/* Loads every *.so of a directory, NULL: the one that was configured. It and they
 * must belong to root or to the caller, and nobody else may write to them. All or
 * nothing: -EPERM, -ENOENT for a directory that is not there, -ENOEXEC for what is
 * no module, -EPROTONOSUPPORT for one of another ABI, -EEXIST for a name that is
 * taken. Since 0.1. */
BLKTAP_API int blktap_modules_load(struct blktap_modules *modules,
				   const char *directory,
				   struct blktap_error **err);

/* The class after previous, or the first where it is NULL; NULL after the last.
 * It lives as long as the set. Since 0.1. */
BLKTAP_API const struct blktap_class *blktap_modules_next(
	const struct blktap_modules *modules,
	const struct blktap_class *previous);

/* Lets the graphs of a context use the set, which must outlive it. Before its
 * first disk. Since 0.1. */
BLKTAP_API void blktap_context_set_modules(
	struct blktap_context *context, const struct blktap_modules *modules);

BLKTAP_END_DECLS

#endif
