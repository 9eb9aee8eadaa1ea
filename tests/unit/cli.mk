check_PROGRAMS += tests/unit/test_cli
tests_unit_test_cli_SOURCES = tests/unit/test_cli.c tests/unit/unit.h
tests_unit_test_cli_LDADD = libtc-cli.la $(JANSSON_LIBS) $(CHECK_LIBS)
