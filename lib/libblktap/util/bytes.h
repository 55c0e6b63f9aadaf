/* SPDX-License-Identifier: BSD-3-Clause */
/* Fixed-width integers in byte buffers of any alignment: be and le are the byte
 * order in the buffer, ne is that of this machine. Bounds are the caller's. */
#ifndef BT_UTIL_BYTES_H
#define BT_UTIL_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* The value of a hexadecimal digit, or -1. */
static inline int bt_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

#define BT_BYTES_ACCESSORS(bits)                                        \
	static inline uint##bits##_t bt_load_be##bits(const void *p)    \
	{                                                               \
		uint##bits##_t v;                                       \
		memcpy(&v, p, sizeof(v));                               \
		return be##bits##toh(v);                                \
	}                                                               \
	static inline uint##bits##_t bt_load_le##bits(const void *p)    \
	{                                                               \
		uint##bits##_t v;                                       \
		memcpy(&v, p, sizeof(v));                               \
		return le##bits##toh(v);                                \
	}                                                               \
	static inline uint##bits##_t bt_load_ne##bits(const void *p)    \
	{                                                               \
		uint##bits##_t v;                                       \
		memcpy(&v, p, sizeof(v));                               \
		return v;                                               \
	}                                                               \
	static inline void bt_store_be##bits(void *p, uint##bits##_t v) \
	{                                                               \
		v = htobe##bits(v);                                     \
		memcpy(p, &v, sizeof(v));                               \
	}                                                               \
	static inline void bt_store_le##bits(void *p, uint##bits##_t v) \
	{                                                               \
		v = htole##bits(v);                                     \
		memcpy(p, &v, sizeof(v));                               \
	}                                                               \
	static inline void bt_store_ne##bits(void *p, uint##bits##_t v) \
	{                                                               \
		memcpy(p, &v, sizeof(v));                               \
	}

BT_BYTES_ACCESSORS(16)
BT_BYTES_ACCESSORS(32)
BT_BYTES_ACCESSORS(64)

#undef BT_BYTES_ACCESSORS

#endif
