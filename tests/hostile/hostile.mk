# Hostile and broken peers: the promises of treecast-security(7), each a test that prints its figure.
test_scripts += \
	tests/hostile/01_privilege.py \
	tests/hostile/02_members.py \
	tests/hostile/03_outsiders.py \
	tests/hostile/04_local.py \
	tests/hostile/05_limits.py \
	tests/hostile/07_environment.py \
	tests/hostile/11_service.py \
	tests/hostile/08_jobdir.py \
	tests/hostile/09_memory.py \
	tests/hostile/10_other_servers.py \
	tests/hostile/06_insiders.py \
	tests/hostile/07_squatters.py \
	tests/hostile/12_crowds.py
dist_noinst_DATA += \
	tests/hostile/fuse.py \
	tests/hostile/hostile.py \
	tests/hostile/insider.c \
	tests/hostile/member.c \
	tests/hostile/peer.c tests/hostile/peer.h \
	tests/hostile/probe.c \
	tests/hostile/outsider.c
if HAVE_CHECK
check_PROGRAMS += tests/hostile/test_addresses tests/hostile/test_costs tests/hostile/test_members tests/hostile/test_names
tests_hostile_test_addresses_SOURCES = tests/hostile/test_addresses.c tests/unit/unit.h
tests_hostile_test_addresses_LDADD = libtc-session.la libtc-plan.la libtc-data.la libtc-base.la $(CRYPTO_LIBS) \
	$(JANSSON_LIBS) $(CHECK_LIBS)
tests_hostile_test_costs_SOURCES = tests/hostile/test_costs.c tests/hostile/victim.h tests/unit/unit.h
tests_hostile_test_costs_LDADD = libtc-session.la libtc-plan.la libtc-data.la libtc-base.la $(CRYPTO_LIBS) \
	$(JANSSON_LIBS) $(CHECK_LIBS)
tests_hostile_test_members_SOURCES = tests/hostile/test_members.c tests/hostile/victim.h tests/unit/unit.h
tests_hostile_test_members_LDADD = libtc-session.la libtc-plan.la libtc-data.la libtc-base.la $(CRYPTO_LIBS) \
	$(JANSSON_LIBS) $(CHECK_LIBS)
tests_hostile_test_names_SOURCES = tests/hostile/test_names.c tests/unit/file_help.h tests/unit/unit.h
tests_hostile_test_names_LDADD = libtc-file.la libtc-data.la libtc-base.la $(CHECK_LIBS)
endif
