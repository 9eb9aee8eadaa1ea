# Whole sessions in one process, on virtual time. `make sim SEEDS=5000` tries more of them.
check_PROGRAMS += tests/sim/test_sim
tests_sim_test_sim_SOURCES = tests/sim/test_sim.c tests/sim/sim.c tests/sim/sim.h tests/sim/sign.c tests/unit/unit.h
tests_sim_test_sim_LDADD = libtc-session.la libtc-plan.la libtc-data.la libtc-base.la $(CRYPTO_LIBS) $(JANSSON_LIBS) \
	$(CHECK_LIBS)
# The names that sign.c wraps.
tests_sim_test_sim_LDFLAGS = \
	-Wl,--wrap=tc_signer_new -Wl,--wrap=tc_signer_sign -Wl,--wrap=tc_signer_free \
	-Wl,--wrap=tc_verifier_new -Wl,--wrap=tc_verifier_check -Wl,--wrap=tc_verifier_free
SEEDS = 1000
sim: tests/sim/test_sim
	SEEDS=$(SEEDS) ./tests/sim/test_sim
.PHONY: sim
