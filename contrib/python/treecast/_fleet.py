"""Agents for the workers of a task system (ipyparallel, dask): who is on which host, an agent on each, and their end.

`Fleet` is the client's side. The functions below it run in the workers, in any one of a host where nothing else is said:
a worker that is busy holds up nobody.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from . import _attach, _folder, _keeper, _program, _progress, _send, errors
from ._ref import Ref

START_SECONDS = 30.0
LEFT_OVER_SECONDS = 60.0
PATIENCE_SECONDS = 0.3  # with workers that do not say where they are while others have

Worker = Any
# Call a function in a worker: a future of what it returns.
Submit = Callable[..., Any]


@dataclass
class Host:
    """Workers that see the same memory, and their agent."""

    name: str
    net: str
    workers: List[Worker] = field(default_factory=list)
    address: str = ""
    dir: str = ""
    link: Optional[_keeper.Link] = None  # to the keeper of an agent that was started for this client
    begun: int = 0  # how often an agent was


class Fleet:
    """The hosts of a client's workers, with a key of its own (or a given one) and an agent on each.

    Parameters
    ----------
    submit : callable
        How to call a function in a worker: submit(worker, function, *words) is a future.
    alive : callable
        All workers that there are now.
    toward : sequence of str
        Addresses that lead towards this client: each host answers with the address that it has on that way.
    key_file : path, optional
        The key of agents that are there already (in the hosts' default directories); they are used, and agents of the
        same key are started where there are none.
    program : path, optional
        The program ``treecast`` on this host and on the workers'.
    """

    def __init__(self, submit: Submit, alive: Callable[[], Sequence[Worker]], toward: Sequence[str],
                 key_file: Union[str, "os.PathLike[str]", None] = None, program: _program.Program = None) -> None:
        self._submit = submit
        self._alive = alive
        self._toward = list(toward)
        self.program = _program.text_or_none(program)
        self._given = key_file is not None
        self._keys: Optional[tempfile.TemporaryDirectory[str]] = None
        self._lock = threading.RLock()
        self._asked: Dict[Worker, Any] = {}  # whereabouts that are still to be heard
        self.session = secrets.token_hex(6)
        self.hosts: Dict[str, Host] = {}
        self.gone = threading.Event()
        if key_file is None:
            self._keys = tempfile.TemporaryDirectory(prefix="treecast-")  # 0700, and the keys in it 0600
            key_file = os.path.join(self._keys.name, "key")
            _program.run(program, "keygen", key_file)
        self.key_file = os.fspath(key_file)

    def locate(self, workers: Optional[Iterable[Worker]] = None, first: Optional[float] = START_SECONDS,
               rest: Optional[float] = START_SECONDS) -> List[Worker]:
        """Know where workers are (all by default); those that did not say so in time.

        first, rest: seconds to wait for an answer, and for each after it; None for ever.
        """
        with self._lock:
            alive = list(self._alive())
            for host in self.hosts.values():
                host.workers = [worker for worker in host.workers if worker in alive]
            known = {worker for host in self.hosts.values() for worker in host.workers}
            wanted = [worker for worker in (alive if workers is None else workers) if worker not in known]
            for worker in wanted:
                if worker not in self._asked:
                    self._asked[worker] = self._submit(worker, whereabouts)
            asked = {worker: self._asked[worker] for worker in wanted}
        for worker, answer in _answers(asked, first, rest):
            with self._lock:
                if self._asked.pop(worker, None) is None:
                    continue  # another thread has heard it too
                if isinstance(answer, BaseException):
                    raise answer
                place, name, net = answer
                self.hosts.setdefault(place, Host(name, net)).workers.append(worker)
        with self._lock:
            known = {worker for host in self.hosts.values() for worker in host.workers}
        return [worker for worker in wanted if worker not in known]

    def of(self, workers: Iterable[Worker]) -> Dict[str, Host]:
        """The hosts of workers whose places are known."""
        wanted = set(workers)
        return {place: host for place, host in self.hosts.items() if wanted.intersection(host.workers)}

    def ready(self, workers: Iterable[Worker]) -> Dict[str, Host]:
        """An agent on each known host of workers, started by the first of its workers that has time for it."""
        with self._lock:
            if self.gone.is_set():
                raise errors.UsageError("closed meanwhile", "usage")
            hosts = self.of(workers)
            missing = {place: host for place, host in hosts.items() if host.link is None or not host.link.alive()}
            if not missing:
                return hosts
            with open(self.key_file, encoding="ascii") as file:
                key = file.read()
            here = whereabouts()[2]
            loopback = all(host.net == here for host in self.hosts.values())
            order = (self.session, key, [] if loopback else self._toward, self._given, self.program)
            for place, (address, directory, keeper) in self.each(missing, ensure_agent, *order).items():
                host = missing[place]
                host.address, host.dir = address, directory
                host.link = _keeper.Link(keeper, key) if keeper else None
                host.begun += 1
            return hosts

    def each(self, hosts: Dict[str, Host], function: Callable[..., Any], *words: Any) -> Dict[str, Any]:
        """What a worker of each host returns, whichever is the first."""
        asked = {(place, worker): self._submit(worker, function, *words)
                 for place, host in hosts.items() for worker in host.workers}
        found: Dict[str, Any] = {}
        left = {place: len(host.workers) for place, host in hosts.items()}
        for (place, _), answer in _answers(asked):
            left[place] -= 1
            if isinstance(answer, BaseException):
                if place not in found and left[place] <= 0:
                    raise answer
            else:
                found.setdefault(place, answer)
            if len(found) == len(hosts):
                break
        return found

    def send(self, data: Any, name: str, hosts: Dict[str, Host], progress: _progress.Teller = None,
             **options: Any) -> Ref:
        """Broadcast data to hosts: over the network to the others, within this host to its own agent.

        These are two broadcasts at the same time. In one this host's agent would relay to others, over the link that is
        busy with the array already.
        """
        here = whereabouts()[0]
        own = [host for place, host in hosts.items() if place == here]
        others = [host for place, host in hosts.items() if place != here]

        def send(group: List[Host], told: Any) -> Ref:
            folders = {host.dir for host in hosts.values()}
            return _send.send(data, name, hosts=[host.address for host in group], key_file=self.key_file,
                              dir=folders.pop() if len(folders) == 1 else None, program=self.program, progress=told,
                              **options)

        try:
            if not own or not others:
                return send(own or others, progress)
            with ThreadPoolExecutor(1) as pool:
                beside = pool.submit(send, own, None)
                ref = send(others, progress)
                report = beside.result().report
        except errors.TreecastError as error:
            error.args = (_with_names(str(error), hosts), *error.args[1:])
            raise
        assert ref.report is not None and report is not None
        ref.report = {**ref.report, "hosts": ref.report["hosts"] + report["hosts"]}
        return ref

    def remove(self, name: str, hosts: Dict[str, Host]) -> None:
        """Remove a published array from hosts, as soon as may be."""
        for place, host in hosts.items():
            if host.link is not None:
                host.link.remove(name)
            else:  # somebody else's agent: a worker may have the right to
                for worker in host.workers[:1]:
                    self._submit(worker, remove_one, name, host.dir, self.program)

    def close(self) -> None:
        """Stop the agents that were started, with what they had published; forget the key. What is mapped stays."""
        with self._lock:
            self.gone.set()
            links = [host.link for host in self.hosts.values() if host.link is not None]
            self.hosts = {}
        try:
            if links:
                with ThreadPoolExecutor(min(32, len(links))) as pool:
                    list(pool.map(_keeper.Link.end, links))
        finally:
            if self._keys:
                self._keys.cleanup()
                self._keys = None


def _answers(asked: Dict[Any, Any], first: Optional[float] = None,
             rest: Optional[float] = None) -> Iterable[Tuple[Any, Any]]:
    """Keys and results of futures as they come, an exception for a result where it failed; until none comes in time."""
    ready: "queue.SimpleQueue[Any]" = queue.SimpleQueue()
    for key, future in asked.items():
        future.add_done_callback(lambda _, key=key: ready.put(key))
    timeout = first
    for _ in range(len(asked)):
        try:
            key = ready.get(timeout=timeout)
        except queue.Empty:
            return
        timeout = rest
        try:
            answer = asked[key].result()
        except errors.TreecastError as error:
            answer = error
        except Exception as error:
            answer = errors.TreecastError(f"in a worker: {error}")
        yield key, answer


def _with_names(text: str, hosts: Dict[str, Host]) -> str:
    """Addresses that were made for a session say little: hosts are called by their names."""
    for host in hosts.values():
        if host.address:
            text = text.replace(host.address, host.name)
    return text


def towards(addresses: Sequence[str]) -> List[str]:
    """This host's own addresses on the way to others, and those others."""
    found = [_route(address) for address in addresses] + list(addresses)
    return [address for address in dict.fromkeys(found) if address and not address.startswith("127.")]


def _route(address: str) -> Optional[str]:
    """The address that this host has on the way to another one; nothing is sent."""
    try:
        kind, _, _, _, place = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(place)
            own = probe.getsockname()[0]
    except OSError:
        return None
    return None if own.startswith("127.") or own == "::1" else own


# -- in the workers ------------------------------------------------------------------------------------------------

def shared_memory() -> str:
    """Where arrays of a session are kept."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else tempfile.gettempdir()


def whereabouts() -> Tuple[str, str, str]:
    """What is equal for processes that can share one copy; the host's name; what is equal where loopback is shared.

    Host names say little: containers of one machine may share memory or not, hosts may share a name.
    """
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    place = f"{boot}:{os.stat(shared_memory()).st_dev}:{os.geteuid()}"
    return place, socket.gethostname(), f"{boot}:{os.stat('/proc/self/ns/net').st_ino}"


def ensure_agent(session: str, key: str, toward: Sequence[str], use_given: bool,
                 program: Optional[str]) -> Tuple[str, str, str]:
    """The address and directory of this host's agent, and the address of its keeper; started if there is none.

    An agent of the user's own has no keeper.
    """
    own = next(filter(None, map(_route, toward)), None)
    if toward and own is None:
        own = _own_address()
    if use_given:
        try:
            directory = _folder.resolve(None)
            listen = _attach.status(dir=directory).listen
        except errors.UsageError:  # the default place is somebody else's; the session's own is not
            directory, listen = "", None
        if listen:
            return _reachable(listen, own), directory, ""
    _remove_left_overs()
    directory = os.path.join(shared_memory(), f"treecast-{os.geteuid()}-{session}")
    agent, keeper = _keeper.ensure(directory, key, own or "127.0.0.1", program)
    return agent, directory, keeper


def _own_address() -> str:
    """What this host's name says, where no way to the client is known (it may be behind a tunnel)."""
    name = socket.gethostname()
    try:
        found = [entry[4][0] for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except OSError:
        found = []
    for address in found:
        if not address.startswith("127.") and address != "::1":
            return address
    raise errors.TreecastError(f"no address is known at which other hosts reach {name}: let its name resolve to one",
                               "unreachable")


def _reachable(listen: str, own: Optional[str]) -> str:
    """An agent's address as others call it."""
    host, _, port = listen.rpartition(":")
    if host.strip("[]") not in ("0.0.0.0", "::") or own is None:
        return listen if host.strip("[]") not in ("0.0.0.0", "::") else f"127.0.0.1:{port}"
    return f"[{own}]:{port}" if ":" in own else f"{own}:{port}"


def _remove_left_overs() -> None:
    """Directories of this user's sessions whose agents were killed together with their keepers."""
    memory, pattern = shared_memory(), re.compile(rf"treecast-{os.geteuid()}-[0-9a-f]{{12}}")
    for name in filter(pattern.fullmatch, os.listdir(memory)):
        directory = os.path.join(memory, name)
        try:
            old = time.time() - os.lstat(directory).st_mtime > LEFT_OVER_SECONDS
            if old and os.lstat(directory).st_uid == os.geteuid() and _attach.status(dir=directory).listen is None:
                shutil.rmtree(directory, ignore_errors=True)
                for path in (f"{directory}.keeper", f"{directory}.lock"):
                    with contextlib.suppress(OSError):
                        os.unlink(path)
        except (OSError, errors.TreecastError):
            continue


def attach_one(name: str, digest: Optional[str], places: Dict[str, str]) -> Any:
    """Map an array in this worker."""
    return Ref(name, places[whereabouts()[0]], digest).attach(START_SECONDS)


def remove_one(name: str, directory: str, program: Optional[str]) -> None:
    """Remove an array of somebody else's agent, if that is allowed."""
    with contextlib.suppress(errors.TreecastError):
        Ref(name, directory).remove(program)


# -- fleets by client ----------------------------------------------------------------------------------------------

_fleets: "weakref.WeakKeyDictionary[Any, Fleet]" = weakref.WeakKeyDictionary()
_fleets_lock = threading.Lock()


def of_client(client: Any, make: Callable[[], Fleet]) -> Fleet:
    """The client's fleet, made when it has none; closed at this process's end if nobody does before."""
    with _fleets_lock:
        fleet = _fleets.get(client)
        if fleet is None:
            if not _fleets:
                atexit.register(close_all)
            fleet = _fleets[client] = make()
        return fleet


def close(client: Any) -> None:
    """Close the client's fleet if it has one."""
    with _fleets_lock:
        fleet = _fleets.pop(client, None)
    if fleet is not None:
        fleet.close()


def close_all() -> None:
    """At exit: workers that are gone or busy must not hold it up for long."""
    for client in list(_fleets):
        try:
            close(client)
        except Exception:
            continue
