/* SPDX-License-Identifier: BSD-3-Clause */
/* The modules that programs give to their graphs: all of the module directory. */
#include <errno.h>
#include <stdlib.h>

#include "common.h"

int load_modules(const struct args *args, struct blktap_modules **out)
{
	const char *dir = getenv("BLKTAP_MODULE_DIR");
	struct blktap_error *err = NULL;
	int rc = blktap_modules_create(out, &err);

	if (rc < 0)
		return report(args, NULL, rc, err);
	rc = blktap_modules_load(*out, dir, &err);
	if (!rc)
		return 0;
	if (rc == -ENOENT && !dir) {
		blktap_error_destroy(err); /* nobody installed any */
		return 0;
	}
	blktap_modules_destroy(*out);
	*out = NULL;
	return report(args, NULL, rc, err);
}
