/* SPDX-License-Identifier: BSD-3-Clause */
/* The classes that belong to the language itself, the fronts. The others are the
 * caller's. */
#include <errno.h>

#include "core/error.h"
#include "mason/private.h"
#include "module/foreign.h"

static const struct blktap_param front_params[] = {
	{ .name = "name",
	  .type = BLKTAP_PARAM_STRING,
	  .flags = BLKTAP_PARAM_REQUIRED | BLKTAP_PARAM_IDENTITY,
	  .help = "give the name that clients ask for" },
	{ .name = "ro",
	  .type = BLKTAP_PARAM_BOOL,
	  .fallback = "false",
	  .help = "writes are refused" },
	{ .name = "shared",
	  .type = BLKTAP_PARAM_BOOL,
	  .fallback = "false",
	  .help = "other fronts with shared=true may write the same data" },
	{ .name = NULL },
};

static const struct bt_port_desc front_ports[] = {
	{ .name = "top", .help = "where requests go" },
	{ .name = NULL },
};

static int front_check_args(const struct bt_args *args,
			    struct blktap_error **err)
{
	return *bt_args_string(args, "name")
		       ? 0
		       : bt_fail(err, -EINVAL,
				 "give the name that clients ask for",
				 "the name is empty");
}

const struct blktap_class bt_mason_disk_class = {
	.name = "disk",
	.summary = "a disk that is offered to a guest or a host",
	.params = front_params,
	.ports = front_ports,
	.flags = BT_CLASS_FRONT,
	.legacy_type = -1,
	.check_args = front_check_args,
};

const struct blktap_class bt_mason_export_class = {
	.name = "export",
	.summary = "a node offered over NBD under a name of its own",
	.params = front_params,
	.ports = front_ports,
	.flags = BT_CLASS_FRONT,
	.legacy_type = -1,
	.check_args = front_check_args,
};

/* The fronts, the caller's classes, and those of modules, in this order: so no
 * module can take the name of a class that is there. */
const struct blktap_class *bt_mason_next_class(
	struct blktap_mason *m, const struct blktap_class *previous)
{
	if (!previous)
		return &bt_mason_disk_class;
	if (previous == &bt_mason_disk_class)
		return &bt_mason_export_class;
	if (previous == &bt_mason_export_class)
		previous = NULL;
	if (previous && bt_modules_have(m->options.modules, previous))
		return blktap_modules_next(m->options.modules, previous);
	if (m->options.next_class) {
		previous = m->options.next_class(previous);
		if (previous)
			return previous;
	}
	return blktap_modules_next(m->options.modules, NULL);
}

const struct blktap_class *bt_mason_class(struct blktap_mason *m,
					  const char *name)
{
	const struct blktap_class *cls = NULL;

	while ((cls = bt_mason_next_class(m, cls)))
		if (bt_class_is_called(cls, name))
			return cls;
	return NULL;
}

bool bt_mason_is_front(const struct bt_mason_node *node)
{
	return node->cls->flags & BT_CLASS_FRONT;
}
