/* SPDX-License-Identifier: BSD-3-Clause */
/* What <blktap/class.h> tells of a class; the table of them is in image/. */
#include "port/port.h"

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
