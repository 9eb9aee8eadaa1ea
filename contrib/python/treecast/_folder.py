"""A host's directory of published arrays: DIR/NAME, and DIR/.treecast/INODE.json that describes it."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple, Union

from . import _trust, errors

STATE = ".treecast"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Description:
    """What is known of a published array.

    Attributes
    ----------
    name, size, digest, session, created
        Its name, bytes of the file, content digest and session as hexadecimal digits, seconds since 1970.
    dtype : str, list or None
        As numpy's ``.npy`` headers have it, in JSON; None for plain bytes.
    shape : tuple of int
    order : str
        ``"C"`` or ``"F"``.
    offset, item_size : int
        Bytes before the first element, and of one element.
    """

    name: str
    size: int
    digest: str
    session: str
    created: int
    dtype: Union[str, List[Any], None] = None
    shape: Tuple[int, ...] = ()
    order: str = "C"
    offset: int = 0
    item_size: int = 1

    @classmethod
    def from_json(cls, members: Dict[str, Any]) -> "Description":
        """From the file .treecast/INODE.json or an agent's answer."""
        try:
            array = members["array"] or {}
            return cls(members["name"], int(members["size"]), members["digest"], members["session"],
                       int(members["created"]), array.get("dtype"), tuple(array.get("shape", ())),
                       array.get("order", "C"), array.get("offset", 0), array.get("item_size", 1))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise errors.of_reason("format", f"a description cannot be read: {error!r}") from None


def check_name(name: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise errors.of_reason("name", f"name {name!r} is not allowed: letters, digits and ._- only, up to 128, "
                                       "not ._- first")
    return name


def resolve(directory: Union[str, "os.PathLike[str]", None]) -> str:
    """The directory of published arrays: what is given, or the default one."""
    if directory is None:
        directory = _trust.default_dir()
    path = os.path.abspath(os.fspath(directory))
    if not os.fspath(directory):
        raise errors.UsageError("an empty directory name", "usage")
    return path


def of_errno(error: OSError, text: str) -> errors.TreecastError:
    reason = {errno.ENOENT: "notfound", errno.ENOTDIR: "notfound", errno.ELOOP: "notfound", errno.EACCES: "permission",
              errno.EPERM: "permission", errno.EMFILE: "limit", errno.ENFILE: "limit", errno.ENOSPC: "limit",
              errno.ENOMEM: "nomem"}.get(error.errno, "io")
    return errors.of_reason(reason, f"{text}: {error.strerror}")


def published(name: str, directory: str) -> bool:
    """Whether the file is there now; complete whenever it is. UsageError where it is not to be believed."""
    try:
        folder = _trust.open_dir(directory)
    except OSError:
        return False
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            _trust.check_owner(status.st_uid, f"{directory}/{name}")
            return True
    except FileNotFoundError:
        pass
    except OSError:
        return False
    finally:
        os.close(folder)
    return False


def open_array(name: str, directory: str) -> Tuple[int, Description]:
    """A read-only descriptor of the published file and the description of that very inode."""
    for _ in range(16):
        found = _open_once(name, directory)
        if found:
            return found
    raise errors.of_reason("format", f"{directory}/{name} has no description: it was not put there by treecast")


def _open_once(name: str, directory: str) -> Optional[Tuple[int, Description]]:
    """None where the name was given to another file meanwhile, or nothing describes it."""
    try:
        folder = _trust.open_dir(directory)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                description = _describe(fd, folder)
            except BaseException:
                os.close(fd)
                raise
        finally:
            os.close(folder)
    except OSError as error:
        raise of_errno(error, f"cannot open {directory}/{name}") from None
    if description is None:
        os.close(fd)
        return None
    return fd, description


def _describe(fd: int, folder: int) -> Optional[Description]:
    status = os.fstat(fd)
    _trust.check_owner(status.st_uid, "the file")
    state = _trust.open_dir_at(folder, STATE, STATE)
    try:
        side = os.open(f"{status.st_ino}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=state)
    except FileNotFoundError:
        return None
    finally:
        os.close(state)
    with open(side, encoding="utf-8") as file:
        _trust.check_owner(os.fstat(side).st_uid, "its description")
        try:
            description = Description.from_json(json.load(file))
        except ValueError as error:
            raise errors.of_reason("format", f"a description is not JSON: {error}") from None
    if description.size != status.st_size:
        raise errors.IntegrityError(f"{description.name} has {status.st_size} bytes, its description says "
                                    f"{description.size}", "integrity")
    return description


def listing(directory: str) -> List[Description]:
    """All published arrays in order of name; none where there is no such directory."""
    found = []
    try:
        folder = _trust.open_dir(directory)
        try:
            names = sorted(os.listdir(f"/proc/self/fd/{folder}"))
        finally:
            os.close(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise of_errno(error, f"cannot read {directory}") from None
    for name in names:
        if NAME.fullmatch(name) and published(name, directory):
            try:
                fd, description = open_array(name, directory)
            except errors.TreecastError:  # gone meanwhile, or not ours
                continue
            os.close(fd)
            found.append(description)
    return found
