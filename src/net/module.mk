noinst_LTLIBRARIES += libtc-net.la
libtc_net_la_SOURCES = \
	src/net/address.c src/net/address.h \
	src/net/flow.c src/net/flow.h \
	src/net/key.c src/net/key.h \
	src/net/link.c src/net/link.h \
	src/net/listen.c src/net/listen.h \
	src/net/loop.c src/net/loop.h \
	src/net/peer.c src/net/peer.h \
	src/net/resolver.c src/net/resolver.h \
	src/net/tls.c src/net/tls.h
