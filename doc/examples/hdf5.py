#!/usr/bin/python3
"""A dataset of an HDF5 file that treecast has published, without a copy: hdf5.py NAME [DIR]

    treecast send -w HOSTS table.hdf5                    # on one machine; on each of the hosts:
    hdf5.py table.hdf5

All processes of a host share the pages of the file. A dataset that is neither chunked nor compressed is contiguous in it,
so numpy can map it; of others h5py reads what is asked for.
"""

import sys

import h5py
import numpy
import treecast

path = treecast.wait(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None, timeout=60)
with h5py.File(path, "r") as file:
    dataset = file["table"]
    offset = dataset.id.get_offset()  # None where it is not contiguous
    table = dataset[...] if offset is None else numpy.memmap(path, dataset.dtype, "r", offset, dataset.shape)
print(table.shape, table.sum(), "mapped" if isinstance(table, numpy.memmap) else "read")
