/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading an option's data, which may be anything. */
#ifndef BT_FRONTEND_NBD_CURSOR_H
#define BT_FRONTEND_NBD_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "util/nbd-proto.h"
#include "util/bytes.h"

/* What is left of an option's data. */
struct cursor {
	const uint8_t *at;
	uint32_t left;
};

static inline bool take_u16(struct cursor *c, uint16_t *out)
{
	if (c->left < 2)
		return false;
	*out = bt_load_be16(c->at);
	c->at += 2;
	c->left -= 2;
	return true;
}

static inline bool take_u32(struct cursor *c, uint32_t *out)
{
	if (c->left < 4)
		return false;
	*out = bt_load_be32(c->at);
	c->at += 4;
	c->left -= 4;
	return true;
}

/* A length and as many bytes, which are not ended by a NUL. */
static inline bool take_string(struct cursor *c, const char **out,
			       uint32_t *len)
{
	if (!take_u32(c, len) || *len > NBD_STRING_MAX || *len > c->left)
		return false;
	*out = (const char *)c->at;
	c->at += *len;
	c->left -= *len;
	return true;
}

#endif
