noinst_LTLIBRARIES += libtc-session.la
libtc_session_la_SOURCES = \
	src/session/agent.c src/session/agent.h \
	src/session/children.c src/session/children.h \
	src/session/coordinator.c src/session/coordinator.h \
	src/session/feed.c src/session/feed.h \
	src/session/machine.c src/session/machine.h \
	src/session/message.c src/session/message.h src/session/message.def
