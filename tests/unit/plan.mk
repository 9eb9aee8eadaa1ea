check_PROGRAMS += tests/unit/test_tree
tests_unit_test_tree_SOURCES = tests/unit/test_tree.c tests/unit/unit.h
tests_unit_test_tree_LDADD = libtc-plan.la libtc-base.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_topology
tests_unit_test_topology_SOURCES = tests/unit/test_topology.c tests/unit/unit.h
tests_unit_test_topology_LDADD = libtc-plan.la libtc-base.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_switches
tests_unit_test_switches_SOURCES = tests/unit/test_switches.c tests/unit/unit.h
tests_unit_test_switches_LDADD = libtc-plan.la libtc-base.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_replan_groups
tests_unit_test_replan_groups_SOURCES = tests/unit/test_replan_groups.c tests/unit/unit.h
tests_unit_test_replan_groups_LDADD = libtc-plan.la libtc-base.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_hostlist
tests_unit_test_hostlist_SOURCES = tests/unit/test_hostlist.c tests/unit/unit.h
tests_unit_test_hostlist_LDADD = libtc-plan.la libtc-base.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_replan
tests_unit_test_replan_SOURCES = tests/unit/test_replan.c tests/unit/unit.h
tests_unit_test_replan_LDADD = libtc-plan.la libtc-base.la $(CHECK_LIBS)
