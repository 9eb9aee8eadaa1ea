check_PROGRAMS += tests/unit/test_api
threaded_tests += tests/unit/test_api
tests_unit_test_api_SOURCES = tests/unit/test_api.c tests/unit/api_agent.h tests/unit/unit.h
tests_unit_test_api_LDADD = libtc-api.la libtc-api-client.la libtc-net.la libtc-data.la libtc-base.la \
	$(JANSSON_LIBS) $(EVENT_LIBS) $(CHECK_LIBS) -lm
