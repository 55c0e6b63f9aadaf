# SPDX-License-Identifier: BSD-3-Clause

# BT_WARNINGS(VARIABLE, FLAGS): the flags this compiler takes, tried one by one.
AC_DEFUN([BT_WARNINGS], [
	$1=
	for bt_flag in m4_normalize([$2]); do
		bt_saved_cflags=$CFLAGS
		CFLAGS="$CFLAGS -Werror $bt_flag"
		AC_MSG_CHECKING([whether $CC takes $bt_flag])
		AC_COMPILE_IFELSE([AC_LANG_SOURCE([int bt_x;])],
			[AC_MSG_RESULT([yes]); $1="$$1 $bt_flag"],
			[AC_MSG_RESULT([no])])
		CFLAGS=$bt_saved_cflags
	done
	AC_SUBST([$1])
])

# BT_MANDATORY_LIB(NAME, LIB, FUNCTION, HEADER, VAR, DEBIAN_PACKAGE)
AC_DEFUN([BT_MANDATORY_LIB], [
	AC_CHECK_HEADER([$4], [],
		[AC_MSG_ERROR([$1 is required; on Debian: apt-get install $6])])
	AC_CHECK_LIB([$2], [$3], [$5_LIBS=-l$2],
		[AC_MSG_ERROR([$1 is required; on Debian: apt-get install $6])])
	AC_SUBST([$5_LIBS])
])

# BT_OPTIONAL_PKG(NAME, VAR, MODULES, PURPOSE): --with-NAME=auto|yes|no
AC_DEFUN([BT_OPTIONAL_PKG], [
	AC_ARG_WITH([$1],
		[AS_HELP_STRING([--without-$1], [build without $4])],
		[], [with_$1=auto])
	have_$1=no
	AS_IF([test "x$with_$1" != xno], [
		PKG_CHECK_MODULES([$2], [$3], [have_$1=yes], [
			AS_IF([test "x$with_$1" = xyes],
				[AC_MSG_ERROR([--with-$1 was given, but $3 was not found])])
		])
	])
	AS_IF([test "x$have_$1" = xyes],
		[AC_DEFINE([HAVE_$2], [1], [Whether $4 is built])])
	AM_CONDITIONAL([HAVE_$2], [test "x$have_$1" = xyes])
])
