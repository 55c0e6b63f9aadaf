/* SPDX-License-Identifier: BSD-3-Clause */
/* Modules from outside: foreign.c makes a class of what a module declares;
 * image/modules.c finds modules. */
#ifndef BT_MODULE_FOREIGN_H
#define BT_MODULE_FOREIGN_H

#include <blktap/module.h>
#include <blktap/modules.h>

#include "port/port.h"

struct bt_foreign {
	struct bt_list link; /* in its set */
	struct blktap_class cls;
	struct blktap_module module; /* what this library knows of it */
	struct blktap_param *params; /* the class's */
	struct bt_port_desc *ports; /* the class's */
	void *library;
	int fd; /* of its file */
};

struct blktap_modules {
	struct bt_list list; /* of bt_foreign, in the order of loading */
};

/* Checks what a module declares and makes a class of it; file is its name in
 * messages. */
int bt_foreign_create(const struct blktap_module *module, const char *file,
		      struct bt_foreign **out, struct blktap_error **err);
/* Its part that looks at foreign->module, and fills params and ports; what it has
 * made when it fails goes with bt_foreign_destroy. */
int bt_foreign_check(struct bt_foreign *foreign, const char *file,
		     struct blktap_error **err);
void bt_foreign_destroy(struct bt_foreign *foreign);

/* Whether the class is one of the set; modules may be NULL. */
bool bt_modules_have(const struct blktap_modules *modules,
		     const struct blktap_class *cls);

#endif
