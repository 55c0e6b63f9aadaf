/* SPDX-License-Identifier: BSD-3-Clause */
/* What <blktap/class.h> tells of a class; the table of them is in image/. */
#include "port/port.h"

#include <string.h>

const char *blktap_class_get_name(const struct blktap_class *cls)
{
	return cls->name;
}

const char *blktap_class_get_aliases(const struct blktap_class *cls)
{
	return cls->aliases ? cls->aliases : "";
}

const char *blktap_class_get_summary(const struct blktap_class *cls)
{
	return cls->summary;
}

const struct blktap_param *blktap_class_get_param(
	const struct blktap_class *cls, uint32_t index)
{
	uint32_t i;

	for (i = 0; cls->params && cls->params[i].name; i++)
		if (i == index)
			return &cls->params[i];
	return NULL;
}

uint32_t blktap_class_get_operations(const struct blktap_class *cls)
{
	return cls->operations | cls->passes;
}

bool blktap_class_is_driver(const struct blktap_class *cls)
{
	uint32_t i;

	for (i = 0; cls->ports && cls->ports[i].name; i++)
		if (!cls->ports[i].optional)
			return false;
	return !(cls->flags & BT_CLASS_FRONT);
}

bool bt_class_is_called(const struct blktap_class *cls, const char *name)
{
	const char *list = cls->aliases;
	size_t len = strlen(name);

	if (!strcmp(cls->name, name))
		return true;
	while (list && *list) {
		size_t part = strcspn(list, ",");

		if (part == len && !memcmp(list, name, len))
			return true;
		list += part + (list[part] == ',');
	}
	return false;
}
