check_PROGRAMS += \
	tests/unit/test_children \
	tests/unit/test_feed \
	tests/unit/test_message \
	tests/unit/test_session
tests_unit_test_children_SOURCES = tests/unit/test_children.c tests/unit/unit.h
tests_unit_test_children_LDADD = libtc-session.la libtc-data.la libtc-base.la $(CHECK_LIBS)
tests_unit_test_feed_SOURCES = tests/unit/test_feed.c tests/unit/unit.h
tests_unit_test_feed_LDADD = libtc-session.la libtc-data.la libtc-base.la $(CHECK_LIBS)
tests_unit_test_message_SOURCES = tests/unit/test_message.c tests/unit/unit.h
tests_unit_test_message_LDADD = libtc-session.la libtc-data.la libtc-base.la $(CHECK_LIBS)
tests_unit_test_session_SOURCES = tests/unit/test_session.c tests/unit/unit.h
tests_unit_test_session_LDADD = libtc-session.la libtc-plan.la libtc-data.la libtc-base.la $(JANSSON_LIBS) $(CHECK_LIBS)
