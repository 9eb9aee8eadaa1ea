#!/usr/bin/python3
"""An image of a FITS file that treecast has published, without a copy: fits.py NAME [DIR]

    treecast send -w HOSTS image.fits                    # on one machine; on each of the hosts:
    fits.py image.fits

astropy maps the file; its numbers are big-endian, and numpy computes with them as they are.
"""

import mmap
import sys

import treecast
from astropy.io import fits

path = treecast.wait(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None, timeout=60)
with fits.open(path, memmap=True) as file:
    image = file[0].data
    root = image
    while getattr(root, "base", None) is not None:
        root = root.base
    print(image.shape, image.sum(), "mapped" if isinstance(root, mmap.mmap) else "read")
