"""Agents for the workers of a task system (ipyparallel, dask): who is on which host, an agent on each, and their end.

`Fleet` is the client's side. The functions below it run in the workers, one per host where nothing else is said.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from . import _attach, _folder, _program, _send, errors
from ._ref import Ref

START_SECONDS = 30.0
LEFT_OVER_SECONDS = 60.0

Worker = Any
# Call a function in some workers (None: all) at once; what each returned.
Call = Callable[[Optional[Sequence[Worker]], Callable[..., Any], Tuple[Any, ...]], Dict[Worker, Any]]


@dataclass
class Host:
    """Workers that see the same memory, and their agent."""

    name: str
    net: str
    workers: List[Worker] = field(default_factory=list)
    address: str = ""
    dir: str = ""


class Fleet:
    """The hosts of a client's workers, with a key of its own (or a given one) and an agent on each.

    Parameters
    ----------
    call : callable
        How to reach workers.
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

    def __init__(self, call: Call, alive: Callable[[], Sequence[Worker]], toward: Sequence[str],
                 key_file: Union[str, "os.PathLike[str]", None] = None, program: _program.Program = None) -> None:
        self._call = call
        self._alive = alive
        self._toward = list(toward)
        self._program = None if program is None else os.fspath(program)
        self._given = key_file is not None
        self._keys: Optional[tempfile.TemporaryDirectory[str]] = None
        self._lock = threading.Lock()
        self.session = secrets.token_hex(6)
        self.hosts: Dict[str, Host] = {}
        if key_file is None:
            self._keys = tempfile.TemporaryDirectory(prefix="treecast-")  # 0700, and the keys in it 0600
            key_file = os.path.join(self._keys.name, "key")
            _program.run(program, "keygen", key_file)
        self.key_file = os.fspath(key_file)

    def refresh(self) -> None:
        """Know where all workers are."""
        alive = list(self._alive())
        known = {worker for host in self.hosts.values() for worker in host.workers}
        fresh = [worker for worker in alive if worker not in known]
        for worker, (place, name, net) in (self._call(fresh, whereabouts, ()) if fresh else {}).items():
            self.hosts.setdefault(place, Host(name, net)).workers.append(worker)
        for host in self.hosts.values():  # in the order they came: the first one has started the agent
            host.workers = [worker for worker in host.workers if worker in alive]
        self.hosts = {place: host for place, host in self.hosts.items() if host.workers}

    def ready(self, workers: Sequence[Worker]) -> Dict[str, Host]:
        """An agent on each host of workers, started by one of them where there is none; the hosts."""
        with self._lock:
            self.refresh()
            wanted = set(workers)
            hosts = {place: host for place, host in self.hosts.items() if wanted.intersection(host.workers)}
            with open(self.key_file, encoding="ascii") as file:
                key = file.read()
            here = whereabouts()[2]
            loopback = all(host.net == here for host in hosts.values())
            leaders = {host.workers[0]: host for host in hosts.values()}
            order = (self.session, key, [] if loopback else self._toward, self._given, self._program)
            for worker, (address, directory) in self._call(list(leaders), ensure_agent, order).items():
                leaders[worker].address, leaders[worker].dir = address, directory
            return hosts

    def send(self, data: Any, name: str, hosts: Dict[str, Host],
             progress: Optional[Callable[[_send.Progress], Any]] = None, **options: Any) -> Ref:
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
                              dir=folders.pop() if len(folders) == 1 else None, program=self._program, progress=told,
                              **options)

        if not own or not others:
            return send(own or others, progress)
        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(send, own, None)
            ref = send(others, progress)
            report = beside.result().report
        ref.report = {**ref.report, "hosts": ref.report["hosts"] + report["hosts"]}
        return ref

    def close(self) -> None:
        """Stop the agents that were started, with what they had published; forget the key. What is mapped stays."""
        leaders = [host.workers[0] for host in self.hosts.values()]
        self.hosts = {}
        try:
            if leaders:
                self._call(leaders, stop_agent, (self.session,))
        finally:
            if self._keys:
                self._keys.cleanup()
                self._keys = None


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

_agents: Dict[str, Tuple["subprocess.Popen[bytes]", str, str]] = {}
_agents_lock = threading.Lock()


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
                 program: Optional[str]) -> Tuple[str, str]:
    """The address and directory of this host's agent; started by this process if there is none."""
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
            return _reachable(listen, own), directory
    with _agents_lock:
        process, address, directory = _agents.get(session, (None, "", ""))
        if process is not None and process.poll() is None:
            return address, directory
        _remove_left_overs()
        directory = os.path.join(shared_memory(), f"treecast-{os.geteuid()}-{session}")
        process, address = _start_agent(directory, key, own or "127.0.0.1", program)
        if not _agents:
            atexit.register(_stop_all)
        _agents[session] = process, address, directory
        return address, directory


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


def _start_agent(directory: str, key: str, own: str, program: Optional[str]) -> Tuple["subprocess.Popen[bytes]", str]:
    path = _program.find(program)
    listen = f"[{own}]:0" if ":" in own else f"{own}:0"
    key_fd = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        os.write(key_fd, key.encode())
        os.lseek(key_fd, 0, os.SEEK_SET)
        with tempfile.TemporaryFile() as said:
            # Private to this user; --owner ends the agent also when this process is killed.
            process = subprocess.Popen([path, "recv", "-q", "-d", directory, "-l", listen, f"--key-fd={key_fd}",
                                        "--mode=0400", f"--owner={os.getpid()}"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=said, cwd="/", pass_fds=[key_fd],
                                       start_new_session=True)
            line = _first_line(process, START_SECONDS)
            ready = re.match(r"listening on (\S+), publishing in ", line)
            if not ready:
                _program.end(process, 1.0)
                said.seek(0)
                text = _program.text_of(said.read().decode(errors="replace"), "recv")
                raise errors.of_exit(process.returncode if process.returncode > 0 else 1,
                                     f"{socket.gethostname()}: no agent: {text}")
    finally:
        os.close(key_fd)
    return process, ready[1]


def _first_line(process: "subprocess.Popen[bytes]", timeout: float) -> str:
    assert process.stdout is not None
    end, line = time.monotonic() + timeout, b""
    while not line.endswith(b"\n"):
        if not select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            break
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            break
        line += piece
    return line.decode(errors="replace")


def stop_agent(session: str) -> None:
    """End the agent that this process has started, and all that it has published; what is mapped stays."""
    with _agents_lock:
        process, _, directory = _agents.pop(session, (None, "", ""))
    if process is not None:
        _program.end(process, 5.0)
        if process.stdout is not None:
            process.stdout.close()
        shutil.rmtree(directory, ignore_errors=True)


def _stop_all() -> None:
    for session in list(_agents):
        stop_agent(session)


def _remove_left_overs() -> None:
    """Directories of this user's sessions whose agents were killed together with the workers that had started them."""
    memory, pattern = shared_memory(), re.compile(rf"treecast-{os.geteuid()}-[0-9a-f]{{12}}")
    for name in filter(pattern.fullmatch, os.listdir(memory)):
        directory = os.path.join(memory, name)
        try:
            old = time.time() - os.lstat(directory).st_mtime > LEFT_OVER_SECONDS
            if old and os.lstat(directory).st_uid == os.geteuid() and _attach.status(dir=directory).listen is None:
                shutil.rmtree(directory, ignore_errors=True)
        except (OSError, errors.TreecastError):
            continue


def attach_one(name: str, digest: Optional[str], places: Dict[str, Tuple[str, int]], keep: bool,
               program: Optional[str]) -> Any:
    """Map an array in this worker. Unless it is to be kept, the last worker of a host to do so takes the name away: the
    memory is free again when the last of them lets go of the array, whatever becomes of the client."""
    directory, count = places[whereabouts()[0]]
    ref = Ref(name, directory, digest)
    array = ref.attach(START_SECONDS)
    if not keep and _count_off(os.path.join(directory, _folder.STATE, f"{name}.mapped"), count):
        try:
            ref.remove(program)
        except errors.TreecastError:
            pass  # somebody else's agent, or gone already
    return array


def _count_off(path: str, count: int) -> bool:
    """Whether this is the last of count calls on this host."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return False  # an agent of another user's: its arrays are not ours to remove
    try:
        os.write(fd, b".")
        last = os.fstat(fd).st_size >= count
    finally:
        os.close(fd)
    if last:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
    return last


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
