check_PROGRAMS += \
	tests/unit/test_folder \
	tests/unit/test_memory \
	tests/unit/test_sink \
	tests/unit/test_source
tests_unit_test_folder_SOURCES = tests/unit/test_folder.c tests/unit/file_help.h tests/unit/unit.h
tests_unit_test_folder_LDADD = libtc-file.la libtc-data.la libtc-base.la $(CHECK_LIBS)
tests_unit_test_memory_SOURCES = tests/unit/test_memory.c tests/unit/file_help.h tests/unit/unit.h
tests_unit_test_memory_LDADD = libtc-file.la libtc-data.la libtc-base.la $(CHECK_LIBS)
tests_unit_test_sink_SOURCES = tests/unit/test_sink.c tests/unit/file_help.h tests/unit/unit.h
tests_unit_test_sink_LDADD = libtc-file.la libtc-data.la libtc-base.la $(CHECK_LIBS)
tests_unit_test_source_SOURCES = tests/unit/test_source.c tests/unit/file_help.h tests/unit/unit.h
tests_unit_test_source_LDADD = libtc-file.la libtc-data.la libtc-base.la $(CHECK_LIBS)
