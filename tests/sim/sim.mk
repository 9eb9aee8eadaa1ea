# Whole sessions in one process, on virtual time. `make sim SEEDS=100000` tries more of them, so many of each mode, on all
# processors: a thousand a process, which stops at its first failure.
check_PROGRAMS += tests/sim/test_sim
tests_sim_test_sim_SOURCES = tests/sim/test_sim.c tests/sim/sim.c tests/sim/sim.h \
	tests/sim/hostile.c tests/sim/hostile.h tests/sim/witness.c tests/sim/witness.h tests/sim/sign.c tests/unit/unit.h
tests_sim_test_sim_LDADD = libtc-session.la libtc-plan.la libtc-data.la libtc-base.la $(CRYPTO_LIBS) $(JANSSON_LIBS) \
	$(CHECK_LIBS)
# The names that sign.c wraps.
tests_sim_test_sim_LDFLAGS = \
	-Wl,--wrap=tc_signer_new -Wl,--wrap=tc_signer_sign -Wl,--wrap=tc_signer_free \
	-Wl,--wrap=tc_verifier_new -Wl,--wrap=tc_verifier_check -Wl,--wrap=tc_verifier_free
SEEDS = 1000
MODES = any_faults_are_safe faults_that_stop_harm_nobody hostile_sessions_end
sim: tests/sim/test_sim
	@for mode in $(MODES); do seq 1 1000 $(SEEDS) | sed "s/^/$$mode /"; done | \
	xargs -P "$$(nproc)" -L 1 sh -c 'left=$$(($(SEEDS) - $$2 + 1)); export FROM=$$2 SEEDS=$$((left < 1000 ? left : 1000)); \
		said=$$(CK_RUN_CASE=$$1 ./tests/sim/test_sim) || { echo "$$said"; exit 1; }' sim && \
	echo "$(SEEDS) sessions each: $(MODES)"
.PHONY: sim
