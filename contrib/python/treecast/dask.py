"""Arrays for dask's workers: once per host, one copy in memory for all workers of a host.

    from distributed import Client
    from treecast.dask import bcast

    client = Client(...)
    ref = bcast(a, client)                       # to every host of client's workers, once
    client.submit(work, ref)                     # def work(ref): a = ref.attach(); ...
    dask.delayed(numpy.linalg.norm)(ref)         # numpy takes a ref for the array itself

A `Ref` in a task graph is a few dozen bytes instead of the array, and hashes by content: equal arrays make equal keys,
so that results are found again. Workers that see the same memory are a host; where no agent (``treecast recv``) of this
client's is, one worker of the host starts it. The key is made for this client and travels over dask's connections,
which ought to be TLS where the network is not trusted. Arrays stay until `close` or ``ref.remove()`` on a host.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Sequence, Tuple, Union

from . import _fleet, _program, errors
from ._ref import Ref
from ._send import Progress

if TYPE_CHECKING:
    import os

    from distributed import Client

__all__ = ["bcast", "attach", "close", "Ref"]


def bcast(data: Any, client: "Client", name: str = "array", *,
          key_file: Union[str, "os.PathLike[str]", None] = None, program: _program.Program = None,
          progress: Optional[Callable[[Progress], Any]] = None, **options: Any) -> Ref:
    """Bring an array to every host of the client's workers.

    Parameters
    ----------
    data : numpy.ndarray
        Read where it lies in memory; must not be written to until this returns.
    client : distributed.Client
        All workers that it has now can attach the array. One that comes later on another host cannot.
    name : str
        What the published file's name begins with.
    key_file : path, optional
        The key of agents that run on the hosts already; otherwise agents of this client's own are used.
    program : path, optional
        Where ``treecast`` is on all hosts; ``$TREECAST``, else on the PATH.
    progress : callable, optional
        Called with `treecast.Progress`.
    **options
        Others of `treecast.send`.

    Returns
    -------
    Ref
        For tasks: `attach` it, or give it to numpy.

    Raises
    ------
    TreecastError
        The array could not be brought to all hosts.
    """
    workers = list(client.scheduler_info()["workers"])
    if not workers:
        raise errors.UsageError("there are no workers", "usage")
    fleet = _fleet.of_client(client, lambda: _fleet_of(client, key_file, program))
    plain = re.sub(r"[^A-Za-z0-9_]", "", name).lstrip("_")[:64] or "array"
    return fleet.send(data, f"{plain}-{secrets.token_hex(8)}.npy", fleet.ready(workers), progress=progress, **options)


def attach(ref: Ref, timeout: Optional[float] = 60.0) -> Any:
    """The array of a Ref, in a task; a worker maps it once however many tasks have it."""
    return ref.attach(timeout)


def close(client: "Client") -> None:
    """End the agents that were started for this client and remove what they have published. What is mapped stays."""
    _fleet.close(client)


def _fleet_of(client: "Client", key_file: Any, program: _program.Program) -> _fleet.Fleet:
    def call(workers: Optional[Sequence[str]], function: Callable[..., Any], words: Tuple[Any, ...]) -> Dict[str, Any]:
        return client.run(function, *words, workers=None if workers is None else list(workers))

    address = re.match(r"\w+://\[?([^\]/]+?)\]?(:\d+)?$", client.scheduler_info()["address"])
    return _fleet.Fleet(call, lambda: list(client.scheduler_info()["workers"]),
                        _fleet.towards([address[1]] if address else []), key_file, program)
