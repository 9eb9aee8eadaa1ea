"""The local API of this host's agent (treecast-api(7)), and waiting: through it, or by inotify where no agent is alive.

Waiting is written once, as a generator that yields what to wait for and returns what it found. `run` drives it with
poll(2), `run_async` with an asyncio loop.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import select
import socket
import time
from typing import Any, Dict, Generator, List, NamedTuple, Optional, Tuple

from . import _folder, _trust, errors

LINE_MAX = 262144
BUSY_SECONDS = 0.01  # when an agent's backlog is full

_IN_ATTRIB, _IN_MOVED_TO, _IN_CREATE = 0x4, 0x80, 0x100
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_ONLYDIR = 0x400, 0x800, 0x01000000
_EVENTS = _IN_ATTRIB | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR


class Found(NamedTuple):
    """A published array; fd and description only where an agent has given them."""

    fd: int = -1
    description: Optional[_folder.Description] = None


class _Nobody(Exception):
    """No agent is alive."""


class _Left(Exception):
    """The agent went away, or the array did just now: look again."""


Want = Tuple[int, float]  # a descriptor that is to become readable, or -1 and seconds to pass
Steps = Generator[Want, None, Any]


def run(steps: Steps, timeout: Optional[float], what: str) -> Any:
    """Block until steps have come to an end; DeadlineError after timeout seconds."""
    end = _deadline(timeout)
    try:
        want = next(steps)
        while True:
            if not _poll(want, end):
                raise errors.DeadlineError(f"{what} within {timeout:g} s", "timeout")
            want = steps.send(None)
    except StopIteration as stop:
        return stop.value
    finally:
        steps.close()


def _deadline(timeout: Optional[float]) -> Optional[float]:
    if timeout is None:
        return None
    if timeout != timeout:
        raise errors.UsageError("timeout is not a number", "usage")
    return time.monotonic() + max(0.0, timeout)


def _poll(want: Want, end: Optional[float]) -> bool:
    fd, pause = want
    left = None if end is None else end - time.monotonic()
    if fd < 0:
        time.sleep(pause if left is None else max(0.0, min(pause, left)))
        return left is None or left > pause
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    # Rounded up: a timeout that is too short by half a millisecond would spin.
    return bool(poll.poll(None if left is None else max(0, min(int(left * 1000) + 1, 2**31 - 1))))


async def run_async(steps: Steps, timeout: Optional[float], what: str) -> Any:
    """The same without blocking the running loop."""
    end = _deadline(timeout)
    try:
        want = next(steps)
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                await asyncio.wait_for(_readable(want), left)
            except asyncio.TimeoutError:
                raise errors.DeadlineError(f"{what} within {timeout:g} s", "timeout") from None
            want = steps.send(None)
    except StopIteration as stop:
        return stop.value
    finally:
        steps.close()


async def _readable(want: Want) -> None:
    fd, pause = want
    if fd < 0:
        await asyncio.sleep(pause)
        return
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(fd)


# -- one request, one answer ---------------------------------------------------------------------------------------


def _connect(directory: str) -> Generator[Want, None, socket.socket]:
    """Nothing is said before it is known that the directory and who serves it are believed."""
    try:
        folder = _trust.open_dir(directory)
        try:
            state = _trust.open_dir_at(folder, _folder.STATE, f"{directory}/{_folder.STATE}")
        finally:
            os.close(folder)
    except OSError as error:
        raise _cannot_reach(error, directory) from None
    api = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        api.setblocking(False)
        while True:
            try:
                api.connect(f"/proc/self/fd/{state}/api")  # DIR may be longer than a socket's address
                _trust.check_peer(api, directory)
                return api
            except BlockingIOError:
                yield -1, BUSY_SECONDS
            except OSError as error:
                raise _cannot_reach(error, directory) from None
    except BaseException:
        api.close()
        raise
    finally:
        os.close(state)


def _cannot_reach(error: OSError, directory: str) -> Exception:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ECONNREFUSED):
        return _Nobody()
    return _folder.of_errno(error, f"cannot reach the agent of {directory}")


def _receive(api: socket.socket, fds: List[int]) -> Generator[Want, None, bytes]:
    line = b""
    while not line.endswith(b"\n"):
        try:
            piece, more, _, _ = socket.recv_fds(api, LINE_MAX, 4)
        except BlockingIOError:
            yield api.fileno(), 0.0
            continue
        except ConnectionError:
            raise _Left() from None
        fds += more
        if not piece:
            raise _Left()
        line += piece
        if len(line) > LINE_MAX:
            raise errors.of_reason("protocol", "the agent's answer is too long")
    return line


def ask(directory: str, request: Dict[str, Any]) -> Generator[Want, None, Tuple[Dict[str, Any], List[int]]]:
    """Steps that return the answer and the descriptors that came with it (the caller's to close)."""
    api = yield from _connect(directory)
    fds: List[int] = []
    try:
        try:
            api.sendall(json.dumps(request).encode() + b"\n")
        except ConnectionError:
            pass  # it may have left a refusal to be read
        line = yield from _receive(api, fds)
        answer = json.loads(line)
        if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
            raise ValueError("no object with ok")
        if not answer["ok"]:
            _refuse(str(answer.get("reason", "failed")), str(answer.get("text", "failed")))
        return answer, fds
    except BaseException as error:
        for fd in fds:
            os.close(fd)
        if isinstance(error, ValueError) and not isinstance(error, errors.TreecastError):
            raise errors.of_reason("protocol", f"the agent's answer is not understood: {error}") from None
        raise
    finally:
        api.close()


def _refuse(reason: str, text: str) -> None:
    if reason == "closed":
        raise _Left()
    raise errors.of_reason(reason, text)


# -- waiting -------------------------------------------------------------------------------------------------------


def _wait_at_api(directory: str, name: str, want_fd: bool) -> Generator[Want, None, Found]:
    request: Dict[str, Any] = {"op": "wait", "name": name, "timeout": None}
    if want_fd:
        request["fd"] = True
    try:
        answer, fds = yield from ask(directory, request)
    except errors.NotFoundError:
        raise _Left() from None  # published and gone again before it could be opened
    for fd in fds[1:]:
        os.close(fd)
    if not fds or "description" not in answer:
        for fd in fds[:1]:
            os.close(fd)
        return Found()
    try:
        return Found(fds[0], _folder.Description.from_json(answer["description"]))
    except BaseException:
        os.close(fds[0])
        raise


def wait(directory: str, name: str, want_fd: bool = False) -> Generator[Want, None, Found]:
    """Steps that end when NAME is published in directory, or raise why its session failed.

    An agent that is alive is asked. Where there is none: watch, then look again, and only then sleep, so that what came
    between two looks is always seen. Every turn watches afresh, as directories come and go too.
    """
    notify = -1
    try:
        while True:
            nobody = False
            if _folder.published(name, directory):
                return Found()
            try:
                return (yield from _wait_at_api(directory, name, want_fd))
            except _Nobody:
                nobody = True
            except _Left:
                pass
            if nobody and notify >= 0:
                yield notify, 0.0
            if notify >= 0:
                os.close(notify)
            notify = _watch(directory)
    finally:
        if notify >= 0:
            os.close(notify)


def hand_out(directory: str, name: str) -> Generator[Want, None, Optional[Found]]:
    """Steps that return the published array as the agent opened it; None where there is no agent that does."""
    try:
        found = yield from _wait_at_api(directory, name, True)
    except (_Nobody, _Left):
        return None
    return found if found.description else None


_libc = ctypes.CDLL(None, use_errno=True)


def _watch(directory: str) -> int:
    """A descriptor that becomes readable when something is made in directory or on the way to it, or an agent opens its
    local API there and touches directory to say so."""
    notify = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if notify < 0:
        raise _watch_error(directory)
    try:
        paths = [directory]
        while paths[-1] != os.path.dirname(paths[-1]):
            paths.append(os.path.dirname(paths[-1]))
        there = next(i for i, path in enumerate(paths) if _watch_one(notify, path, directory))
        # Each is watched before the next is found missing, so nothing can be made unseen in between.
        for path in reversed(paths[:there]):
            if not _watch_one(notify, path, directory):
                break
    except BaseException:
        os.close(notify)
        raise
    return notify


def _watch_one(notify: int, path: str, directory: str) -> bool:
    if _libc.inotify_add_watch(notify, os.fsencode(path), _EVENTS) >= 0:
        return True
    if ctypes.get_errno() == errno.ENOENT:
        return False
    raise _watch_error(directory)


def _watch_error(directory: str) -> errors.TreecastError:
    code = ctypes.get_errno()
    return _folder.of_errno(OSError(code, os.strerror(code)), f"no agent serves {directory}, and it cannot be watched")


def status(directory: str, name: Optional[str]) -> Generator[Want, None, Optional[Dict[str, Any]]]:
    """Steps that return the agent's answer, None where no agent is alive."""
    request = {"op": "status"} if name is None else {"op": "status", "name": name}
    try:
        answer, fds = yield from ask(directory, request)
    except (_Nobody, _Left):
        return None
    for fd in fds:
        os.close(fd)
    return answer
