/* SPDX-License-Identifier: BSD-3-Clause */
/* Options of a disk that toolstacks know (-2, -C, -e, -r, -E), as a graph; see
 * legacy.c. */
#ifndef BT_CONTROL_LEGACY_H
#define BT_CONTROL_LEGACY_H

#include "control/rundir.h"
#include "control/wire.h"

struct bt_legacy {
	char *image; /* TYPE:PATH; NULL: no such option is in use */
	char *secondary; /* TYPE:PATH, or NULL */
	char *log; /* or NULL */
	bool copies; /* what is read below the image is kept in it */
	char *parent; /* the URI of what the image stands on, or NULL */
	char key[16]; /* "fd:N", or "" */
	int key_fd; /* where image is not NULL: -1, or a file in memory */
	char *file; /* of the graph, where there is one; or NULL */
	bool second_name; /* of the two that file may have */
};

/* Takes from an OPEN what is asked for. Refuses what cannot be had. */
int bt_legacy_open(struct bt_legacy *legacy, const struct bt_rundir *dir,
		   int minor, const struct bt_wire_params *params,
		   const uint8_t *trailer, size_t length,
		   struct blktap_error **err);
/* What a RESUME changes of old. *changed: it does. */
int bt_legacy_resume(struct bt_legacy *legacy, const struct bt_legacy *old,
		     const char *image, const struct bt_wire_params *params,
		     const uint8_t *trailer, bool *changed,
		     struct blktap_error **err);
/* What to open: a new string. A graph is written to its file. */
int bt_legacy_make(struct bt_legacy *legacy, const struct bt_rundir *dir,
		   int minor, char **spec, struct blktap_error **err);
/* Which BT_WIRE_* flags what is in use now would be asked for with. */
uint32_t bt_legacy_flags(const struct bt_legacy *legacy);
/* Frees, and removes the file. Harmless where all is zero. */
void bt_legacy_fini(struct bt_legacy *legacy);
/* next takes its place, and its key; its file goes. */
void bt_legacy_replace(struct bt_legacy *legacy, const struct bt_legacy *next);
/* The same as fini, but for the file and the key, which another one has. */
void bt_legacy_drop(struct bt_legacy *legacy);

#endif
