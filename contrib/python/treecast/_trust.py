"""Whom this process believes on its own host: itself, root, and the users that root's configuration names.

The rule is the program's (treecast-security(7)). Everything is checked by descriptor: what was looked at is what is used.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import stat
import struct
from typing import List

from . import errors

FILE = "/etc/treecast/treecast.conf"
_COMMENT = re.compile(r"\s;.*")
_KEY = re.compile(r"([^=:]*?)\s*[=:](.*)")


def trusted(uid: int) -> bool:
    return uid in (0, os.geteuid()) or _root_names(uid)


def _root_names(uid: int) -> bool:
    """Whether root's file, which nobody else may write, names this user. One that cannot be parsed names nobody."""
    try:
        with open(FILE, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
                return False
            return named(file.read(), uid)
    except (OSError, ValueError):
        return False


def named(text: str, uid: int) -> bool:
    """Whether a configuration names this user: trust in [treecast], or user in [hook]."""
    section = key = ""
    names: List[str] = []
    for line in text.splitlines():
        word = _COMMENT.sub("", line).strip()
        if not word or word[0] in "#;":
            continue
        if line[0].isspace() and key:  # goes on with the key above it
            value = word
        elif word[0] == "[" and "]" in word:
            section, key = word[1:word.index("]")], ""
            continue
        else:
            found = _KEY.match(word)
            if not found:
                return False
            key, value = found[1], found[2]
        if (section, key) in (("treecast", "trust"), ("hook", "user")):
            names += value.replace(",", " ").split()
    return any(_is_user(name, uid) for name in names)


def _is_user(name: str, uid: int) -> bool:
    if name.isascii() and name.isdigit():
        return int(name) == uid
    try:
        return pwd.getpwnam(name).pw_uid == uid
    except KeyError:
        return False


def check_owner(uid: int, shown: str) -> None:
    """UsageError where what is shown belongs to a user who is not believed."""
    if not trusted(uid):
        raise errors.of_reason("policy", f"{shown} belongs to uid {uid}, whom neither this user nor root trusts: have "
                                         f"root remove it or name that user (trust in {FILE}), or choose another "
                                         "directory (dir=, TREECAST_DIR)")


def check_dir(fd: int, shown: str) -> None:
    status = os.fstat(fd)
    check_owner(status.st_uid, shown)
    if stat.S_ISDIR(status.st_mode) and status.st_mode & 0o022:
        raise errors.of_reason("policy", f"others may write to {shown}: chmod go-w it, or choose another directory "
                                         "(dir=, TREECAST_DIR)")


def check_peer(api: socket.socket, shown: str) -> None:
    """The process at the other end of a connected Unix socket, as the kernel knows it."""
    _, uid, _ = struct.unpack("iII", api.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
    check_owner(uid, shown)


def open_dir(path: str) -> int:
    """A descriptor (O_PATH) of a directory that is believed; a link to it must be a believed user's too. OSError."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        check_dir(fd, path)
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            os.close(fd)
            fd = -1
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            check_dir(fd, path)
        return fd
    except BaseException:
        if fd >= 0:
            os.close(fd)
        raise


def open_dir_at(folder: int, name: str, shown: str) -> int:
    """The same for a directory in another one, never through a link."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        check_dir(fd, shown)
        return fd
    except BaseException:
        os.close(fd)
        raise


# -- the default place ---------------------------------------------------------------------------------------------


def default_dir() -> str:
    """$TREECAST_DIR; else /dev/shm/treecast-UID; where somebody else has put something there, treecast in the user's
    runtime directory, if that is memory and the user's alone. As src/file/place.c has it."""
    wish = os.environ.get("TREECAST_DIR")
    if wish:
        return wish
    shared = f"/dev/shm/treecast-{os.geteuid()}"
    why = None
    try:
        if _look(shared):
            return shared
    except errors.TreecastError as error:
        why = error
    base = os.environ.get("XDG_RUNTIME_DIR") or ""
    base = base if base.startswith("/") else f"/run/user/{os.geteuid()}"
    runtime = os.path.join(base, "treecast")
    if _is_private_memory(base):
        try:
            if _look(runtime) or why is not None:
                return runtime
        except errors.TreecastError:
            pass
    if why is not None:
        raise why
    return shared


def _look(path: str) -> bool:
    """Whether there is a directory that is believed, or a believed user's link; raises where there is anything else."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    check_owner(status.st_uid, path)
    if stat.S_ISLNK(status.st_mode):
        return True
    if not stat.S_ISDIR(status.st_mode):
        raise errors.of_reason("policy", f"{path} is not a directory: remove it, or choose another (dir=, TREECAST_DIR)")
    if status.st_mode & 0o022:
        raise errors.of_reason("policy", f"others may write to {path}: chmod go-w it, or choose another directory "
                                         "(dir=, TREECAST_DIR)")
    return True


def _is_private_memory(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        return False
    return _file_system(path) in ("tmpfs", "ramfs")


def _file_system(path: str) -> str:
    """The kind of the file system that path lies on, by its device number."""
    device = os.lstat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                words = line.split()
                if words[2] == wanted:
                    return words[words.index("-") + 1]
    except (OSError, ValueError, IndexError):
        pass
    return ""
