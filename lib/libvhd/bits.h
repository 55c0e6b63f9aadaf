/* SPDX-License-Identifier: BSD-3-Clause */
/* Bits of block bitmaps, batmap and BAT listing: bit 0 is the highest bit of
 * byte 0. Whole words at a time where they can be. */
#ifndef BT_VHD_BITS_H
#define BT_VHD_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool bt_vhd_bit_test(const void *map, uint32_t i)
{
	return ((const uint8_t *)map)[i >> 3] & (0x80u >> (i & 7));
}

static inline void bt_vhd_bit_set(void *map, uint32_t i)
{
	((uint8_t *)map)[i >> 3] |= (uint8_t)(0x80u >> (i & 7));
}

static inline void bt_vhd_bit_clear(void *map, uint32_t i)
{
	((uint8_t *)map)[i >> 3] &= (uint8_t) ~(0x80u >> (i & 7));
}

/* No byte behind bit first + count - 1 is touched. */
void bt_vhd_bits_set(void *map, uint32_t first, uint32_t count);
void bt_vhd_bits_clear(void *map, uint32_t first, uint32_t count);

/* How many bits from first on, up to end, have the value of the first of
 * them, which goes to *value. first < end. Reads no byte past bit end - 1. */
uint32_t bt_vhd_bits_run(const void *map, uint32_t first, uint32_t end,
			 bool *value);

/* How many of count bits from first on are set. */
uint32_t bt_vhd_bits_count(const void *map, uint32_t first, uint32_t count);

/* Whether all of count bits from first on are set; true for none. */
bool bt_vhd_bits_all(const void *map, uint32_t first, uint32_t count);

/* Turns each byte round: a bitmap of bt_vhd_footer_old_bits after reading it,
 * and again before writing it. */
void bt_vhd_bits_mirror(void *map, size_t len);

#endif
