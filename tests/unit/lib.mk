check_PROGRAMS += tests/unit/test_lib
threaded_tests += tests/unit/test_lib
tests_unit_test_lib_SOURCES = tests/unit/test_lib.c tests/unit/unit.h
tests_unit_test_lib_LDADD = libtreecast.la libtc-file.la libtc-data.la libtc-base.la $(CHECK_LIBS) -lm

# The example of the manual: built with the tests, and run by test_lib.
EXTRA_PROGRAMS = doc/examples/attach
doc_examples_attach_SOURCES = doc/examples/attach.c
doc_examples_attach_LDADD = libtreecast.la -lm
EXTRA_tests_unit_test_lib_DEPENDENCIES = doc/examples/attach$(EXEEXT)
CLEANFILES += doc/examples/attach$(EXEEXT)
