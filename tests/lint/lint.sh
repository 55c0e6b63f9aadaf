# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# What the lints share, on top of the functions of shell tests.
. "${srcdir:-.}/tests/shell/functions.sh"

# The files of the project, relative to $srcdir: what git would commit, or, in
# an unpacked tarball, what is not made by the build.
sources()
{
	if [ -e "$srcdir/.git" ] &&
		git -C "$srcdir" ls-files -co --exclude-standard \
			>"$tmp/sources" 2>/dev/null; then
		# A file removed but not yet committed is still listed.
		while read -r sources_f; do
			[ ! -f "$srcdir/$sources_f" ] || echo "$sources_f"
		done <"$tmp/sources" | sort
		return
	fi
	(cd "$srcdir" && find . -type f ! -path '*/.libs/*' \
		! -path '*/.deps/*' ! -path './build*/*' ! -path './_*/*' ! -path './.git/*' \
		! -path './autom4te.cache/*' ! -name '*.o' ! -name '*.lo' \
		! -name '*.la' ! -name '*.trs' ! -name '*.log' \
		! -name 'Makefile.in' ! -name 'config.*' ! -name configure \
		! -name aclocal.m4 ! -path './m4/l*.m4' ! -name libtool \
		! -name '.dirstamp' ! -path './blktap-*/*' |
		sed 's,^\./,,' | sort)
}

# sources_like PATTERN...: those that match one of the shell patterns.
sources_like()
{
	sources | while read -r sources_like_f; do
		for sources_like_p; do
			# shellcheck disable=SC2254 # a pattern is meant
			case $sources_like_f in
			$sources_like_p) echo "$sources_like_f" && break ;;
			esac
		done
	done
}

# verdict FILE: fails with FILE's lines where it has any.
verdict()
{
	[ ! -s "$1" ] || fail "$(wc -l <"$1") found:
$(cat "$1")"
}

# The objects of the library and of its codecs, in the build tree.
lib_objects()
{
	find "$builddir/lib" -path '*/.libs/*.o' | sort
}

# A sanitizer puts symbols and sections of its own into every object.
requires_plain_objects()
{
	requires objdump nm
	[ -z "${SAN_CFLAGS:-}" ] || skip "a sanitizer is built in"
	[ -n "$(lib_objects)" ] || fail "no objects below $builddir/lib"
}

# The names declared with BLKTAP_API in the public headers.
api_names()
{
	perl -0777 -ne 's{/\*.*?\*/}{}gs; s{^\s*#.*$}{}mg;
		print "$1\n" while /\bBLKTAP_API\b[^;]*?\b(blktap_\w+)\s*\(/g;
		' "$srcdir"/lib/libblktap/include/blktap/*.h | sort
}
