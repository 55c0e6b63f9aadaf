/* SPDX-License-Identifier: BSD-3-Clause */
/* What img2qcow and qcow2raw are: one disk copied into a new image. */
#ifndef BLKTAP_DAEMONS_CONVERT_H
#define BLKTAP_DAEMONS_CONVERT_H

#include "common.h"

struct convert {
	const char *source; /* its file */
	const char *source_format; /* the class that opens it */
	const char *source_key; /* as the class takes it; or NULL */
	const char *target;
	const char *target_format;
	const char *target_key;
	const struct blktap_image_options *create; /* length is filled in */
	/* What is done to the new image before it is opened; or NULL. */
	int (*prepare)(void *opaque, const char *path,
		       struct blktap_error **err);
	void *opaque;
	int *error; /* gets the errno of what failed; or NULL */
	bool overwrite;
	bool may_force; /* there is an option --force */
	bool json;
	const char
		*progress; /* a descriptor's number, "" for stderr; or NULL */
};

/* Copies. The target appears under its name when it is whole and on disk, and not
 * at all where something fails or the user interrupts; a block device is written
 * where it is. Returns the exit status: 0, or 1 with the reason on stderr. */
int convert_run(const struct args *args, const struct convert *convert);

/* "10G", "512k"; a bare number counts in unit bytes. 0 or a negative errno. */
int parse_bytes(const char *text, uint64_t unit, uint64_t *out);

#endif
