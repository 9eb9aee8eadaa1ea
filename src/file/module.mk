noinst_LTLIBRARIES += libtc-file.la
libtc_file_la_SOURCES = \
	src/file/folder.c src/file/folder.h \
	src/file/inside.h \
	src/file/lease.c src/file/lease.h \
	src/file/lock.c src/file/lock.h \
	src/file/memory.c src/file/memory.h \
	src/file/origin_fs.c src/file/origin_fs.h \
	src/file/partial.c src/file/partial.h \
	src/file/local.c src/file/local.h \
	src/file/place.c src/file/place.h \
	src/file/sink.c src/file/sink.h \
	src/file/source.c src/file/source.h
