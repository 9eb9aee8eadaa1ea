# Hostile and broken peers: the promises of treecast-security(7), each a test that prints its figure.
test_scripts += tests/hostile/01_privilege.py
dist_noinst_DATA += tests/hostile/hostile.py tests/hostile/probe.c
