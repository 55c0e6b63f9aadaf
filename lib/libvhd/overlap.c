/* SPDX-License-Identifier: BSD-3-Clause */
/* Two BAT entries that share bytes, found by sorting. The sort is a binary
 * radix exchange: in place, no allocation, no worst case beyond one pass over
 * the keys for each bit that differs, whatever an image makes of its table. */
#include <errno.h>
#include <string.h>

#include "libvhd/blocks.h"

/* Below this, moving neighbours is cheaper than another pass. */
#define SMALL 16

/* By insertion. */
static void sort_small(uint64_t *keys, size_t n)
{
	size_t i, j;
	uint64_t key;

	for (i = 1; i < n; i++) {
		key = keys[i];
		for (j = i; j > 0 && keys[j - 1] > key; j--)
			keys[j] = keys[j - 1];
		keys[j] = key;
	}
}

/* Keys without the bit to the front; returns how many there are. */
static size_t split(uint64_t *keys, size_t n, uint64_t bit)
{
	size_t low = 0, high = n;
	uint64_t key;

	while (low < high) {
		if (!(keys[low] & bit)) {
			low++;
			continue;
		}
		high--;
		key = keys[low];
		keys[low] = keys[high];
		keys[high] = key;
	}
	return low;
}

/* At most one level of recursion a bit. */
static void sort_keys(uint64_t *keys, size_t n, int bit)
{
	size_t low;

	while (n > SMALL && bit >= 0) {
		low = split(keys, n, UINT64_C(1) << bit);
		bit--;
		sort_keys(keys, low, bit);
		keys += low;
		n -= low;
	}
	sort_small(keys, n);
}

/* Each block has a place of its own before data_end, or two share one. */
bool bt_vhd_overlap_certain(const struct bt_vhd_blocks *b, uint32_t allocated,
			    uint64_t data_end)
{
	return allocated > data_end / bt_vhd_block_stride(b);
}

/* All blocks are of one length, so it is enough to look at neighbours in the
 * order of their places. */
int bt_vhd_overlap_check(const struct bt_vhd_blocks *b, uint64_t *keys,
			 size_t n, struct bt_vhd_overlap *overlap,
			 struct bt_fault *fault)
{
	uint64_t stride_sec = bt_vhd_block_stride(b) / BT_VHD_SECTOR;
	size_t i;

	sort_keys(keys, n, 63);
	for (i = 1; i < n; i++) {
		if ((keys[i] >> 32) - (keys[i - 1] >> 32) >= stride_sec)
			continue;
		if (overlap) {
			overlap->block[0] = (uint32_t)keys[i - 1];
			overlap->block[1] = (uint32_t)keys[i];
			overlap->entry[0] = (uint32_t)(keys[i - 1] >> 32);
			overlap->entry[1] = (uint32_t)(keys[i] >> 32);
		}
		return bt_fault_set(fault, -EINVAL, "BAT entry", keys[i] >> 32,
				    "two blocks share a place in the file",
				    "restore the image from a copy");
	}
	return 0;
}
