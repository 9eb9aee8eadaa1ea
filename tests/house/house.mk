# Rules of the source tree itself.
test_scripts += tests/house/layers.py tests/house/manual.py tests/house/install.py
