"""Wait for arrays and map them."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

from . import _api, _folder, _mapping, _members, errors

if TYPE_CHECKING:
    import numpy

API_SECONDS = 10.0

Directory = Union[str, "os.PathLike[str]", None]


def attach(name: str, dir: Directory = None, timeout: Optional[float] = None,
           mode: str = "r", raw: bool = False) -> Any:
    """Wait for an array and map it: every process of this host that does so shares one copy.

    Parameters
    ----------
    name : str
        What the array was sent as.
    dir : path, optional
        The directory of published arrays: ``$TREECAST_DIR``, else ``/dev/shm/treecast-UID``.
    timeout : float, optional
        Seconds to wait; for ever by default. A name that nobody has begun to send is waited for too.
    mode : {"r", "c"}
        Read-only, or copy-on-write: assignments change this process's memory, never the file.
    raw : bool
        The bytes of a ``.npz`` or ``.safetensors`` file instead of its members.

    Returns
    -------
    numpy.memmap
        With the dtype, shape and order that were sent; of bytes (``uint8``) for a file that is no array. It stays what
        it is when the name is removed or given to a newer array, also in the workers of joblib, which open its
        ``filename``: that is no path in ``dir`` for this reason. With mode "c" a plain numpy.ndarray.
        Of a ``.npz`` file with stored members or a ``.safetensors`` file: a mapping from names to such arrays.

    Raises
    ------
    DeadlineError
        It was not published in time.
    TreecastError
        Why its session failed: ``IntegrityError``, ``ResourceError``, ``CoordinatorLostError`` and so on.

    Examples
    --------
    >>> a = treecast.attach("table.npy", timeout=60)        # doctest: +SKIP
    >>> a.shape, a.dtype, a.flags.writeable                 # doctest: +SKIP
    ((1000, 1000), dtype('float64'), False)
    """
    return open_described(name, dir, timeout, mode, raw)[0]


def open_described(name: str, dir: Directory, timeout: Optional[float], mode: str, raw: bool = False) -> Any:
    """The array, or arrays by name, and the description."""
    if mode not in ("r", "c"):
        raise errors.UsageError(f"mode {mode!r}: a published array is mapped with 'r' or 'c'", "usage")
    directory = _folder.resolve(dir)
    found = _api.run(_api.wait(directory, _folder.check_name(name), want_fd=True), timeout,
                      f"{name} was not published in {directory}")
    fd, description = found if found.description else _open(name, directory)
    array = _mapping.to_array(io.FileIO(fd), os.path.join(directory, name), description, mode)
    members = None if raw or description.dtype is not None else _members.reader_of(name)
    return (array if members is None else members(array, name)), description


def _open(name: str, directory: str) -> Tuple[int, _folder.Description]:
    """A published file; one whose mode shuts this user out is what an agent is asked for, which may let it in."""
    try:
        return _folder.open_array(name, directory)
    except errors.ResourceError as error:
        if error.reason != "permission":
            raise
        given = _api.run(_api.hand_out(directory, name), API_SECONDS, f"the agent of {directory} did not answer")
        if given is None:
            raise
        return given.fd, given.description


def wait(name: str, dir: Directory = None, timeout: Optional[float] = None) -> str:
    """Block until an array is published; its path.

    Parameters and errors are those of `attach`. No polling: an agent tells, and where none is alive, the kernel.
    """
    directory = _folder.resolve(dir)
    found = _api.run(_api.wait(directory, _folder.check_name(name)), timeout,
                      f"{name} was not published in {directory}")
    assert found.fd < 0
    return os.path.join(directory, name)


async def wait_async(name: str, dir: Directory = None, timeout: Optional[float] = None) -> str:
    """`wait` for asyncio: other tasks run meanwhile, and it may be cancelled."""
    directory = _folder.resolve(dir)
    await _api.run_async(_api.wait(directory, _folder.check_name(name)), timeout,
                          f"{name} was not published in {directory}")
    return os.path.join(directory, name)


@dataclass
class Status:
    """What is here and what is on its way.

    Attributes
    ----------
    dir : str
        The directory of published arrays.
    listen : str or None
        The agent's address; None where no agent is alive.
    sessions : list of dict
        Arrays on their way: ``name``, ``state``, ``size``, ``bytes`` (verified so far), ``from``, ``links``.
    published : list of dict
        Arrays that are here: ``name``, ``state``, ``size``, perhaps more.
    """

    dir: str
    listen: Optional[str] = None
    sessions: List[Dict[str, Any]] = field(default_factory=list)
    published: List[Dict[str, Any]] = field(default_factory=list)


def status(name: Optional[str] = None, dir: Directory = None, timeout: Optional[float] = API_SECONDS) -> Status:
    """What this host's agent knows of an array, or of all; of published ones also where no agent is alive.

    Parameters
    ----------
    name : str, optional
        Of this array only.
    dir : path, optional
        As for `attach`.
    timeout : float, optional
        Seconds within which an agent must answer.

    Raises
    ------
    NotFoundError
        Nothing is known of ``name``.
    """
    directory = _folder.resolve(dir)
    if name is not None:
        _folder.check_name(name)
    answer = _api.run(_api.status(directory, name), timeout, f"the agent of {directory} did not answer")
    if answer is None:
        here = [{"name": one.name, "state": "published", "size": one.size} for one in _folder.listing(directory)
                if name in (None, one.name)]
        found = Status(directory, published=here)
    else:
        found = Status(answer.get("dir", directory), answer.get("listen"), answer.get("sessions", []),
                       answer.get("published", []))
    if name is not None and not found.sessions and not found.published:
        raise errors.NotFoundError(f"nothing is known of {name} in {directory}", "notfound")
    return found
