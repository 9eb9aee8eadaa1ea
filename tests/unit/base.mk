check_PROGRAMS += tests/unit/test_startup
tests_unit_test_startup_SOURCES = tests/unit/test_startup.c tests/unit/unit.h
tests_unit_test_startup_LDADD = libtc-base.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_base tests/unit/test_trust
threaded_tests += tests/unit/test_base
tests_unit_test_base_SOURCES = tests/unit/test_base.c tests/unit/unit.h
tests_unit_test_base_LDADD = libtc-base.la $(CHECK_LIBS)
tests_unit_test_trust_SOURCES = tests/unit/test_trust.c tests/unit/unit.h
tests_unit_test_trust_LDADD = libtc-base.la $(CHECK_LIBS)
