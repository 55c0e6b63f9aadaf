#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A program that waits in poll(2) embeds the installed library.
. "${srcdir:-.}/tests/embed/embed.sh"
build_embedded poll

truncate -s 8M disk.raw
./poll disk.raw >out
cat out
contains out "8388608 bytes written and read back, 1 ticks"
# Block n begins with the byte 7 n, for those who look at the file itself.
equal "$(od -An -tu1 -j $((5 * 4096)) -N 3 disk.raw | xargs)" "35 36 37"
fails ./poll no-such-file.raw 2>err
contains err no-such-file.raw
