"""Arrays for ipyparallel's engines: once per host, one copy in memory for all engines of a host.

    import ipyparallel as ipp
    from treecast.ipyparallel import bcast_memmap

    rc = ipp.Client()
    ar = bcast_memmap(data, "data", rc)
    ar.wait_interactive()
    %px np.linalg.norm(data, 2)

Engines that see the same memory are a host. On each the first engine starts an agent (``treecast recv``) if there is
none; all agents share a key that is made for this client and travels over ipyparallel's own connections, which ought to
be encrypted or tunnelled where the network is not trusted. When every engine has mapped an array its file is unlinked,
so there is nothing to clean up: the memory is free as soon as the last engine lets go of it.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ipyparallel import Client, DirectView, interactive
from ipyparallel.error import RemoteError

from . import _fleet, _program, errors
from ._send import Progress

if TYPE_CHECKING:
    import os

    from ipyparallel import AsyncResult

__all__ = ["bcast_memmap", "push_memmap", "close", "hosts"]


def bcast_memmap(data: Any, name: str, client: Client, *, block: bool = False, keep: bool = False,
                 key_file: Union[str, "os.PathLike[str]", None] = None, program: _program.Program = None,
                 progress: Optional[Callable[[Progress], Any]] = None, **options: Any) -> "AsyncResult":
    """Make an array a variable of all engines: sent once to each host, mapped read-only by each engine there.

    Parameters
    ----------
    data : numpy.ndarray
        Read where it lies in memory; must not be written to until this returns.
    name : str
        The variable.
    client : ipyparallel.Client
        All its engines get the array.
    block : bool
        Wait until every engine has it.
    keep : bool
        Leave the array published when all engines have mapped it, so that others can attach ``.ref`` of the result;
        `close` removes it.
    key_file : path, optional
        The key of agents that run on the hosts already; otherwise agents of this client's own are used. What is said
        first holds until `close`.
    program : path, optional
        Where ``treecast`` is on all hosts; ``$TREECAST``, else on the PATH.
    progress : callable, optional
        Called with `treecast.Progress` while the array is on its way.
    **options
        Others of `treecast.send`: ``compress``, ``chunk``, ``tree``, ``deadline``.

    Returns
    -------
    ipyparallel.AsyncResult
        One task for each engine: ``wait_interactive()`` shows how many have the array, ``get()`` raises what went wrong
        in an engine, and returns shape and dtype as text. It has a ``ref``.

    Raises
    ------
    TreecastError
        The array could not be brought to all hosts.
    """
    return push_memmap(client[:], {name: data}, block=block, keep=keep, key_file=key_file, program=program,
                       progress=progress, **options)


def push_memmap(view: DirectView, arrays: Mapping[str, Any], *, block: Optional[bool] = None, keep: bool = False,
                key_file: Union[str, "os.PathLike[str]", None] = None, program: _program.Program = None,
                progress: Optional[Callable[[Progress], Any]] = None, **options: Any) -> "AsyncResult":
    """``view.push`` for large arrays: each is sent once to each host of the view and mapped by its engines.

    Parameters
    ----------
    view : ipyparallel.DirectView
        The engines.
    arrays : mapping
        Arrays by the names of the variables that they become.
    block : bool, optional
        Wait until every engine has them; the view's own ``block`` by default.
    keep, key_file, program, progress, **options
        As for `bcast_memmap`.

    Returns
    -------
    ipyparallel.AsyncResult
        As of `bcast_memmap`; ``ref`` of the only array, ``refs`` of all by name.
    """
    if not isinstance(view, DirectView):
        raise errors.UsageError(f"{type(view).__name__}: arrays are pushed to a direct view, client[:] say", "usage")
    for name in arrays:
        if not name.isidentifier():
            raise errors.UsageError(f"{name!r} cannot be a variable", "usage")
    engines = _engines(view)
    fleet = _fleet.of_client(view.client, lambda: _fleet_of(view.client, key_file, program))
    there = fleet.ready(engines)
    places = {place: (host.dir, len(set(host.workers) & set(engines))) for place, host in there.items()}
    refs, jobs = {}, []
    for name, data in arrays.items():
        ref = fleet.send(data, _published_name(name), there, progress=progress, **options)
        refs[name] = ref
        jobs.append((name, ref.name, ref.digest))
    where = None if program is None else str(program)
    result = view.client[engines].apply_async(_bind, jobs, places, keep, where)
    result.refs, result.ref = refs, next(iter(refs.values()), None)
    if view.block if block is None else block:
        result.get()
    return result


def close(client: Client) -> None:
    """End the agents that were started for this client and remove what they have published.

    What engines have mapped stays theirs. Also done at the end of the client's process, and by the engines at theirs.
    """
    _fleet.close(client)


def hosts(client: Client) -> Dict[str, List[int]]:
    """Engines by host, as far as `bcast_memmap` has found them out; hosts of one name are numbered."""
    fleet = _fleet.of_client(client, lambda: _fleet_of(client, None, None))
    fleet.refresh()
    found: Dict[str, List[int]] = {}
    for host in fleet.hosts.values():
        name, number = host.name, 2
        while name in found:
            name, number = f"{host.name} ({number})", number + 1
        found[name] = sorted(host.workers)
    return found


@interactive
def _bind(jobs, places, keep, program):  # runs among the engine's variables, so it brings nothing of this module
    from treecast import _fleet as fleet

    said = []
    for variable, published, digest in jobs:
        globals()[variable] = array = fleet.attach_one(published, digest, places, keep, program)
        said.append(f"{variable}: {array.dtype} {array.shape}")
    return ", ".join(said)


_bind.__name__ = "bcast_memmap"  # what the progress bar shows


def _engines(view: DirectView) -> List[int]:
    targets = view.targets
    if targets == "all" or targets is None:
        targets = view.client.ids
    engines = [targets] if isinstance(targets, int) else list(targets)
    if not engines:
        raise errors.UsageError("there are no engines", "usage")
    return engines


def _fleet_of(client: Client, key_file: Any, program: _program.Program) -> _fleet.Fleet:
    def call(engines: Optional[Sequence[int]], function: Callable[..., Any], words: Tuple[Any, ...]) -> Dict[int, Any]:
        targets = client.ids if engines is None else list(engines)
        try:  # not get_dict(): that of a single result is made of something else
            return dict(zip(targets, client[targets].apply_async(function, *words).get()))
        except RemoteError as error:
            raise errors.TreecastError(f"in an engine: {error}") from error

    return _fleet.Fleet(call, lambda: client.ids, _fleet.towards(_controllers(client)), key_file, program)


def _controllers(client: Client) -> List[str]:
    """Where this client finds its controller."""
    words = [str(client._config.get(key, "")) for key in ("interface", "location")]
    found = [re.match(r"(?:\w+://)?\[?([\w.:-]+?)\]?(?::\d+)?$", word) for word in words]
    return [match[1] for match in found if match]


def _published_name(variable: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_]", "", variable).lstrip("_")[:64]
    return f"{plain or 'array'}-{secrets.token_hex(8)}.npy"
