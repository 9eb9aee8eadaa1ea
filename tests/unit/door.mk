check_PROGRAMS += tests/unit/test_door
threaded_tests += tests/unit/test_door
tests_unit_test_door_SOURCES = tests/unit/test_door.c tests/unit/door_agent.h tests/unit/unit.h
tests_unit_test_door_LDADD = libtc-door.la libtc-door-client.la libtc-net.la libtc-data.la libtc-base.la \
	$(JANSSON_LIBS) $(EVENT_LIBS) $(CHECK_LIBS) -lm
