"""A reference to an array that is published on many hosts."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple, Union

from . import _attach, _folder, _program, errors

if TYPE_CHECKING:
    import numpy


# What this process has mapped read-only, so that many tasks with one Ref map it once.
_mapped: "weakref.WeakValueDictionary[Tuple[str, str, str], Any]" = weakref.WeakValueDictionary()


ATTACH_SECONDS = 60.0  # nobody is to hang for an array that does not come


class Ref:
    """Small enough to travel everywhere, and attaches the array wherever it arrives.

    Parameters
    ----------
    name : str
        What the array is published as.
    dir : path, optional
        Where; by default each host's own default directory.
    digest : str or bytes, optional
        The content digest: attaching another array of that name is refused, and equal content makes equal Refs.

    Attributes
    ----------
    report : dict or None
        What `send` was told of the broadcast; does not travel.
    """

    __slots__ = ("name", "dir", "digest", "report", "__weakref__")

    def __init__(self, name: str, dir: Union[str, "os.PathLike[str]", None] = None,
                 digest: Union[str, bytes, None] = None) -> None:
        self.name = _folder.check_name(name)
        self.dir = None if dir is None else _folder.resolve(dir)
        self.digest = digest.hex() if isinstance(digest, bytes) else digest
        self.report: Optional[Dict[str, Any]] = None

    def attach(self, timeout: Optional[float] = ATTACH_SECONDS, mode: str = "r") -> Any:
        """Wait for the array on this host and map it, see `treecast.attach`. A process maps it once.

        Raises
        ------
        DeadlineError
            It has not come within timeout seconds (None: for ever): it was not sent here, or removed.
        IntegrityError
            What is published under the name has another digest.
        """
        place = (_folder.resolve(self.dir), self.name, self.digest or "")
        known = _mapped.get(place) if self.digest and mode == "r" else None
        if known is not None:
            return known
        array, description = _attach.open_described(self.name, self.dir, timeout, mode)
        if self.digest and description.digest != self.digest:
            raise errors.IntegrityError(f"{self.name} on this host is another array: digest {description.digest}, not "
                                        f"{self.digest}", "integrity")
        if self.digest and mode == "r":
            _mapped[place] = array
        return array

    def wait(self, timeout: Optional[float] = None) -> str:
        """Block until it is published on this host; its path."""
        return _attach.wait(self.name, self.dir, timeout)

    async def wait_async(self, timeout: Optional[float] = None) -> str:
        """`wait` for asyncio."""
        return await _attach.wait_async(self.name, self.dir, timeout)

    def remove(self, program: _program.Program = None) -> None:
        """Remove it from this host; who has it mapped keeps it. NotFoundError where it is not published."""
        remove(self.name, self.dir, program)

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        import numpy

        array = numpy.asarray(self.attach(ATTACH_SECONDS), dtype)
        return array.copy() if copy else array

    def __dask_tokenize__(self) -> Any:
        return ("treecast.Ref", self.digest) if self.digest else ("treecast.Ref", self.name, self.dir)

    def __reduce__(self) -> Any:
        return Ref, (self.name, self.dir, bytes.fromhex(self.digest) if self.digest else None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.__dask_tokenize__() == other.__dask_tokenize__()

    def __hash__(self) -> int:
        return hash(self.__dask_tokenize__())

    def __repr__(self) -> str:
        where = "" if self.dir is None else f", dir={self.dir!r}"
        return f"Ref({self.name!r}{where}{f', digest={self.digest[:12]}...' if self.digest else ''})"


def remove(name: str, dir: Union[str, "os.PathLike[str]", None] = None, program: _program.Program = None) -> None:
    """Remove a published array from this host; processes that have it mapped keep it.

    Raises
    ------
    NotFoundError
        It is not published.
    """
    directory = _folder.resolve(dir)
    if not _folder.published(_folder.check_name(name), directory):
        raise errors.NotFoundError(f"{name} is not published in {directory}", "notfound")
    _program.run(program, "rm", "-d", directory, name)
