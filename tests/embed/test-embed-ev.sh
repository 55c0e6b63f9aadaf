#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A program that lives in libev embeds the installed library; the disk is paused
# and resumed under it.
. "${srcdir:-.}/tests/embed/embed.sh"
echo '#include <ev.h>' >probe.c
${CC:-cc} -fsyntax-only probe.c 2>/dev/null || skip "needs libev-dev"
build_embedded ev -lev -lm

# 64 MiB of ones, and a tail that is no whole block of the program's.
head -c 67108864 /dev/zero | tr '\0' '\1' >disk.raw
printf '%4096s' '' | tr ' ' '\2' >>disk.raw
./ev disk.raw >out 2>err
cat out err
equal "$(cat out)" $((67108864 + 2 * 4096))
contains err "pause stage 3"
