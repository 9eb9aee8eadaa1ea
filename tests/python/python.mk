# The Python package, each promise of it; with ipyparallel and dask where they are there.
test_scripts += \
	tests/python/arrays.py \
	tests/python/core.py \
	tests/python/foreign.py \
	tests/python/members.py \
	tests/python/package.py
if HAVE_CHECK
test_scripts += tests/python/words.py
endif
plain_scripts += \
	tests/python/engines.py \
	tests/python/workers.py
dist_noinst_DATA += tests/python/world.py tests/python/foreign/headers.py
dist_noinst_SCRIPTS += tests/python/cluster.py

# Engines on hosts of the lab.
plain_scripts += tests/lab/test_lab_python.py
