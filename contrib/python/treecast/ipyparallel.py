"""Arrays for ipyparallel's engines: once per host, one copy in memory for all engines of a host.

    import ipyparallel as ipp
    from treecast.ipyparallel import bcast_memmap

    rc = ipp.Client()
    ar = bcast_memmap(data, "data", rc)
    ar.wait_interactive()
    %px np.linalg.norm(data, 2)

Engines that see the same memory are a host. On each one engine starts an agent (``treecast recv``) if there is none,
whichever has time for it; agents end with this client, not with their engine. All agents share a key that is made for
this client and travels over ipyparallel's own connections, which ought to be encrypted or tunnelled where the network
is not trusted. When every engine has mapped an array its file is removed, so there is nothing to clean up: the memory is
free as soon as the last engine lets go of it.
"""

from __future__ import annotations

import keyword
import os
import re
import secrets
from typing import Any, Dict, List, Mapping, Optional, Union

from ipyparallel import Client, DirectView, interactive

from . import _fleet, _program, _progress, _source, errors
from ._broadcast import Broadcast

__all__ = ["bcast_memmap", "push_memmap", "close", "hosts", "Broadcast"]

SMALL = 1 << 20  # bytes of an array below which ipyparallel's own push is the shorter way


def bcast_memmap(data: Any, name: str, client: Union[Client, DirectView], *, block: bool = False, keep: bool = False,
                 key_file: Union[str, "os.PathLike[str]", None] = None, program: _program.Program = None,
                 progress: _progress.Teller = None, small: int = SMALL, **options: Any) -> Broadcast:
    """Make an array a variable of all engines: sent once to each host, mapped read-only by each engine there.

    Parameters
    ----------
    data : numpy.ndarray
        Read where it lies in memory; must not be written to until the result is ready.
    name : str
        The variable.
    client : ipyparallel.Client or DirectView
        All its engines get the array.
    block : bool
        Wait until every engine has it. Otherwise this returns at once.
    keep : bool
        Leave the array published when all engines have mapped it, so that others can attach ``.ref`` of the result;
        `close` removes it.
    key_file : path, optional
        The key of agents that run on the hosts already; otherwise agents of this client's own are used. What is said
        first holds until `close`.
    program : path, optional
        Where ``treecast`` is on all hosts; ``$TREECAST``, else found there.
    progress : True or callable, optional
        A bar; or called with `treecast.Progress` while the array is on its way, in a thread of its own.
    small : int
        Arrays of fewer bytes go by ipyparallel's own push, unless they are to be kept, and are no memmap then.
    **options
        Others of `treecast.send`: ``compress``, ``chunk``, ``tree``, ``deadline``.

    Returns
    -------
    Broadcast
        As an ipyparallel.AsyncResult with one task for each engine, of which the array's way is a part:
        ``wait_interactive()`` shows its bytes, ``get()`` raises what went wrong and returns dtype and shape as text.
        It has a ``ref``.

    Raises
    ------
    UsageError
        This cannot be sent. What goes wrong later is raised by the result, or here with ``block``.
    """
    view = client if isinstance(client, DirectView) else client[:]
    return push_memmap(view, {name: data}, block=block, keep=keep, key_file=key_file, program=program,
                       progress=progress, small=small, **options)


def push_memmap(view: DirectView, arrays: Mapping[str, Any], *, block: Optional[bool] = None, keep: bool = False,
                key_file: Union[str, "os.PathLike[str]", None] = None, program: _program.Program = None,
                progress: _progress.Teller = None, small: int = SMALL, **options: Any) -> Broadcast:
    """``view.push`` for large arrays: each is sent once to each host of the view and mapped by its engines.

    Parameters
    ----------
    view : ipyparallel.DirectView
        The engines.
    arrays : mapping
        Arrays by the names of the variables that they become.
    block : bool, optional
        Wait until every engine has them; the view's own ``block`` by default.
    keep, key_file, program, progress, small, **options
        As for `bcast_memmap`.

    Returns
    -------
    Broadcast
        As of `bcast_memmap`; ``ref`` of the only array, ``refs`` of all by name, none of those that were pushed.
    """
    if not isinstance(view, DirectView):
        raise errors.UsageError(f"{type(view).__name__}: arrays are pushed to a direct view, client[:] say", "usage")
    checked = {name: _check(name, data) for name, data in arrays.items()}
    engines = _engines(view)
    pushed = {name: array for name, array in checked.items() if array.nbytes < small and not keep}
    sent = {name: array for name, array in checked.items() if name not in pushed}
    result = Broadcast(view.client, engines, _program.text_or_none(program))
    if sent:
        fleet = _fleet.of_client(view.client, lambda: _fleet_of(view.client, key_file, program))
        names = {name: _published_name(name) for name in sent}
        result.begin(fleet, pushed, sent, names, _bind, keep, progress, options)
    else:
        result.push(pushed)
    if view.block if block is None else block:
        result.get()
    return result


def _check(name: str, data: Any) -> Any:
    """The array to be sent, contiguous."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise errors.UsageError(f"{name!r} cannot be a variable", "usage")
    if isinstance(data, (str, os.PathLike)):
        raise errors.UsageError(f"{name}: a {type(data).__name__} is no array; treecast.send sends the file of a path, "
                                "and view.push texts", "usage")
    return _source.to_array(data, name)


def close(client: Client) -> None:
    """End the agents that were started for this client and remove what they have published.

    What engines have mapped stays theirs. Also done at the end of the client's process, however that comes.
    """
    _fleet.close(client)


def hosts(client: Client) -> Dict[str, List[int]]:
    """Engines by host, as far as `bcast_memmap` has found them out; hosts of one name are numbered."""
    fleet = _fleet.of_client(client, lambda: _fleet_of(client, None, None))
    fleet.locate()
    found: Dict[str, List[int]] = {}
    for host in fleet.hosts.values():
        name, number = host.name, 2
        while name in found:
            name, number = f"{host.name} ({number})", number + 1
        found[name] = sorted(host.workers)
    return found


@interactive
def _bind(jobs, places):  # runs among the engine's variables, so it brings nothing of this module
    from treecast import _fleet as fleet

    said = []
    for variable, published, digest in jobs:
        globals()[variable] = array = fleet.attach_one(published, digest, places)
        said.append(f"{variable}: {array.dtype} {array.shape}")
    return ", ".join(said)


_bind.__name__ = "bcast_memmap"  # what the progress bar shows


def _engines(view: DirectView) -> List[int]:
    targets = view.targets
    if targets == "all" or targets is None:
        targets = view.client.ids
    engines: List[int] = [targets] if isinstance(targets, int) else list(targets)
    if not engines:
        raise errors.UsageError("there are no engines", "usage")
    return engines


def _fleet_of(client: Client, key_file: Any, program: _program.Program) -> _fleet.Fleet:
    def submit(engine: int, function: Any, *words: Any) -> Any:
        return client[engine].apply_async(function, *words)

    return _fleet.Fleet(submit, lambda: client.ids, _fleet.towards(_controllers(client)), key_file, program)


def _controllers(client: Client) -> List[str]:
    """Where this client finds its controller."""
    words = [str(client._config.get(key, "")) for key in ("interface", "location")]
    found = [re.match(r"(?:\w+://)?\[?([\w.:-]+?)\]?(?::\d+)?$", word) for word in words]
    return [match[1] for match in found if match]


def _published_name(variable: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_]", "", variable).lstrip("_")[:64]
    return f"{plain or 'array'}-{secrets.token_hex(8)}.npy"
