# The Python package: installed as it is, and works from here by PYTHONPATH=contrib/python.
treecastdir = $(pythondir)/treecast
dist_treecast_DATA = \
	contrib/python/treecast/__init__.py \
	contrib/python/treecast/_attach.py \
	contrib/python/treecast/_broadcast.py \
	contrib/python/treecast/_api.py \
	contrib/python/treecast/_fleet.py \
	contrib/python/treecast/_folder.py \
	contrib/python/treecast/_keeper.py \
	contrib/python/treecast/_mapping.py \
	contrib/python/treecast/_members.py \
	contrib/python/treecast/_program.py \
	contrib/python/treecast/_progress.py \
	contrib/python/treecast/_ref.py \
	contrib/python/treecast/_send.py \
	contrib/python/treecast/_source.py \
	contrib/python/treecast/_trust.py \
	contrib/python/treecast/dask.py \
	contrib/python/treecast/errors.py \
	contrib/python/treecast/ipyparallel.py \
	contrib/python/treecast/py.typed
dist_noinst_SCRIPTS += contrib/python/examples/broadcast.py
EXTRA_DIST += \
	contrib/python/README \
	contrib/python/examples/broadcast.ipynb

# A wheel with the program inside, in this folder.
EXTRA_DIST += contrib/python/pyproject.toml contrib/python/make-wheel
wheel: treecast
	$(PYTHON3) $(srcdir)/contrib/python/make-wheel treecast .
.PHONY: wheel
