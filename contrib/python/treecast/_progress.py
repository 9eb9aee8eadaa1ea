"""How far a broadcast is, and a bar that shows it."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Union

from . import errors


class Progress(NamedTuple):
    """How far a broadcast is.

    Attributes
    ----------
    bytes, size : int
        What the slowest host has of the array, verified, and its size.
    done, hosts : int
        Hosts that have all of it, and hosts in all.
    seconds : float
        Since the first byte.
    slowest : str or None
        The slowest host.
    """

    bytes: int
    size: int
    done: int
    hosts: int
    seconds: float
    slowest: Optional[str]


Teller = Union[bool, Callable[[Progress], Any], None]


class Bar:
    """Bytes that the slowest host has, by tqdm: in a notebook as in a terminal."""

    def __init__(self, name: str) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise errors.UsageError("progress=True needs the package tqdm", "usage") from None
        self._bar = tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024)

    def __call__(self, progress: Progress) -> None:
        if self._bar.total != progress.size:
            self._bar.reset(progress.size)
        self._bar.update(progress.bytes - self._bar.n)
        self._bar.set_postfix_str(f"{progress.done}/{progress.hosts} hosts")

    def close(self) -> None:
        self._bar.close()


def teller(progress: Teller, name: str) -> Optional[Callable[[Progress], Any]]:
    """What to call: a bar for True, nothing for False and None."""
    return Bar(name) if progress is True else progress or None


def close(tell: Optional[Callable[[Progress], Any]]) -> None:
    if isinstance(tell, Bar):
        tell.close()
