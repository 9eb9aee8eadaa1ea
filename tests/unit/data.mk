check_PROGRAMS += \
	tests/unit/test_array \
	tests/unit/test_chunk \
	tests/unit/test_codec \
	tests/unit/test_describe \
	tests/unit/test_digest \
	tests/unit/test_dtype \
	tests/unit/test_lease \
	tests/unit/test_page
threaded_tests += tests/unit/test_digest
tests_unit_test_array_SOURCES = tests/unit/test_array.c tests/unit/unit.h
tests_unit_test_array_LDADD = libtc-data.la libtc-base.la $(CHECK_LIBS)
tests_unit_test_chunk_SOURCES = tests/unit/test_chunk.c tests/unit/unit.h
tests_unit_test_chunk_LDADD = libtc-data.la libtc-base.la $(CHECK_LIBS)
tests_unit_test_codec_SOURCES = tests/unit/test_codec.c tests/unit/unit.h
tests_unit_test_codec_LDADD = libtc-data.la libtc-base.la $(CHECK_LIBS)
tests_unit_test_describe_SOURCES = tests/unit/test_describe.c tests/unit/unit.h
tests_unit_test_describe_LDADD = libtc-data.la libtc-base.la $(JANSSON_LIBS) $(CHECK_LIBS)
tests_unit_test_digest_SOURCES = tests/unit/test_digest.c tests/unit/unit.h
tests_unit_test_digest_LDADD = libtc-data.la libtc-base.la $(CRYPTO_LIBS) $(CHECK_LIBS)
tests_unit_test_dtype_SOURCES = tests/unit/test_dtype.c tests/unit/unit.h
tests_unit_test_dtype_LDADD = libtc-data.la libtc-base.la $(CHECK_LIBS)
dist_noinst_DATA += tests/unit/numpy-words.txt
tests_unit_test_lease_SOURCES = tests/unit/test_lease.c tests/unit/unit.h
tests_unit_test_lease_LDADD = libtc-data.la libtc-base.la $(JANSSON_LIBS) $(CHECK_LIBS)
tests_unit_test_page_SOURCES = tests/unit/test_page.c tests/unit/unit.h
tests_unit_test_page_LDADD = libtc-data.la libtc-base.la $(CHECK_LIBS)
