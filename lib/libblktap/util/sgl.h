/* SPDX-License-Identifier: BSD-3-Clause */
/* A window into somebody's iovec array. Slicing moves the window and copies
 * nothing; the array and the memory stay the owner's. */
#ifndef BT_UTIL_SGL_H
#define BT_UTIL_SGL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Copied by value, as each copy is a window of its own. Zeroed, it is empty. */
struct bt_sgl {
	const struct iovec *iov;
	uint32_t count; /* entries from iov on */
	size_t skip; /* bytes of iov[0] before the window */
};

/* Bytes from the window's start to the end of the array; UINT64_MAX where the
 * sum does not fit. */
uint64_t bt_sgl_length(const struct bt_sgl *sgl);

/* Whether it has so many; mostly it is one piece that does. */
static inline bool bt_sgl_holds(const struct bt_sgl *sgl, uint64_t length)
{
	if (sgl->count == 1 && !sgl->skip)
		return sgl->iov->iov_len >= length;
	return bt_sgl_length(sgl) >= length;
}

/* Moves the window's start; false where fewer than bytes are left. */
bool bt_sgl_advance(struct bt_sgl *sgl, uint64_t bytes);

/* Writes the first length bytes of the window as at most max entries to out;
 * returns the number of entries, and in *covered the bytes they hold (less
 * than length where max was too small or the window too short). */
uint32_t bt_sgl_to_iov(const struct bt_sgl *sgl, uint64_t length,
		       struct iovec *out, uint32_t max, uint64_t *covered);

/* out: from the window to flat memory; in: from there into the window, as a read
 * does. The window stays where it is. They return the bytes moved, which are fewer
 * than length where the window ends. */
uint64_t bt_sgl_copy_out(const struct bt_sgl *sgl, void *to, uint64_t length);
uint64_t bt_sgl_copy_in(const struct bt_sgl *sgl, const void *from,
			uint64_t length);
uint64_t bt_sgl_zero(const struct bt_sgl *sgl, uint64_t length);

/* Whether every address and every length of the first length bytes is a
 * multiple of align (a power of two). */
bool bt_sgl_is_aligned(const struct bt_sgl *sgl, uint64_t length, size_t align);

/* A window of zeroes, to be written from: BT_ZEROES_MAX bytes. */
#define BT_ZEROES_MAX (2u << 20)
extern const struct bt_sgl bt_zeroes;

#endif
