"""What the hostile tests share: the scenes of tests/scenario, and small helpers in C that are built when needed."""

import ctypes
import functools
import os
import shlex
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "scenario"))

from agents import (CLONE_NEWNS, SLOW, Agent, Between, LabError, Skip, ensure, main, note,  # noqa: E402, F401
                    plain_only, root_configuration, same_bytes, scenario, wait_for)

MIB = 1 << 20
built = None


@functools.lru_cache(maxsize=None)
def compile_helper(name, *flags):
    """tests/hostile/NAME.c as a program, or with -shared as a library to preload; made once in a run of a test."""
    global built
    built = built or tempfile.TemporaryDirectory(prefix="treecast-hostile-")
    out = os.path.join(built.name, name)
    compiler = shlex.split(os.environ.get("CC") or "cc")
    sources = [os.path.join(HERE, f"{name}.c")] + ([] if "-shared" in flags else [os.path.join(HERE, "peer.c")])
    done = subprocess.run([*compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", *sources,
                           *flags, "-pthread", "-lssl", "-lcrypto", "-lzstd", "-o", out], capture_output=True, text=True,
                          check=False)
    ensure(done.returncode == 0, done.stderr)
    return out


def preloaded(scene, library, **more):
    """The environment of a process with library in front of its own."""
    asan = os.environ.get("ASAN_OPTIONS", "")
    return scene.environment(LD_PRELOAD=library, ASAN_OPTIONS=f"{asan}:verify_asan_link_order=0:detect_leaks=0", **more)


def landlock():
    """The version the kernel has; 0: none."""
    return max(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1), 0)


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root")


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def resident(pid, which="VmHWM"):
    """Bytes of memory, now (VmRSS) or at most so far (VmHWM)."""
    return int(status_of(pid)[which].split()[0]) * 1024
