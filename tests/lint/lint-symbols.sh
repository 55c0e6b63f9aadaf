#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# libblktap.so exports what the map lists, the map lists what the headers
# declare, and a program finds every name at its version.
. "${srcdir:-.}/tests/lint/lint.sh"
map=$srcdir/lib/libblktap/libblktap.map
lib=$builddir/.libs/libblktap.so
[ -e "$lib" ] || skip "no shared library is built"
requires readelf

# "name node" of each line of the map.
awk '/^[A-Z]/ { node = $1 } /global:/ { on = 1 } /local:/ { on = 0 }
	on && /^\t/ { sub(/;.*/, ""); print $1, node }' "$map" | sort >mapped
api_names >declared
cut -d' ' -f1 mapped | diff - declared >bad || :
verdict bad

readelf -W --dyn-syms "$lib" |
	awk '$7 != "UND" && $8 ~ /@/ && $4 != "OBJECT" {
		split($8, a, "@@"); print a[1], a[2] }' | sort >exported
diff mapped exported >bad || :
verdict bad
readelf -W --dyn-syms "$lib" |
	awk '$5 == "GLOBAL" && $7 != "UND" && $7 != "ABS" && $8 !~ /@@/' >bad
verdict bad

# The loader's view: dlvsym asks for a name at a version as a program linked
# against that release would.
{
	echo '#define _GNU_SOURCE'
	echo '#include <dlfcn.h>'
	echo '#include <stdio.h>'
	echo 'static const char *const names[][2] = {'
	sed 's/\(.*\) \(.*\)/{"\1", "\2"},/' mapped
	cat <<'END'
};
int main(int argc, char **argv)
{
	void *lib = dlopen(argv[1], RTLD_NOW);
	int rc = 0;

	if (!lib)
		return puts(dlerror()), 1;
	for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!dlvsym(lib, names[i][0], names[i][1]))
			rc = 1, printf("%s@%s\n", names[i][0], names[i][1]);
	return rc;
}
END
} >look.c
# shellcheck disable=SC2086 # flags are words
${CC:-cc} ${SAN_CFLAGS:-} -o look look.c -ldl
./look "$lib" >bad || [ -s bad ] || fail "look ended badly"
verdict bad

# Inside, every name that is not static says whose it is.
if [ -z "${SAN_CFLAGS:-}" ]; then
	lib_objects | xargs nm -g --defined-only |
		awk 'NF == 3 && $3 !~ /^(bt|blktap)_/' >bad
	verdict bad
fi
