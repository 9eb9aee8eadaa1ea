# TC_PKGCONFIG - find pkg-config, and where our own treecast.pc goes (--with-pkgconfigdir).
AC_DEFUN([TC_PKGCONFIG], [
  m4_pattern_forbid([^PKG_(PROG|CHECK)_])
  PKG_PROG_PKG_CONFIG([0.29])
  PKG_INSTALLDIR
])
