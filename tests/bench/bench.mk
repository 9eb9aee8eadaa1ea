# make bench: what a broadcast costs, on a cluster of network namespaces; needs root and about an hour.
# A part of it: make bench BENCH='main32 hop -r 3'; BENCH=--list names the rows.
dist_noinst_SCRIPTS += tests/bench/bench.py
dist_noinst_SCRIPTS += tests/bench/notebook_client.py tests/bench/figure.py
dist_noinst_DATA += tests/bench/api.py tests/bench/rows.py tests/bench/notebook.py
dist_noinst_DATA += tests/bench/rows_faults.py tests/bench/rows_racks.py
BENCH =

bench: $(bin_PROGRAMS)
	$(AM_TESTS_ENVIRONMENT) $(PYTHON3) $(srcdir)/tests/bench/bench.py $(BENCH)
.PHONY: bench
