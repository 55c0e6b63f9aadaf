/* SPDX-License-Identifier: BSD-3-Clause */
/* The arguments of a node, checked against its class's parameters. */
#ifndef BT_PORT_ARGS_H
#define BT_PORT_ARGS_H

#include <blktap/class.h>
#include <blktap/error.h>

struct bt_args;

/* Empty arguments of cls; every value its default. */
int bt_args_create(const struct blktap_class *cls, struct bt_args **out);
void bt_args_destroy(struct bt_args *args);
/* The same arguments once more; -ENOMEM. */
int bt_args_copy(const struct bt_args *args, struct bt_args **out);

/* Sets one value from its text (without quotes): -ENOENT for a name the class
 * does not have (with a suggestion), -EINVAL for a value of the wrong type or
 * out of range, -EEXIST where it was set before. */
int bt_args_set(struct bt_args *args, const char *name, const char *text,
		struct blktap_error **err);
/* The same by position. */
int bt_args_set_at(struct bt_args *args, uint32_t index, const char *text,
		   struct blktap_error **err);
/* Every required value is there: 0, or -EINVAL and the missing name. */
int bt_args_finish(const struct bt_args *args, struct blktap_error **err);

/* name must be one of the class's parameters. Strings are NULL where neither
 * given nor defaulted, numbers 0, bools false. ENUM is a string, and so is LIST,
 * whose items are separated by newlines. */
const char *bt_args_string(const struct bt_args *args, const char *name);
/* Whether "name=value" is so; "" always is. See durable_when of ports. */
bool bt_args_hold(const struct bt_args *args, const char *condition);
uint64_t bt_args_number(const struct bt_args *args, const char *name);
bool bt_args_bool(const struct bt_args *args, const char *name);
bool bt_args_is_set(const struct bt_args *args, const char *name);

/* `size` with an optional unit: "10G", 1024-based; -EINVAL, -ERANGE. */
int bt_parse_size(const char *text, uint64_t *out);

#endif
