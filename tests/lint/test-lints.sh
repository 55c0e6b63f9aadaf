#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The lints find what they look for: in a small tree, each breach of a rule makes
# the lint of that rule fail, and no other thing does.
. "${srcdir:-.}/tests/shell/functions.sh"
requires nm objdump readelf
cc=${CC:-cc}
real=$srcdir

# A tree that breaks no rule.
fresh()
{
	rm -rf src build
	room=src/lib/libblktap/core
	inc=src/lib/libblktap/include/blktap
	mkdir -p "$room" "$inc" src/lib/libblktap/loop src/tests src/LICENSES \
		build/.libs "build/lib/libblktap/core/.libs"
	cp -R "$real/tests/lint" "$real/tests/shell" src/tests
	cp "$real/lib/libblktap/LAYERS" src/lib/libblktap
	cp "$real/.clang-format" src
	: >src/LICENSES/BSD-3-Clause.txt
	echo '# core/ loop/' >src/ARCHITECTURE.md
	printf '# SPDX-License-Identifier: BSD-3-Clause\nBLKTAP_0.1 {\nglobal:\n\tblktap_one;\nlocal:\n\t*;\n};\n' \
		>src/lib/libblktap/libblktap.map
	cat >$inc/one.h <<'END'
/* SPDX-License-Identifier: BSD-3-Clause */
#define BLKTAP_API __attribute__((visibility("default")))

/* Returns one. Since 0.1. */
BLKTAP_API int blktap_one(void);
END
	cat >$room/one.c <<'END'
/* SPDX-License-Identifier: BSD-3-Clause */
#include <blktap/one.h>

int blktap_one(void)
{
	return 1;
}
END
}

# lint NAME: compiles what is there and runs that lint on it.
lint()
{
	(
		cd build
		o=lib/libblktap/core/.libs/one.o
		$cc -I../src/lib/libblktap/include -fPIC -fvisibility=hidden \
			-c -o $o ../src/lib/libblktap/core/one.c
		$cc -shared -o .libs/libblktap.so $o \
			-Wl,--version-script=../src/lib/libblktap/libblktap.map
	) >out 2>&1 &&
	env srcdir="$tmp/src" builddir="$tmp/build" SAN_CFLAGS= \
		sh "$tmp/src/tests/lint/lint-$1.sh" >out 2>&1
}

# passes NAME; breach NAME WORD: WORD is in what the lint says.
passes()
{
	lint "$1" || {
		[ $? = 77 ] || { cat out; fail "lint-$1 on a good tree"; }
	}
}
breach()
{
	if lint "$1"; then
		fail "lint-$1 did not see: $2"
	fi
	contains out "$2"
	fresh
}

fresh
for l in docs format headers layers library licences style symbols words; do
	passes $l
done

echo '#include "loop/loop.h"' >>$room/one.c
: >src/lib/libblktap/loop/loop.h
cc_saved=$cc
cc="$cc -Isrc/lib/libblktap -I../src/lib/libblktap"
breach layers "core (rank 1) must not know loop (rank 2)"
cc=$cc_saved
mkdir src/daemons
echo '#include "core/one.h"' >src/daemons/tapdisk.c
breach layers "core/one.h is not public"
mkdir src/lib/libblktap/attic
breach layers "does not name lib/libblktap/attic"
mkdir src/lib/libblktap/attic
cp $room/one.c src/lib/libblktap/attic
breach layers "attic has no rank"

sed -i 's/ Since 0.1\.//' $inc/one.h
breach docs "blktap_one: no 'Since'"
sed -i 's/Since 0.1/Since 0.2/' $inc/one.h
breach docs "since 0.2, but in 0.1"
sed -i '/Since/s/.*/ /' $inc/one.h
breach docs "blktap_one: no comment"

echo 'static int *class;' >>$inc/one.h
breach headers "blktap/one.h"
echo '#define MIN(a, b) 0' >>$inc/one.h
breach headers "defines MIN"
echo 'static inline uint8_t nothing(void) { return 0; }' >>$inc/one.h
sed -i 's/uint8_t/u8_t/' $inc/one.h
sed -i 's/^int/#define u8_t int\nint/' $room/one.c
breach headers "u8_t"
printf '#define BLKTAP_OP_COUNT 3\nextern int blktap_n[BLKTAP_OP_COUNT];\n' \
	>>$inc/one.h
breach headers "an array that grows with an enum"
printf 'struct blktap_s;\nBLKTAP_API void blktap_s_init(struct blktap_s *s);\n' \
	>>$inc/one.h
breach headers "fills a struct of unknown size"

echo 'int bt_count; int bt_next(void) { static int n; return n++; }' \
	>>$room/one.c
lint library && fail "lint-library did not see a global"
contains out "bt_count is mutable"
contains out "n.0 is mutable"
fresh
echo 'static int (*volatile bt_f)(void) = blktap_one;' >>$room/one.c
echo 'int bt_g(void); int bt_g(void) { return bt_f(); }' >>$room/one.c
breach library "bt_f is mutable"
for call in 'exit(1)' 'abort()' 'puts("")' 'getenv("")' 'sleep(1)' \
	'posix_spawn(0, 0, 0, 0, 0, 0)'; do
	name=${call%%(*}
	echo "#include <stdlib.h>" >>$room/one.c
	echo "#include <stdio.h>" >>$room/one.c
	echo "#include <unistd.h>" >>$room/one.c
	echo "#include <spawn.h>" >>$room/one.c
	echo "void bt_x(void); void bt_x(void) { $call; }" >>$room/one.c
	breach library "uses $name"
done

echo 'int stray(void) { return 0; }' >>$room/one.c
breach symbols "stray"
sed -i 's/blktap_one(void)/blktap_two(void)/' $inc/one.h
breach symbols "blktap_two"
echo '__attribute__((visibility("default"))) int blktap_x(void)
{ return 0; }' >>$room/one.c
sed -i 's/blktap_one;/blktap_one;\n\tblktap_x;/' src/lib/libblktap/libblktap.map
breach symbols "blktap_x"
sed -i 's/^int/static int/' $room/one.c
sed -i 's/BLKTAP_API int/int/' $inc/one.h
breach symbols "blktap_one"

sed -i 1d $room/one.c
breach licences "core/one.c: no SPDX line"
sed -i '1s/BSD-3-Clause/MIT/' $room/one.c
breach licences "core/one.c: no SPDX line"

{ echo 'void bt_long(void) {'; echo '{'; yes ';' | head -n 99; echo '}'; echo '}'; } \
	>>$room/one.c
breach style "a function of 101 lines"
printf '\t/* %s */\n' "$(yes word | head -n 16 | tr '\n' ' ')" >>$room/one.c
breach style "columns"
yes '/* */' | head -n 600 >>$room/one.c
breach style "core/one.c: 60"
printf '/* T%s: later */\n' ODO >>$room/one.c
breach style "core/one.c:"
printf '#if %s\n#endif\n' 0 >>$room/one.c
breach style "core/one.c:"
printf '/* see /ho%s/someone/x */\n' me >>$room/one.c
breach words "core/one.c:"
