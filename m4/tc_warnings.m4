# TC_WARNINGS - WARN_CFLAGS: the warnings this project is written under, as far as the compiler knows them.
# --enable-werror makes them errors (developers and contrib/check; not for packagers).
AC_DEFUN([TC_WARNINGS], [
  AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [treat compiler warnings as errors])],
    [], [enable_werror=no])
  WARN_CFLAGS=
  for tc_flag in -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes \
                 -Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2 -Wvla; do
    TC_IF_COMPILES_WITH([$tc_flag], [WARN_CFLAGS="$WARN_CFLAGS $tc_flag"])
  done
  AS_IF([test "x$enable_werror" = xyes], [WARN_CFLAGS="$WARN_CFLAGS -Werror"])
  AC_SUBST([WARN_CFLAGS])
])

# TC_IF_COMPILES_WITH(FLAG, THEN) - whether the compiler takes FLAG without a word.
AC_DEFUN([TC_IF_COMPILES_WITH], [
  AC_MSG_CHECKING([whether $CC takes $1])
  tc_saved_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS -Werror $1"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM()], [AC_MSG_RESULT([yes])
    CFLAGS=$tc_saved_CFLAGS
    $2], [AC_MSG_RESULT([no])
    CFLAGS=$tc_saved_CFLAGS])
])
