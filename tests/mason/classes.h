/* SPDX-License-Identifier: BSD-3-Clause */
/* Classes that are declared and do nothing: what the language's tests check
 * files against. Their parameters and ports are those of the manual. */
#ifndef BT_TESTS_MASON_CLASSES_H
#define BT_TESTS_MASON_CLASSES_H

#include "port/port.h"

const struct blktap_class *test_class_next(const struct blktap_class *previous);

#endif
