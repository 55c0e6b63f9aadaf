/* SPDX-License-Identifier: BSD-3-Clause */
/* The checksum of all of the format's structures, and its clock. */
#include "libvhd/vhd.h"

#define EPOCH_2000 INT64_C(946684800)

/* Modulo 2^32; no structure is long enough to come there. */
static uint32_t sum_bytes(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	while (len--)
		sum += *p++;
	return sum;
}

/* Four bytes count as zero so that a structure can hold its own sum. */
uint32_t bt_vhd_checksum(const void *buf, size_t len, size_t skip)
{
	const uint8_t *p = buf;

	if (skip >= len || len - skip < 4)
		return ~sum_bytes(p, len);
	return ~(sum_bytes(p, skip) + sum_bytes(p + skip + 4, len - skip - 4));
}

uint32_t bt_vhd_time_from_unix(int64_t unix_time)
{
	if (unix_time <= EPOCH_2000)
		return 0;
	if (unix_time - EPOCH_2000 > (int64_t)UINT32_MAX)
		return UINT32_MAX;
	return (uint32_t)(unix_time - EPOCH_2000);
}

int64_t bt_vhd_time_to_unix(uint32_t timestamp)
{
	return EPOCH_2000 + (int64_t)timestamp;
}
