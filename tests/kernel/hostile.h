/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef HOSTILE_H
#define HOSTILE_H

#include "tapring.h"

/*
 * What the server does instead of tap_answer; @cqe is what an honest one
 * would say.
 */
void hostile_answer(struct tapring *r, struct tapqueue *q, const char *mode,
		    const struct blktap_desc *d, struct blktap_cqe *cqe);

/* Before serving; false if the server is to end at once. */
bool hostile_start(struct tapring *r, const char *mode);

#endif
