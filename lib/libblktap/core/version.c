/* SPDX-License-Identifier: BSD-3-Clause */
#include <blktap/base.h>

const char *blktap_version(void)
{
	return PACKAGE_VERSION;
}
