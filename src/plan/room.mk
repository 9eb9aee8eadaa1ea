noinst_LTLIBRARIES += libtc-plan.la
libtc_plan_la_SOURCES = \
	src/plan/hostlist.c src/plan/hostlist.h \
	src/plan/tree.c src/plan/tree.h
