noinst_LTLIBRARIES += libtc-data.la
libtc_data_la_SOURCES = \
	src/data/array.c src/data/array.h \
	src/data/chunk.c src/data/chunk.h \
	src/data/codec.c src/data/codec.h \
	src/data/describe.c src/data/describe.h \
	src/data/digest.c src/data/digest.h \
	src/data/dtype.c src/data/dtype.h \
	src/data/literal.c src/data/literal.h \
	src/data/lease.c src/data/lease.h \
	src/data/page.c src/data/page.h \
	src/data/word.c src/data/word.h
libtc_data_la_LIBADD = $(CRYPTO_LIBS) $(ZSTD_LIBS) $(JANSSON_LIBS)
