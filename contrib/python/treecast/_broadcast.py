"""Arrays on their way to ipyparallel's engines: what `treecast.ipyparallel` returns."""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import Future
from typing import Any, Dict, List, Optional

from ipyparallel import AsyncResult
from ipyparallel.error import TimeoutError as NotReady

from . import _fleet, _progress, errors
from ._ref import Ref

# The last one of each client: what was asked for first becomes the variable first.
_last: "weakref.WeakKeyDictionary[Any, Broadcast]" = weakref.WeakKeyDictionary()


class Broadcast(Future):  # type: ignore[type-arg]
    """A future of what each engine says, which also is as an ipyparallel.AsyncResult.

    What an AsyncResult has besides (``metadata``, ``elapsed``, ``get_dict``) is there when the array has been sent, and
    asking for it waits until then.

    Attributes
    ----------
    refs : dict
        A `treecast.Ref` for each array that was sent, by variable; waits until they have been.
    ref : Ref or None
        The first of them.
    """

    def __init__(self, client: Any, engines: List[int], program: Optional[str]) -> None:
        super().__init__()
        self._client, self._engines, self._program = client, engines, program
        self._refs: Dict[str, Ref] = {}
        self._tasks: Optional[AsyncResult] = None
        self._submitted = threading.Event()  # to all engines that have said where they are
        self._sent = threading.Event()  # all of it is with the engines' queues, or it has failed
        self._bytes, self._total, self._aborted = 0, 0, False
        self._before = _last.get(client)
        if self._before is not None and self._before.done():
            self._before = None
        _last[client] = self

    # -- how it is made ----------------------------------------------------------------------------------------------

    def push(self, arrays: Dict[str, Any]) -> None:
        """By ipyparallel's own push."""
        if self._before is not None:  # not before what was asked for before
            self._start(lambda: self._finish(self._push_after(arrays)))
            return
        self._tasks = self._client[self._engines].push(arrays, block=False)
        self._tasks.add_done_callback(lambda _: self._settle())
        self._submitted.set()
        self._sent.set()

    def _push_after(self, arrays: Dict[str, Any]) -> List[Any]:
        self._wait_for_turn()
        return list(self._client[self._engines].push(arrays, block=False)._children)

    def begin(self, fleet: _fleet.Fleet, pushed: Dict[str, Any], sent: Dict[str, Any], names: Dict[str, str], bind: Any,
              keep: bool, progress: _progress.Teller, options: Dict[str, Any]) -> None:
        """Bring sent to the engines' hosts under names, and call bind there."""
        self._total = sum(array.nbytes for array in sent.values())
        tell = _progress.teller(progress, ", ".join(sent))

        def work() -> None:
            try:
                self._work(fleet, pushed, sent, names, bind, keep, tell, options)
            finally:
                _progress.close(tell)

        self._start(work)

    def _start(self, work: Any) -> None:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                if not self.done():
                    self.set_exception(error)
            finally:
                self._before = None
                self._submitted.set()
                self._sent.set()

        threading.Thread(target=run, name="treecast broadcast", daemon=True).start()

    def _work(self, fleet: _fleet.Fleet, pushed: Dict[str, Any], sent: Dict[str, Any], names: Dict[str, str], bind: Any,
              keep: bool, tell: Any, options: Dict[str, Any]) -> None:
        """Wave by wave, as engines say where they are: one that is busy holds up only itself."""
        messages: Dict[int, Any] = {}
        done: Dict[str, _fleet.Host] = {}
        if pushed:
            self._wait_for_turn()
            self._client[self._engines].push(pushed, block=False)
        try:
            unknown = self._engines
            while unknown:
                asked = unknown
                unknown = fleet.locate(asked, 0 if fleet.of(asked) else None, _fleet.PATIENCE_SECONDS)
                wave = [engine for engine in asked if engine not in unknown]
                hosts = fleet.ready(wave)
                fresh = {place: host for place, host in hosts.items() if place not in done}
                if fresh:
                    self._send(fleet, sent, names, fresh, tell, options)
                done.update(hosts)
                self._wait_for_turn(last=bool(messages))
                jobs = [(name, ref.name, ref.digest) for name, ref in self._refs.items()]
                places = {place: host.dir for place, host in done.items()}
                result = self._client[wave].apply_async(bind, jobs, places)
                messages.update(zip(wave, result._children))
                self._submitted.set()
            self._finish([messages[engine] for engine in self._engines])
        finally:
            if not keep:
                for name in names.values():
                    fleet.remove(name, done)

    def _wait_for_turn(self, last: bool = False) -> None:
        before = self._before
        if before is not None:
            (before._sent if last else before._submitted).wait()

    def _send(self, fleet: _fleet.Fleet, sent: Dict[str, Any], names: Dict[str, str], hosts: Dict[str, _fleet.Host],
              tell: Any, options: Dict[str, Any]) -> None:
        before = 0
        for name, array in sent.items():

            def told(progress: _progress.Progress, before: int = before, array: Any = array) -> None:
                self._bytes = max(self._bytes, before + min(progress.bytes, array.nbytes))
                if self._aborted:
                    raise errors.InterruptedSendError("aborted", "interrupted")
                if tell is not None:
                    tell(progress)

            ref = fleet.send(array, names[name], hosts, progress=told, **options)
            self._refs.setdefault(name, ref)
            before += array.nbytes

    def _finish(self, messages: List[Any]) -> None:
        self._tasks = AsyncResult(self._client, messages, fname="bcast_memmap", targets=self._engines, owner=True)
        self._bytes = self._total
        self._sent.set()
        self._tasks.wait()
        self._settle()

    def _settle(self) -> None:
        assert self._tasks is not None
        try:
            self.set_result(self._tasks.get(0))
        except BaseException as error:
            self.set_exception(error)

    # -- as an AsyncResult -------------------------------------------------------------------------------------------

    def ready(self) -> bool:
        return self.done()

    def wait(self, timeout: Optional[float] = -1) -> bool:
        """Until every engine has the array, or for timeout seconds; whether it has."""
        end = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        finished = threading.Event()
        self.add_done_callback(lambda _: finished.set())
        return finished.wait(None if end is None else max(0.0, end - time.monotonic()))

    def get(self, timeout: Optional[float] = None) -> Any:
        """What each engine says, or what went wrong."""
        try:
            ready = self.wait(timeout)
        except KeyboardInterrupt:
            self.abort()
            raise
        if not ready:
            raise NotReady("Result not ready.")
        return self.result()

    @property
    def r(self) -> Any:
        return self.get()

    def successful(self) -> bool:
        if not self.done():
            raise NotReady("Result not ready.")
        return self.exception() is None

    def abort(self) -> None:
        """Stop an array that is still on its way."""
        self._aborted = True
        if self._tasks is not None:
            self._tasks.abort()

    @property
    def progress(self) -> int:
        """Engines that have it."""
        if self._tasks is None:
            return 0
        return int(self._tasks.progress)

    def __len__(self) -> int:
        return len(self._engines)

    def wait_interactive(self, interval: float = 0.1, timeout: Optional[float] = -1, widget: Any = None) -> None:
        """Wait, with a bar of the bytes that every host has, and of the engines that have mapped them."""
        from tqdm.auto import tqdm

        end = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        with tqdm(total=self._total, desc="bcast_memmap", unit="B", unit_scale=True, unit_divisor=1024) as bar:
            while not self.wait(interval) and (end is None or time.monotonic() < end):
                self._show(bar)
            self._show(bar)

    def _show(self, bar: Any) -> None:
        bar.update(self._bytes - bar.n)
        bar.set_postfix_str(f"{self.progress}/{len(self)} engines")

    @property
    def refs(self) -> Dict[str, Ref]:
        self._sent.wait()
        if self._tasks is None:
            self.result()  # raises
        return self._refs

    @property
    def ref(self) -> Optional[Ref]:
        return next(iter(self.refs.values()), None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._sent.wait()
        if self._tasks is None:
            self.result()
        return getattr(self._tasks, name)
