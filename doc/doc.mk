# Manual pages: every page in doc/ stands here once, and is installed and distributed by it.
dist_man_MANS = \
	doc/treecast.1 \
	doc/treecast.3 \
	doc/treecast.conf.5 \
	doc/treecast-batch.7 \
	doc/treecast-api.7 \
	doc/treecast-replan.7 \
	doc/treecast-security.7 \
	doc/treecast-wire.7
EXTRA_DIST += doc/RATIONALE
# Examples of the C library; tests/layout/install.py builds each as a user would, and runs it.
dist_noinst_DATA += doc/examples/hdf5.py doc/examples/fits.py doc/examples/progress.c doc/examples/attach.cc doc/examples/mpi_norm.c
# The figure of the users' notebook, from measurements in notebook.json: tests/bench/figure.py
EXTRA_DIST += doc/notebook.json doc/notebook.png doc/notebook.svg
