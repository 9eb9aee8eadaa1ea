# TC_PYTHON - where the Python package goes (--with-pythondir): the folder below PREFIX that /usr/bin/python3 searches, or
# would search if PREFIX were its own.
AC_DEFUN([TC_PYTHON], [
  AC_REQUIRE([TC_CHECK])
  AC_ARG_WITH([pythondir],
    [AS_HELP_STRING([--with-pythondir=DIR], [the Python package (PREFIX/lib/pythonX.Y/...-packages)])],
    [pythondir=$withval],
    [AC_CACHE_CHECK([where python packages go], [tc_cv_pythondir], [tc_cv_pythondir=`$PYTHON3 -c '
import sys, sysconfig
debian = "deb_system" in sysconfig.get_scheme_names()
version = "3" if debian and sys.argv[[1]] == "/usr" else "%d.%d" % sys.version_info[[:2]]
print("lib/python%s/%s-packages" % (version, "dist" if debian else "site"))' "$prefix" 2>/dev/null`
      test -n "$tc_cv_pythondir" || tc_cv_pythondir=lib/python3/site-packages])
    pythondir='${prefix}'/$tc_cv_pythondir])
  AC_SUBST([pythondir])
])
