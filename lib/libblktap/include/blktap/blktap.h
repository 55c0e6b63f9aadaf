/* SPDX-License-Identifier: BSD-3-Clause */
/* libblktap: userspace block devices. This header brings in all the others. */
#ifndef BLKTAP_BLKTAP_H
#define BLKTAP_BLKTAP_H

#include <blktap/base.h>
#include <blktap/cbt.h>
#include <blktap/class.h>
#include <blktap/context.h>
#include <blktap/control.h>
#include <blktap/copy.h>
#include <blktap/disk.h>
#include <blktap/error.h>
#include <blktap/image.h>
#include <blktap/job.h>
#include <blktap/mason.h>
#include <blktap/module.h>
#include <blktap/modules.h>
#include <blktap/nbd.h>
#include <blktap/ring.h>
#include <blktap/vhd.h>

#endif
