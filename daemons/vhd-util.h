/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLKTAP_DAEMONS_VHD_UTIL_H
#define BLKTAP_DAEMONS_VHD_UTIL_H

#include "common.h"

/* Tables of commands, one a file. */
extern const struct command vhd_create_commands[];
extern const struct command vhd_query_commands[];

#endif
