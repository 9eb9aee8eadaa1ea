"""Exceptions, one for each exit code of the program, so that a script and a shell see the same kinds of failure."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Type

__all__ = ["TreecastError", "UsageError", "PartialError", "AuthError", "IntegrityError", "ResourceError",
           "DeadlineError", "VersionError", "CoordinatorLostError", "SourceError", "InterruptedSendError",
           "NotFoundError"]


class TreecastError(Exception):
    """Something failed; also the exit code 1, for which there is no better word.

    Attributes
    ----------
    exit_code : int
        What the program exits with for this kind of failure.
    reason : str
        The word that the program, the local API and the JSON lines use: ``"nospace"``, ``"timeout"``.
    hosts : list of dict
        After a broadcast, what became of every host: ``host``, ``state`` and, where it failed, ``reason`` and ``text``.
    """

    exit_code = 1

    def __init__(self, text: str, reason: str = "failed", hosts: Sequence[Dict[str, Any]] = (),
                 exit_code: Optional[int] = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.hosts = list(hosts)
        if exit_code is not None:
            self.exit_code = exit_code

    def __reduce__(self) -> Any:  # or they could not come back from another process
        return type(self), (str(self), self.reason, self.hosts, self.exit_code)


class UsageError(TreecastError, ValueError):
    """Wrong use, a name that is not allowed, or refused by policy: exit code 2."""

    exit_code = 2


class PartialError(TreecastError):
    """Some hosts failed, but at least ``min_hosts`` have the array: exit code 3.

    Attributes
    ----------
    ref : Ref or None
        The array, for those hosts that have it.
    """

    exit_code = 3
    ref: Any = None

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.reason, self.hosts, self.exit_code), {"ref": self.ref}


class AuthError(TreecastError):
    """Not authenticated: exit code 4."""

    exit_code = 4


class IntegrityError(TreecastError):
    """The bytes are not what they should be: exit code 5."""

    exit_code = 5


class ResourceError(TreecastError, OSError):
    """No space, no permission, a limit of this or that host: exit code 6."""

    exit_code = 6


class DeadlineError(TreecastError, TimeoutError):
    """A deadline or timeout has passed: exit code 7."""

    exit_code = 7


class VersionError(TreecastError):
    """No common version of the protocol: exit code 8."""

    exit_code = 8


class CoordinatorLostError(TreecastError):
    """The sender went away while the array was on its way: exit code 9."""

    exit_code = 9


class SourceError(TreecastError):
    """The source cannot be read or has changed: exit code 10."""

    exit_code = 10


class InterruptedSendError(TreecastError):
    """The program was ended by a signal: exit code 128 + signal."""

    exit_code = 130


class NotFoundError(TreecastError, LookupError):
    """There is no such array, agent or program; exits with 1 as the program does."""

    exit_code = 1


_BY_CODE: Dict[int, Type[TreecastError]] = {
    kind.exit_code: kind for kind in (UsageError, PartialError, AuthError, IntegrityError, ResourceError, DeadlineError,
                                      VersionError, CoordinatorLostError, SourceError)}

# The exit codes of src/base/err.def by name; those that are not here are 1.
_CODES = {
    "usage": 2, "policy": 2, "auth": 4, "integrity": 5, "nomem": 6, "nospace": 6, "permission": 6, "limit": 6, "io": 6,
    "deadline": 7, "version": 8, "coordinator-lost": 9, "source": 10, "notagent": 11, "timeout": 7, "name": 2,
    "interrupted": 130, "format": 2, "duplicate": 2}


def of_exit(code: int, text: str, reason: str = "failed", hosts: Sequence[Dict[str, Any]] = ()) -> TreecastError:
    """The exception for an exit code of the program."""
    if code > 128 or code < 0:  # of a shell, and of subprocess
        return InterruptedSendError(text, "interrupted", hosts, code if code > 0 else 128 - code)
    if code == 1 and reason == "notfound":
        return NotFoundError(text, reason, hosts)
    return _BY_CODE.get(code, TreecastError)(text, reason, hosts, code)


def of_reason(reason: str, text: str) -> TreecastError:
    """The exception for a reason that an agent has given."""
    return of_exit(_CODES.get(reason, 1), text, reason)
