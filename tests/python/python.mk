# The Python package, each promise of it.
test_scripts += tests/python/core.py
dist_noinst_DATA += tests/python/world.py
