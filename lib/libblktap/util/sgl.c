/* SPDX-License-Identifier: BSD-3-Clause */
/* A window on somebody's iovec, never a copy of it: advancing moves the window, and
 * the vector stays as its owner gave it. Sums are checked, since an embedder's
 * lengths may add up to more than there is. */
#include "util/sgl.h"

#include <string.h>

#include "util/checked.h"

uint64_t bt_sgl_length(const struct bt_sgl *sgl)
{
	uint64_t total = 0;
	uint32_t i;

	for (i = 0; i < sgl->count; i++)
		if (!bt_checked_add(total, sgl->iov[i].iov_len, &total))
			return UINT64_MAX;
	return total >= sgl->skip ? total - sgl->skip : 0;
}

bool bt_sgl_advance(struct bt_sgl *sgl, uint64_t bytes)
{
	while (sgl->count) {
		uint64_t left = sgl->iov->iov_len - sgl->skip;

		if (bytes < left) {
			sgl->skip += (size_t)bytes;
			return true;
		}
		bytes -= left;
		sgl->iov++;
		sgl->count--;
		sgl->skip = 0;
	}
	return bytes == 0;
}

uint32_t bt_sgl_to_iov(const struct bt_sgl *sgl, uint64_t length,
		       struct iovec *out, uint32_t max, uint64_t *covered)
{
	size_t skip = sgl->skip;
	uint64_t done = 0;
	uint32_t i, used = 0;

	for (i = 0; i < sgl->count && used < max && done < length; i++) {
		uint64_t part =
			bt_min_u64(sgl->iov[i].iov_len - skip, length - done);

		if (part) {
			out[used].iov_base =
				(char *)sgl->iov[i].iov_base + skip;
			out[used].iov_len = (size_t)part;
			used++;
		}
		done += part;
		skip = 0;
	}
	*covered = done;
	return used;
}

enum sgl_action { COPY_OUT, COPY_IN, ZERO };

static uint64_t each(const struct bt_sgl *sgl, uint64_t length, char *flat,
		     const char *from, enum sgl_action action)
{
	size_t skip = sgl->skip;
	uint64_t done = 0;
	uint32_t i;

	for (i = 0; i < sgl->count && done < length; i++) {
		char *base = (char *)sgl->iov[i].iov_base + skip;
		size_t part = (size_t)bt_min_u64(sgl->iov[i].iov_len - skip,
						 length - done);

		skip = 0;
		if (!part)
			continue;
		if (action == COPY_OUT)
			memcpy(flat + done, base, part);
		else if (action == COPY_IN)
			memcpy(base, from + done, part);
		else
			memset(base, 0, part);
		done += part;
	}
	return done;
}

uint64_t bt_sgl_copy_out(const struct bt_sgl *sgl, void *to, uint64_t length)
{
	return each(sgl, length, to, NULL, COPY_OUT);
}

uint64_t bt_sgl_copy_in(const struct bt_sgl *sgl, const void *from,
			uint64_t length)
{
	return each(sgl, length, NULL, from, COPY_IN);
}

uint64_t bt_sgl_zero(const struct bt_sgl *sgl, uint64_t length)
{
	return each(sgl, length, NULL, NULL, ZERO);
}

bool bt_sgl_is_aligned(const struct bt_sgl *sgl, uint64_t length, size_t align)
{
	size_t skip = sgl->skip;
	uint64_t done = 0;
	uint32_t i;

	for (i = 0; i < sgl->count && done < length; i++) {
		uintptr_t base = (uintptr_t)sgl->iov[i].iov_base + skip;
		uint64_t part =
			bt_min_u64(sgl->iov[i].iov_len - skip, length - done);

		if (part && ((base | part) & (align - 1)))
			return false;
		done += part;
		skip = 0;
	}
	return true;
}

#define ZERO_BYTES 65536u

static const char zeroes[ZERO_BYTES] __attribute__((aligned(4096)));

#define ZERO_IOV                                       \
	{                                              \
		.iov_base = (void *)(uintptr_t)zeroes, \
		.iov_len = sizeof(zeroes)              \
	}
#define ZERO_IOV4 ZERO_IOV, ZERO_IOV, ZERO_IOV, ZERO_IOV

static const struct iovec zero_iov[BT_ZEROES_MAX / ZERO_BYTES] = {
	ZERO_IOV4, ZERO_IOV4, ZERO_IOV4, ZERO_IOV4,
	ZERO_IOV4, ZERO_IOV4, ZERO_IOV4, ZERO_IOV4,
};

const struct bt_sgl bt_zeroes = { .iov = zero_iov,
				  .count = BT_ZEROES_MAX / ZERO_BYTES };
