"""Run the program `treecast`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from typing import Any, Optional, Union

from . import errors

Program = Union[str, "os.PathLike[str]", None]


def find(program: Program = None) -> str:
    """Where the program is: what is given, $TREECAST, else in this package (of a wheel), on the PATH, and where this
    interpreter's own programs are, as in a virtual environment that is not activated."""
    word = os.fspath(program) if program else os.environ.get("TREECAST")
    path = shutil.which(word) if word else _search()
    if path is None:
        raise errors.NotFoundError(f"no program {word or 'treecast'}: install treecast, or set TREECAST to its path",
                                   "notfound")
    return os.path.abspath(path)


def _search() -> Optional[str]:
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin")
    schemes = [sysconfig.get_path("scripts")]
    with contextlib.suppress(KeyError):
        schemes.append(sysconfig.get_path("scripts", f"{os.name}_user"))
    folders = [own, os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable or "/"), *filter(None, schemes)]
    return shutil.which("treecast", path=os.pathsep.join(folders))


def text_or_none(program: Program) -> Optional[str]:
    """As it travels to other hosts."""
    return None if program is None else os.fspath(program)


def run(program: Program, *words: str, timeout: float = 60.0, **options: Any) -> str:
    """Run a short verb to its end; its standard output, or the exception for its exit code."""
    done = subprocess.run([find(program), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=timeout, check=False, **options)
    if done.returncode:
        raise errors.of_exit(done.returncode, text_of(done.stderr, words[0]))
    return done.stdout


def text_of(said: str, verb: str) -> str:
    """The last line of standard error without the program's name before it."""
    lines = [line for line in said.splitlines() if line.strip()]
    if not lines:
        return f"treecast {verb} failed without a word"
    last, name = lines[-1], f"treecast {verb}: "
    return last[len(name):] if last.startswith(name) else last


def main() -> None:
    """The command of a wheel that has the program inside."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "treecast")
    os.execv(program, [program, *sys.argv[1:]])


def end(process: "subprocess.Popen[Any]", grace: Optional[float]) -> None:
    """End a process of ours: politely first, so that it can tell others."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
