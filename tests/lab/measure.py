"""What a run in the lab is measured with.

The unit of all broadcasts is *one copy*: the seconds that a plain TCP stream needs for the same bytes over one link of
the same lab. A ratio to it means the same on a fast machine and on a slow one, and packet headers cancel out.
"""

import os
import subprocess
import sys
import threading

from lab import LabError, wait_process

TICK = os.sysconf("SC_CLK_TCK")

# Both ends of a plain copy. Each prints the CPU seconds it took; the receiver also how long the bytes came, from the
# first of them to the last.
RECEIVER = """
import resource, socket, sys, time
listener = socket.create_server((sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
stream, buffer, got = listener.accept()[0], bytearray(1 << 20), 0
began = time.monotonic()
while size := stream.recv_into(buffer):
    got += size
seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
print(got, seconds, used.ru_utime + used.ru_stime)
"""
SENDER = """
import resource, socket, sys
left, block = int(sys.argv[3]), memoryview(bytes(1 << 20))
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as stream:
    while left > 0:
        stream.sendall(block[:left])
        left -= min(left, len(block))
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
"""


class PlainCopy:
    """One plain TCP stream of size bytes from one host to another: seconds, bytes a second and CPU seconds of both ends.

    By programs of our own: iperf3 rounds what -n takes up to whole seconds from 3.16 on."""

    def __init__(self, lab, size, source=0, target=1):
        receiver = lab.popen(target, [sys.executable, "-c", RECEIVER, lab.address(target)], stdout=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, text=True)
        try:
            port = receiver.stdout.readline().strip()
            code, output, errors = lab.run(source, [sys.executable, "-c", SENDER, lab.address(target), port, str(size)],
                                           timeout=600)
            if code != 0:
                raise LabError(f"a plain copy: {errors.decode(errors='replace')}")
            wait_process(receiver, 10)
            got, self.seconds, self.receiver_cpu = map(float, receiver.stdout.readline().split())
        finally:
            lab.end(receiver)
        if got != size:
            raise LabError(f"a plain copy of {size} bytes brought {got:.0f}")
        self.sender_cpu = float(output)
        self.bytes_per_second = size / self.seconds


def one_copy(lab, size, source=0, target=1):
    """Seconds of one plain copy of size bytes over one link."""
    return PlainCopy(lab, size, source, target).seconds


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
