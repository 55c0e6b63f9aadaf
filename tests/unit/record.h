/* SPDX-License-Identifier: BSD-3-Clause */
/* A backend for bt_engine_create_backend that does plain I/O and keeps what was
 * written, so that a test can make the file that a power cut would have left.
 *
 * Time is a count of events: record.now goes on by one with each operation that
 * is submitted or completed, and the test may take numbers of its own
 * (record_tick). At a cut, what a sync covers is in the file: it was completed
 * before the sync was submitted, and the sync had completed. What was submitted
 * and is not covered may be there, whole, in part, or not at all. */
#ifndef BT_TESTS_RECORD_H
#define BT_TESTS_RECORD_H

#include "engine/engine.h"

struct record_op {
	/* WRITE, SYNC, PUNCH, ZERO, or RECORD_TRUNCATE to length */
	int op;
	uint32_t file; /* of several, see record-calls.h */
	uint64_t offset, length;
	unsigned char *data; /* WRITE; the record's */
	bool fua; /* durable when it has completed */
	uint64_t submitted, completed; /* completed 0: not yet */
};

#define RECORD_TRUNCATE BT_IO_OP_COUNT

struct record {
	struct record_op *ops; /* in the order of submission */
	uint32_t count;
	uint64_t now;
};

enum record_model {
	RECORD_NOTHING, /* of what no sync covers */
	RECORD_ALL,
	RECORD_SOME, /* each operation or not */
	RECORD_TORN, /* each sector or not */
	RECORD_MODELS
};

/* One more at the end, all zeroes but the time it was submitted at. */
struct record_op *record_add(void);

extern struct record record;
extern const struct bt_backend record_backend;
/* Which of several files it is; NULL: there is one. */
extern uint32_t (*record_file)(int fd);

void record_reset(void);
uint64_t record_tick(void);

/* The file after a cut right after event `at`: image holds size bytes as they
 * were at record_reset, in room for max. Returns its size. random is called for
 * each choice. */
uint64_t record_cut(uint64_t at, enum record_model model,
		    uint64_t (*random)(void), unsigned char *image,
		    uint64_t size, uint64_t max);
/* The same of one file among several: a sync is of one file. */
uint64_t record_cut_file(uint32_t file, uint64_t at, enum record_model model,
			 uint64_t (*random)(void), unsigned char *image,
			 uint64_t size, uint64_t max);

#endif
