check_PROGRAMS += tests/unit/test_resource
tests_unit_test_resource_SOURCES = tests/unit/test_resource.c tests/unit/unit.h
tests_unit_test_resource_LDADD = libtc-site.la libtc-plan.la libtc-base.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_hook
tests_unit_test_hook_SOURCES = tests/unit/test_hook.c tests/unit/unit.h
tests_unit_test_hook_LDADD = libtc-site.la libtc-plan.la libtc-base.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_launch_request
tests_unit_test_launch_request_SOURCES = tests/unit/test_launch_request.c tests/unit/unit.h
tests_unit_test_launch_request_LDADD = libtc-site.la libtc-plan.la libtc-base.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_jobgroup
tests_unit_test_jobgroup_SOURCES = tests/unit/test_jobgroup.c tests/unit/unit.h
tests_unit_test_jobgroup_LDADD = libtc-site.la libtc-plan.la libtc-base.la $(CHECK_LIBS)
