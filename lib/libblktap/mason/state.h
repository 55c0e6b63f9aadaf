/* SPDX-License-Identifier: BSD-3-Clause */
/* The generation on disk, see state.c. */
#ifndef BT_MASON_STATE_H
#define BT_MASON_STATE_H

#include "mason/run.h"

/* What a state file holds. */
struct bt_state {
	uint64_t generation;
	uint64_t source; /* of the described file, as it was then */
	struct bt_mason_text *texts; /* that run */
	uint32_t count;
	char **defines;
	struct bt_mason_text *old_texts; /* that ran before; or none */
	uint32_t old_count;
	char **old_defines;
};

/* Reads FILE.state: 1; 0 where there is none; or a negative errno. */
int bt_state_read(const char *path, struct bt_state *state,
		  struct blktap_error **err);
void bt_state_fini(struct bt_state *state);
/* Whether path is not what it was when the generation began. */
bool bt_state_is_stale(const char *path, const struct bt_state *state);

/* Writes the generation after the run's, durable, beside that of the run; the
 * run's own first where it has none. */
int bt_state_write(struct bt_run *run, const struct bt_mason_file *next,
		   struct blktap_error **err);
/* Makes it the one that counts. */
int bt_state_commit(struct bt_run *run, struct blktap_error **err);
/* Takes it away again. */
void bt_state_drop(struct bt_run *run);

#endif
