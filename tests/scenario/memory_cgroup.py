"""A memory cgroup with a limit, of either version, for tests as root."""

import contextlib
import os
import signal
import subprocess

from agents import Skip, wait_for


def memory_controller():
    """Where cgroups with a memory limit are made, and their files for it."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = [line.split() for line in file]
    for _, place, kind, options, *_ in mounts:
        if kind == "cgroup" and "memory" in options.split(","):
            return place, "memory.limit_in_bytes", "memory.usage_in_bytes"
        if kind == "cgroup2" and "memory" in open(f"{place}/cgroup.controllers", encoding="ascii").read().split():
            return place, "memory.max", "memory.current"
    raise Skip("no cgroup with a memory limit here")


class MemoryCgroup:
    """A cgroup of the scene's own, at path below the mount point, that may use limit bytes of memory."""

    def __init__(self, scene, limit, path=None):
        if os.getuid() != 0:
            raise Skip("needs root to make a cgroup")
        self.top, limit_name, self.usage_name = memory_controller()
        self.scene, self.limit = scene, limit
        self.folder, self.made = self.top, []
        for name in (path or f"treecast-trouble-{os.getpid()}").split("/"):
            control = f"{self.folder}/cgroup.subtree_control"
            if os.path.exists(control):
                with open(control, "w", encoding="ascii") as file:
                    file.write("+memory")
            self.folder = f"{self.folder}/{name}"
            if not os.path.isdir(self.folder):
                os.mkdir(self.folder)
                self.made.append(self.folder)
        with open(f"{self.folder}/{limit_name}", "w", encoding="ascii") as file:
            file.write(f"{limit}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.scene.processes:
            if process.running():
                process.kill()
        for pid in self.processes("/treecast"):  # a job's agent, after a test that failed
            os.kill(pid, signal.SIGKILL)
        wait_for(self.gone, "the end of the cgroup")

    def gone(self):
        for folder in reversed(self.made):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        return not any(os.path.exists(folder) for folder in self.made)

    def processes(self, below=""):
        with contextlib.suppress(FileNotFoundError):
            with open(f"{self.folder}{below}/cgroup.procs", encoding="ascii") as file:
                return [int(line) for line in file]
        return []

    def inside(self, badness=0):
        """A prefix for what runs in it; with badness the kernel kills it first."""
        return ("sh", "-c", f'echo {badness} >/proc/self/oom_score_adj && echo $$ >{self.folder}/cgroup.procs && '
                'exec "$@"', "sh")

    def used(self):
        with open(f"{self.folder}/{self.usage_name}", encoding="ascii") as file:
            return int(file.read())

    def space(self):
        return self.limit - self.used()

    def take(self, size):
        """Somebody else in it takes that much memory, for a file; whether the kernel let him."""
        return subprocess.run([*self.inside(), "fallocate", "-l", str(size), self.scene.path("taken")], check=False,
                              capture_output=True).returncode == 0
