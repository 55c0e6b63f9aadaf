/* SPDX-License-Identifier: BSD-3-Clause */
/* The graph of a disk that becomes another one at random, and always holds the same
 * bytes: modules come and go, and what is below one that copies is exchanged for the
 * copy. From the disk down it is a row of modules, of which each has one edge that
 * goes on, and perhaps files of its own. A file is named by a letter, <a> in the text,
 * and is new when it comes. */
#ifndef BT_TESTS_PLOT_H
#define BT_TESTS_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLOT_MODULES 12u
#define PLOT_FILES 26u

enum plot_kind {
	/* that keep nothing */
	PLOT_LOG,
	PLOT_THROTTLE,
	PLOT_RETRY,
	PLOT_SLICE,
	PLOT_DELAY,
	PLOT_CONCAT,
	/* with a store */
	PLOT_SNAP,
	PLOT_BITMAP,
	PLOT_CACHE,
	PLOT_CHECKSUM,
	PLOT_WRITELOG,
	/* that stay, since bytes are in them */
	PLOT_COW,
	PLOT_COPY_ON_READ, /* right above one of those */
	/* that copy what is below them */
	PLOT_MIRROR,
	PLOT_COPY,
	PLOT_KINDS
};

/* One file, or two halves. */
struct plot_leaf {
	uint32_t id;
	uint32_t way; /* 0 one file, 1 stripe, 2 concat */
	uint32_t files[2];
};

struct plot_module {
	enum plot_kind kind;
	uint32_t id; /* of its name */
	uint32_t way; /* of several to use it */
	uint32_t store; /* a file, or PLOT_NONE */
	struct plot_leaf to; /* of who copies */
};

struct plot {
	struct plot_module modules[PLOT_MODULES]; /* from the top */
	uint32_t count;
	struct plot_leaf leaf;
	uint32_t next_id;
};

/* What all plots of one story share. */
struct plot_world {
	uint64_t *random; /* state of seed.h */
	uint64_t size; /* of the disk */
	uint32_t kinds; /* 1u << those that may come */
	/* 1u << those that are not new any more, or not yet to be used again */
	uint32_t used;
	uint64_t file_size[PLOT_FILES];
};

#define PLOT_NONE UINT32_MAX

void plot_begin(struct plot_world *w, struct plot *p);
/* *next is another graph of the same disk; false where no file is left for it. */
bool plot_change(struct plot_world *w, const struct plot *p, struct plot *next);
/* The text of p, which takes the place of was (NULL: of none): only when all that is
 * given up with it has been copied, by an assert. */
void plot_text(const struct plot_world *w, const struct plot *p,
	       const struct plot *was, char *out, size_t size);
/* The one that copies, or NULL. */
const struct plot_module *plot_mover(const struct plot *p);
/* The files that it names. */
uint32_t plot_files(const struct plot *p);

#endif
