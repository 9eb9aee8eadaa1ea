# TC_DEPS - the libraries, all by pkg-config and all required; contrib/install-deps installs them on Debian.
# Each sets NAME_CFLAGS and NAME_LIBS; DEPS_CFLAGS is all of the former.
AC_DEFUN([TC_DEPS], [
  PKG_CHECK_MODULES([CRYPTO], [libcrypto >= 3.0])
  PKG_CHECK_MODULES([SSL], [libssl >= 3.0])
  PKG_CHECK_MODULES([ZSTD], [libzstd >= 1.4])
  PKG_CHECK_MODULES([JANSSON], [jansson >= 2.13])
  PKG_CHECK_MODULES([EVENT], [libevent_core >= 2.1 libevent_pthreads >= 2.1])
  PKG_CHECK_MODULES([INIH], [inih])
  PKG_CHECK_MODULES([SMARTCOLS], [smartcols >= 2.36])
  PKG_CHECK_MODULES([CAPNG], [libcap-ng >= 0.7])
  DEPS_CFLAGS="$CRYPTO_CFLAGS $SSL_CFLAGS $ZSTD_CFLAGS $JANSSON_CFLAGS $EVENT_CFLAGS $INIH_CFLAGS $SMARTCOLS_CFLAGS $CAPNG_CFLAGS"
  AC_SUBST([DEPS_CFLAGS])
])
