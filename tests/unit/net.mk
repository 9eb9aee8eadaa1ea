check_PROGRAMS += tests/unit/test_key tests/unit/test_link tests/unit/test_listen tests/unit/test_loop tests/unit/test_peer \
	tests/unit/test_resolver tests/unit/test_tls
threaded_tests += tests/unit/test_link tests/unit/test_loop tests/unit/test_resolver
net_test_libs = libtc-net.la libtc-base.la $(EVENT_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS) $(CHECK_LIBS)
tests_unit_test_key_SOURCES = tests/unit/test_key.c tests/unit/unit.h
tests_unit_test_key_LDADD = $(net_test_libs)
tests_unit_test_link_SOURCES = tests/unit/test_link.c tests/unit/net_world.h tests/unit/unit.h
tests_unit_test_link_LDADD = $(net_test_libs)
tests_unit_test_listen_SOURCES = tests/unit/test_listen.c tests/unit/net_world.h tests/unit/unit.h
tests_unit_test_listen_LDADD = $(net_test_libs)
tests_unit_test_loop_SOURCES = tests/unit/test_loop.c tests/unit/net_world.h tests/unit/unit.h
tests_unit_test_loop_LDADD = $(net_test_libs)
tests_unit_test_resolver_SOURCES = tests/unit/test_resolver.c tests/unit/unit.h
tests_unit_test_resolver_LDADD = $(net_test_libs)
tests_unit_test_tls_SOURCES = tests/unit/test_tls.c tests/unit/unit.h
tests_unit_test_tls_LDADD = $(net_test_libs)
tests_unit_test_peer_SOURCES = tests/unit/test_peer.c tests/unit/unit.h
tests_unit_test_peer_LDADD = $(net_test_libs)
