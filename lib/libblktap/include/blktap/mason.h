/* SPDX-License-Identifier: BSD-3-Clause */
/* Block Mason: graphs described in a file. See blktap-mason(5) for the
 * language. A text is checked, printed in its canonical form, or drawn without a
 * disk; and a disk that was opened as mason:FILE is changed while it runs. */
#ifndef BLKTAP_MASON_H
#define BLKTAP_MASON_H

#include <blktap/class.h>
#include <blktap/error.h>

BLKTAP_BEGIN_DECLS

struct blktap_mason;
struct blktap_modules;

/* Gives the text of an included file: path is relative to what the check was
 * called with, as the file that includes it is. *text comes from malloc and is
 * freed by the library. Returns 0 or a negative errno. */
typedef int blktap_mason_read_fn(void *opaque, const char *path, char **text,
				 size_t *length);

/* The class after previous, or the first where it is NULL, as
 * blktap_class_next has it. */
typedef const struct blktap_class *blktap_mason_class_fn(
	const struct blktap_class *previous);

struct blktap_mason_options {
	size_t size; /* sizeof(struct blktap_mason_options) */
	blktap_mason_class_fn *next_class; /* blktap_class_next; NULL: none */
	blktap_mason_read_fn *read; /* NULL: include is an error */
	void *read_opaque;
	const char *const *defines; /* "name=value", ended by NULL; or NULL */
	uint64_t memory_budget; /* bytes; 0: none */
	/* classes beside those of next_class, see <blktap/modules.h>; or NULL */
	const struct blktap_modules *modules;
};

struct blktap_mason_diagnostic {
	size_t size; /* sizeof(struct blktap_mason_diagnostic) */
	bool is_warning;
	const char *file;
	uint32_t line, column; /* from 1; column counts bytes */
	const char *text;
	const char *hint; /* "" where there is none */
};

/* Fills options with the defaults, size included: as many bytes as the caller's
 * headers have. Since 0.1. */
BLKTAP_API void blktap_mason_options_init_sized(
	struct blktap_mason_options *options, size_t size);
static inline void blktap_mason_options_init(
	struct blktap_mason_options *options)
{
	blktap_mason_options_init_sized(options, sizeof(*options));
}

/* Checks a text. name stands in the messages, and an include is looked for
 * beside it. A text with mistakes is checked all the same: 0 is returned, and
 * blktap_mason_get_errors is not 0. Fails where memory is out (-ENOMEM), or
 * the text or its graph is too large to be looked at (-E2BIG). Since 0.1. */
BLKTAP_API int blktap_mason_check(const char *name, const char *text,
				  size_t length,
				  const struct blktap_mason_options *options,
				  struct blktap_mason **out,
				  struct blktap_error **err);

/* Frees a check; NULL is fine. Since 0.1. */
BLKTAP_API void blktap_mason_destroy(struct blktap_mason *mason);

/* How many mistakes were found, and how many things that may be some; those
 * that were too many to be kept are counted. Since 0.1. */
BLKTAP_API uint32_t blktap_mason_get_errors(const struct blktap_mason *mason);
BLKTAP_API uint32_t blktap_mason_get_warnings(const struct blktap_mason *mason);

/* All messages as they are printed, "" where there are none, or as a JSON
 * array; owned by mason. Since 0.1. */
BLKTAP_API const char *blktap_mason_get_report(
	const struct blktap_mason *mason);
BLKTAP_API const char *blktap_mason_get_report_json(
	const struct blktap_mason *mason);

/* The message of that index, in the order of the text: 0, or -ENOENT after the
 * last. Its texts are owned by mason. Since 0.1. */
BLKTAP_API int blktap_mason_get_diagnostic(const struct blktap_mason *mason,
					   uint32_t index,
					   struct blktap_mason_diagnostic *out);

/* Nodes of the graph, fronts included, and the bytes of memory they are bound
 * to; 0 where there were errors. Since 0.1. */
BLKTAP_API uint32_t blktap_mason_get_nodes(const struct blktap_mason *mason);
BLKTAP_API uint64_t blktap_mason_get_memory(const struct blktap_mason *mason);

/* The graph in the language of Graphviz; the caller frees it with free().
 * -EINVAL where there were errors. Since 0.1. */
BLKTAP_API int blktap_mason_dot(const struct blktap_mason *mason, char **out,
				struct blktap_error **err);

/* The text in its canonical form, comments kept; the caller frees it with
 * free(). A text with mistakes in its syntax is -EINVAL, with the first of them
 * in err. Since 0.1. */
BLKTAP_API int blktap_mason_format(const char *name, const char *text,
				   size_t length, char **out,
				   struct blktap_error **err);

/* ---- running disks -------------------------------------------------------- */

struct blktap_disk;

struct blktap_mason_change {
	size_t size; /* sizeof(struct blktap_mason_change) */
	uint64_t if_generation; /* the one that must run; 0: any */
	uint32_t deadline_ms; /* for requests under way to finish; 0: 5000 */
	bool allow_shrink; /* disks may become smaller */
	bool plan_only; /* only say what would be done */
	const char *const *defines; /* "name=value", ended by NULL; or NULL */
	/* A node that goes may fail its last flush: what was written to it and
	 * not flushed may be lost. */
	bool allow_loss;
};

/* Fills change with the defaults, size included: as many bytes as the caller's
 * headers have. Since 0.1. */
BLKTAP_API void blktap_mason_change_init_sized(
	struct blktap_mason_change *change, size_t size);
static inline void blktap_mason_change_init(struct blktap_mason_change *change)
{
	blktap_mason_change_init_sized(change, sizeof(*change));
}

/* Changes the graph that disk stands on, and all other disks of its file, to
 * what a text says: all of it or nothing. New nodes are opened while requests go
 * on; only the edges into what changes are held, and where only filters come or
 * go none is. The new text is durable, in FILE.state, before anything moves.
 *
 * text NULL: it is read from the file called name. *answer, where answer is not
 * NULL, is a JSON object for the caller to free: what was kept, added and
 * removed, and pause_us. Waits, up to the deadline; callbacks run meanwhile. Not
 * from inside a callback (-EDEADLK). -EINVAL what would lose data or shrink a
 * disk, -ENOTSUP what would take an operation from a disk that has it, -ESTALE
 * another generation runs, -ETIMEDOUT requests did not finish, -EAGAIN an assert
 * did not hold; others from opening what is new. Since 0.1. */
BLKTAP_API int blktap_mason_apply(struct blktap_disk *disk, const char *name,
				  const char *text, size_t length,
				  const struct blktap_mason_change *change,
				  char **answer, struct blktap_error **err);

/* The same with the text that ran before the last change. -ENOENT where there is
 * none. Since 0.1. */
BLKTAP_API int blktap_mason_undo(struct blktap_disk *disk,
				 const struct blktap_mason_change *change,
				 char **answer, struct blktap_error **err);

/* How many graphs have run under that file, this one included; 0 where disk is
 * none of a file, or paused. Since 0.1. */
BLKTAP_API uint64_t blktap_mason_get_generation(const struct blktap_disk *disk);

/* The graph that disk stands on as a text of the language, whole and by itself;
 * and for Graphviz, with the figures of each node. The caller frees both with
 * free(). -EINVAL where disk is none of a file, or paused. Since 0.1. */
BLKTAP_API int blktap_mason_dump(const struct blktap_disk *disk, char **out,
				 struct blktap_error **err);
BLKTAP_API int blktap_mason_dot_disk(const struct blktap_disk *disk, char **out,
				     struct blktap_error **err);

BLKTAP_END_DECLS

#endif
