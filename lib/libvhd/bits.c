/* SPDX-License-Identifier: BSD-3-Clause */
/* Bit i is (0x80 >> i % 8) of byte i / 8, as in every VHD but those of the
 * first blktap. Loads of 64 bits are big-endian, so that the first bit of a map
 * is the highest of the word and runs end where the leading zeroes do. */
#include "libvhd/bits.h"
#include "util/bytes.h"

/* The bits [from, to) of a byte, 0 <= from <= to <= 8. */
static uint8_t byte_mask(uint32_t from, uint32_t to)
{
	return (uint8_t)((0xffu >> from) & ~(0xffu >> to));
}

/* Whole bytes at once, and what is left at both ends by masks. */
static void fill(uint8_t *p, uint32_t first, uint32_t count, bool value)
{
	uint32_t n;
	uint8_t mask;

	p += first >> 3;
	first &= 7;
	while (count) {
		if (!first && count >= 8) {
			memset(p, value ? 0xff : 0, count >> 3);
			p += count >> 3;
			count &= 7;
			continue;
		}
		n = count < 8 - first ? count : 8 - first;
		mask = byte_mask(first, first + n);
		*p = value ? (uint8_t)(*p | mask) : (uint8_t)(*p & ~mask);
		p++;
		first = 0;
		count -= n;
	}
}

void bt_vhd_bits_set(void *map, uint32_t first, uint32_t count)
{
	fill(map, first, count, true);
}

void bt_vhd_bits_clear(void *map, uint32_t first, uint32_t count)
{
	fill(map, first, count, false);
}

/* Words are compared whole only where they lie in [first, end): nothing past
 * the map is read. */
uint32_t bt_vhd_bits_run(const void *map, uint32_t first, uint32_t end,
			 bool *value)
{
	const uint8_t *p = map;
	bool set = bt_vhd_bit_test(p, first);
	uint64_t flip = set ? UINT64_MAX : 0;
	uint32_t at = first;
	uint64_t other;

	*value = set;
	while (at < end) {
		if (at % 64 == 0 && end - at >= 64) {
			other = bt_load_be64(p + (at >> 3)) ^ flip;
			if (other)
				return at - first +
				       (uint32_t)__builtin_clzll(other);
			at += 64;
		} else if (bt_vhd_bit_test(p, at) == set) {
			at++;
		} else {
			break;
		}
	}
	return at - first;
}

/* The order of bytes in a word does not matter to a count. */
uint32_t bt_vhd_bits_count(const void *map, uint32_t first, uint32_t count)
{
	const uint8_t *p = map;
	uint32_t end = first + count, at = first, n = 0;

	while (at < end) {
		if (at % 64 == 0 && end - at >= 64) {
			n += (uint32_t)__builtin_popcountll(
				bt_load_ne64(p + (at >> 3)));
			at += 64;
		} else {
			n += bt_vhd_bit_test(p, at++);
		}
	}
	return n;
}

bool bt_vhd_bits_all(const void *map, uint32_t first, uint32_t count)
{
	bool value;

	return count == 0 ||
	       (bt_vhd_bits_run(map, first, first + count, &value) == count &&
		value);
}

/* Halves of a byte change places, then pairs, then neighbours. */
void bt_vhd_bits_mirror(void *map, size_t len)
{
	uint8_t *p = map;

	for (; len--; p++) {
		*p = (uint8_t)(*p >> 4 | *p << 4);
		*p = (uint8_t)((*p & 0xcc) >> 2 | (*p & 0x33) << 2);
		*p = (uint8_t)((*p & 0xaa) >> 1 | (*p & 0x55) << 1);
	}
}
