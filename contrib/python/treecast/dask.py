"""Arrays for dask's workers: once per host, one copy in memory for all workers of a host.

    from distributed import Client
    from treecast.dask import bcast

    client = Client(...)
    ref = bcast(a, client)                       # to every host of client's workers, once
    client.submit(work, ref)                     # def work(ref): a = ref.attach(); ...
    dask.delayed(numpy.linalg.norm)(ref)         # numpy takes a ref for the array itself

A `Ref` in a task graph is a few dozen bytes instead of the array, and hashes by content: equal arrays make equal keys,
so that results are found again. Workers that see the same memory are a host; where no agent (``treecast recv``) of this
client's is, one worker of the host starts it, and it ends with the client, not with the worker. A worker that joins on
another host gets the arrays from a host that has them. The key is made for this client and travels over dask's
connections, which ought to be TLS where the network is not trusted. Arrays stay until `remove` or `close`.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from . import _fleet, _folder, _program, _progress, _send, errors
from ._ref import Ref

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["bcast", "attach", "remove", "close", "Ref"]

LOOK_SECONDS = 1.0  # how often it is looked for workers that have joined
CALLS_MAX = 16  # at the same time


def bcast(data: Any, client: "Client", name: str = "array", *,
          key_file: Union[str, "os.PathLike[str]", None] = None, program: _program.Program = None,
          progress: _progress.Teller = None, **options: Any) -> Ref:
    """Bring an array to every host of the client's workers.

    Parameters
    ----------
    data : numpy.ndarray
        Read where it lies in memory; must not be written to until this returns.
    client : distributed.Client
        All its workers can attach the array, also those that come later.
    name : str
        What the published file's name begins with.
    key_file : path, optional
        The key of agents that run on the hosts already; otherwise agents of this client's own are used.
    program : path, optional
        Where ``treecast`` is on all hosts; ``$TREECAST``, else on the PATH.
    progress : True or callable, optional
        A bar; or called with `treecast.Progress`.
    **options
        Others of `treecast.send`.

    Returns
    -------
    Ref
        For tasks: `attach` it, or give it to numpy. Where this client has brought the same content to all hosts before,
        that Ref: it is stored once.

    Raises
    ------
    TreecastError
        The array could not be brought to all hosts.
    """
    if not client.scheduler_info()["workers"]:
        raise errors.UsageError("there are no workers", "usage")
    fleet = _fleet.of_client(client, lambda: _fleet_of(client, key_file, program))
    spread = _spreads.setdefault(fleet, _Spread(client, fleet))
    plain = re.sub(r"[^A-Za-z0-9_]", "", name).lstrip("_")[:64] or "array"
    return spread.send(data, f"{plain}-{secrets.token_hex(8)}.npy", progress, options)


def attach(ref: Ref, timeout: Optional[float] = 60.0) -> Any:
    """The array of a Ref, in a task; a worker maps it once however many tasks have it."""
    return ref.attach(timeout)


def remove(ref: Ref, client: "Client") -> None:
    """Remove an array from all hosts; who has it mapped keeps it."""
    fleet = _fleet.of_client(client, lambda: _fleet_of(client, None, None))
    _spreads.setdefault(fleet, _Spread(client, fleet)).remove(ref)


def close(client: "Client") -> None:
    """End the agents that were started for this client and remove what they have published. What is mapped stays."""
    _fleet.close(client)


class _Spread:
    """What is published on which hosts of a client's workers, and its way to hosts that join."""

    def __init__(self, client: "Client", fleet: _fleet.Fleet) -> None:
        self._client = weakref.ref(client)
        self._fleet = fleet
        self._lock = threading.RLock()
        self._refs: Dict[str, Ref] = {}  # by digest
        self._places: Dict[str, Dict[str, int]] = {}  # of each digest, and how many agents had been there
        self._looking: Optional[threading.Thread] = None

    def send(self, data: Any, name: str, progress: _progress.Teller, options: Dict[str, Any]) -> Ref:
        with self._lock:
            self._fleet.locate()
            hosts = self._fleet.ready(self._workers())
            self._forget(hosts)
            ref = self._fleet.send(data, name, hosts, progress=progress, **options)
            assert ref.digest is not None
            known = self._refs.get(ref.digest)
            if known is not None and set(hosts) <= set(self._places[ref.digest]):
                self._fleet.remove(ref.name, hosts)
                known.report = ref.report
                return known
            self._refs[ref.digest], self._places[ref.digest] = ref, _begun(hosts)
            if self._looking is None:
                self._looking = threading.Thread(target=self._look, name="treecast workers", daemon=True)
                self._looking.start()
            return ref

    def remove(self, ref: Ref) -> None:
        with self._lock:
            self._refs.pop(ref.digest or "", None)
            self._places.pop(ref.digest or "", None)
            hosts = self._fleet.ready(self._workers())
            for answer in self._fleet.each(hosts, _remove_here, ref.name, ref.dir, self._fleet.program).values():
                if answer:
                    raise errors.of_reason(*answer)

    def _keys(self) -> Dict[str, str]:
        """What it takes to send: the key, and the origin's where there is one."""
        found = {}
        for suffix in ("", ".origin"):
            with contextlib.suppress(FileNotFoundError), open(self._fleet.key_file + suffix, encoding="ascii") as file:
                found[suffix] = file.read()
        return found

    def _workers(self) -> Any:
        client = self._client()
        return [] if client is None else list(client.scheduler_info()["workers"])

    def _forget(self, hosts: Dict[str, _fleet.Host]) -> None:
        """What an agent that has ended had published is gone."""
        for digest, places in list(self._places.items()):
            for place in [place for place, begun in places.items() if place in hosts and hosts[place].begun != begun]:
                del places[place]
            if not places:
                del self._places[digest], self._refs[digest]

    def _look(self) -> None:
        """Bring what there is to hosts that have joined, as long as client and fleet are there."""
        while not self._fleet.gone.wait(LOOK_SECONDS):
            client = self._client()
            if client is None or client.status == "closed":
                return
            del client
            with contextlib.suppress(Exception):  # a worker that came and went; the next look tries again
                self._bring()

    def _bring(self) -> None:
        with self._lock:
            workers = self._workers()
            if not self._fleet.locate(workers) and all(set(self._fleet.of(workers)) <= set(places)
                                                       for places in self._places.values()):
                return
            hosts = self._fleet.ready(workers)
            for digest, ref in list(self._refs.items()):
                missing = {place: host for place, host in hosts.items() if place not in self._places[digest]}
                having = {place: hosts[place] for place in self._places[digest] if place in hosts}
                if not missing or not having:
                    continue
                place = next(iter(having))
                answer = self._fleet.each({place: having[place]}, _pass_on, ref.name, having[place].dir,
                                          [host.address for host in missing.values()], self._keys(),
                                          self._fleet.program)
                if answer[place] is None:
                    self._places[digest].update(_begun(missing))


def _begun(hosts: Dict[str, _fleet.Host]) -> Dict[str, int]:
    return {place: host.begun for place, host in hosts.items()}


_spreads: "weakref.WeakKeyDictionary[_fleet.Fleet, _Spread]" = weakref.WeakKeyDictionary()


def _pass_on(name: str, directory: str, addresses: Any, keys: Dict[str, str], program: Optional[str]) -> Any:
    """From this worker's host to others: the published file as it is. None, or what went wrong.

    The keys are in files of this process's own in memory meanwhile: the program takes an origin's from a file alone.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="treecast-", dir=_fleet.shared_memory()) as folder:
            for suffix, key in keys.items():
                fd = os.open(os.path.join(folder, f"key{suffix}"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(fd, "w", encoding="ascii") as file:
                    file.write(key)
            _send.send(os.path.join(directory, name), name, hosts=addresses, key_file=os.path.join(folder, "key"),
                       program=program)
    except errors.TreecastError as error:
        return error.reason, str(error)
    return None


def _remove_here(name: str, directory: Optional[str], program: Optional[str]) -> Any:
    try:
        if _folder.published(name, _folder.resolve(directory)):
            Ref(name, directory).remove(program)
    except errors.NotFoundError:
        pass
    except errors.TreecastError as error:
        return error.reason, str(error)
    return None


def _fleet_of(client: "Client", key_file: Any, program: _program.Program) -> _fleet.Fleet:
    here = weakref.ref(client)
    calls = ThreadPoolExecutor(CALLS_MAX, "treecast call")

    def call(worker: str, function: Any, words: Any) -> Any:
        there = here()
        assert there is not None
        return there.run(function, *words, workers=[worker])[worker]

    def alive() -> Any:
        there = here()
        return [] if there is None else list(there.scheduler_info()["workers"])

    address = re.match(r"\w+://\[?([^\]/]+?)\]?(:\d+)?$", client.scheduler_info()["address"])
    return _fleet.Fleet(lambda worker, function, *words: calls.submit(call, worker, function, words), alive,
                        _fleet.towards([address[1]] if address else []), key_file, program)
