"""What a run in the lab is measured with.

The unit of all broadcasts is *one copy*: the seconds that a plain TCP stream needs for the same bytes over one link of
the same lab. A ratio to it means the same on a fast machine and on a slow one, and packet headers cancel out.
"""

import json
import os
import subprocess
import threading

from lab import LabError, Skip, wait_for, wait_process

PORT = 5201
TICK = os.sysconf("SC_CLK_TCK")


class Iperf:
    """One iperf3 stream from one host to another: bits a second and CPU seconds of both ends."""

    def __init__(self, lab, size, source=0, target=1, options=()):
        if not lab._tool("iperf3"):
            raise Skip("no iperf3, the unit of measurement")
        wait_for(lambda: not lab.listens(target, PORT), "the iperf3 before this one to end")
        server = lab.popen(target, ["iperf3", "-s", "-1", "-B", lab.address(target)],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: lab.listens(target, PORT), "iperf3 to listen")
            code, output, _ = lab.run(source, ["iperf3", "-c", lab.address(target), "-n", str(size), "-J", *options],
                                      timeout=600)
            answer = json.loads(output)
            if code != 0 or "error" in answer:
                raise LabError(f"iperf3: {answer.get('error', code)}")
            wait_process(server, 10)
        finally:
            lab.end(server)
        received = answer["end"]["sum_received"]
        # The end is signalled beside the data and may overtake the last bytes: what counts is the rate of those that
        # had arrived.
        self.bytes_per_second = received["bytes"] / received["seconds"]
        self.seconds = size / self.bytes_per_second
        load = answer["end"]["cpu_utilization_percent"]
        self.sender_cpu = load["host_total"] / 100 * received["seconds"]
        self.receiver_cpu = load["remote_total"] / 100 * received["seconds"]


def one_copy(lab, size, source=0, target=1):
    """Seconds of one plain copy of size bytes over one link."""
    return Iperf(lab, size, source, target).seconds


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def warm_memory(size):
    """Touch size bytes of the machine's free memory once, as far as half of what is free goes.

    A virtual machine gets its memory from the host when it first touches it, at a quarter of the speed of a copy, and
    what was touched once stays. Without this the first runs measure the hypervisor: a fresh machine spent 40% of all
    agents' time in the first touch of pages of the files they wrote.
    """
    with open("/proc/meminfo", encoding="ascii") as file:
        available = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:")) * 1024
    block = bytes(1 << 20)
    with open(os.memfd_create("warm"), "wb") as file:
        for _ in range(min(size, available // 2) >> 20):
            file.write(block)


class Steal:
    """Percent of the machine's time that its neighbours took since this object was made."""

    def __init__(self):
        self._start = self._read()

    @staticmethod
    def _read():
        with open("/proc/stat", encoding="ascii") as file:
            return [int(word) for word in file.readline().split()[1:9]]

    def _share(self, column):
        spent = [now - then for now, then in zip(self._read(), self._start)]
        return 100.0 * spent[column] / max(1, sum(spent))

    def percent(self):
        return self._share(7)

    def idle_percent(self):
        """What was left over: near 0 a lab measures the machine's CPUs and not its network."""
        return self._share(3)


def cpu_seconds(pid):
    """CPU time of a running process with all its threads, ended ones too; in steps of a clock tick (10 ms)."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def fine_cpu_seconds(pid):
    """CPU time of the living threads of a process, in nanosecond steps."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def memory(pid):
    """Bytes by name (VmHWM, RssAnon, RssFile, RssShmem) of a running process; {} when it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return {}
    return {words[0][:-1]: int(words[1]) * 1024 for words in lines if words[0][:3] in ("VmH", "Rss")}


class MemoryWatch:
    """Largest memory of each process while a block runs.

    What counts is the memory that a process has for itself, RssAnon, at its largest. The kernel's own high-water mark,
    VmHWM, also counts mapped file and tmpfs pages and does not say what share they had at that moment; it is kept to be
    shown beside it. A sampled RssAnon may miss short peaks; VmHWM bounds them from above.
    """

    def __init__(self, pids, interval=0.1):
        self._pids = list(pids)
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.anon = dict.fromkeys(self._pids, 0)
        self.high = dict.fromkeys(self._pids, 0)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._look()

    def _run(self):
        while not self._stop.wait(self._interval):
            self._look()

    def _look(self):
        for pid in self._pids:
            seen = memory(pid)
            self.anon[pid] = max(self.anon[pid], seen.get("RssAnon", 0))
            self.high[pid] = max(self.high[pid], seen.get("VmHWM", 0))
