noinst_LTLIBRARIES += libtc-session.la
libtc_session_la_SOURCES = \
	src/session/agent.c src/session/agent.h src/session/agent_own.h \
	src/session/agent_control.c \
	src/session/agent_fill.c \
	src/session/agent_links.c \
	src/session/agent_plan.c \
	src/session/agent_report.c \
	src/session/agent_wants.c \
	src/session/children.c src/session/children.h \
	src/session/compare.c src/session/compare.h \
	src/session/coordinator.c src/session/coordinator.h src/session/coordinator_own.h \
	src/session/coordinator_address.c \
	src/session/coordinator_give.c \
	src/session/coordinator_hosts.c src/session/coordinator_limits.c \
	src/session/coordinator_plan.c \
	src/session/coordinator_replan.c \
	src/session/feed.c src/session/feed.h \
	src/session/limits.h \
	src/session/machine.c src/session/machine.h \
	src/session/message.c src/session/message.h src/session/message.def
