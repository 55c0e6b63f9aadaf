/* SPDX-License-Identifier: BSD-3-Clause */
/* Shared by blktap-map, which parses them, and tap-ctl, which has to know them
 * for its help and writes them out again. */
#include "map-options.h"

const struct opt map_options[] = {
	{ 0, "image", OPT_TEXT, "IMAGE", "the disk: type:path, or a raw file",
	  0, 0 },
	{ 0, "file", OPT_TEXT, "FILE",
	  "the file to be; made where it is missing", 0, 0 },
	{ 'b', "block", OPT_FLAG, NULL,
	  "make it a block device (FUSE and loop; root)", 0, 0 },
	{ 'R', "read-only", OPT_FLAG, NULL, "refuse writes", 0, 0 },
	{ 'D', "buffered", OPT_FLAG, NULL, "do not use O_DIRECT", 0, 0 },
	{ 0, "force", OPT_FLAG, NULL, "open it in spite of another's lock", 0,
	  0 },
	{ 'n', "name", OPT_TEXT, "NAME", "what to call it for unmap", 0, 0 },
	{ 'l', "list", OPT_FLAG, NULL, "list what is mapped", 0, 0 },
	{ 0, "json", OPT_FLAG, NULL, "list as a JSON array", 0, 0 },
	{ 0 },
};

const struct opt unmap_options[] = {
	{ 0, "what", OPT_TEXT, "NAME", "its name, file or device", 0, 0 },
	{ 0, "lazy", OPT_FLAG, NULL,
	  "now, even in use: it ends with its last user", 0, 0 },
	{ 't', "timeout", OPT_NUMBER, "SECONDS",
	  "for its requests to finish (120)", 0, 0 },
	{ 0 },
};
