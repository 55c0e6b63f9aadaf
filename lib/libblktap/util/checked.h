/* SPDX-License-Identifier: BSD-3-Clause */
/* Arithmetic on sizes and offsets that come from outside: every step says
 * whether it overflowed, so that a hostile field cannot wrap into a valid one. */
#ifndef BT_UTIL_CHECKED_H
#define BT_UTIL_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True where the result fits; *out is then the result. */
#define bt_checked_add(a, b, out) (!__builtin_add_overflow((a), (b), (out)))
#define bt_checked_sub(a, b, out) (!__builtin_sub_overflow((a), (b), (out)))
#define bt_checked_mul(a, b, out) (!__builtin_mul_overflow((a), (b), (out)))

/* Whether [offset, offset + length) lies inside [0, limit). */
static inline bool bt_range_within(uint64_t offset, uint64_t length,
				   uint64_t limit)
{
	return offset <= limit && length <= limit - offset;
}

static inline bool bt_is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* align must be a power of two. */
static inline uint64_t bt_align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

/* align must be a power of two; false where the result does not fit. */
static inline bool bt_checked_align_up(uint64_t v, uint64_t align,
				       uint64_t *out)
{
	if (!bt_checked_add(v, align - 1, out))
		return false;
	*out = bt_align_down(*out, align);
	return true;
}

static inline uint64_t bt_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t bt_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#define BT_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define bt_container_of(ptr, type, member) \
	((type *)((char *)(ptr)-offsetof(type, member)))

#define bt_likely(x) __builtin_expect(!!(x), 1)
#define bt_unlikely(x) __builtin_expect(!!(x), 0)

#endif
