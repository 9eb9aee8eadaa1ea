"""Map a published file as an array that stays what it is, whoever is handed it.

joblib (and so scikit-learn) gives a memmap to its workers by its ``filename``, and they open that again. The path of a
published array is no name to do so by: it may be gone by then, or be another array's. A mapping is named by this
process's open descriptor instead, which is the same file as long as the mapping is there; and on its way to another
process the name becomes the file's identity, which is checked where it arrives.
"""

from __future__ import annotations

import io
import mmap
import os
from typing import TYPE_CHECKING, Any, Tuple

from . import _folder, errors

if TYPE_CHECKING:
    import numpy

Identity = Tuple[int, int, int, int]


def _identity(fd: int) -> Identity:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Name(str):
    """What a mapping has for its ``filename``: a path that opens the very file while the mapping lives.

    Pickled it is the file's identity; unpickled, a `Place`, or an error where that file cannot be had any more.
    """

    _file: io.FileIO
    _published: str

    def __new__(cls, file: io.FileIO, published: str) -> "Name":
        self = super().__new__(cls, f"/proc/{os.getpid()}/fd/{file.fileno()}")
        self._file, self._published = file, published
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:  # a forked process has the descriptor too: it is named by its own
        fd = self._file.fileno()
        return find_again, (os.getpid(), fd, _identity(fd), self._published)


class Place(os.PathLike):  # type: ignore[type-arg]
    """A file that is open in this process. numpy.memmap opens it by this, and calls what it maps by `resolve`."""

    def __init__(self, name: Name) -> None:
        self._name = name

    def __fspath__(self) -> str:
        return str.__str__(self._name)

    def resolve(self, strict: bool = False) -> Name:
        return self._name


def find_again(pid: int, fd: int, identity: Identity, published: str) -> Place:
    """The file that another process has mapped: by its descriptor, or by the path it had, if that is the same file."""
    for path in (f"/proc/{pid}/fd/{fd}", published):
        try:
            found = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue
        file = io.FileIO(found)
        if _identity(found) == identity:
            return Place(Name(file, published))
        file.close()
    raise errors.NotFoundError(f"{os.path.basename(published)}: process {pid} has no longer mapped the array, and what "
                               f"is published as {published} is not that one", "notfound")


def to_array(file: io.FileIO, path: str, description: _folder.Description, mode: str) -> "numpy.ndarray[Any, Any]":
    """Map an open file, which becomes the array's, as its description says.

    A copy-on-write one is no numpy.memmap: as what was assigned to it is in this process alone, it must not be opened
    again by name.
    """
    import numpy

    dtype = dtype_of(description.dtype)
    if dtype.itemsize != description.item_size:
        raise errors.IntegrityError(f"{description.name}: {dtype} has {dtype.itemsize} bytes, its description says "
                                    f"{description.item_size}", "integrity")
    shape = description.shape if description.dtype is not None else (description.size,)
    try:
        if 0 in shape or dtype.itemsize == 0:  # nothing to map; numpy.empty would make S1 of S0
            nothing = bytearray() if mode == "c" else b""
            empty = numpy.ndarray(shape, dtype, nothing, order=description.order)
            return empty if mode == "c" else empty.view(numpy.memmap)
        if mode == "c":
            return _private(file, dtype, shape, description)
        array = numpy.memmap(file, dtype, mode, description.offset, shape, description.order)
    except MemoryError:
        raise errors.of_reason("nomem", f"{description.name}: no memory to map {description.size} bytes") from None
    except OSError as error:
        raise _folder.of_errno(error, f"{description.name}: cannot map {description.size} bytes") from None
    array.filename = Name(file, path)
    return array


def _private(file: io.FileIO, dtype: Any, shape: Tuple[int, ...], description: _folder.Description) -> Any:
    import numpy

    before = description.offset % mmap.ALLOCATIONGRANULARITY
    start = description.offset - before
    memory = mmap.mmap(file.fileno(), description.size - start, access=mmap.ACCESS_COPY, offset=start)
    file.close()
    return numpy.ndarray(shape, dtype, memory, before, order=description.order)


def dtype_of(described: Any) -> "numpy.dtype[Any]":
    """numpy's dtype of the description's, which is JSON: lists stand where numpy has tuples."""
    from numpy.lib import format as npy

    return npy.descr_to_dtype("|u1" if described is None else _descr(described))


def _descr(described: Any) -> Any:
    if isinstance(described, str):
        return described
    if isinstance(described, dict):  # a shape of a shape
        return _descr(described["dtype"]), tuple(described["shape"])
    fields = []
    for name, kind, *shape in described:
        fields.append((tuple(name) if isinstance(name, list) else name, _descr(kind), *map(tuple, shape)))
    return fields
