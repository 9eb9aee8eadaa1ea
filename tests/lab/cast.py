"""treecast in the lab: an agent on each host, broadcasts to them from host 0, and what they say.

    with Lab(hosts=17) as lab, Cast(lab, treecast, folder) as cast:
        random_bytes(lab.path(0, SOURCE), 8 << 20)
        sent = cast.send(SOURCE, "array.bin")
        sent.code, sent.seconds, sent.summary["published"]
"""

import array
import hashlib
import json
import math
import os
import subprocess
import tempfile
import time

from lab import LabError, wait_for, wait_process
from measure import Steal, cpu_seconds

PORT = 7117
DIR = "/dev/shm/treecast"      # where agents publish, in every host
SOURCE = "/dev/shm/source.bin"  # in host 0; a suffix that is raw by itself


class Sent:
    """What one `treecast send` did: exit code, wall seconds from start to exit, CPU seconds, its JSON Lines."""

    def __init__(self, code, seconds, usage, output, errors):
        self.code = code
        self.seconds = seconds
        self.cpu = usage.ru_utime + usage.ru_stime
        self.max_rss = usage.ru_maxrss * 1024
        self.errors = errors
        try:
            self.lines = [json.loads(line) for line in output.splitlines()]
        except ValueError as error:
            raise LabError(f"treecast send --json wrote something else: {error}") from None

    def of_type(self, name):
        return [line for line in self.lines if line.get("type") == name]

    @property
    def hosts(self):
        return self.of_type("host")

    @property
    def summary(self):
        """The last line of a broadcast that reached enough hosts, {} of another."""
        found = self.of_type("summary")
        return found[-1] if found else {}

    @property
    def phases(self):
        """Seconds by name: preflight, transfer, publish, and total."""
        return {name: self.summary[name] for name in ("preflight", "transfer", "publish", "total")
                if name in self.summary}

    @property
    def completions(self):
        """Seconds from the start of the transfer until each published host was whole, ascending."""
        return sorted(line["seconds"] for line in self.hosts if line.get("state") == "published")

    def require_success(self):
        if self.code != 0:
            raise LabError(f"treecast send ended with {self.code}: {self.errors.strip()[-2000:] or 'no message'}")
        return self


class Cast:
    """Agents with a fresh key on hosts (all but 0 by default), from the start of a with block to its end."""

    def __init__(self, lab, treecast, folder, hosts=None, options=()):
        self.lab = lab
        self.treecast = treecast
        self.folder = folder
        self.hosts = list(range(1, lab.hosts) if hosts is None else hosts)
        self.options = list(options)
        self.listed = None  # the host list as send is to get it; None: in order
        self.key = None
        self.agents = {}
        self.mounted = []   # hosts with something of their own mounted in the directory's place
        self.disks = []     # what that is, where it is on a disk

    def __enter__(self):
        try:
            self.key = self.keygen("key")
            for host in self.hosts:
                self.start_agent(host)
            for host in self.hosts:
                self.await_agent(host)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for process in self.agents.values():
            process.terminate()
        for process in self.agents.values():
            self.lab.end(process, grace=5.0)
        self.agents = {}
        for host in self.mounted:
            self.lab.run(host, ["umount", DIR])
        for place in self.disks:
            place.cleanup()
        self.mounted, self.disks = [], []
        for host in self.hosts:
            remove_tree(self.lab.path(host, DIR))

    def keygen(self, name):
        """Path of a key file in the folder, made when it is not there yet; send uses self.key."""
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            code, _, errors = self.lab.run(0, [self.treecast, "keygen", path])
            if code != 0:
                raise LabError(f"treecast keygen ended with {code}: {errors.decode(errors='replace').strip()}")
        return path

    def start_agent(self, host, env=None):
        """env comes on top of this process's environment."""
        os.makedirs(self.lab.path(host, DIR), mode=0o700, exist_ok=True)
        argv = [self.treecast, "recv", "-d", DIR, "-l", f"{self.lab.address(host)}:{PORT}", "-k", self.key,
                *self.options]
        with open(self._log(host, "out"), "wb") as output, open(self._log(host, "err"), "wb") as errors:
            self.agents[host] = self.lab.popen(host, argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                                               env={**os.environ, **(env or {})})

    def await_agent(self, host):
        """The agent says on standard output when it is ready."""
        def ready():
            if self.agents[host].poll() is not None:
                raise LabError(f"the agent of h{host} ended with {self.agents[host].returncode}: {self.says(host)}")
            return "listening on" in read(self._log(host, "out"))
        wait_for(ready, f"the agent of h{host}", timeout=30)

    def restart(self, host, mount=(), env=None):
        """Start host's agent again: with its directory mounted so (words for mount), in another environment."""
        process = self.agents.pop(host)
        process.terminate()
        self.lab.end(process, grace=5.0)
        if mount:
            code, _, errors = self.lab.run(host, ["mount", *mount, DIR])
            if code != 0:
                raise LabError(f"mount: {errors.decode(errors='replace').strip()}")
            self.mounted.append(host)
        self.start_agent(host, env)
        self.await_agent(host)

    def restart_on_disk(self, host):
        """Start host's agent again, with its directory on the machine's disk."""
        self.disks.append(tempfile.TemporaryDirectory(prefix="treecast-lab-", dir="/var/tmp"))
        self.restart(host, ["--bind", self.disks[-1].name])

    def _log(self, host, kind):
        return os.path.join(self.folder, f"h{host}.{kind}")

    def says(self, host):
        """What the agent has written to standard error."""
        return read(self._log(host, "err")).strip()

    def start_send(self, source, name, *options):
        """Start a broadcast without waiting; finish_send waits."""
        argv = [self.treecast, "send", "-w", self.listed or self.lab.hostlist(self.hosts), "-p", str(PORT), "-k", self.key, "--json",
                *options, source, name]
        with open(self._log(0, "out"), "wb") as output, open(self._log(0, "err"), "wb") as errors:
            process = self.lab.popen(0, argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        return process

    def finish_send(self, process, started, timeout=600):
        try:
            code, usage = wait_process(process, timeout)
            seconds = time.monotonic() - started
        except subprocess.TimeoutExpired:
            raise LabError(f"treecast send still runs after {timeout:g} s: {self.says(0)[-2000:]}") from None
        finally:
            self.lab.end(process)
        return Sent(code, seconds, usage, read(self._log(0, "out")), self.says(0))

    def send(self, source, name, *options, timeout=600):
        """Broadcast; the Sent says too what CPU time all agents took and how idle the machine was meanwhile."""
        started, machine, before = time.monotonic(), Steal(), self.agents_cpu()
        sent = self.finish_send(self.start_send(source, name, *options), started, timeout)
        sent.idle, sent.agents_cpu = machine.idle_percent(), self.agents_cpu() - before
        return sent

    def agents_cpu(self):
        return sum(cpu_seconds(agent.pid) for agent in self.agents.values() if agent.poll() is None)

    def status(self, host):
        """The last line of `treecast status --json` there: sessions, what is published."""
        code, output, errors = self.lab.run(host, [self.treecast, "status", "--json", "-d", DIR])
        if code != 0:
            raise LabError(f"treecast status of h{host} ended with {code}: {errors.decode(errors='replace').strip()}")
        return json.loads(output.splitlines()[-1])

    def parents(self, size, *options):
        """For each tree of a broadcast of size bytes the parent of each host, by `treecast plan`; the sender is 0."""
        argv = [self.treecast, "plan", "--json", "-w", self.listed or self.lab.hostlist(self.hosts), "--size", str(size),
                *options]
        code, output, errors = self.lab.run(0, argv)
        if code != 0:
            raise LabError(f"treecast plan ended with {code}: {errors.decode(errors='replace').strip()}")
        host_of = {self.lab.address(host): host for host in self.hosts}
        return [{host_of[child]: host_of.get(parent, 0) for child, parent in tree["parents"].items()}
                for tree in json.loads(output)["trees"]]

    def published(self, host, name):
        """Where host's published file is, seen from outside of the host."""
        return self.lab.path(host, f"{DIR}/{name}")


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def remove_tree(path):
    """shutil.rmtree resolves symbolic links first, which the roots of other mount namespaces do not survive."""
    for folder, folders, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            os.rmdir(os.path.join(folder, name))
    if os.path.isdir(path):
        os.rmdir(path)


def random_bytes(path, size):
    with open(path, "wb") as file:
        for start in range(0, size, 1 << 24):
            file.write(os.urandom(min(1 << 24, size - start)))


def smooth_field(path, size):
    """A .npy file of about size bytes: a smooth float64 field in steps of 2**-16, as an instrument gives it."""
    columns = 1024
    rows = max(1, size // 8 // columns)
    wave = [12.0 * math.sin(x / 90.0) + 3.0 * math.cos(x / 23.0) for x in range(columns)]
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
        for y in range(rows):
            level, slope = 280.0 + 9.0 * math.sin(y / 170.0), 1.0 + 0.4 * math.cos(y / 60.0)
            file.write(array.array("d", [round((level + slope * w) * 65536.0) / 65536.0 for w in wave]).tobytes())


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
