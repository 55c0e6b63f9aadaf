/* SPDX-License-Identifier: BSD-3-Clause */
/* A fuzz entry is one file: LLVMFuzzerTestOneInput for libFuzzer, and
 * fuzz_seed, which lets replay.c make inputs of its own in `make check`. */
#ifndef BT_TESTS_FUZZ_H
#define BT_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes the n-th built-in seed, at most cap bytes, and returns its length; 0
 * past the last one. */
size_t fuzz_seed(unsigned int n, uint8_t *buf, size_t cap);

#endif
