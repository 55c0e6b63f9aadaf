# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# Builds a program as another project would: from the installed headers and
# blktap.pc alone.
. "${srcdir:-.}/tests/shell/functions.sh"
requires make pkg-config

# install_library: makes pkg-config, and programs that run, find an installed one.
install_library()
{
	# The jobs of a make that runs this test are not ours to share; and one
	# install at a time, because libtool links anew for it.
	env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS \
		flock "$builddir/config.status" make -s -C "$builddir" install \
		DESTDIR="$tmp/root" >install.log 2>&1 || {
		cat install.log
		fail "make install"
	}
	pc=$(find "$tmp/root" -name blktap.pc)
	[ -n "$pc" ] || fail "no blktap.pc was installed"
	PKG_CONFIG_PATH=${pc%/*}
	PKG_CONFIG_SYSROOT_DIR=$tmp/root
	PKG_CONFIG_DISABLE_UNINSTALLED=1
	export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
	export PKG_CONFIG_DISABLE_UNINSTALLED
	equal "$(pkg-config --modversion blktap)" \
		"$(sed -n 's/^PACKAGE_VERSION = //p' "$builddir/Makefile")"
	LD_LIBRARY_PATH=${pc%/pkgconfig/*}
	export LD_LIBRARY_PATH
}

# build_embedded NAME [LINKER FLAG...]: makes ./NAME of tests/embed/NAME.c.
build_embedded()
{
	build_name=$1
	shift
	install_library
	cp "$srcdir/tests/embed/$build_name.c" .
	# shellcheck disable=SC2046,SC2086 # flags are words
	${CC:-cc} -std=c99 -D_POSIX_C_SOURCE=200809L -Wall -Wextra \
		${SAN_CFLAGS:-} -o "$build_name" "$build_name.c" \
		$(pkg-config --cflags --libs blktap) "$@" ||
		fail "$build_name.c does not build"
}

# build_module NAME [AS]: makes modules/NAME.so of tests/embed/NAME.c; or AS, whose
# class is called that.
build_module()
{
	mkdir -p modules
	chmod 0755 modules
	sed "s/\"$1\"/\"${2:-$1}\"/" "$srcdir/tests/embed/$1.c" >"${2:-$1}.c"
	# shellcheck disable=SC2046,SC2086 # flags are words
	${CC:-cc} -std=c99 -shared -fPIC -Wall -Wextra ${SAN_CFLAGS:-} \
		$(pkg-config --cflags blktap) -o "modules/${2:-$1}.so" \
		"${2:-$1}.c" $(pkg-config --libs blktap) ||
		fail "${2:-$1}.c does not build"
}
