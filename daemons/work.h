/* SPDX-License-Identifier: BSD-3-Clause */
/* Long work: a bar on the terminal, lines for machines, an end by signal. */
#ifndef BLKTAP_DAEMONS_WORK_H
#define BLKTAP_DAEMONS_WORK_H

#include "common.h"

struct work {
	const struct args *args;
	FILE *to; /* NULL: nothing is shown */
	bool bar; /* for people */
	unsigned int shown; /* per cent */
};

/* The option that a command with such work has. */
#define WORK_PROGRESS                                                        \
	{                                                                    \
		0, "progress", OPT_TEXT, "FD",                               \
			"write n/100 lines to this descriptor; the default " \
			"is a bar on a terminal",                            \
			0, 0                                                 \
	}

/* 0, or an exit status. From here on a signal ends the work, SIGUSR1 shows how far
 * it is. show: a bar even where stderr is no terminal. */
int work_begin(struct work *work, const struct args *args, bool show);

/* A blktap_vhd_progress_fn; opaque is the work. */
int work_progress(void *opaque, uint64_t done, uint64_t total);

/* What work_begin does first, for work that has its own progress. */
void work_catch_signals(void);

/* Whether a signal came. */
bool work_is_over(void);

/* Whether somebody asked how far it is; says so once. */
bool work_is_asked(void);

/* The exit status: status, but for a signal. */
int work_status(int status);
/* The same, behind a bar. */
int work_end(struct work *work, int status);

#endif
