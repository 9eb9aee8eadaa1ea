# A storm of kills: a short one in check; make storm BROADCASTS=1000 SEED=1 is the long one (a few minutes).
test_scripts += tests/storm/storm.py
BROADCASTS = 1000
SEED = 1
storm: $(bin_PROGRAMS)
	$(AM_TESTS_ENVIRONMENT) BROADCASTS='$(BROADCASTS)' SEED='$(SEED)' $(PYTHON3) $(srcdir)/tests/storm/storm.py
.PHONY: storm
