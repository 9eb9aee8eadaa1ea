"""What is done to hosts of the lab while a broadcast runs, and what it cost the others.

    harm = Harm([1, 4, 9], Harm.kill, after=1 / 3)      # lasts=3: all is well again 3 s later
    sent = broadcast(cast, SOURCE, "array.bin", size, harm, "--min-hosts", "20")
    others(cast, sent, harm)        # seconds until each host that was not harmed was whole, ascending
"""

import os
import shlex
import shutil
import signal
import subprocess
import time

from lab import LabError, Skip, wait_for


class CpuQuota:
    """A process in a CPU control group of its own with a share of one CPU, in slices of a fifth of a second."""

    PERIOD_US = 200000

    def __init__(self, _lab, pid, share):
        quota = max(1000, round(share * self.PERIOD_US))
        v1, v2 = self._mounts()
        if v1:
            self._path = os.path.join(v1, f"treecast-lab-{pid}")
            settings = {"cpu.cfs_period_us": self.PERIOD_US, "cpu.cfs_quota_us": quota}
        elif v2 and "cpu" in read(os.path.join(v2, "cgroup.controllers")).split():
            self._path = os.path.join(v2, f"treecast-lab-{pid}")
            settings = {"cpu.max": f"{quota} {self.PERIOD_US}"}
            write(os.path.join(v2, "cgroup.subtree_control"), "+cpu")
        else:
            raise Skip("no CPU control groups here")
        self._pid = pid
        self._home = os.path.dirname(self._path)
        os.mkdir(self._path)
        for name, value in settings.items():
            write(os.path.join(self._path, name), value)
        write(os.path.join(self._path, "cgroup.procs"), pid)

    @staticmethod
    def _mounts():
        """Where the CPU controller is mounted, and where the unified hierarchy; None: nowhere."""
        v1 = v2 = None
        for line in read("/proc/self/mounts").splitlines():
            _, place, kind, options = line.split()[:4]
            if kind == "cgroup" and "cpu" in options.split(","):
                v1 = place
            elif kind == "cgroup2":
                v2 = place
        return v1, v2

    def end(self):
        if os.path.exists(f"/proc/{self._pid}"):
            write(os.path.join(self._home, "cgroup.procs"), self._pid)
        wait_for(lambda: not read(os.path.join(self._path, "cgroup.procs")), "the control group to be empty")
        os.rmdir(self._path)


class SlowDisk:
    """A directory on a disk takes the place of the agent's own, and a tracer holds up each of its writes."""

    def __init__(self, lab, cast, host, seconds):
        if not shutil.which("strace"):
            raise Skip("no strace here")
        self._lab = lab
        cast.restart_on_disk(host)
        pid = cast.agents[host].pid
        self._tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e",
             f"inject=pwrite64:delay_enter={round(seconds * 1e6)}", "-p", str(pid)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: "TracerPid:\t0" not in read(f"/proc/{pid}/status"), "strace to attach")

    def end(self):
        self._tracer.terminate()
        self._lab.end(self._tracer)


def wrong_bytes(folder, what, every=3, most=None):
    """What a process needs in its environment for hardware that lies, by a library made in folder (see wrong.c)."""
    library = os.path.join(folder, "wrong.so")
    if not os.path.exists(library):
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrong.c")
        compiler = shlex.split(os.environ.get("CC") or "cc")
        built = subprocess.run([*compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library,
                                source], check=False, capture_output=True, text=True)
        if built.returncode != 0:
            raise LabError(built.stderr)
    limit = {} if most is None else {"WRONG_MOST": str(most)}
    return {"LD_PRELOAD": library, "WRONG": what, "WRONG_EVERY": str(every), **limit}


def read(path):
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def write(path, value):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))


class Harm:
    """hosts go wrong in one way: before the broadcast (after None), or when so much of the array has left host 0; for so
    many seconds or (lasts None) until the broadcast has ended."""

    def __init__(self, hosts, way, after=None, rate=10, share=1 / 150, lasts=None):
        self.hosts = list(hosts)
        self.way = way
        self.after = after
        self.rate = rate        # Mbit/s, of slow_link
        self.share = share      # of a CPU, of starve
        self.lasts = lasts
        self._undo = []

    def kill(self, _lab, cast, host):
        """The process dies; its kernel closes its connections."""
        cast.agents[host].send_signal(signal.SIGKILL)

    def freeze(self, _lab, cast, host):
        """The process stops; its connections stay."""
        cast.agents[host].send_signal(signal.SIGSTOP)
        self._undo.append(lambda: cast.agents[host].send_signal(signal.SIGCONT))

    def cut(self, lab, _cast, host):
        """No packet to or from the host arrives any more, as when its cable goes."""
        lab.cut(host)
        self._undo.append(lambda: lab.mend(host))

    def power_off(self, lab, cast, host):
        """The process dies and nobody is told: neither FIN nor RST gets out."""
        self.cut(lab, cast, host)
        cast.agents[host].kill()
        cast.agents[host].wait()

    def slow_link(self, lab, _cast, host):
        """The host's link becomes slower, both ways."""
        lab.set_rate(host, self.rate)
        self._undo.append(lambda: lab.mend(host))

    def slow_out(self, lab, _cast, host):
        """Only what leaves the host becomes slower."""
        lab.set_rate(host, self.rate, ["out"])
        self._undo.append(lambda: lab.mend(host))

    def starve(self, lab, cast, host):
        """The process gets a hundred and fiftieth of a CPU: a tenth of what a full link takes here."""
        self._undo.append(CpuQuota(lab, cast.agents[host].pid, self.share).end)

    def slow_disk(self, lab, cast, host):
        """The host has its files on a disk, and each write of a chunk takes 0.2 s longer: 1.25 MB/s for each of its threads
        where chunks have 256 KiB."""
        self._undo.append(SlowDisk(lab, cast, host, 0.2).end)

    def bad_memory(self, _lab, cast, host):
        """Bits flip in what the host gives to others, inside TLS."""
        cast.restart(host, env=wrong_bytes(cast.folder, "send"))

    def no_room(self, _lab, cast, host):
        """The host's directory has space for 4 MiB."""
        cast.restart(host, mount=["-t", "tmpfs", "-o", "size=4m,mode=700", "treecast"])

    def begin(self, lab, cast):
        for host in self.hosts:
            self.way(self, lab, cast, host)

    def end(self):
        """What was stopped goes on, and links are whole again. Harmless when repeated."""
        while self._undo:
            self._undo.pop()()


def await_part(cast, process, before, wanted):
    """Until so many bytes have left host 0."""
    def condition():
        if process.poll() is not None:
            raise LabError(f"send ended early: {cast.says(0)}")
        return cast.lab.sent_bytes(0) - before >= wanted
    wait_for(condition, "the transfer to be under way", timeout=120)


def let_pass(harm, cast, process):
    """The harm is over while the broadcast still runs."""
    time.sleep(harm.lasts)
    if process.poll() is not None:
        raise LabError(f"send ended before the harm did: {cast.says(0)}")
    harm.end()


def broadcast(cast, source, name, size, harm, *options, timeout=600, watch=None):
    """One broadcast with harm done; returns the Sent. watch(runs) is called meanwhile, and runs() says whether it is still
    under way."""
    before = cast.lab.sent_bytes(0)
    if harm.after is None:
        harm.begin(cast.lab, cast)
    started = time.monotonic()
    process = cast.start_send(source, name, *options)
    try:
        if harm.after is not None:
            await_part(cast, process, before, size * harm.after)
            harm.begin(cast.lab, cast)
        if harm.lasts is not None:
            let_pass(harm, cast, process)
        if watch is not None:
            watch(lambda: os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None)
        return cast.finish_send(process, started, timeout)
    finally:
        harm.end()


def others(cast, sent, harm):
    """Seconds from the start of the transfer until each host that was not harmed was whole; LabError if one was not."""
    harmed = {cast.lab.address(host) for host in harm.hosts}
    lines = [line for line in sent.hosts if line["host"].partition(":")[0] not in harmed]
    bad = [f"{line['host']} {line['state']}" for line in lines if line["state"] != "published"]
    if bad or len(lines) != len(cast.hosts) - len(harm.hosts):
        raise LabError(f"hosts that were not harmed: {', '.join(bad) or len(lines)}; {sent.errors}")
    return sorted(line["seconds"] for line in lines)


def replans(sent):
    """What the report says was planned anew, in words."""
    lines = [f"{line['seconds']:.1f} s {line['host'].partition(':')[0]} {line['text']}" for line in sent.of_type("replan")]
    return "; ".join(lines) or "nothing was planned anew"
