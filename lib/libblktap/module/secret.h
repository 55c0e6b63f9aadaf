/* SPDX-License-Identifier: BSD-3-Clause */
/* What a parameter of the kind SECRET refers to. */
#ifndef BT_MODULE_SECRET_H
#define BT_MODULE_SECRET_H

#include <stddef.h>

struct blktap_error;

/* Reads a key of exactly length bytes: as they are, or as twice as many
 * hexadecimal digits, which a line end may follow. ref is
 *
 *   secret:NAME  the file NAME of the system's directory of secrets, which only
 *                its owner may read
 *   file:/PATH   any file
 *   fd:N         a descriptor the process was given; it stays open. One that can
 *                be read only once (a pipe) serves one opening.
 *
 * The text is wiped from memory, and no message shows any of it. who is for
 * messages. */
int bt_secret_read(const char *who, const char *ref, void *key, size_t length,
		   struct blktap_error **err);

/* Overwrites, where the compiler might think nobody looks any more. */
void bt_secret_wipe(void *memory, size_t length);

#endif
