# TC_SANITIZE - --with-sanitizer=LIST: address, undefined, thread, leak, joined by commas (thread stands alone or with
# undefined). The flags go into CFLAGS, so that libtool links with them too. SANITIZER tells the tests.
AC_DEFUN([TC_SANITIZE], [
  AC_ARG_WITH([sanitizer],
    [AS_HELP_STRING([--with-sanitizer=LIST], [build with sanitizers: address,undefined or thread])],
    [], [with_sanitizer=no])
  AS_CASE([$with_sanitizer],
    [no], [SANITIZER=],
    [yes], [AC_MSG_ERROR([--with-sanitizer needs a list: --with-sanitizer=address,undefined or =thread])],
    [*thread*address*|*address*thread*], [AC_MSG_ERROR([thread and address sanitizers cannot be in one program])],
    [SANITIZER=$with_sanitizer
     CFLAGS="$CFLAGS -fsanitize=$with_sanitizer -fno-sanitize-recover=all -fno-omit-frame-pointer"
     AC_MSG_CHECKING([whether $CC links with -fsanitize=$with_sanitizer])
     AC_LINK_IFELSE([AC_LANG_PROGRAM()], [AC_MSG_RESULT([yes])],
       [AC_MSG_RESULT([no])
        AC_MSG_ERROR([$CC cannot build with -fsanitize=$with_sanitizer; is its run-time library installed?])])])
  AC_SUBST([SANITIZER])
  AM_CONDITIONAL([SANITIZED], [test -n "$SANITIZER"])
])
