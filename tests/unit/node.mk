check_PROGRAMS += tests/unit/test_node
threaded_tests += tests/unit/test_node
tests_unit_test_node_SOURCES = tests/unit/test_node.c tests/unit/unit.h
tests_unit_test_node_LDADD = libtc-node.la libtc-site.la libtc-session.la libtc-api.la libtc-net.la libtc-file.la libtc-plan.la \
	libtc-data.la libtc-base.la $(SSL_LIBS) $(EVENT_LIBS) $(JANSSON_LIBS) $(CAPNG_LIBS) $(CHECK_LIBS)
