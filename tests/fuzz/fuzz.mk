# Fuzz targets: the corpus is replayed by make check in the build at hand; `make fuzz FUZZ_SECONDS=60` builds them all
# with clang and libFuzzer and tries new inputs, so long for each.
check_PROGRAMS += tests/fuzz/replay
tests_fuzz_replay_SOURCES = \
	tests/fuzz/replay.c tests/fuzz/fuzz.c tests/fuzz/fuzz.h tests/fuzz/targets.def \
	tests/fuzz/fuzz_agent.c \
	tests/fuzz/fuzz_coordinator.c \
	tests/fuzz/fuzz_data.c \
	tests/fuzz/fuzz_text.c \
	tests/fuzz/fuzz_wire.c
tests_fuzz_replay_LDADD = libtc-cli.la
dist_noinst_DATA += tests/fuzz/fuzz.py tests/fuzz/fuzz_main.c
EXTRA_DIST += tests/fuzz/corpus

FUZZ_SECONDS = 60
FUZZ_JOBS = 2
fuzz:
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/tests/fuzz/fuzz.py --build fuzz-build --seconds $(FUZZ_SECONDS) \
		--jobs $(FUZZ_JOBS) $(FUZZ_TARGETS)
clean-local:
	rm -rf fuzz-build
.PHONY: fuzz
