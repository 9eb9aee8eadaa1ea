"""Broadcast an array or a file."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _folder, _program, errors
from ._ref import Ref

PROC_MEMORY = "/proc/self/mem"
GROWTH_DIGITS = 21  # numpy's own


class Progress(NamedTuple):
    """How far a broadcast is.

    Attributes
    ----------
    bytes, size : int
        What the slowest host has of the array, verified, and its size.
    done, hosts : int
        Hosts that have all of it, and hosts in all.
    seconds : float
        Since the first byte.
    slowest : str or None
        The slowest host.
    """

    bytes: int
    size: int
    done: int
    hosts: int
    seconds: float
    slowest: Optional[str]


def send(source: Any, name: Optional[str] = None, *, hosts: Union[str, Iterable[str], None] = None,
         hostfile: Union[str, "os.PathLike[str]", None] = None, exclude: Union[str, Iterable[str], None] = None,
         port: Optional[int] = None, key_file: Union[str, "os.PathLike[str]", None] = None,
         origin_key: Union[str, "os.PathLike[str]", None] = None, chunk: Union[int, str, None] = None,
         compress: Optional[str] = None, tree: Optional[str] = None, force: bool = False,
         min_hosts: Union[int, str, None] = None, deadline: Optional[float] = None, ttl: Optional[float] = None,
         local: Optional[str] = None, link: bool = False, raw: bool = False,
         dir: Union[str, "os.PathLike[str]", None] = None, progress: Optional[Callable[[Progress], Any]] = None,
         program: _program.Program = None) -> Ref:
    """Broadcast an array or a file to the agents of many hosts.

    An array is not copied first: the program reads it from this process's memory (``/proc/self/mem``, handed on as an
    open descriptor), so it must not be written to until this returns. An array that is neither C nor Fortran contiguous
    is made so, which is a copy; so is one of a process that the system lets nobody read, itself included.

    Parameters
    ----------
    source : numpy.ndarray, anything numpy makes an array of, bytes, or a path
        The hosts get an array as a ``.npy`` file, which keeps its dtype, shape and order.
    name : str, optional
        What the hosts publish it as; a path's file name by default.
    hosts : str or iterable of str, optional
        ``"node[001-128]"``, ``["10.0.0.1:7200", ...]``. With no hosts and no ``hostfile`` those that the program finds.
    hostfile, exclude, port, key_file, origin_key, chunk, compress, tree, force, min_hosts, deadline, ttl, raw
        The program's options of these names, see treecast(1).
    local, link
        How an agent on this host gets the array, as the program's options.
    dir : path, optional
        Where the hosts publish, for the Ref; their default directory otherwise.
    progress : callable, optional
        Called with a `Progress` at the start, about once a second, and at the end. What it raises ends the broadcast.
    program : path, optional
        The program; ``$TREECAST``, else ``treecast`` on the PATH.

    Returns
    -------
    Ref
        Attaches the array on any of the hosts. Its ``report`` has the program's last JSON line and ``hosts``.

    Raises
    ------
    PartialError
        Some hosts failed, at least ``min_hosts`` have it; the error's ``ref`` is the array.
    TreecastError
        One subclass for each exit code of the program.

    Examples
    --------
    >>> ref = treecast.send(a, "a.npy", hosts="node[001-128]", key_file="job.key")     # doctest: +SKIP
    """
    given = [("--hosts", _words(hosts)), ("--hostfile", hostfile), ("--exclude", _words(exclude)), ("--port", port),
             ("--key-file", key_file), ("--origin-key", origin_key), ("--chunk", chunk), ("--compress", compress),
             ("--tree", tree), ("--min-hosts", min_hosts), ("--deadline", deadline), ("--ttl", ttl), ("--local", local)]
    words = [f"{option}={os.fspath(value) if isinstance(value, os.PathLike) else value}" for option, value in given
             if value is not None]
    words += [option for option, value in (("--force", force), ("--link", link), ("--raw", raw)) if value]
    path = _program.find(program)
    with _operands(source, name) as (operands, descriptors, published):
        command = [path, "send", "--json", "-q", *words, *operands]
        code, lines, said = _run(command, descriptors, progress)
    return _judge(code, lines, said, published, dir)


def _words(hosts: Union[str, Iterable[str], None]) -> Optional[str]:
    return hosts if hosts is None or isinstance(hosts, str) else ",".join(hosts)


# -- the source ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _operands(source: Any, name: Optional[str]) -> Iterator[Tuple[List[str], Sequence[int], str]]:
    """The program's last words, the descriptors among them, and the name that the array gets."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        published = _folder.check_name(os.path.basename(path) if name is None else name)
        yield ["--", os.path.abspath(path), published], (), published
        return
    if name is None:
        raise errors.UsageError("an array needs a name", "usage")
    published = _folder.check_name(name)
    if not published.endswith(".npy"):
        raise errors.UsageError(f"{published}: an array is sent as a .npy file, so its name must end so", "usage")
    array, head = _contiguous(source)
    with contextlib.ExitStack() as open_files:
        head_fd = _memory_file(open_files, head)
        fd, offset = _memory_of(open_files, array)
        yield [f"--source-fd={fd}", f"--source-range={offset}:{array.nbytes}", f"--head-fd={head_fd}",
               "--", published], (fd, head_fd), published


def _contiguous(source: Any) -> Tuple[Any, bytes]:
    """An array that can be read as it lies in memory, and its .npy header."""
    import numpy

    array = numpy.frombuffer(source, numpy.uint8) if isinstance(source, (bytes, bytearray)) else numpy.asarray(source)
    if array.dtype.hasobject:
        raise errors.UsageError("an array of Python objects holds pointers, which mean nothing elsewhere", "usage")
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = numpy.ascontiguousarray(array)
    return array, npy_header(array)


def npy_header(array: Any) -> bytes:
    """What stands before the elements in a .npy file, as numpy writes it: the lowest version that can hold it."""
    from numpy.lib import format as npy

    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    text = repr({"descr": npy.dtype_to_descr(array.dtype), "fortran_order": fortran, "shape": array.shape})
    text = text[:-1] + ", }"
    if array.ndim:  # room for the growing axis to become longer in place
        text += " " * (GROWTH_DIGITS - len(str(array.shape[-1 if fortran else 0])))
    for version, encoding, width in ((1, "latin-1", 2), (2, "latin-1", 4), (3, "utf-8", 4)):
        try:
            line = text.encode(encoding)
        except UnicodeEncodeError:
            continue
        before = 8 + width
        line += b" " * (-(before + len(line) + 1) % 64) + b"\n"
        if len(line) < 1 << (8 * width):
            return b"\x93NUMPY" + bytes([version, 0]) + len(line).to_bytes(width, "little") + line
    raise errors.UsageError("the array's dtype is too long for a .npy file", "usage")


def _memory_file(open_files: contextlib.ExitStack, content: Any) -> int:
    """A descriptor of a file in memory with this content."""
    fd = os.memfd_create("treecast", os.MFD_CLOEXEC)
    open_files.callback(os.close, fd)
    view = memoryview(content).cast("B")
    while view:
        view = view[os.write(fd, view):]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _memory_of(open_files: contextlib.ExitStack, array: Any) -> Tuple[int, int]:
    """A descriptor and an offset at which the array's elements are: this process's memory, else a copy of them."""
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
    return _memory_file(open_files, elements.reshape(-1).view("u1") if array.nbytes else b""), 0


# -- the program ---------------------------------------------------------------------------------------------------


def _run(command: List[str], descriptors: Sequence[int],
         progress: Optional[Callable[[Progress], Any]]) -> Tuple[int, List[Dict[str, Any]], str]:
    """Exit code, JSON lines, standard error."""
    lines: List[Dict[str, Any]] = []
    with tempfile.TemporaryFile() as said:  # a file cannot fill up while standard output is read
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
                              pass_fds=descriptors) as process:
            try:
                assert process.stdout is not None
                for text in process.stdout:
                    lines.append(json.loads(text))
                    _tell(lines, progress)
            except BaseException:  # Ctrl-C too: the hosts are told, and nobody reads this memory any more
                _program.end(process, 5.0)
                raise
        said.seek(0)
        return process.returncode, lines, said.read().decode(errors="replace")


def _tell(lines: List[Dict[str, Any]], progress: Optional[Callable[[Progress], Any]]) -> None:
    line, first = lines[-1], lines[0]
    if progress is None or first["type"] != "plan":
        return
    size, hosts = first["size"], first["hosts"]
    if line["type"] == "plan":
        progress(Progress(0, size, 0, hosts, 0.0, None))
    elif line["type"] == "progress":
        progress(Progress(line["bytes_low"], size, line["done"], hosts, line["seconds"], line.get("slowest")))
    elif line["type"] == "summary":
        done = line["published"] + line["unchanged"]
        progress(Progress(size, size, done, hosts, line["transfer"], line.get("slowest")))


def _judge(code: int, lines: List[Dict[str, Any]], said: str, name: str,
           directory: Union[str, "os.PathLike[str]", None]) -> Ref:
    last = lines[-1] if lines else {}
    hosts = [line for line in lines if line["type"] == "host"]
    bad = [line for line in hosts if line["state"] not in ("published", "unchanged", "ready")]
    if code not in (0, 3):
        text = last.get("text") or _program.text_of(said, "send")
        if bad and bad[0].get("text"):
            text += f"; {bad[0]['host']}: {bad[0]['text']}"
        raise errors.of_exit(code, text, last.get("reason", "failed"), hosts)
    ref = Ref(name, directory, last.get("digest"))
    ref.report = {**last, "hosts": hosts}
    if code == 3:
        error = errors.PartialError(f"these do not have {name}: {', '.join(line['host'] for line in bad)}", "failed",
                                    hosts)
        error.ref = ref
        raise error
    return ref
