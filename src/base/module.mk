noinst_LTLIBRARIES += libtc-base.la
libtc_base_la_SOURCES = \
	src/base/blob.c src/base/blob.h \
	src/base/bucket.c src/base/bucket.h \
	src/base/buf.c src/base/buf.h \
	src/base/err.c src/base/err.h src/base/err.def \
	src/base/log.c src/base/log.h \
	src/base/process.c src/base/process.h \
	src/base/say.c src/base/say.h \
	src/base/startup.c src/base/startup.h \
	src/base/trust.c src/base/trust.h
libtc_base_la_LIBADD = $(INIH_LIBS)
