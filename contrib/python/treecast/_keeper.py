"""The keeper of an agent: a process of its own on a worker's host, so that the agent outlives the worker that started
it and ends with the client that wanted it.

The client holds a connection to each keeper, which it opens with an answer that only who has the session's key can
give. When the last of these connections ends, by `close`, by the client's end however it comes, or by its host's, the keeper
ends its agent and removes what that had published. So it does when nobody comes in time, and when the agent ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, Iterator, Optional, Tuple

from . import _program, errors

START_SECONDS = 30.0
ALONE_SECONDS = 60.0  # until the client has come
HELLO_SECONDS = 10.0
PENDING_MAX = 16
LINE_MAX = 256


def proof(key: str, challenge: str) -> str:
    """What the keeper's client answers to its challenge."""
    return hmac.new(key.encode(), b"treecast keeper " + challenge.encode(), hashlib.sha256).hexdigest()


# -- who starts it ---------------------------------------------------------------------------------------------------


def ensure(directory: str, key: str, own: str, program: Optional[str]) -> Tuple[str, str]:
    """Addresses of the agent that publishes in directory and of its keeper, who is started where there is none.

    Of several processes that want one at the same time one starts it.
    """
    with _lock(directory):
        with contextlib.suppress(OSError, ValueError, KeyError):
            with open(f"{directory}.keeper", encoding="ascii") as file:
                known = json.load(file)
            os.kill(known["pid"], 0)
            with open(f"/proc/{known['pid']}/cmdline", "rb") as file:
                if directory.encode() in file.read().split(b"\0"):
                    return known["agent"], known["keeper"]
        return _start(directory, key, own, program)


@contextlib.contextmanager
def _lock(directory: str) -> Iterator[None]:
    fd = os.open(f"{directory}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _start(directory: str, key: str, own: str, program: Optional[str]) -> Tuple[str, str]:
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    order = json.dumps({"key": key, "own": own, "program": _program.find(program)}) + "\n"
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-m", "treecast._keeper", directory], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=said, cwd="/", start_new_session=True,
                                   env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(order.encode())
            process.stdin.close()
        line = first_line(process, START_SECONDS + 5)
        process.stdout.close()
        try:
            told = json.loads(line)
            return told["agent"], told["keeper"]
        except (ValueError, KeyError):
            _program.end(process, 5.0)
            said.seek(0)
            text = _program.text_of(said.read().decode(errors="replace"), "recv")
            code = process.returncode if process.returncode > 0 else 1
            raise errors.of_exit(code, f"{socket.gethostname()}: no agent: {text}") from None


def first_line(process: "subprocess.Popen[bytes]", timeout: float) -> str:
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


# -- the client's side -----------------------------------------------------------------------------------------------


class Link:
    """A client's connection to a keeper: the agent stays while it is there."""

    def __init__(self, address: str, key: str, timeout: float = HELLO_SECONDS) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout)
        except OSError as error:
            raise errors.TreecastError(f"the agent's keeper at {address} cannot be reached: {error}",
                                       "unreachable") from None
        _keep_alive(self._socket)
        try:
            challenge = self._line()
            self._socket.sendall(proof(key, challenge).encode() + b"\n")
            if self._line() != "ok":
                raise errors.of_reason("auth", f"{address} is not the keeper that was started")
        except OSError as error:
            self._socket.close()
            raise errors.TreecastError(f"the agent's keeper at {address}: {error}", "unreachable") from None
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(None)  # with a time-out Python would wait in alive()
        os.register_at_fork(after_in_child=self._socket.close)  # a child's copy would keep the agent after our end

    def _line(self) -> str:
        line = b""
        while not line.endswith(b"\n") and len(line) < LINE_MAX:
            piece = self._socket.recv(1)
            if not piece:
                break
            line += piece
        return line.decode("ascii", "replace").strip()

    def alive(self) -> bool:
        """Whether keeper and agent are there, as far as is known."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def remove(self, name: str) -> None:
        """Have a published array removed."""
        with contextlib.suppress(OSError):
            self._socket.sendall(f"rm {name}\n".encode())

    def end(self, timeout: float = 10.0) -> None:
        """End the agent, and come back when what it had published is removed."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(timeout)
            self._socket.sendall(b"end\n")
            while self._socket.recv(64):
                pass
        self._socket.close()


def _keep_alive(connection: socket.socket) -> None:
    """A peer whose host is gone is noticed after a minute and a half."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


# -- the keeper's own process ----------------------------------------------------------------------------------------


class _End(Exception):
    """It is time to go."""


class _Keeper:
    def __init__(self, directory: str, order: Dict[str, Any]) -> None:
        self.directory = directory
        self.key, self.program = order["key"], order["program"]
        self.agent, self.address = _start_agent(directory, self.key, order["own"], self.program)
        family = socket.AF_INET6 if ":" in order["own"] else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.bind((order["own"], 0))
        self.listener.listen(PENDING_MAX)
        self.lines: Dict[socket.socket, bytes] = {}  # what has been read of each connection
        self.challenges: Dict[socket.socket, Tuple[str, float]] = {}  # of who has not answered yet
        self.alone_until = time.monotonic() + ALONE_SECONDS

    def announce(self) -> None:
        host, port = self.listener.getsockname()[:2]
        keeper = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        told = {"pid": os.getpid(), "agent": self.address, "keeper": keeper}
        fd = os.open(f"{self.directory}.keeper", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            json.dump(told, file)
        print(json.dumps(told), flush=True)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)

    def serve(self) -> None:
        assert self.agent.stdout is not None
        while True:
            now = time.monotonic()
            for peer in [peer for peer, (_, end) in self.challenges.items() if end < now]:
                self.drop(peer)
            if len(self.lines) == len(self.challenges) and now > self.alone_until:
                raise _End()
            for source in select.select([self.agent.stdout, self.listener, *self.lines], [], [], 1.0)[0]:
                if source is self.agent.stdout:
                    if not os.read(self.agent.stdout.fileno(), 4096):
                        raise _End()
                elif source is self.listener:
                    self.let_in()
                elif source in self.lines:
                    self.read(source)

    def let_in(self) -> None:
        try:
            peer, _ = self.listener.accept()
        except OSError:
            return
        if len(self.challenges) >= PENDING_MAX:  # who has been silent the longest makes space
            self.drop(min(self.challenges, key=lambda stranger: self.challenges[stranger][1]))
        _keep_alive(peer)
        peer.setblocking(False)
        self.lines[peer] = b""
        self.challenges[peer] = secrets.token_hex(16), time.monotonic() + HELLO_SECONDS
        self.say(peer, self.challenges[peer][0])

    def say(self, peer: socket.socket, line: str) -> None:
        with contextlib.suppress(OSError):
            peer.send(line.encode() + b"\n")

    def drop(self, peer: socket.socket) -> None:
        was_holder = peer not in self.challenges
        self.challenges.pop(peer, None)
        del self.lines[peer]
        peer.close()
        if was_holder and len(self.lines) == len(self.challenges):
            raise _End()

    def read(self, peer: socket.socket) -> None:
        try:
            piece = peer.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.drop(peer)
            return
        *lines, self.lines[peer] = (self.lines[peer] + piece).split(b"\n")
        for line in lines:
            if peer in self.lines:
                self.obey(peer, line.decode("ascii", "replace"))
        if len(self.lines.get(peer, b"")) > LINE_MAX:
            self.drop(peer)

    def obey(self, peer: socket.socket, line: str) -> None:
        if peer in self.challenges:
            challenge, _ = self.challenges[peer]
            if not hmac.compare_digest(line.encode(), proof(self.key, challenge).encode()):
                self.drop(peer)
                return
            del self.challenges[peer]
            self.say(peer, "ok")
        elif line == "end":
            raise _End()
        elif re.fullmatch(r"rm [A-Za-z0-9][A-Za-z0-9._-]*", line):
            subprocess.run([self.program, "rm", "-d", self.directory, line[3:]], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=60)

    def end(self) -> None:
        """Everything goes before the connections do: who asked for the end waits for them."""
        self.listener.close()
        _program.end(self.agent, 5.0)
        with _lock(self.directory):
            shutil.rmtree(self.directory, ignore_errors=True)
            for path in (f"{self.directory}.keeper", f"{self.directory}.lock"):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        for peer in self.lines:
            peer.close()


def _start_agent(directory: str, key: str, own: str, program: str) -> Tuple["subprocess.Popen[bytes]", str]:
    listen = f"[{own}]:0" if ":" in own else f"{own}:0"
    key_fd = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        os.write(key_fd, key.encode())
        os.lseek(key_fd, 0, os.SEEK_SET)
        # Private to this user; --owner ends the agent also when this process is killed.
        process = subprocess.Popen([program, "recv", "-q", "-d", directory, "-l", listen, f"--key-fd={key_fd}",
                                    "--mode=0400", f"--owner={os.getpid()}"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, pass_fds=[key_fd])
        line = first_line(process, START_SECONDS)
        ready = re.match(r"listening on (\S+), publishing in ", line)
        if not ready:
            _program.end(process, 1.0)
            sys.exit(process.returncode if process.returncode > 0 else 1)
    finally:
        os.close(key_fd)
    return process, ready[1]


def _stop(*_: Any) -> None:
    raise _End()


def main() -> None:
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keeper = _Keeper(sys.argv[1], json.loads(sys.stdin.readline()))
    try:
        keeper.announce()
        keeper.serve()
    except _End:
        pass
    finally:
        keeper.end()


if __name__ == "__main__":
    main()
