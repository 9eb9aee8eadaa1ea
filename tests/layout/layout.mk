# Rules of the source tree itself.
test_scripts += tests/layout/layers.py tests/layout/manual.py tests/layout/install.py
