# TC_CHECK - what `make check` needs: the Check library, Python 3 for the scripts, an awk for the TAP driver. A build
# without them works; `make check` then says what is missing.
AC_DEFUN([TC_CHECK], [
  PKG_CHECK_MODULES([CHECK], [check >= 0.12], [have_check=yes], [have_check=no])
  AM_CONDITIONAL([HAVE_CHECK], [test "x$have_check" = xyes])
  AC_REQUIRE([AC_PROG_AWK])
  AC_REQUIRE_AUX_FILE([tap-driver.sh])
  AC_ARG_VAR([PYTHON3], [Python 3 that runs the test scripts])
  AC_PATH_PROG([PYTHON3], [python3], [/usr/bin/python3], [/usr/bin:$PATH])
])
