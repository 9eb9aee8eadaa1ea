noinst_LTLIBRARIES += libtc-node.la
libtc_node_la_SOURCES = \
	src/node/cache.c src/node/cache.h \
	src/node/finder.c src/node/finder.h \
	src/node/leases.c src/node/leases.h \
	src/node/gather.c src/node/gather.h \
	src/node/local.c src/node/local.h \
	src/node/pool.c src/node/pool.h \
	src/node/privilege.c src/node/privilege.h \
	src/node/recv_node.c src/node/recv_node.h src/node/recv_own.h \
	src/node/recv_api.c \
	src/node/recv_links.c \
	src/node/recv_listing.c \
	src/node/recv_session.c \
	src/node/recv_tasks.c \
	src/node/runner.c src/node/runner.h \
	src/node/send_node.c src/node/send_node.h \
	src/node/bottleneck.c src/node/bottleneck.h \
	src/node/pending.c src/node/pending.h
