/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BLKTAP_DAEMONS_VHD_UTIL_H
#define BLKTAP_DAEMONS_VHD_UTIL_H

#include "common.h"

/* Tables of commands, one a file. */
extern const struct command vhd_create_commands[];
extern const struct command vhd_query_commands[];
extern const struct command vhd_read_commands[];
extern const struct command vhd_change_commands[];
extern const struct command vhd_long_commands[];
extern const struct command vhd_scan_commands[];
extern const struct command vhd_key_commands[];
extern const struct command vhd_copy_commands[];

/* Copies from with all it stands on to the new image to, in the clear. */
int vhd_copy_chain(const struct args *args, const char *from, const char *to);

/* 0 where the size that an option gives in MiB, if any, is one that a VHD can have;
 * else the exit status, and it has been told of. */
int check_mib(const struct args *args, const char *option);

/* A name on a line of its own: a line break in it would make two lines of one. */
void put_line(const char *text);

#endif
