"""What is sent: a file, bytes, or an array, and nothing in the place of what the caller has in mind."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from . import _folder, errors

PROC_MEMORY = "/proc/self/mem"


class Operands(NamedTuple):
    """The program's last words, the descriptors among them, the name that the array gets, and its bytes."""

    words: List[str]
    descriptors: Sequence[int]
    name: str


@contextlib.contextmanager
def operands(source: Any, name: Optional[str], described: bool = False) -> Iterator[Operands]:
    """What the program is to be told of source.

    described: the caller says dtype and shape of its bytes.
    """
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        published = _folder.check_name(os.path.basename(path) if name is None else name)
        yield Operands(["--", os.path.abspath(path), published], (), published)
        return
    if name is None and isinstance(getattr(source, "name", None), str):
        name = os.path.basename(source.name)
    if name is None:
        raise errors.UsageError("an array needs a name", "usage")
    published = _folder.check_name(name)
    with contextlib.ExitStack() as open_files:
        try:
            if hasattr(source, "read") and not hasattr(source, "__array__") and not _is_buffer(source):
                words, fds = _of_file(open_files, source, published)
            elif _is_plain_bytes(source) and (described or not published.endswith(".npy")):
                words, fds = _of_bytes(open_files, source)
            else:
                words, fds = _of_array(open_files, source, published)
        except MemoryError:
            raise errors.of_reason("nomem", f"{published}: no memory for a copy of what is to be sent") from None
        yield Operands([*words, "--", published], fds, published)


# -- files and bytes -------------------------------------------------------------------------------------------------


def _is_buffer(source: Any) -> bool:
    try:
        memoryview(source).release()
    except (TypeError, ValueError, BufferError):
        return False
    return True


def _is_plain_bytes(source: Any) -> bool:
    """Bytes of no type of their own; a memoryview of numbers is an array."""
    if hasattr(source, "__array_interface__") or not _is_buffer(source):
        return False
    with memoryview(source) as view:
        return view.format in ("B", "b", "c") and view.ndim == 1


def _of_file(open_files: contextlib.ExitStack, source: Any, name: str) -> Tuple[List[str], Sequence[int]]:
    """The rest of an open file; of one without a descriptor what it reads."""
    if isinstance(source, io.TextIOBase):
        raise errors.UsageError(f"{name}: a file opened as text; open it with 'rb'", "usage")
    if hasattr(source, "flush"):
        source.flush()
    raw = getattr(source, "file", source)  # of a temporary file
    raw = getattr(raw, "raw", raw)
    try:  # others may have the descriptor of something that they read otherwise, as a gzip.GzipFile
        size = os.fstat(raw.fileno()).st_size if isinstance(raw, io.FileIO) else 0
        start = source.tell() if size else 0
    except OSError:  # a pipe
        size = 0
    if not size:
        return _of_bytes(open_files, source.read())
    return [f"--source-fd={raw.fileno()}", f"--source-range={start}:{max(0, size - start)}"], (raw.fileno(),)


def _of_bytes(open_files: contextlib.ExitStack, source: Any) -> Tuple[List[str], Sequence[int]]:
    view = open_files.enter_context(memoryview(source)).cast("B")
    if not view.nbytes:
        nothing = memory_file(open_files, b"")
        return [f"--source-fd={nothing}"], (nothing,)
    import numpy

    return _in_memory(open_files, numpy.frombuffer(view, numpy.uint8))


# -- arrays ----------------------------------------------------------------------------------------------------------


def _of_array(open_files: contextlib.ExitStack, source: Any, name: str) -> Tuple[List[str], Sequence[int]]:
    if not name.endswith(".npy"):
        raise errors.UsageError(f"{name}: an array is sent as a .npy file, so its name must end so", "usage")
    array = to_array(source, name)
    head = memory_file(open_files, npy_header(array, name))
    words, fds = _in_memory(open_files, array)
    return [*words, f"--head-fd={head}"], (*fds, head)


def to_array(source: Any, name: str) -> Any:
    """A contiguous array of exactly what source is, or UsageError."""
    import numpy

    if _is_plain_bytes(source):
        return numpy.frombuffer(source, numpy.uint8)
    _refuse_more_than_elements(source, name)
    array = numpy.asarray(source)
    if array.dtype.hasobject:
        raise errors.UsageError(f"{name}: {_named(source)} makes an array of Python objects, which holds pointers that "
                                "mean nothing elsewhere", "usage")
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = numpy.ascontiguousarray(array)
    return array


def _named(source: Any) -> str:
    kind = type(source)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _refuse_more_than_elements(source: Any, name: str) -> None:
    """What numpy.asarray makes of these is another thing than they are: a mask, units, labels would be lost."""
    import numpy

    if type(source) in (numpy.ndarray, numpy.memmap, numpy.recarray, int, float, complex, bool, str, bytes):
        return
    if isinstance(source, numpy.generic):
        return
    if isinstance(source, (list, tuple)):
        for item in source:
            _refuse_more_than_elements(item, name)
        return
    what = _named(source)
    instead = None
    if isinstance(source, numpy.ma.MaskedArray):
        instead = "has a mask: send it filled, x.filled(value), and numpy.ma.getmaskarray(x) as another array"
    elif what.startswith("scipy.sparse") or (hasattr(source, "tocsr") and hasattr(source, "nnz")):
        instead = "is sparse: send its parts (of a CSR matrix .data, .indices, .indptr) as arrays, or x.toarray()"
    elif what.startswith("pandas."):
        instead = "has labels: send x.to_numpy(), and the labels as another array if they are needed"
    elif what.startswith("pint."):
        instead = "has a unit: send x.magnitude"
    elif hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
        instead = "may be more than its elements: send numpy.asarray(x) if those are all that counts"
    if instead:
        raise errors.UsageError(f"{name}: {what} {instead}", "usage")


def npy_header(array: Any, name: str) -> bytes:
    """What stands before the elements in a .npy file, as numpy itself writes it: the lowest version that can hold it."""
    from numpy.lib import format as npy

    try:
        if npy.descr_to_dtype(npy.dtype_to_descr(array.dtype)) != array.dtype:
            raise ValueError("a type of another package")
        data = npy.header_data_from_array_1_0(array)
    except (ValueError, TypeError) as error:
        raise errors.UsageError(f"{name}: a .npy file cannot hold elements of {array.dtype}: {error}; send a view of "
                                "them as another type, x.view('u2') say", "usage") from None
    for write in (npy.write_array_header_1_0, npy.write_array_header_2_0):
        with contextlib.suppress(ValueError, UnicodeEncodeError):
            head = io.BytesIO()
            write(head, data)
            return head.getvalue()
    writer = _Head()
    with contextlib.suppress(_Head.Full):
        npy.write_array(writer, array, version=(3, 0))
    return writer.bytes


class _Head:
    """Takes a header from who would write the elements too."""

    class Full(Exception):
        """The header is here."""

    def __init__(self) -> None:
        self.bytes = b""

    def write(self, piece: Any) -> int:
        if len(self.bytes) >= 12 and len(self.bytes) == 12 + int.from_bytes(self.bytes[8:12], "little"):
            raise _Head.Full()
        self.bytes += bytes(piece)
        return len(piece)


def memory_file(open_files: contextlib.ExitStack, content: Any) -> int:
    """A descriptor of a file in memory with this content."""
    fd = os.memfd_create("treecast", os.MFD_CLOEXEC)
    open_files.callback(os.close, fd)
    view = memoryview(content).cast("B")
    try:
        while view:
            view = view[os.write(fd, view):]
    except OSError as error:
        raise _folder.of_errno(error, "no memory for a copy of what is to be sent") from None
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _in_memory(open_files: contextlib.ExitStack, array: Any) -> Tuple[List[str], Sequence[int]]:
    """Where the array's elements are: this process's memory, else a copy of them."""
    open_files.callback(id, array)  # it may be a copy of what the caller has: it stays until it is sent
    fd, offset = _memory_of(open_files, array)
    return [f"--source-fd={fd}", f"--source-range={offset}:{array.nbytes}"], (fd,)


def _memory_of(open_files: contextlib.ExitStack, array: Any) -> Tuple[int, int]:
    address = array.__array_interface__["data"][0]
    try:
        fd = os.open(PROC_MEMORY, os.O_RDONLY | os.O_CLOEXEC)
        open_files.callback(os.close, fd)
        if array.nbytes == 0:
            return fd, 0
        if len(os.pread(fd, 1, address)) == 1:
            return fd, address
    except OSError:
        pass  # not dumpable, no /proc, a sandbox
    elements = array.T if array.flags.f_contiguous else array
    return memory_file(open_files, elements.reshape(-1).view("u1") if array.nbytes else b""), 0
