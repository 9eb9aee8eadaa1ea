check_PROGRAMS += tests/unit/test_base
threaded_tests += tests/unit/test_base
tests_unit_test_base_SOURCES = tests/unit/test_base.c tests/unit/unit.h
tests_unit_test_base_LDADD = libtc-base.la $(CHECK_LIBS)
