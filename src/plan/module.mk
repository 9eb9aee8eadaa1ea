noinst_LTLIBRARIES += libtc-plan.la
libtc_plan_la_SOURCES = \
	src/plan/hostfile.c src/plan/hostfile.h \
	src/plan/hostlist.c src/plan/hostlist.h src/plan/hostlist_fold.c \
	src/plan/replan.c src/plan/replan.h src/plan/replan_own.h \
	src/plan/replan_table.c src/plan/replan_slow.c src/plan/replan_unfit.c src/plan/replan_uplink.c \
	src/plan/switches.c src/plan/switches.h \
	src/plan/topology.c src/plan/topology.h \
	src/plan/tree.c src/plan/tree.h src/plan/tree_own.h src/plan/tree_plant.c \
	src/plan/detector.c src/plan/detector.h
