"""Broadcast an array or a file."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from . import _folder, _program, _progress, _source, errors
from ._progress import Progress
from ._ref import Ref

Path = Union[str, "os.PathLike[str]", None]


def send(source: Any, name: Optional[str] = None, *, hosts: Union[str, Iterable[str], None] = None,
         hostfile: Path = None, exclude: Union[str, Iterable[str], None] = None, port: Optional[int] = None,
         key_file: Union[Path, int] = None, origin_key: Path = None, chunk: Union[int, str, None] = None,
         compress: Optional[str] = None, tree: Optional[str] = None, force: bool = False,
         min_hosts: Union[int, str, None] = None, deadline: Optional[float] = None, ttl: Optional[float] = None,
         bwlimit: Union[int, str, None] = None, launch: Optional[str] = None, ssh: Optional[str] = None,
         agent_program: Path = None, agent_dir: Path = None, stay: bool = False, interface: Optional[str] = None,
         join_at: Optional[str] = None, join_time: Optional[float] = None, dry_run: bool = False,
         local: Optional[str] = None, link: bool = False, raw: bool = False, dtype: Any = None,
         shape: Union[int, str, Sequence[int], None] = None, dir: Path = None, progress: _progress.Teller = None,
         program: _program.Program = None) -> Ref:
    """Broadcast an array or a file to the agents of many hosts.

    An array is not copied first: the program reads it from this process's memory (``/proc/self/mem``, handed on as an
    open descriptor), so it must not be written to until this returns. An array that is neither C nor Fortran contiguous
    is made so, which is a copy; so is one of a process that the system lets nobody read, itself included.

    Parameters
    ----------
    source : numpy.ndarray, numbers and sequences of them, bytes-like, an open file, or a path
        The hosts get an array as a ``.npy`` file, which keeps its dtype, shape and order; bytes, where the name does
        not end so, as they are. A str is the path of a file, and of an open file all is sent that is yet to be read.
        What is more than its elements (a masked array, a matrix, anything with labels or units) is refused.
    name : str, optional
        What the hosts publish it as; a file's name by default.
    hosts : str or iterable of str, optional
        ``"node[001-128]"``, ``["10.0.0.1:7200", ...]``. With no hosts and no ``hostfile`` those that the program finds.
    hostfile, exclude, port, key_file, origin_key, chunk, compress, tree, force, min_hosts, deadline, ttl, bwlimit, raw
        The program's options of these names, see treecast(1). An int for key_file is an open descriptor.
    launch, ssh, agent_program, agent_dir, stay, interface, join_at, join_time
        Its options for hosts whose agents are still to be started.
    dry_run : bool
        Only ask the hosts: the Ref is of nothing yet, its ``report`` says what would be.
    local, link
        How an agent on this host gets the array, as the program's options.
    dtype, shape : optional
        What bytes or a file without a header are: anything that numpy takes for a dtype; one extent may be -1.
    dir : path, optional
        Where the hosts publish, for the Ref; their default directory otherwise.
    progress : True or callable, optional
        A bar (by tqdm); or called with a `Progress` at the start, about once a second, and at the end. What it raises
        ends the broadcast.
    program : path, optional
        The program; ``$TREECAST``, else ``treecast`` of this package, on the PATH, or beside the interpreter.

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
    given = {"hosts": _words(hosts), "hostfile": hostfile, "exclude": _words(exclude), "port": port,
             "key-fd" if isinstance(key_file, int) else "key-file": key_file, "origin-key": origin_key,
             "chunk": chunk, "compress": compress, "tree": tree,
             "min-hosts": min_hosts, "deadline": deadline, "ttl": ttl, "bwlimit": bwlimit, "launch": launch, "ssh": ssh,
             "agent-program": agent_program, "agent-dir": agent_dir, "interface": interface, "join-at": join_at,
             "join-time": join_time, "local": local, "dtype": None if dtype is None else _dtype_word(dtype),
             "shape": _shape_word(shape)}
    flags = {"force": force, "link": link, "raw": raw or dtype is not None, "stay": stay, "dry-run": dry_run}
    words = [f"--{option}={os.fspath(value) if isinstance(value, os.PathLike) else value}"
             for option, value in given.items() if value is not None]
    words += [f"--{option}" for option, value in flags.items() if value]
    keys = [key_file] if isinstance(key_file, int) else []
    path = _program.find(program)
    with _source.operands(source, name, dtype is not None or raw) as operands:
        tell = _progress.teller(progress, operands.name)
        try:
            code, lines, said = _run([path, "send", "--json", "-q", *words, *operands.words],
                                     [*operands.descriptors, *keys], tell)
        finally:
            _progress.close(tell)
    return _judge(code, lines, said, operands.name, dir)


def _dtype_word(dtype: Any) -> str:
    """A dtype as --dtype reads it, which knows numpy's words."""
    if isinstance(dtype, str):
        return dtype
    import numpy
    from numpy.lib import format as npy

    return str(npy.dtype_to_descr(numpy.dtype(dtype)))


def _shape_word(shape: Union[int, str, Sequence[int], None]) -> Optional[str]:
    if shape is None or isinstance(shape, str):
        return shape
    return ",".join(map(str, shape)) or "()" if isinstance(shape, (list, tuple)) else str(shape)


def _words(hosts: Union[str, Iterable[str], None]) -> Optional[str]:
    return hosts if hosts is None or isinstance(hosts, str) else ",".join(hosts)


# -- the program ---------------------------------------------------------------------------------------------------


def _run(command: List[str], descriptors: Sequence[int],
         progress: Optional[Callable[[Progress], Any]]) -> Tuple[int, List[Dict[str, Any]], str]:
    """Exit code, JSON lines, standard error."""
    lines: List[Dict[str, Any]] = []
    with tempfile.TemporaryFile() as said:  # a file cannot fill up while standard output is read
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
                                       pass_fds=descriptors)
        except OSError as error:
            raise _folder.of_errno(error, f"cannot run {command[0]}") from None
        with process:
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
