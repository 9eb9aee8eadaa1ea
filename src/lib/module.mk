# Sources by name and not the convenience libraries: those would bring all of a module, and zstd with it.
lib_LTLIBRARIES += libtreecast.la
libtreecast_la_SOURCES = \
	src/lib/treecast.c include/treecast.h \
	src/api/client.c src/api/client.h src/api/api.h \
	src/file/folder.c src/file/folder.h src/file/inside.h src/file/lock.c src/file/lock.h \
	src/file/place.c src/file/place.h \
	src/data/array.c src/data/array.h \
	src/data/describe.c src/data/describe.h \
	src/data/digest.c src/data/digest.h \
	src/data/dtype.c src/data/dtype.h \
	src/data/literal.c src/data/literal.h \
	src/data/word.c src/data/word.h \
	src/base/err.c src/base/err.h src/base/err.def \
	src/base/log.c src/base/log.h \
	src/base/say.c src/base/say.h \
	src/base/process.c src/base/process.h \
	src/base/trust.c src/base/trust.h
libtreecast_la_LIBADD = $(JANSSON_LIBS) $(CRYPTO_LIBS) $(INIH_LIBS) -lm
libtreecast_la_LDFLAGS = -version-info 1:0:1 -no-undefined -export-symbols $(srcdir)/src/lib/treecast.sym
EXTRA_libtreecast_la_DEPENDENCIES = src/lib/treecast.sym
EXTRA_DIST += src/lib/treecast.sym
