/* SPDX-License-Identifier: BSD-3-Clause */
/* The verbs map and unmap: tap-ctl parses them, and blktap-map does them, so
 * that tap-ctl needs no FUSE library. */
#ifndef BLKTAP_DAEMONS_MAP_OPTIONS_H
#define BLKTAP_DAEMONS_MAP_OPTIONS_H

#include "common.h"

#define MAP_OPERANDS "IMAGE [FILE]"
#define MAP_SUMMARY "make a disk a file or, as root, a block device"
#define UNMAP_OPERANDS "NAME|FILE|DEVICE"
#define UNMAP_SUMMARY "flush a mapped disk and take it away"

extern const struct opt map_options[];
extern const struct opt unmap_options[];

#endif
